"""Peaks and loudness of a clip, against those of FFmpeg and of the whole signal."""

from __future__ import annotations

import math

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mmmos.audio.clip import Clip
from mmmos.audio.windows import Window, cut
from mmmos.serve.outline import MOST_POINTS, Outline, block_powers, k_weighting, loudness_of
from tests.sounds import music, noise, sine

RATE = 48_000


def outline_of(samples: NDArray, rate: int) -> dict:
    outline = Outline()
    for item in cut(Clip("a", samples=samples, sample_rate=rate), (rate,), 0.1):
        if isinstance(item, Window):
            outline.add(item)
    return outline.row()


def ebur128(samples: NDArray) -> float:
    """Integrated loudness of one channel by FFmpeg's filter, LUFS."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE, format="flt", layout="mono", time_base=av.time_base and 1 / RATE)
    meter, sink = graph.add("ebur128", "metadata=1"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="flt", layout="mono")
    frame.sample_rate = RATE
    graph.push(frame)
    graph.push(None)
    found = math.nan
    while True:
        try:
            found = float(graph.pull().metadata["lavfi.r128.I"])
        except (av.error.EOFError, av.error.BlockingIOError):
            return found


SOUNDS = {
    "tone": sine(997.0, 5.0, RATE, 0.1),
    "noise": 0.05 * noise(5.0, RATE, 1.0),
    "quiet half": np.concatenate([0.2 * noise(4.0, RATE), 0.001 * noise(4.0, RATE)]),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_loudness_of_equals_ffmpeg(name: str):
    samples = SOUNDS[name].astype(np.float32)
    assert loudness_of(block_powers(samples, RATE)) == pytest.approx(ebur128(samples), abs=0.11)  # it has one decimal


def test_k_weighting_at_48_khz_is_that_of_the_standard():
    """The coefficients printed in ITU-R BS.1770-4."""
    (shelf, shelf_poles), (_, pass_poles) = k_weighting(48_000)
    assert shelf == pytest.approx([1.53512485958697, -2.69169618940638, 1.19839281085285], abs=1e-6)
    assert shelf_poles == pytest.approx([1, -1.69065929318241, 0.73248077421585], abs=1e-6)
    assert pass_poles == pytest.approx([1, -1.99004745483398, 0.99007225036621], abs=1e-6)


def test_louder_clip_has_the_same_outline_but_for_its_level():
    quiet = outline_of(music(12.0, 16_000), 16_000)
    loud = outline_of(2 * music(12.0, 16_000), 16_000)
    assert loud["loudness"] - quiet["loudness"] == pytest.approx(20 * math.log10(2), abs=0.02)
    assert np.array(loud["peaks"]) == pytest.approx(2 * np.array(quiet["peaks"]), abs=0.002)


@pytest.mark.parametrize("seconds", [0.3, 10.0, 12.34, 75.0])
def test_peaks_cover_the_clip(seconds: float):
    samples = music(seconds, 16_000)
    row = outline_of(samples, 16_000)
    count = len(row["peaks"])
    assert count <= MOST_POINTS
    assert (count - 1) * row["seconds"] <= seconds + 1e-9 <= count * row["seconds"] + 0.03
    assert max(row["peaks"]) == pytest.approx(np.abs(samples).max(), abs=0.001)


def test_silence_has_no_loudness():
    row = outline_of(np.zeros(16_000, np.float32), 16_000)
    assert row["loudness"] is None
    assert max(row["peaks"]) == 0
