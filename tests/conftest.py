"""What the tests share: sounds made from formulas, the sample clips, the bundled scorer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from mmmos.predictor import Predictor, from_pretrained

# Test processes share the cores; more threads than cores make each of them slower.
torch.set_num_threads(1)
os.environ["HF_HUB_OFFLINE"] = "1"

SAMPLES = Path(__file__).parent.parent / "samples"

Wave = NDArray[np.float32]


def music(seconds: float, rate: int = 16_000, seed: int = 0) -> Wave:
    """A plucked chord over faint noise, [S]: wide-band, not silent, not clipped."""
    t = np.arange(round(seconds * rate)) / rate
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6, 1318.5))
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.1 * np.exp(-3 * (t % 0.5)) * chord + 0.01 * noise).astype(np.float32)


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """`make_file("a.wav", seconds=2.0, rate=16_000, channels=1)` writes such a file and gives its path."""

    def make(name: str, seconds: float = 2.0, rate: int = 16_000, channels: int = 1, **options: str) -> Path:
        path = tmp_path / name
        soundfile.write(path, np.tile(music(seconds, rate)[:, None], (1, channels)), rate, **options)
        return path

    return make


@pytest.fixture(scope="session")
def scorer() -> Iterator[Predictor]:
    """The bundled model on the CPU."""
    predictor = from_pretrained("lite", device="cpu")
    yield predictor
    predictor.close()
