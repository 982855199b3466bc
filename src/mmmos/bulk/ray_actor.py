"""The actor of a Ray worker: its process loads the model and runs one job at a time."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmmos.bulk.workers import Heartbeats, Job, Lists, Result, Running, work_on
from mmmos.errors import UsageError

if TYPE_CHECKING:
    from mmmos.bulk.plan import Plan
    from mmmos.bulk.stores import Store
    from mmmos.bulk.tasks import Task


@dataclass(eq=False)
class ActorState:
    """The state of an actor, as the driver knows it."""

    handle: Any
    ready: bool = False  # it has loaded the model
    job: Job | None = None  # running
    progress: Running | None = None  # of that job, last known
    requested: float = 0.0  # when progress was last requested; 0 if never


class RayActor:
    """A model in an actor's process."""

    def __init__(self, folder: str) -> None:
        with suppress(OSError):  # for relative paths in the list, on machines that have this folder
            os.chdir(folder)
        self._heartbeats = Heartbeats()

    def start(self, store: Store, plan: Plan, task: Task) -> None:
        """Load the model. Raises `UsageError` if the model, its settings or the version differ from the plan's."""
        description = json.loads(json.dumps(task.describe()))
        host = socket.gethostname()
        for name in description:
            # The name of a model may differ here; its sha256 may not.
            if name != "model" and description[name] != plan.task.get(name):
                raise UsageError(
                    f"{host} has {name} {description[name]}, the driver {plan.task.get(name)}; install the"
                    " same model and version on all machines of the cluster"
                )
        self._context = store, plan, task.start()
        self._lists = Lists(store, plan)

    def run(self, job: Job) -> Result:
        """Run a job, as `work_on`."""
        return work_on(*self._context, job, self._heartbeats, self._lists)

    def progress(self) -> Running | None:
        """The progress of the running job, or of the one before it."""
        return self._heartbeats.running
