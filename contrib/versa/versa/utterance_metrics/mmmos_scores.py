#!/usr/bin/env python3

"""MMMOS: production quality (PQ), production complexity (PC), content enjoyment (CE) and content usefulness (CU)."""

import logging

import numpy as np

logger = logging.getLogger(__name__)

try:
    import mmmos
except ImportError:
    logger.info("mmmos is not installed: pip install mmmos")
    mmmos = None

AXES = ("PQ", "PC", "CE", "CU")


def mmmos_setup(model="lite", use_gpu=False, dtype="auto", accept_licenses=()):
    """Load a model once for all utterances.

    Args:
        model (str): lite (bundled), audiobox, a model folder or a hub id.
        use_gpu (bool): Whether the encoders run on the first GPU.
        dtype (str): Precision of the encoders: auto, float32 or bfloat16.
        accept_licenses (list of str): Names of weights whose licence is accepted before they are fetched.

    Returns:
        mmmos.Predictor: Scores audio at any sample rate.
    """
    if mmmos is None:
        raise ModuleNotFoundError("mmmos is not installed: pip install mmmos")
    return mmmos.load(model, device="cuda" if use_gpu else "cpu", dtype=dtype, accept_licenses=tuple(accept_licenses))


def mmmos_metric(model, pred_x, fs):
    """Score one utterance; no reference is needed.

    Args:
        model (mmmos.Predictor): From `mmmos_setup`.
        pred_x (np.ndarray): Samples of the generated audio (time,) or (time, channels), in [-1, 1] or integers.
        fs (int): Sample rate, Hz. The audio is resampled for each encoder from this rate.

    Returns:
        dict: `mmmos_PQ`, `mmmos_PC`, `mmmos_CE` and `mmmos_CU` on the scale of the model (0 to 10); NaN for silence.
    """
    scores = model.score(np.asarray(pred_x), sample_rate=fs, layout="channels_last")
    return {f"mmmos_{axis}": float(scores[axis]) for axis in AXES}


if __name__ == "__main__":
    audio = np.random.default_rng(0).uniform(-0.3, 0.3, 16000)
    print(mmmos_metric(mmmos_setup(), audio, 16000))
