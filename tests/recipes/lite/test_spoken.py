"""Speech of known order: which versions there are, and that the same ones are made each time."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.lite import spoken
from recipes.lite.heads import FREE
from recipes.lite.spoken import BAND_NOISE, Others, Spoken
from tests.sounds import music

RATE = 16_000
COLUMNS = ("path", "domain", "package", "source", "rate", "bandwidth", "licence")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Two recordings of speech and one of music, cut already."""
    (tmp_path / "corpus").mkdir()
    with open(tmp_path / "clean.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for i, domain in enumerate(("speech", "speech", "music")):
            soundfile.write(tmp_path / "corpus" / f"{i}.flac", music(1.0, RATE, seed=i), RATE)
            writer.writerow([f"{i}.flac", domain, "package", f"source {i}", RATE, 8_000, "MIT"])
    return tmp_path


def clip(work: Path, kind: str, step: int, own_rate: bool = True) -> Spoken:
    return Spoken(str(work / "corpus" / "0.flac"), FREE, "source 0", "package", kind, step, "", own_rate)


def test_free_recordings_get_versions_in_two_steps(work: Path, tmp_path: Path):
    data = tmp_path / "data" / "codec_mushra"
    data.mkdir(parents=True)
    (data / "manifest.csv").write_text("path,signal,system,mushra\na.wav,voice,Lyra 3,55\n")
    codec, *recordings = spoken.read_speech(tmp_path / "data", work)
    assert (codec[0].rating, codec[0].kind, codec[0].group) == (5.5, "Lyra 3", "voice")
    assert len(recordings) == 2
    for versions in recordings:
        assert (versions[0].kind, versions[0].step) == ("clean", 0)
        assert len(versions) == 1 + 2 * spoken.KINDS
        assert {version.step for version in versions[1:]} <= {1, 2, 3, 4}


@pytest.mark.parametrize("kind", ["white", "stage", BAND_NOISE])
def test_versions_are_worse_by_step_and_made_the_same_twice(work: Path, kind: str):
    others = Others(work)
    clean, rate = spoken.samples_of(clip(work, "clean", 0), others)
    assert rate == RATE
    mild, strong = (spoken.samples_of(clip(work, kind, step), others)[0] for step in (1, 4))
    assert np.array_equal(mild, spoken.samples_of(clip(work, kind, 1), Others(work))[0])
    assert not np.allclose(mild, strong)
    if kind == "white":
        assert np.abs(strong - clean).mean() > np.abs(mild - clean).mean()


def test_half_of_the_versions_are_made_at_24_khz(work: Path):
    x, rate = spoken.samples_of(clip(work, "white", 2, own_rate=False), Others(work))
    assert (rate, len(x)) == (24_000, 24_000)
