"""The driver of a run: shards go out to a crew, what is lost is done again, and every clip gets its row.

A shard whose worker died, hung or raised an error is done again clip by clip, so that the next loss has a name.
A clip that was lost twice gets a row that says so, and its file is not touched again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow

from mmmos.bulk.commits import committed, publish_part
from mmmos.bulk.failures import Failures, publish_failures, read_failures
from mmmos.bulk.plan import Plan
from mmmos.bulk.stores import Store, publishing
from mmmos.bulk.workers import IN_FLIGHT, Job, Outcome, Running, WorkerPool
from mmmos.errors import AUDIO_ERROR_CODES, BulkError
from mmmos.scores import ClipError

STALL_SECONDS = 30 * 60.0
"""Longest time in which no window of audio is finished."""

POLL_SECONDS = 1.0
"""How often progress is reported while nothing is published."""

MAX_ATTEMPTS = 2
"""Times that a clip may be lost; then it is given up."""

MAX_CONSECUTIVE_FAILURES = 20
"""Clips lost one after another, beside a few for every worker, that are rather the machine's fault than theirs."""


@dataclass(frozen=True)
class Counts:
    """How far a run is: what is published, by this driver and those before it."""

    shards: int
    all_shards: int
    clips: int  # of those shards
    all_clips: int
    ok: int
    errors: int
    lost: int  # workers, since this driver began; as the next three
    new_clips: int
    seconds: float
    peak_bytes: int  # the most memory that a worker took
    unpublished: int = 0  # clips that are finished, of shards that are not
    windows: int = 0  # finished, of the longest clip in progress


Report = Callable[[Counts], None]


def run_shards(
    store: Store,
    plan: Plan,
    crew: WorkerPool,
    *,
    report: Report = lambda counts: None,
    stall_s: float = STALL_SECONDS,
) -> Counts:
    """Have all that is not published yet worked on. Returns when every shard is.

    `report` is called about once a second. Raises `BulkError` where the run cannot go on: the store fails, no
    worker starts, no window of audio is finished for `stall_s`, or one clip after another is lost. What is published
    stays.
    """
    run = _Run(store, plan, MAX_CONSECUTIVE_FAILURES + 2 * IN_FLIGHT * crew.size)
    flying: set[Job] = set()
    running, alive = crew.running(), time.monotonic()
    while True:
        report(run.counts(running))
        while job := run.next(clips=len(flying) < crew.size, shards=len(flying) < IN_FLIGHT * crew.size):
            crew.submit(job)
            flying.add(job)
        if not flying:
            return run.counts([])
        outcomes = crew.wait(min(POLL_SECONDS, stall_s))
        for outcome in outcomes:
            flying.remove(outcome.job)
            run.take(outcome)
        before, running = running, crew.running()
        if running != before or any(outcome.result for outcome in outcomes):
            alive = time.monotonic()
        if time.monotonic() - alive > stall_s:
            why = f"no window of audio was finished for {stall_s / 60:g} minutes"
            for hung in running:  # not those that only wait behind one
                run.lose(hung.job, "worker_hung", why)
            raise BulkError(f"{store.url}: {why}; what is published stays, run the same command again to go on")


