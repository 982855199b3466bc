"""`mmmos serve`: the HTTP service and its page."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from mmmos.cli.options import (
    AcceptOption,
    BackendOption,
    DeviceOption,
    ModelOption,
    ScoringDtypeOption,
    TrustOption,
    open_predictor,
)
from mmmos.errors import MissingExtraError, UsageError
from mmmos.hub.options import LoadOptions

logger = logging.getLogger(__name__)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="MMMOS_TOKEN", help="Token that requests must have; better set MMMOS_TOKEN.")
    ] = None,
    model: ModelOption = "lite",
    queue: Annotated[int, typer.Option(min=1, help="Most clips that wait or are scored; more are refused.")] = 64,
    deadline: Annotated[float, typer.Option(min=0.1, help="Longest time for a request, s.")] = 3600.0,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Largest request, MB.")] = 1000.0,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longest clip, s.")] = 7200.0,
    decoders: Annotated[int, typer.Option(min=1, help="Number of clips decoded at a time.")] = 4,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Windows at a time; 1 on a CPU, 16 on a GPU.")] = None,
    device: DeviceOption = "auto",
    dtype: ScoringDtypeOption = "auto",
    backend: BackendOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
) -> None:
    """Score clips in a browser, or over HTTP.

    Open the address that it prints, and drop files on the page. Programs send files to POST /v1/score and get rows;
    /openapi.json describes the service. Ctrl-C or SIGTERM ends it when the accepted requests are answered.

    Exit status: 0 ended by a signal, 2 wrong usage, 3 the service could not start.
    """
    uvicorn, create_app = _imported()
    from mmmos.serve.limits import Limits

    limits = Limits(round(max_megabytes * 1e6), max_seconds, queue=queue, deadline=deadline)
    if token is not None and not (token.isascii() and token):
        raise UsageError("the token is empty or has characters outside ASCII; take letters and digits")
    if not _is_loopback(host) and token is None:
        logger.warning("anyone who reaches %s can use this service; set MMMOS_TOKEN to require a token", host)
    options = LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license), backend=backend)
    with _listening(host, port) as listening, open_predictor(model, options, batch_size) as predictor:
        app = create_app(predictor, limits, token, decoders)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False))
        address, bound = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        logger.info("%s is at http://%s:%d; Ctrl-C ends it", model, shown, bound)
        with _json_logs(), _quiet_signals():
            server.run([listening])


def _imported() -> tuple[Any, Any]:
    """The module uvicorn, and `create_app`. Raises `MissingExtraError`."""
    try:
        import uvicorn

        from mmmos.serve.app import create_app
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"mmmos serve needs {error.name}: pip install 'mmmos[serve]'") from error
    return uvicorn, create_app


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens on the address. Raises `UsageError`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot listen on {host}, port {port}: {reason}; choose another --host or --port") from error


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address.

    >>> _is_loopback("127.0.0.1"), _is_loopback("localhost"), _is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _json_logs() -> Iterator[None]:
    """Log the service's requests and uvicorn's warnings as JSON lines on stderr."""
    from mmmos.serve.logs import JsonLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    levels = {"mmmos.serve": logging.INFO, "uvicorn.error": logging.WARNING}
    try:
        for name, level in levels.items():
            chosen = logging.getLogger(name)
            chosen.addHandler(handler)
            chosen.setLevel(level)
            chosen.propagate = False
        yield
    finally:
        for name in levels:
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).propagate = True


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """Let uvicorn end the service gracefully: it raises the signal again afterwards, which is then ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
