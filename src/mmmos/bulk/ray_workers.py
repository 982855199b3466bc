"""Workers on a Ray cluster: actors that hold the model and run one job at a time.

    submit ──► waiting ──► a ready actor, in a process on some machine ──► the store
                                    │ result, or failure
    wait  ◄── Outcome ◄─────────────┘ a failed actor is replaced if there is room

Ray places the actors and reports failures of actors. It neither publishes nor retries.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from concurrent.futures import Future
from contextlib import ExitStack, redirect_stdout, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from mmmos.bulk.ray_actor import ActorState, RayActor
from mmmos.bulk.ray_cluster import connected, import_ray, last_line, reach, reason_of
from mmmos.bulk.workers import Job, Outcome, Running
from mmmos.errors import BulkError, MmmosError

if TYPE_CHECKING:
    from mmmos.bulk.plan import Plan
    from mmmos.bulk.stores import Store
    from mmmos.bulk.tasks import Task

START_SECONDS = 300.0
"""How long the first worker may take to start: the cluster may have to start a machine, which then loads the model."""

HEAD_SECONDS = 30.0
"""How long the head of a cluster may be unreachable. Ray itself ends the process after 60 s."""

RESIZE_SECONDS = 5.0
"""How often the number of actors is adapted to the size of the cluster."""

HEARTBEAT_SECONDS = 30.0
"""Interval of requests for a worker's progress."""

MAX_FAILED_STARTS = 5
"""How many actors in a row may end before one is ready."""

Method = Literal["start", "run", "progress"]
"""Methods of `RayActor`."""


