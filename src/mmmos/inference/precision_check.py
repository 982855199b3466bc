"""Measures what a precision of the OpenVINO back end does to a model's scores, for `mmmos doctor --precision`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from mmmos.audio.windows import Window
from mmmos.encoders.device import low_precision_instructions
from mmmos.encoders.openvino_networks import compile_encoder, load_openvino
from mmmos.encoders.quantise import quantise_encoder
from mmmos.errors import UsageError
from mmmos.inference.backend import Running
from mmmos.inference.precision import PrecisionCheck
from mmmos.metrics import srcc
from mmmos.scores import AXES

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.hub.options import Precision
    from mmmos.inference.predictor import Predictor
    from mmmos.scores import Scores

FEWEST = 20
"""Clips that are needed to compare ranks. Fewer are cut into pieces of `PIECE_SECONDS`."""

PIECE_SECONDS = 2.0

CALIBRATION_WINDOWS = 40
"""Most windows that int8 ranges are taken from: of every second clip or piece."""


def check_precision(predictor: Predictor, clips: Sequence[Clip], precision: Precision) -> PrecisionCheck:
    """Compare a predictor's scores, which are in float32 in torch, with those in a precision of OpenVINO.

    Clips that cannot be scored and silent ones are left out. Raises `UsageError` for too few clips, `BackendError`,
    `MissingExtraError`.
    """
    version = str(load_openvino().__version__)
    kept, exact = _scored(clips, _scores(predictor, clips, predictor.running))
    if len(kept) < FEWEST:
        pieces = [piece for clip, scores in zip(kept, exact, strict=True) for piece in _pieces(clip, scores)]
        kept, exact = _scored(pieces, _scores(predictor, pieces, predictor.running))
    if len(kept) < FEWEST:
        raise UsageError(
            f"a precision is checked on {FEWEST} clips or pieces of {PIECE_SECONDS:g} s with sound, and there are"
            f" {len(kept)}: give more"
        )
    calibration = _quantise(predictor, kept[::2]) if precision == "int8" else ""
    encoders = {name: compile_encoder(one, precision, calibration) for name, one in predictor.encoders.items()}
    near = _scores(predictor, kept, Running(encoders, "openvino", precision))
    info = predictor.model.info
    low, high = info.label_range
    pairs = {axis: ([one[axis] for one in near], [one[axis] for one in exact]) for axis in info.rated}
    change = {axis: abs(np.subtract(*pair)) * 10 / (high - low) for axis, pair in pairs.items()}
    ranks = {axis: srcc(*pair) for axis, pair in pairs.items()}
    return PrecisionCheck(
        model_sha256=predictor.model.sha256,
        precision=precision,
        openvino=version,
        clips=len(kept),
        srcc={axis: None if math.isnan(value) else value for axis, value in ranks.items()},
        mean_change={axis: float(values.mean()) for axis, values in change.items()},
        max_change=max(float(values.max()) for values in change.values()),
        calibration=calibration,
        instructions=low_precision_instructions(),
    )


def _scores(predictor: Predictor, clips: Sequence[Clip], running: Running) -> list[Scores]:
    stream = predictor.clip_stream(running=running)
    with closing(predictor.decoder.cut(clips, predictor.rates, predictor.min_seconds)) as cuts:
        return list(stream.scores(cuts))


def _scored(clips: Sequence[Clip], scores: Sequence[Scores]) -> tuple[list[Clip], list[Scores]]:
    """The clips that have a score, and their scores."""
    pairs = [pair for pair in zip(clips, scores, strict=True) if any(not math.isnan(pair[1][axis]) for axis in AXES)]
    return [clip for clip, _ in pairs], [one for _, one in pairs]


def _pieces(clip: Clip, scores: Scores) -> Iterator[Clip]:
    """A clip in pieces of `PIECE_SECONDS`, without a shorter rest."""
    for number in range(int((scores.end_time - scores.start_time) / PIECE_SECONDS)):
        start = scores.start_time + number * PIECE_SECONDS
        yield replace(clip, id=f"{clip.id} at {start:g} s", start_time=start, end_time=start + PIECE_SECONDS)


def _quantise(predictor: Predictor, clips: Sequence[Clip]) -> str:
    """Make the int8 networks of a predictor's encoders from the first windows of clips. Returns the calibration."""
    windows: list[Window] = []
    with closing(predictor.decoder.cut(clips, predictor.rates, predictor.min_seconds)) as cuts:
        for _, items in cuts:
            windows += (item for item in items if isinstance(item, Window) and not item.silent)
            if len(windows) >= CALIBRATION_WINDOWS:
                break
    del windows[CALIBRATION_WINDOWS:]
    digest = hashlib.sha256()
    for window in windows:
        for rate in predictor.rates:
            digest.update(window.waves[rate].tobytes())
    with torch.inference_mode():
        for encoder in predictor.encoders.values():
            waves = [torch.from_numpy(window.waves[encoder.sample_rate])[None] for window in windows]
            quantise_encoder(encoder, waves, digest.hexdigest())
    return digest.hexdigest()
