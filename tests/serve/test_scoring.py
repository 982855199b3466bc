"""The queue: what it verifies before it is ready, and what a failure of the model or the decoder affects."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mmmos.errors import UsageError
from mmmos.inference.predictor import Predictor
from mmmos.inference.stream import ClipStream
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.serve.jobs import Job
from mmmos.serve.limits import Limits
from mmmos.serve.metrics import Metrics
from mmmos.serve.scoring import ScoringQueue
from tests.serve.conftest import WAIT, GatedPredictor, wait_for, wav


@contextmanager
def started(predictor: Predictor) -> Iterator[ScoringQueue]:
    queue = ScoringQueue(predictor, Limits(), Metrics(), decoders=1)
    queue.start()
    yield queue
    queue.close()


def job(folder: Path, name: str = "a.wav", seconds: float = 0.5) -> Job:
    path = folder / f"file-{name}"
    path.write_bytes(wav(seconds))
    return Job(name, str(path), path.stat().st_size)


def with_check(predictor: Predictor, **check: float) -> None:
    predictor.model = replace(predictor.model, info=replace(predictor.model.info, check=check))


def test_queue_is_ready_when_check_clip_has_its_scores(toy: GatedPredictor):
    with started(toy) as queue:
        wait_for(lambda: queue.problem is None)


def test_queue_with_wrong_check_scores_is_not_ready(toy: GatedPredictor):
    with_check(toy, PQ=11.0)
    with started(toy) as queue:
        wait_for(lambda: "are wrong" in (queue.problem or ""))
        assert "PQ by -" in (queue.problem or "")


def test_queue_whose_decoder_cannot_start_is_not_ready(
    toy: GatedPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Clips that are accepted nevertheless get a row: nobody waits for a thread that has ended."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    one = job(tmp_path)
    with started(toy) as queue:
        wait_for(lambda: "the decoder's process cannot start" in (queue.problem or ""))
        assert queue.reserve(1)
        queue.submit([one])
        assert one.row.result(WAIT)["error"]["code"] == "decode_failed"


def test_places_are_taken_all_or_none(toy: GatedPredictor):
    queue = ScoringQueue(toy, Limits(queue=3), Metrics(), decoders=1)
    assert queue.reserve(2)
    assert not queue.reserve(2)
    assert queue.reserve(1)
    assert not queue.reserve(1)
    queue.release(3)
    assert queue.accepted == 0


@pytest.mark.slow
def test_close_scores_what_was_accepted(toy: GatedPredictor, tmp_path: Path):
    jobs = [job(tmp_path, f"{i}.wav") for i in range(3)]
    with started(toy) as queue:
        assert queue.reserve(3)
        queue.submit(jobs)
    assert [one.row.result(0)["status"] for one in jobs] == ["ok"] * 3
    assert queue.accepted == 0


@pytest.mark.slow
def test_failure_of_the_model_affects_one_batch(toy: GatedPredictor, tmp_path: Path):
    class Failing(ClipStream):
        def score_batch(self) -> None:
            if any(pending.clip.id == "bad.wav" for pending, _ in self.batch):
                raise RuntimeError("out of memory")
            super().score_batch()

    class Bad(Predictor):
        def clip_stream(self, progress: Progress = NO_PROGRESS) -> ClipStream:
            return Failing(**vars(super().clip_stream(progress)))

    toy.__class__ = Bad
    jobs = [job(tmp_path, name, 12.0) for name in ("a.wav", "bad.wav", "b.wav")]
    with started(toy) as queue:
        assert queue.reserve(3)
        queue.submit(jobs)
        rows = [one.row.result(WAIT) for one in jobs]
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert rows[1]["error"] == {"code": "scoring_failed", "message": "RuntimeError: out of memory"}


@pytest.mark.slow
def test_cancelled_clip_gives_its_place_back(toy: GatedPredictor, tmp_path: Path):
    toy.gate.clear()
    first, second = job(tmp_path, "a.wav", 60.0), job(tmp_path, "b.wav")
    queue = ScoringQueue(toy, Limits(), Metrics(), decoders=1)
    assert queue.reserve(2)
    queue.submit([first, second])
    first.cancelled = True
    first.row.cancel()
    toy.gate.set()
    queue.start()
    assert second.row.result(WAIT)["status"] == "ok"
    queue.close()
    assert queue.accepted == 0


@pytest.mark.parametrize("name", ["body_bytes", "seconds", "queue", "deadline"])
def test_limits_are_positive(name: str):
    for value in (0, -1, float("nan")):
        with pytest.raises(UsageError, match=name):
            Limits(**{name: value})