class RayWorkers:
    """Actors on a Ray cluster: one per CPU slot except one, or one per GPU if the task runs on GPUs.

    There are at most `workers`. The pool follows machines that join or leave the cluster. Jobs wait in the driver until
    an actor is free, so that the failure of an actor affects one job only.
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

        Requests each worker's progress every `heartbeat_seconds`. Raises `MissingExtraError` without Ray,
        `UsageError` for an invalid address, and `BulkError` if nothing answers there.
        """
        self._ray = import_ray()
        self._address, self._max_workers = address, workers
        self._start_seconds, self._heartbeat_seconds = start_seconds, heartbeat_seconds
        settings = plan.task.get("settings", {})
        self._gpus = int(str(settings.get("device", "cpu")).startswith("cuda"))
        self._cpus = int(settings.get("threads", 1))
        self._context = store, plan, task
        self._waiting: deque[Job] = deque()
        self._actors: dict[ActorState, None] = {}  # oldest first
        self._free: deque[ActorState] = deque()  # ready and idle, but some may have ended
        self._messages: SimpleQueue[tuple[ActorState, Method, Future[Any]]] = SimpleQueue()
        self._has_started, self._since, self._resized = False, time.monotonic(), 0.0
        self._failed_starts = 0
        self._actor_class = self._ray.remote(
            num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0, concurrency_groups={"progress": 1}
        )(RayActor)
        with ExitStack() as stack:
            # Ray prints messages on lost machines to stdout, which is for data.
            stack.enter_context(redirect_stdout(sys.stderr))
            stack.enter_context(connected(self._ray, address, workers and workers * self._cpus + 1))
            self._connection = stack.pop_all()
        self._head, self._answered = self._ray.get_runtime_context().gcs_address, time.monotonic()
        self.size = 0
        try:
            self._resize()
        except BaseException:
            self.close()
            raise

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._waiting.append(job)
        self._dispatch()

    def wait(self, seconds: float) -> list[Outcome]:
        """Finished jobs. Raises `BulkError` if the first worker does not start in time."""
        until = time.monotonic() + seconds
        while True:
            if time.monotonic() - self._resized > RESIZE_SECONDS:
                self._resize()
            self._request_progress()
            outcomes = self._receive(min(until - time.monotonic(), RESIZE_SECONDS))
            self._dispatch()
            if outcomes or time.monotonic() >= until:
                return outcomes

    def running(self) -> list[Running]:
        """The running jobs, as of the actors' last answers."""
        running = [(actor.job, actor.progress) for actor in self._actors if actor.job is not None]
        return [progress if progress and progress.job == job else Running(job) for job, progress in running]

    def close(self) -> None:
        """End the actors, and the Ray that was started for them."""
        for actor in list(self._actors):
            self._discard(actor)
        self._connection.close()

    def _resize(self) -> None:
        """Adapt the number of actors to the size of the cluster; actors that are ready are kept."""
        self._resized = time.monotonic()
        if not self._head_answers():
            return
        total = self._ray.cluster_resources()
        room = (int(total.get("CPU", 0)) - 1) // self._cpus  # without a free slot, the loss of a machine could hang Ray
        room = min(room, int(total.get("GPU", 0)) if self._gpus else room, self._max_workers or room)
        room = max(room, 1)  # which may have to wait for a machine
        starting = [actor for actor in self._actors if not actor.ready]
        for actor in starting[: max(0, len(self._actors) - room)]:
            self._discard(actor)
        while len(self._actors) < room:
            actor = ActorState(self._actor_class.remote(os.getcwd()))
            self._actors[actor] = None
            self._call(actor, "start", *self._context)
        self.size = len(self._actors)
        if not self._has_started and time.monotonic() - self._since > self._start_seconds:
            free = self._ray.available_resources()
            slots = ", ".join(
                f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")
            )
            raise BulkError(
                f"no worker has started on the Ray cluster at {self._address} within {self._start_seconds:g} s"
                f" ({slots}); one takes {self._cpus} CPU{' and a GPU' * self._gpus}"
            )

    def _head_answers(self) -> bool:
        """Whether the cluster's head is reachable. If it is not, any call of Ray would block."""
        try:
            reach(self._head)
        except OSError as error:
            if time.monotonic() - self._answered > HEAD_SECONDS:
                raise BulkError(
                    f"the head of the Ray cluster at {self._address} is unreachable: {error}; published parts stay, run"
                    " the same command again to resume"
                ) from error
            return False
        self._answered = time.monotonic()
        return True

    def _dispatch(self) -> None:
        while self._waiting and self._free:
            actor = self._free.popleft()
            if actor in self._actors:
                actor.job, actor.requested = self._waiting.popleft(), time.monotonic()
                self._call(actor, "run", actor.job)

    def _request_progress(self) -> None:
        for actor in self._actors:
            # Idle actors, too: one that has ended is found before it gets a job.
            if actor.ready and time.monotonic() - actor.requested > self._heartbeat_seconds:
                actor.requested = time.monotonic()
                self._call(actor, "progress")

    def _call(self, actor: ActorState, name: Method, *arguments: Any) -> None:
        method = getattr(actor.handle, name)
        if name == "progress":  # answered while a job runs
            method = method.options(concurrency_group="progress")
        # Not ray.wait, during which this process's signal handlers do not run.
        method.remote(*arguments).future().add_done_callback(lambda answer: self._messages.put((actor, name, answer)))

    def _receive(self, seconds: float) -> list[Outcome]:
        """Wait at most `seconds` for answers of actors. Returns the jobs that finished."""
        outcomes = []
        with suppress(Empty):
            message = self._messages.get(timeout=max(seconds, 0))
            while True:
                outcomes += self._handle(*message)
                message = self._messages.get_nowait()
        return outcomes

    def _handle(self, actor: ActorState, name: Method, answer: Future[Any]) -> list[Outcome]:
        """Update the state of an actor. Returns its job if that finished."""
        if actor not in self._actors:
            return []
        error = answer.exception()
        if error is None and name == "run":
            job, actor.job = actor.job, None
            self._free.append(actor)
            assert job is not None
            return [Outcome(job, answer.result())]
        if error is None and name == "start":
            actor.ready, self._has_started, self._failed_starts = True, True, 0
            self._free.append(actor)
            return []
        if error is None:
            actor.progress = answer.result()
            return []
        self._discard(actor)
        self._resized = 0.0  # replace it soon
        ended = self._ray.exceptions
        died = isinstance(error, ended.RayActorError | ended.OutOfMemoryError | ended.WorkerCrashedError)
        reason = f"its worker crashed ({type(error).__name__})" if died else reason_of(error)
        if not died or actor.ready:
            self._raise_unless_of_job(error, actor.ready, reason)
            return [Outcome(actor.job, None, died, reason)] if actor.job is not None else []
        self._failed_starts += 1
        if self._failed_starts >= MAX_FAILED_STARTS and not any(other.ready for other in self._actors):
            raise BulkError(
                f"{MAX_FAILED_STARTS} workers ended while they started, the last one with: {last_line(error)}"
            )
        return []

    @staticmethod
    def _raise_unless_of_job(error: BaseException, ready: bool, reason: str) -> None:
        """Raise the error if no job is at fault: the store failed, or a worker cannot start."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, BulkError) or (isinstance(cause, MmmosError) and not ready):
            raise cause
        if not ready:
            raise BulkError(f"a worker cannot start: {reason}")

    def _discard(self, actor: ActorState) -> None:
        """End an actor, even if it is only temporarily unreachable."""
        del self._actors[actor]
        self._ray.kill(actor.handle)
