"""Numbers that were chosen on folds of the rated clips; nested.py chooses them without the fold that it reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmmos.scores import AXES

DROPS = {"CE": 3.0, "CU": 5.0, "PC": 0.0, "PQ": 5.0}
"""Points that a version of music of severity 1 has less than its recording: an assumption, not a choice."""


@dataclass(frozen=True)
class SpeechSettings:
    """Weights of the evidence for PQ of speech, and the prior where it says nothing."""

    codecs: float = 1.0  # of listeners' ratings
    pairs: float = 1.0  # of pairs of versions of a recording
    levels: float = 3.0  # of the steps of degradation, over all recordings
    copies: float = 0.5  # of what the prior says of free recordings and their versions
    decay: float = 1.0  # of the distance from the prior
    prior: tuple[tuple[str, float], ...] = (("mos", 1.0), ("distillmos", 0.5), ("dnsmos", 0.5))
    """Weights of the student's scores, in standard deviations."""


@dataclass(frozen=True)
class Settings:
    """Decays of the linear parts, and how severity lowers the scores of music."""

    decay: float = 1.0  # of the scores of music
    pc_decay: float = 0.5
    severity_decay: float = 0.75
    threshold: float = 0.2  # severity up to which nothing is subtracted
    steepness: float = 1.25  # of the drops above it: an estimate varies less than what it estimates
    speech: SpeechSettings = SpeechSettings()

    @property
    def drop_rates(self) -> NDArray[np.float64]:
        """Points [A] per unit of estimated severity above the threshold."""
        return self.steepness * np.array([DROPS[axis] for axis in AXES])

    def lost(self, severity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [N, A] that music of an estimated severity [N] loses."""
        return np.maximum(0, severity - self.threshold)[:, None] * self.drop_rates


CHOSEN = Settings()
