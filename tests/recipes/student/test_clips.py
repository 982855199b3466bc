"""Clips of a package: long files, short ones in a row, files that cannot be read, and the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.lite.corpus import Pick
from recipes.student.clips import SECONDS, cut, cut_package, long_clips
from recipes.student.files import duration, playable, read
from tests.sounds import noise, sine

PICK = Pick("sound", "toy-data", 0, "CC0-1.0", "/sounds/", "skip")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "toy-data" / "sounds"
    folder.mkdir(parents=True)
    soundfile.write(folder / "long.flac", 0.2 * noise(25, 8_000), 8_000)
    for i in range(5):
        soundfile.write(folder / f"short{i}.wav", sine(200 + i, 1.0, 8_000), 8_000)
    soundfile.write(folder / "skip.wav", sine(440, 4.0, 8_000), 8_000)
    soundfile.write(folder / "silent.wav", np.zeros(40_000), 8_000)
    (folder / "broken.ogg").write_bytes(b"OggS, but not really")
    soundfile.write(tmp_path / "toy-data" / "elsewhere.wav", sine(440, 4.0, 8_000), 8_000)
    return tmp_path / "toy-data"


def test_cut_takes_long_files_apart_and_joins_short_ones(package: Path) -> None:
    found = {source: samples for source, samples, rate in cut(PICK, package, 20) if rate == 8_000}
    long = {source for source in found if source.startswith("sounds/long.flac@")}
    assert len(long) == 2
    assert all(len(found[source]) == SECONDS * 8_000 for source in long)
    (joined,) = set(found) - long
    assert "short" in joined
    assert 3 * 8_000 <= len(found[joined]) < 5.5 * 8_000


def test_package_s_clips_have_a_row_each(package: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    rows = list(cut_package(PICK, package, tmp_path / "clips", 2))
    assert len(rows) == 2
    for row in rows:
        assert duration(tmp_path / "clips" / row["path"]) == pytest.approx(float(row["seconds"]), abs=0.01)
        assert (row["domain"], row["package"], row["licence"], row["rate"]) == ("sound", "toy-data", "CC0-1.0", 8_000)
    assert [row["path"] for row in cut_package(PICK, package, tmp_path / "clips", 2)] == [row["path"] for row in rows]


def test_long_clips_start_at_different_places(package: Path) -> None:
    starts = [float(source.split("@")[1]) for source, _, _ in long_clips(package / "sounds/long.flac", 25, "x@", 4)]
    assert len(set(starts)) == 2
    assert all(0 <= start <= 15 for start in starts)


def test_read_stops_where_the_file_ends(package: Path) -> None:
    samples, rate = read(package / "sounds/short0.wav", 0.75, 10)
    assert (len(samples), rate) == (2_000, 8_000)
    np.testing.assert_allclose(samples, sine(200, 1.0, 8_000)[6_000:], atol=1e-4)


def test_unreadable_files_have_no_duration(package: Path) -> None:
    assert duration(package / "sounds/broken.ogg") == 0


def test_midi_without_a_player_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with playable(tmp_path / "song.mid") as file:
        assert file is None
    with playable(tmp_path / "song.wav") as file:
        assert file == tmp_path / "song.wav"
