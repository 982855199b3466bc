"""Connects to a Ray cluster, or starts one on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmmos.errors import BulkError, MissingExtraError, MmmosError, UsageError

LOCAL = "local"
"""The address of a Ray that is started on this machine for one run."""

ANSWER_SECONDS = 10.0
"""How long a cluster may take to answer."""

OBJECT_BYTES = 100 * 2**20
"""Shared memory of a Ray that is started here: hardly used, and close to Ray's minimum."""


def import_ray() -> Any:
    """Import the package `ray`. Raises `MissingExtraError`."""
    # By default Ray sends usage statistics to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--ray needs Ray: pip install 'mmmos[ray]'") from error
    return ray


@contextmanager
def connected(ray: Any, address: str, slots: int | None) -> Iterator[None]:
    """Connect to Ray or start it. A connection of the caller is used and stays open."""
    if ray.is_initialized():
        yield
        return
    options = {"num_cpus": slots, "include_dashboard": False, "object_store_memory": OBJECT_BYTES}
    if address != LOCAL:
        options = {}
        _check_address(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise BulkError(f"no Ray cluster at {address}: {last_line(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():  # else Ray has not changed it
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    try:
        yield
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Raise OSError if nothing answers at HOST:PORT."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _check_address(address: str) -> None:
    """Raise an error if nothing answers at the address; Ray itself would try for minutes."""
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
    """The last line of an error of Ray, which follows its traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def reason_of(error: BaseException) -> str:
    """The error of a worker, without its traceback."""
    cause = getattr(error, "cause", None)
    if cause is None:
        return last_line(error)
    return str(cause) if isinstance(cause, MmmosError) else f"{type(cause).__name__}: {cause}"
