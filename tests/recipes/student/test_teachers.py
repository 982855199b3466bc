"""Shards: their layout, the order of the segments, and files that are not the teachers'."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from recipes.student.segments import SIZE, Source
from recipes.student.teachers import NISQA, PER_SHARD, Teachers, make_shard
from tests.sounds import noise

DATA = Path(os.environ.get("MMMOS_DATA", "/nowhere"))


class ToySegments:
    def make(self, number: int) -> tuple[np.ndarray, np.ndarray, Source]:
        return (
            np.full(8, float(number)),
            np.array([number % 2, 0.0, 1.0]),
            Source(Path("x"), "music", f"g{number}", "p"),
        )


class ToyTeachers:
    def targets(self, x: np.ndarray, speech: float, number: int) -> dict[str, np.ndarray]:
        return {"log_mel": x.astype(np.float16), "scores": np.array([speech, number], np.float32)}


def test_shard_holds_its_segments_in_order(tmp_path: Path) -> None:
    make_shard(tmp_path / "train-0003.npz", ToySegments(), ToyTeachers(), 3 * PER_SHARD)
    assert [path.name for path in tmp_path.iterdir()] == ["train-0003.npz"]
    with np.load(tmp_path / "train-0003.npz") as shard:
        numbers = np.arange(3 * PER_SHARD, 4 * PER_SHARD)
        np.testing.assert_array_equal(shard["scores"], np.stack([numbers % 2, numbers], axis=1))
        np.testing.assert_array_equal(shard["log_mel"][:, 0], numbers)
        assert shard["domain"].shape == (PER_SHARD, 3)
        assert shard["group"][0] == f"g{numbers[0]}"


def test_missing_and_other_files_are_refused(tmp_path: Path) -> None:
    first, home, _ = NISQA
    with pytest.raises(SystemExit, match=rf"{first} is missing: download {home}"):
        Teachers(tmp_path)
    (tmp_path / first).write_bytes(b"another network")
    with pytest.raises(SystemExit, match=rf"{first} is not the file of {home}: its sha256 is not 7ec4cf93"):
        Teachers(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "models").is_dir(), reason="MMMOS_DATA has no published weights")
def test_teachers_score_speech_and_leave_out_a_part_of_the_rest() -> None:
    teachers = Teachers(DATA / "models")
    x = 0.05 * noise(SIZE / 48_000, 48_000, slope=1)
    speech, rest = (teachers.targets(x, fraction, 5) for fraction in (1.0, 0.0))
    assert not np.isnan(speech["scores"]).any()
    assert np.isnan(rest["scores"]).any()
    assert {name: values.shape for name, values in speech.items()} == {"log_mel": (498, 96), "scores": (7,)}
    some = teachers.scores(x, (False, False, True))
    assert np.isnan(some[:6]).all()
    assert some[6] == pytest.approx(speech["scores"][6])
