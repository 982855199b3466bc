"""Models whose encoders OpenVINO runs, for the benchmarks: without the check that the product requires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args
from unittest import mock

import numpy as np
import torch

from mmmos.encoders.openvino_networks import compile_encoder
from mmmos.encoders.quantise import SECONDS, quantise_encoder
from mmmos.hub.options import LoadOptions, Precision
from mmmos.inference.predictor import Predictor
from mmmos.model.load import load_encoders
from mmmos.model.system import ScoringModel

CALIBRATION = "bench"
WINDOWS = 3
"""Windows that int8 ranges are taken from; time does not depend on them."""


def openvino_predictors(
    model: ScoringModel,
    clips: Mapping[int, np.ndarray],
    cache: Path,
    precisions: Sequence[Precision] = get_args(Precision),
) -> dict[str, Predictor]:
    """Predictors by the name of their precision; none without the extra `fast`.

    `clips` has a clip of 9 s or more at each of the encoders' sample rates (Hz); networks are kept in `cache`.
    """
    if not find_spec("openvino"):
        return {}
    return {
        f"openvino {precision}": Predictor(with_openvino(model, precision, clips, cache), LoadOptions("cpu"))
        for precision in precisions
        if precision != "int8" or find_spec("nncf")
    }


def with_openvino(
    model: ScoringModel, precision: Precision, clips: Mapping[int, np.ndarray], cache: Path
) -> ScoringModel:
    """The model with compiled encoders."""
    encoders = load_encoders(model)
    calibration = CALIBRATION if precision == "int8" else ""
    with mock.patch.dict("os.environ", MMMOS_CACHE=str(cache)), torch.inference_mode():
        for encoder in encoders.values() if calibration else ():
            wave = torch.from_numpy(clips[encoder.sample_rate])
            size = round(SECONDS * encoder.sample_rate)
            quantise_encoder(encoder, wave[: WINDOWS * size].view(WINDOWS, 1, size), calibration)
        compiled = {name: compile_encoder(encoder, precision, calibration) for name, encoder in encoders.items()}
    return replace(model, loaded=compiled)
