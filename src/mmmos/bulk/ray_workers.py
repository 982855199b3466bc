"""Workers on a Ray cluster: actors that hold the model, each given one job at a time.

    submit ──► waiting ──► an actor that is ready, in a process on some machine ──► the store
                                    │ result, or its end
    wait  ◄── Outcome ◄─────────────┘ one that has ended is replaced where there is room

Ray places the actors and tells when one is gone. It neither publishes nor tries anything again.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import deque
from concurrent.futures import Future
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from mmmos.bulk.ray_cluster import connected, import_ray, last_line, reach
from mmmos.bulk.workers import Heartbeats, Job, Lists, Outcome, Result, Running, work_on
from mmmos.errors import BulkError, MmmosError, UsageError

if TYPE_CHECKING:
    from mmmos.bulk.plan import Plan
    from mmmos.bulk.stores import Store
    from mmmos.bulk.tasks import Task

START_SECONDS = 300.0
"""How long the first worker may take: a cluster may have to bring up a machine for it, which then loads the model."""

HEAD_SECONDS = 30.0
"""How long the head of a cluster may be out of reach; Ray ends the process after 60, in its own way."""

LOOK_SECONDS = 5.0
"""How often it is looked at how large the cluster is."""

HEARTBEAT_SECONDS = 30.0
"""How often a worker is asked for its progress."""

MAX_FAILED_STARTS = 5
"""Actors that may end one after another before any of them is ready."""

News = Literal["start", "do", "beat"]


@dataclass(eq=False)
class _Actor:
    """An actor as the driver knows it."""

    handle: Any
    ready: bool = False  # it has loaded the model
    job: Job | None = None  # the one that it is on
    progress: Running | None = None  # of that job, as it last said
    asked: float = 0.0  # when it was last asked for it; 0 if never


class RayWorkers:
    """Actors on a Ray cluster, one for every CPU slot but one, or for every GPU if the task runs on GPUs.

    There are at most `workers`. Machines that join the cluster are used, those that leave it are done without. Jobs
    wait here until an actor is free, so that the end of an actor costs the one job that it was on.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        task: Task,
        address: str,
        workers: int | None = None,
        start_seconds: float = START_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        """Connect to a cluster, "HOST:PORT" or "auto", or start one on this machine, "local".

        Each worker is asked for its progress every `heartbeat_seconds`. Raises `MissingExtraError` without Ray,
        `UsageError` for an address that is none, `BulkError` if nothing answers there.
        """
        self._ray = import_ray()
        self._address, self._most = address, workers
        self._start_seconds, self._heartbeat_seconds = start_seconds, heartbeat_seconds
        settings = plan.task.get("settings", {})
        self._gpus = int(str(settings.get("device", "cpu")).startswith("cuda"))
        self._cpus = int(settings.get("threads", 1))
        self._given = store, plan, task
        self._waiting: deque[Job] = deque()
        self._actors: dict[_Actor, None] = {}  # in the order of their age
        self._free: deque[_Actor] = deque()  # ready and without a job; those that have ended are found when it is given
        self._told: SimpleQueue[tuple[_Actor, News, Future[Any]]] = SimpleQueue()
        self._begun, self._since, self._looked = False, time.monotonic(), 0.0
        self._failed_starts = 0
        self._kind = self._ray.remote(
            num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0, concurrency_groups={"news": 1}
        )(_Worker)
        with ExitStack() as opened:
            # Ray prints to stdout what it has to say of lost machines; stdout is for data.
            opened.enter_context(redirect_stdout(sys.stderr))
            opened.enter_context(connected(self._ray, address, workers and workers * self._cpus + 1))
            self._opened = opened.pop_all()
        self._head, self._answered = self._ray.get_runtime_context().gcs_address, time.monotonic()
        self.size = 0
        try:
            self._fill()
        except BaseException:
            self.close()
            raise

    def submit(self, job: Job) -> None:
        """Have a job done after those that wait."""
        self._waiting.append(job)
        self._hand_out()

    def wait(self, seconds: float) -> list[Outcome]:
        """Jobs that are over. Raises `BulkError` if no worker has ever started and none does."""
        until = time.monotonic() + seconds
        while True:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self._fill()
            self._ask_for_progress()
            outcomes = self._news(min(until - time.monotonic(), LOOK_SECONDS))
            self._hand_out()
            if outcomes or time.monotonic() >= until:
                return outcomes

    def running(self) -> list[Running]:
        """The jobs that an actor was given, by its last answer."""
        at_work = [(actor.job, actor.progress) for actor in self._actors if actor.job is not None]
        return [progress if progress and progress.job == job else Running(job) for job, progress in at_work]

    def close(self) -> None:
        """End the actors, and a Ray that was started for them."""
        for actor in list(self._actors):
            self._discard(actor)
        self._opened.close()

    def _fill(self) -> None:
        """Bring the number of actors to what there is room for. None that has the model is given up."""
        self._looked = time.monotonic()
        if not self._head_answers():
            return
        there = self._ray.cluster_resources()
        room = (int(there.get("CPU", 0)) - 1) // self._cpus  # with no slot free a lost machine could hang Ray
        room = min(room, int(there.get("GPU", 0)) if self._gpus else room, self._most or room)
        room = max(room, 1)  # this one may have to wait for its machine
        starting = [actor for actor in self._actors if not actor.ready]
        for actor in starting[: max(0, len(self._actors) - room)]:
            self._discard(actor)
        while len(self._actors) < room:
            actor = _Actor(self._kind.remote(os.getcwd()))
            self._actors[actor] = None
            self._call(actor, "start", *self._given)
        self.size = len(self._actors)
        if not self._begun and time.monotonic() - self._since > self._start_seconds:
            free = self._ray.available_resources()
            slots = ", ".join(
                f"{free.get(kind, 0):g} of {there.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")
            )
            raise BulkError(
                f"no worker has started on the Ray cluster at {self._address} within {self._start_seconds:g} s"
                f" ({slots}); one takes {self._cpus} CPU{' and a GPU' * self._gpus}"
            )

    def _head_answers(self) -> bool:
        """Whether the cluster's head is in reach. Asked for anything while it is not, Ray would wait."""
        try:
            reach(self._head)
        except OSError as error:
            if time.monotonic() - self._answered > HEAD_SECONDS:
                raise BulkError(
                    f"the head of the Ray cluster at {self._address} is gone: {error}; what is published stays, run the"
                    " same command again to go on"
                ) from error
            return False
        self._answered = time.monotonic()
        return True

    def _hand_out(self) -> None:
        while self._waiting and self._free:
            actor = self._free.popleft()
            if actor in self._actors:
                actor.job, actor.asked = self._waiting.popleft(), time.monotonic()
                self._call(actor, "do", actor.job)

    def _ask_for_progress(self) -> None:
        for actor in self._actors:
            # Also one without a job, so that it is found if it has ended before a job is given to it.
            if actor.ready and time.monotonic() - actor.asked > self._heartbeat_seconds:
                actor.asked = time.monotonic()
                self._call(actor, "beat")

    def _call(self, actor: _Actor, what: News, *words: Any) -> None:
        method = getattr(actor.handle, what)
        if what == "beat":  # answered beside the job
            method = method.options(concurrency_group="news")
        # Not ray.wait: a signal that comes while that waits would not end this process as its handler says.
        method.remote(*words).future().add_done_callback(lambda told: self._told.put((actor, what, told)))

    def _news(self, seconds: float) -> list[Outcome]:
        """What the actors tell, as soon as there is something."""
        outcomes = []
        with suppress(Empty):
            told = self._told.get(timeout=max(seconds, 0))
            while True:
                outcomes += self._heard(*told)
                told = self._told.get_nowait()
        return outcomes

    def _heard(self, actor: _Actor, what: News, told: Future[Any]) -> list[Outcome]:
        """The job that is over by what an actor tells, if one is."""
        if actor not in self._actors:
            return []
        error = told.exception()
        if error is None and what == "do":
            job, actor.job = actor.job, None
            self._free.append(actor)
            assert job is not None
            return [Outcome(job, told.result())]
        if error is None and what == "start":
            actor.ready, self._begun, self._failed_starts = True, True, 0
            self._free.append(actor)
            return []
        if error is None:
            actor.progress = told.result()
            return []
        self._discard(actor)
        self._looked = 0.0  # fill its place
        ended = self._ray.exceptions
        died = isinstance(error, ended.RayActorError | ended.OutOfMemoryError | ended.WorkerCrashedError)
        reason = f"its worker was lost ({type(error).__name__})" if died else _said(error)
        if not died or actor.ready:
            self._raise_if_in_vain(error, actor.ready, reason)
            return [Outcome(actor.job, None, died, reason)] if actor.job is not None else []
        self._failed_starts += 1
        if self._failed_starts >= MAX_FAILED_STARTS and not any(other.ready for other in self._actors):
            raise BulkError(f"{MAX_FAILED_STARTS} workers ended as they started, the last one by {last_line(error)}")
        return []

    @staticmethod
    def _raise_if_in_vain(error: BaseException, ready: bool, reason: str) -> None:
        """Raise what is no job's fault: the store failed, or a worker cannot start."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, BulkError) or (isinstance(cause, MmmosError) and not ready):
            raise cause
        if not ready:
            raise BulkError(f"a worker cannot start: {reason}")

    def _discard(self, actor: _Actor) -> None:
        """End an actor, also one that is only out of reach for now."""
        del self._actors[actor]
        self._ray.kill(actor.handle)


class _Worker:
    """In an actor's process: the model, and one job after another."""

    def __init__(self, folder: str) -> None:
        with suppress(OSError):  # paths in the list may be relative; a machine elsewhere needs absolute ones
            os.chdir(folder)
        self._heartbeats = Heartbeats()

    def start(self, store: Store, plan: Plan, task: Task) -> None:
        """Load the model. Raises `UsageError` if it, or what scores with it, is not that of the plan."""
        found = json.loads(json.dumps(task.describe()))
        for name in found:
            # A model may be called otherwise here, if its sha256 is the same.
            if name != "model" and found[name] != plan.task.get(name):
                raise UsageError(
                    f"{socket.gethostname()} has {name} {found[name]}, the driver {plan.task.get(name)}; all machines"
                    " of a cluster need the same model and version"
                )
        self._given = store, plan, task.start()
        self._lists = Lists(store, plan)

    def do(self, job: Job) -> Result:
        return work_on(*self._given, job, self._heartbeats, self._lists)

    def beat(self) -> Running | None:
        return self._heartbeats.running


def _said(error: BaseException) -> str:
    """What was raised in a worker, without where."""
    cause = getattr(error, "cause", None)
    if cause is None:
        return last_line(error)
    return str(cause) if isinstance(cause, MmmosError) else f"{type(cause).__name__}: {cause}"
