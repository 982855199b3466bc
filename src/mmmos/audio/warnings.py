"""Defects of a clip that listeners would notice, reported as warnings with its scores."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WARNINGS = {
    "silent": "never louder than -80 dBFS: the clip gets no score",
    "partly_silent": "at least one whole window is silent; it gets no score and no weight",
    "clipped": "at least 0.1 % of the samples at or beyond full scale",
    "dc_offset": "mean beyond 2 % of full scale",
    "phase_cancel": "the channels cancel in the downmix: it keeps under 1 % of their power",
    "downmixed": "more than two channels, averaged with equal weight",
    "narrowband": "no content above about 4 kHz, as on a telephone",
    "upsampled": "content ends in a wall at half of a lower standard rate",
    "short": "under 2 s: shorter than the clips that listeners rated",
    "truncated": "the file is shorter than its header says, or its decoder stopped",
    "decode_warnings": "the decoder skipped damaged data",
    "header_mismatch": "the header was wrong about the length, or files were joined: all of the audio is scored",
    "format_change": "sample rate or channels change within the file: the rest is converted to the first format",
    "segment_clamped": "the segment's end lies past the end of the clip",
    "out_of_range": "the score of the model was outside its scale, and was clamped to it",
}
"""The meaning of every warning."""

SILENCE_PEAK = 1e-4  # -80 dBFS, three steps of 16-bit audio
CLIPPED_LEVEL, CLIPPED_FRACTION = 0.999, 1e-3
DC_LEVEL = 0.02
CANCEL_FRACTION = 0.01
SHORT_SECONDS = 2.0
NARROW_HZ = 4_500
STANDARD_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000)
WALL_DB = 25.0  # drop at the cut-off of a resampler, far above that of instruments and rooms
SPECTRUM_SECONDS = 0.1


class SignalChecks:
    """Running statistics of a segment of audio, which determine its warnings. Memory does not grow with its length."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.sample_rate = sample_rate
        self.channels = channels
        self.samples = 0
        self._peak = 0.0
        self._sum = 0.0
        self._mono_power = 0.0
        self._channel_power = 0.0
        self._clipped = 0.0
        self._taper = _taper(sample_rate)
        self._hz = np.fft.rfftfreq(len(self._taper), 1 / sample_rate)
        self._spectrum = np.zeros(len(self._hz))

    def update(self, block: NDArray[np.float32], mono: NDArray[np.float32]) -> None:
        """Add a block [n, C] and its downmix [n]."""
        self.samples += len(mono)
        self._peak = max(self._peak, float(np.abs(mono).max()))
        self._sum += float(mono.sum(dtype=np.float64))
        self._mono_power += float(np.square(mono, dtype=np.float64).sum())
        self._channel_power += float(np.square(block, dtype=np.float64).sum()) / self.channels
        self._clipped += float((np.abs(block) >= CLIPPED_LEVEL).mean()) * len(block)
        size = len(self._taper)
        if len(mono) >= size:
            middle = (len(mono) - size) // 2
            self._spectrum += np.abs(np.fft.rfft(mono[middle : middle + size] * self._taper)) ** 2

    def merge(self, other: SignalChecks) -> None:
        """Add the statistics of `other`, of the same clip."""
        self._peak = max(self._peak, other._peak)
        for name in ("samples", "_sum", "_mono_power", "_channel_power", "_clipped", "_spectrum"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def silent(self) -> bool:
        """Whether no sample of the downmix is louder than -80 dBFS."""
        return self._peak < SILENCE_PEAK

    def warnings(self) -> set[str]:
        """Warnings for all audio so far."""
        if self.samples == 0:
            return set()
        found = {
            "clipped": self._clipped >= CLIPPED_FRACTION * self.samples,
            "dc_offset": abs(self._sum) >= DC_LEVEL * self.samples,
            "phase_cancel": self._channel_power / self.samples > SILENCE_PEAK**2
            and self._mono_power < CANCEL_FRACTION * self._channel_power,
            "short": self.samples < SHORT_SECONDS * self.sample_rate,
            **self._bandwidth(),
        }
        return {name for name, is_so in found.items() if is_so}

    def _bandwidth(self) -> dict[str, bool]:
        """Warnings about the bandwidth: where the long-term spectrum ends, and whether it ends in a wall."""
        if self.silent or not self._spectrum.any():
            return {}
        wall = next((rate for rate in STANDARD_RATES if self._has_wall(rate / 2)), None)
        edge = wall / 2 if wall else self.sample_rate / 2
        return {"narrowband": edge <= NARROW_HZ, "upsampled": wall is not None}

    def _has_wall(self, cutoff: float) -> bool:
        """Whether the level falls by `WALL_DB` from just below `cutoff` (Hz) to just above, and stays there.

        The roll-off of an instrument does not count: it is as steep in the octave below. Nor does a single tone.

        level │▔▔▔▔▔▔▔▔╲
              │         ╲________ floor
              └──┬────┬──┬──────────► Hz
                .35  .7  1.1 of the cut-off
        """
        if cutoff * 1.25 > self.sample_rate / 2:
            return False
        level, hz = 10 * np.log10(self._spectrum + 1e-30), self._hz / cutoff
        octave_below = np.median(level[(hz > 0.3) & (hz < 0.4)])
        below = np.median(level[(hz > 0.6) & (hz < 0.8)])
        drop = below - level[hz > 1.1].max()
        return bool(drop > max(WALL_DB, 2 * (octave_below - below)))


@lru_cache(maxsize=8)
def _taper(sample_rate: int) -> NDArray[np.float64]:
    return np.hanning(max(1, round(SPECTRUM_SECONDS * sample_rate)))
