"""Checks of an installation, one line per check, for `mmmos doctor` and for bug reports."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
import torch

from mmmos.audio.clip import Clip
from mmmos.encoders.table import ENCODERS, open_encoder
from mmmos.errors import ModelNotFoundError
from mmmos.hub.options import LoadOptions
from mmmos.hub.published import PUBLISHED
from mmmos.inference.precision import save_check
from mmmos.inference.precision_check import check_precision
from mmmos.inference.predictor import open_predictor
from mmmos.inference.selfcheck import check_scores
from mmmos.model.load import load_model
from mmmos.version import VERSION
from mmmos.wording import counted

CHECK_TOLERANCE = 0.01
"""Points by which the check clip's scores may differ from those in the config: rounding depends on the processor."""

OFFLINE = LoadOptions(local_files_only=True)
"""A check must not download a gigabyte."""


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    ok: bool
    finding: str


def check_lite() -> str:
    """The bundled model, if its scores of the check clip are those in its config. Raises ValueError."""
    model = load_model("lite")
    found = check_scores(model)
    worst = np.max([abs(found[axis] - value) for axis, value in model.info.check.items()])  # NaN if any is
    if not worst <= CHECK_TOLERANCE:
        raise ValueError(f"its scores of the check clip are off by {worst:.3f}: {found}, not {model.info.check}")
    return f"{model.sha256[:16]}, check clip within {worst:.4f} points"


def examine(check_model: Callable[[], str] = check_lite) -> Iterator[Check]:
    """Check versions, device, encoders and the bundled model, in that order."""
    yield Check("mmmos", True, f"{VERSION} on Python {platform.python_version()}, {platform.platform()}")
    yield Check("torch", True, f"{torch.__version__}, {counted(torch.get_num_threads(), 'thread')}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; scoring runs on the CPU"
    yield Check("gpu", True, gpu)
    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    decoders = f"libsndfile {soundfile.__libsndfile_version__}, libavcodec {ffmpeg}, soxr {soxr.__libsoxr_version__}"
    yield Check("decoders", True, decoders)
    for name in ENCODERS:
        yield _attempt(f"encoder {name}", lambda name=name: _look_at(name))  # type: ignore[misc]
    yield _attempt("model lite", check_model)
    root = os.environ.get("MMMOS_DATA")
    yield Check("MMMOS_DATA", root is None or Path(root).is_dir(), root or "not set; needed for corpora only")


def examine_precisions(name: str, clips: Sequence[Clip], options: LoadOptions) -> Iterator[Check]:
    """Check what each precision of the OpenVINO back end does to a model's scores, and keep the result.

    Raises the errors of `load_model`, `check_precision`, and `UsageError` for too few clips.
    """
    with open_predictor(name, options) as predictor:
        for precision in ("bfloat16", "int8"):
            check = check_precision(predictor, clips, precision)
            save_check(check)
            yield Check(f"{name} {precision}", check.passed, str(check))


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def _look_at(encoder: str) -> str:
    try:
        return open_encoder(encoder, options=OFFLINE).fingerprint()[:16]
    except ModelNotFoundError:
        if encoder not in PUBLISHED:
            raise
        return "its weights are not here, and only a model that uses it needs them"