class _Run:
    """What is left to do, and the rows of the shards that are done clip by clip."""

    def __init__(self, store: Store, plan: Plan, most_lost: int) -> None:
        self._store, self._plan, self._most_lost = store, plan, most_lost
        with publishing(store):
            done = committed(store)
            self._losses = read_failures(store)
        self._rows: dict[int, dict[int, pyarrow.Table]] = {}
        self._began = time.monotonic()
        self._shards = len(done)
        self._ok = sum(commit.ok for commit in done.values())
        self._errors = sum(commit.errors for commit in done.values())
        self._before = self._ok + self._errors
        self._lost = self._consecutive_failures = self._peak = 0
        # What is on top goes first, so that few shards are under way at a time.
        self._jobs: list[Iterator[Job]] = [self._shards_but(set(done))]
        self._next: Job | None = None

    def next(self, clips: bool, shards: bool) -> Job | None:
        """The next job, if it is on a clip or a shard as they are wanted; a job that is lost comes back.

        A clip's job waits until a worker is free, so that those given out are those that are worked on.
        """
        while self._jobs and self._next is None:
            self._next = next(self._jobs[-1], None)
            if self._next is None:
                self._jobs.pop()
        if self._next is None or not (shards if self._next.clip is None else clips):
            return None
        job, self._next = self._next, None
        return job

    def take(self, outcome: Outcome) -> None:
        """Log what came of a job."""
        job, result = outcome.job, outcome.result
        if result is None:
            self.lose(job, "worker_crashed" if outcome.died else "scoring_failed", outcome.reason)
            return
        self._peak = max(self._peak, result.peak_bytes)
        if job.clip is None:
            self._count(result.ok, result.errors)
            return
        if job.lost is None:
            self._consecutive_failures = 0
        assert result.row is not None
        rows = self._rows.setdefault(job.shard, {})
        rows[job.clip] = result.row
        if len(rows) == self._plan.rows(job.shard):
            table = pyarrow.concat_tables([rows[i] for i in sorted(rows)])
            commit = publish_part(self._store, self._plan, job.shard, table)
            del self._rows[job.shard]
            self._count(commit.ok, commit.errors)

    def lose(self, job: Job, code: str, reason: str) -> None:
        """A worker died or hung on a job, or the work raised an error: note it, and have it done again."""
        shard, clip = job.shard, job.clip
        losses = self._losses.setdefault(shard, Failures())
        self._lost += 1
        if clip is None:
            losses.attempts += 1
            self._jobs.append(self._one_by_one(shard))
        else:
            self._consecutive_failures += 1
            losses.clips.setdefault(clip, []).append((code, reason))
            self._jobs.append(iter([self._on_clip(shard, clip)]))
        publish_failures(self._store, shard, losses)
        if self._consecutive_failures > self._most_lost:
            raise BulkError(
                f"{self._store.url}: {self._consecutive_failures} workers were lost on one clip after another, at last:"
                f" {reason}; what is published stays, run the same command again to go on"
            )

    def counts(self, running: Sequence[Running]) -> Counts:
        """How far it is, with the jobs in progress."""
        plan, clips = self._plan, self._ok + self._errors
        seconds = time.monotonic() - self._began
        of_all = self._shards, plan.shards, clips, plan.clips, self._ok, self._errors
        unpublished = sum(map(len, self._rows.values())) + sum(item.clips for item in running)
        windows = max((item.windows for item in running), default=0)
        return Counts(*of_all, self._lost, clips - self._before, seconds, self._peak, unpublished, windows)

    def _count(self, ok: int, errors: int) -> None:
        self._shards, self._ok, self._errors = self._shards + 1, self._ok + ok, self._errors + errors

    def _shards_but(self, done: set[int]) -> Iterator[Job]:
        for shard in range(self._plan.shards):
            if shard in self._losses and shard not in done:
                yield from self._one_by_one(shard)
            elif shard not in done:
                yield Job(shard)

    def _one_by_one(self, shard: int) -> Iterator[Job]:
        return (self._on_clip(shard, clip) for clip in range(self._plan.rows(shard)))

    def _on_clip(self, shard: int, clip: int) -> Job:
        """A job on one clip, which is given up once it was lost twice."""
        times = self._losses[shard].clips.get(clip, [])
        if len(times) < MAX_ATTEMPTS:
            return Job(shard, clip)
        code, reason = times[-1]
        what = "scoring raised an error, twice" if code == "scoring_failed" else AUDIO_ERROR_CODES[code]
        message = what if code == "worker_crashed" else f"{what}: {reason}"
        return Job(shard, clip, ClipError(code, message))
