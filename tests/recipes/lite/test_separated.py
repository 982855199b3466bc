"""Vocals as separation leaves them: which songs have them, and that more steps leave more of the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.lite.degradations import RATE
from recipes.lite.separated import KINDS, SEVERITIES, read_vocals
from tests.sounds import music, notes


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """One song with vocals, one whose vocals are silent, and one without a mixture."""
    lines = ["path,song,stem"]
    vocals, backing = notes(2.0, RATE)[0].double().numpy(), music(2.0, RATE).astype(np.float64)
    size = min(len(vocals), len(backing))
    vocals, backing = 0.3 * vocals[:size], 0.3 * backing[:size]
    stems = {"a": (vocals, vocals + backing), "b": (0 * vocals, backing), "c": (vocals, None)}
    for song, waves in stems.items():
        for stem, wave in zip(("vocals", "mixture"), waves, strict=True):
            if wave is not None:
                soundfile.write(tmp_path / f"{song}__{stem}.wav", wave, RATE)
                lines.append(f"{song}__{stem}.wav,{song},{stem}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_only_songs_with_vocals_and_a_mixture_are_read(songs: Path):
    assert [song for song, _ in read_vocals(songs)] == ["a"]


def test_each_step_is_farther_from_the_vocals(songs: Path):
    ((_, made),) = read_vocals(songs)
    assert len(made) == 1 + len(KINDS) * (len(SEVERITIES) - 1)
    vocals = made["clean", 0]
    for kind in KINDS:
        moved = [np.mean((made[kind, step][: len(vocals)] - vocals) ** 2) for step in range(1, len(SEVERITIES))]
        assert moved == sorted(moved)
        assert moved[0] < 0.5 * moved[-1]
