"""Two recordings of different domains at once, so that scores change smoothly as one fades into the other.

In a mix, a domain's probability is the logistic function of its level above the other's: equally loud, both have one
half. Both recordings are of one part of the groups, so that a member that goes without the part goes without the mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from mmmos.encoders.base import Encoder
from recipes.lite.chains import Wave
from recipes.lite.corpus import seed
from recipes.lite.heads import DOMAINS, PARTS, part_of
from recipes.lite.versions import GATE_ONLY, Array, Version, encoded, is_solo_vocals, samples_of

COUNTS = {("speech", "music"): 200, ("speech", "sound"): 100, ("music", "sound"): 100}
RANGE_DB = 20.0  # of the level of the first recording above the second, either way
SCALE_DB = 46.0  # of the logistic function
SECONDS = 3.0  # at most


@dataclass(frozen=True)
class Mix:
    """Two recordings and the level of the first above the second (dB)."""

    first: Version
    second: Version
    level_db: float

    @property
    def name(self) -> str:
        """Of the mix, for its cached features."""
        return f"mix {self.first.clip} {self.second.clip} {self.level_db:.3f}"

    @property
    def group(self) -> str:
        """A group of the part that both recordings are in."""
        return self.first.group

    @property
    def fraction(self) -> float:
        """Probability of the first recording's domain."""
        return float(1 / (1 + np.exp(-self.level_db / SCALE_DB)))

    @property
    def probabilities(self) -> list[float]:
        """Of `DOMAINS`."""
        own = {self.first.domain: self.fraction, self.second.domain: 1 - self.fraction}
        return [own.get(name, 0.0) for name in DOMAINS]

    def samples(self) -> tuple[Wave, int]:
        """Its samples [S] and their rate (Hz)."""
        (x, own), (y, other) = (samples_of(version) for version in (self.first, self.second))
        rate = max(own, other)
        x, y = soxr.resample(x, own, rate), soxr.resample(y, other, rate)
        size = min(len(x), len(y), int(SECONDS * rate))
        x, y = (part[:size] / max(float(np.sqrt(np.mean(part[:size] ** 2))), 1e-9) for part in (x, y))
        mixed = x * 10 ** (self.level_db / 40) + y * 10 ** (-self.level_db / 40)
        return mixed * (0.9 / float(np.abs(mixed).max())), rate


def make_mixes(recordings: Sequence[Version]) -> list[Mix]:
    """`COUNTS` mixes of recordings; not of clips for the gate alone and solo vocals, whose domain is hard to name."""
    by_part: dict[tuple[str, int], list[Version]] = {}
    for row in recordings:
        if row.set not in GATE_ONLY and not is_solo_vocals(row):
            by_part.setdefault((row.domain, part_of(row.group)), []).append(row)
    rng = np.random.default_rng(seed("mixes"))
    found = []
    for domains, count in COUNTS.items():
        for _ in range(count):
            part = int(rng.integers(PARTS))
            first, second = (by_part[domain, part][rng.integers(len(by_part[domain, part]))] for domain in domains)
            found.append(Mix(first, second, float(rng.uniform(-RANGE_DB, RANGE_DB))))
    return found


def inputs_of(mixes: Sequence[Mix], work: Path, encoders: Sequence[Encoder]) -> Array:
    """Means and standard deviations of the encoders' frames [N, D]."""
    waves = [(mix.name, lambda mix=mix: [mix.samples()]) for mix in mixes]
    return encoded(waves, work, encoders)
