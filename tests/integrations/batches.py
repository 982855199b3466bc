"""A toy model of two domains and a batch of clips of both, for tests of metrics and callbacks."""

from __future__ import annotations

import numpy as np
import torch

from mmmos.inference.predictor import Predictor
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from tests.sounds import music, noise
from tests.toys import CPU, toy_config, toy_member, toy_model

RATE = 16_000
DOMAINS = ("music", "sound")
LENGTHS = [8_000, 5_000, 8_000, 1_600, 7_999, 4_000]


def toy_scorer() -> Predictor:
    """A model of two domains, which classifies `clips` as one or the other."""
    config = toy_config(heads=HeadConfig(domains=DOMAINS), fusion=FusionConfig("mean_std", "none"))
    return Predictor(toy_model(toy_member(8, config)), CPU)


def clips() -> torch.Tensor:
    """[6, 8000]: music at three levels, and noise."""
    waves = [level * music(0.5, seed=i) for i, level in enumerate((0.1, 0.5, 1.0))]
    return torch.from_numpy(np.stack([*waves, *(noise(0.5, seed=i) for i in range(3))]).astype(np.float32))
