"""Check for unchanged scores: a clip made from a formula, whose scores every model folder holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmmos.hub.options import LoadOptions
from mmmos.inference.predictor import Predictor
from mmmos.model.system import ScoringModel


def check_clip() -> tuple[NDArray[np.float32], int]:
    """Samples [S] and Hz: 4 s of a plucked chord with hiss."""
    rate = 16_000
    t = np.arange(4 * rate) / rate
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.18, 329.63, 1318.5))
    hiss = np.random.default_rng(0).standard_normal(len(t))
    return (0.08 * np.exp(-((t % 1.0) * 3)) * chord + 0.003 * hiss).astype(np.float32), rate


def check_scores(model: ScoringModel) -> dict[str, float]:
    """A model's scores of `check_clip`, on the CPU in float32, by axis."""
    samples, rate = check_clip()
    with Predictor(model, LoadOptions("cpu", "float32")) as predictor:
        scores = predictor.score(samples, sample_rate=rate)
    return {axis: round(scores[axis], 4) for axis in model.info.rated}
