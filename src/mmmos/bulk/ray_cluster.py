"""A Ray cluster to work on: connected to, or started on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmmos.errors import BulkError, MissingExtraError, UsageError

LOCAL = "local"
"""The address that stands for a Ray of a run's own, on this machine, which ends with it."""

ANSWER_SECONDS = 10.0
"""How long a cluster may take to answer."""

OBJECT_BYTES = 100 * 2**20
"""Shared memory of a Ray of our own. Next to nothing goes through it; this is near the least that Ray takes."""


def import_ray() -> Any:
    """The package. Raises `MissingExtraError`."""
    # Unless told otherwise Ray reports on its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--ray needs Ray: pip install 'mmmos[ray]'") from error
    return ray


@contextmanager
def connected(ray: Any, address: str, slots: int | None) -> Iterator[None]:
    """Ray, connected or started; one that the caller has connected is used and left as it is."""
    if ray.is_initialized():
        yield
        return
    options = {"num_cpus": slots, "include_dashboard": False, "object_store_memory": OBJECT_BYTES}
    if address != LOCAL:
        options = {}
        _knock(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise BulkError(f"no Ray cluster at {address}: {last_line(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():  # else Ray has left it alone
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    try:
        yield
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Raise OSError if nothing answers at HOST:PORT."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _knock(address: str) -> None:
    """Find out whether anything answers, which Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdecimal() or "/" in host:
        raise UsageError(f"--ray {address!r}: give {LOCAL}, auto or HOST:PORT")
    try:
        reach(address)
    except OSError as error:
        raise BulkError(f"no Ray cluster answers at {address}: {error}") from error


def last_line(error: BaseException) -> str:
    """What an error of Ray says in the end, after where it came from."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
