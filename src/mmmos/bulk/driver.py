"""Drives a bulk run: hands shards to workers, retries failures, and guarantees one row per clip.

If a worker dies, hangs or raises an error on a shard, its clips are retried one by one, which finds the clip at fault.
A clip that fails twice gets a row with that error, and its file is not touched again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow

from mmmos.bulk.commits import committed, publish_part
from mmmos.bulk.failures import Failures, publish_failures, read_failures
from mmmos.bulk.plan import Plan
from mmmos.bulk.stores import Store, publishing
from mmmos.bulk.workers import IN_FLIGHT, Job, Outcome, Running, WorkerPool
from mmmos.errors import AUDIO_ERROR_CODES, BulkError
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import ClipError
from mmmos.wording import counted

STALL_SECONDS = 30 * 60.0
"""Longest time without a finished window of audio."""

POLL_SECONDS = 1.0
"""How often progress is reported while nothing is published."""

MAX_ATTEMPTS = 2
"""How often a clip is tried alone before it gets an error row."""

MAX_CONSECUTIVE_FAILURES = 20
"""Failures in a row, besides a few per worker, after which the machine is at fault rather than the clips."""


@dataclass(frozen=True)
class Counts:
    """Progress of a run: what this driver and earlier ones have published."""

    shards: int
    all_shards: int
    clips: int  # of those shards
    all_clips: int
    ok: int
    errors: int
    failures: int  # of workers, since this driver started; so are the next three
    new_clips: int
    seconds: float
    peak_bytes: int  # peak memory of a worker
    unpublished: int = 0  # finished clips of unfinished shards
    windows: int = 0  # finished, of the longest clip in progress


def run_shards(
    store: Store,
    plan: Plan,
    workers: WorkerPool,
    *,
    progress: Progress = NO_PROGRESS,
    stage: str = "scoring",
    stall_s: float = STALL_SECONDS,
) -> Counts:
    """Process every shard that is not published yet.

    `progress` gets one stage, named `stage`, and is updated about once a second. Raises `BulkError` if the run cannot
    continue: the store fails, no worker starts, no window of audio is finished for `stall_s`, or clip after clip fails.
    Published parts stay.
    """
    run = _Run(store, plan, MAX_CONSECUTIVE_FAILURES + 2 * IN_FLIGHT * workers.size)
    in_flight: set[Job] = set()
    running, alive = workers.running(), time.monotonic()
    progress.start(stage, plan.clips, "clips", run.counts([]).clips)  # earlier commands did what is published now
    while True:
        counts = run.counts(running)
        detail = counted(counts.errors, "error") if counts.errors else ""
        progress.update(counts.clips + counts.unpublished, counts.windows, detail)
        while job := run.next(clips=len(in_flight) < workers.size, shards=len(in_flight) < IN_FLIGHT * workers.size):
            workers.submit(job)
            in_flight.add(job)
        if not in_flight:
            return run.counts([])
        outcomes = workers.wait(min(POLL_SECONDS, stall_s))
        for outcome in outcomes:
            in_flight.remove(outcome.job)
            run.record(outcome)
        before, running = running, workers.running()
        if running != before or any(outcome.result for outcome in outcomes):
            alive = time.monotonic()
        if time.monotonic() - alive > stall_s:
            reason = f"no window of audio was finished for {stall_s / 60:g} minutes"
            for hung in running:  # not the jobs that wait behind them
                run.record_failure(hung.job, "worker_hung", reason)
            raise BulkError(f"{store.url}: {reason}; published parts stay, run the same command again to resume")


class _Run:
    """The jobs that are left, and the rows of shards whose clips are processed one by one."""

    def __init__(self, store: Store, plan: Plan, max_consecutive: int) -> None:
        self._store, self._plan, self._max_consecutive = store, plan, max_consecutive
        with publishing(store):
            done = committed(store)
            self._failures = read_failures(store)
        self._rows: dict[int, dict[int, pyarrow.Table]] = {}
        self._began = time.monotonic()
        self._shards = len(done)
        self._ok = sum(commit.ok for commit in done.values())
        self._errors = sum(commit.errors for commit in done.values())
        self._earlier = self._ok + self._errors
        self._failure_count = self._consecutive_failures = self._peak = 0
        # A stack: retries come first, so that few shards are unfinished at a time.
        self._jobs: list[Iterator[Job]] = [self._remaining(set(done))]
        self._next: Job | None = None

    def next(self, clips: bool, shards: bool) -> Job | None:
        """The next job, if it is on a clip and `clips`, or on a shard and `shards`. A failed job comes again.

        The job of a single clip waits for a free worker, so that every such job in flight is running.
        """
        while self._jobs and self._next is None:
            self._next = next(self._jobs[-1], None)
            if self._next is None:
                self._jobs.pop()
        if self._next is None or not (shards if self._next.clip is None else clips):
            return None
        job, self._next = self._next, None
        return job

    def record(self, outcome: Outcome) -> None:
        """Record the outcome of a job."""
        job, result = outcome.job, outcome.result
        if result is None:
            self.record_failure(job, "worker_crashed" if outcome.died else "scoring_failed", outcome.reason)
            return
        self._peak = max(self._peak, result.peak_bytes)
        if job.clip is None:
            self._count(result.ok, result.errors)
            return
        if job.error is None:
            self._consecutive_failures = 0
        assert result.row is not None
        rows = self._rows.setdefault(job.shard, {})
        rows[job.clip] = result.row
        if len(rows) == self._plan.rows(job.shard):
            table = pyarrow.concat_tables([rows[i] for i in sorted(rows)])
            commit = publish_part(self._store, self._plan, job.shard, table)
            del self._rows[job.shard]
            self._count(commit.ok, commit.errors)

    def record_failure(self, job: Job, code: str, reason: str) -> None:
        """Record that a worker died or hung on a job, or that the job raised an error, and retry it."""
        shard, clip = job.shard, job.clip
        failures = self._failures.setdefault(shard, Failures())
        self._failure_count += 1
        if clip is None:
            failures.attempts += 1
            self._jobs.append(self._one_by_one(shard))
        else:
            self._consecutive_failures += 1
            failures.clips.setdefault(clip, []).append((code, reason))
            self._jobs.append(iter([self._on_clip(shard, clip)]))
        publish_failures(self._store, shard, failures)
        if self._consecutive_failures > self._max_consecutive:
            raise BulkError(
                f"{self._store.url}: {self._consecutive_failures} workers failed on one clip after another, the last:"
                f" {reason}; published parts stay, run the same command again to resume"
            )

    def counts(self, running: Sequence[Running]) -> Counts:
        """The progress, with the jobs that are running."""
        plan, clips = self._plan, self._ok + self._errors
        seconds = time.monotonic() - self._began
        of_all = self._shards, plan.shards, clips, plan.clips, self._ok, self._errors
        unpublished = sum(map(len, self._rows.values())) + sum(item.clips for item in running)
        windows = max((item.windows for item in running), default=0)
        return Counts(*of_all, self._failure_count, clips - self._earlier, seconds, self._peak, unpublished, windows)

    def _count(self, ok: int, errors: int) -> None:
        self._shards, self._ok, self._errors = self._shards + 1, self._ok + ok, self._errors + errors

    def _remaining(self, done: set[int]) -> Iterator[Job]:
        for shard in range(self._plan.shards):
            if shard in self._failures and shard not in done:
                yield from self._one_by_one(shard)
            elif shard not in done:
                yield Job(shard)

    def _one_by_one(self, shard: int) -> Iterator[Job]:
        return (self._on_clip(shard, clip) for clip in range(self._plan.rows(shard)))

    def _on_clip(self, shard: int, clip: int) -> Job:
        """A job on one clip; after `MAX_ATTEMPTS` failures, a job that writes its error row."""
        attempts = self._failures[shard].clips.get(clip, [])
        if len(attempts) < MAX_ATTEMPTS:
            return Job(shard, clip)
        code, reason = attempts[-1]
        what = "scoring raised an error, twice" if code == "scoring_failed" else AUDIO_ERROR_CODES[code]
        message = what if code == "worker_crashed" else f"{what}: {reason}"
        return Job(shard, clip, ClipError(code, message))
