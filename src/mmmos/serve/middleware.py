"""What happens to every request: its id, log line, metrics and headers; who may send it; how large it may be."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from mmmos.serve.metrics import Metrics

logger = logging.getLogger("mmmos.serve")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAIN_SECONDS = 5.0
"""Longest wait for the rest of a refused body."""

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(self)",
}

CLOSED_PREFIXES = ("/v1/", "/metrics")
"""Paths that need the token, if there is one. The page, the probes and the samples do not hold anything private."""


def problem(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Any:
    """The response of a request that was refused: its code, and a sentence that says why and what to do."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


class Observe:
    """Gives each request an id, security headers, a log line and metrics."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.monotonic(), 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            self._log(scope, request_id, status, time.monotonic() - began)

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        self._metrics.answered(method, route, status, seconds)
        client = scope.get("client")
        fields = {
            "request_id": request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
            "client": client[0] if client else None,
            **scope["state"].get("log", {}),
        }
        level = logging.DEBUG if route in ("/healthz", "/readyz", "/metrics") else logging.INFO
        logger.log(level, "request", extra={"fields": fields})


class Guard:
    """Refuses requests without the token, and those that pages of other sites send through a visitor's browser."""

    def __init__(self, app: App, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request, or refuse it."""
        if scope["type"] == "http" and scope["path"].startswith(CLOSED_PREFIXES):
            refusal = self._refusal(Headers(scope=scope))
            if refusal is not None:
                return await refusal(scope, receive, send)
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> App | None:
        if headers.get("sec-fetch-site") == "cross-site":
            response: App = problem(403, "cross_site", "pages of other sites may not use this service")
            return response
        if self._token is None:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), self._token.encode()):
            return None
        reason = "this service needs its token: send the header `Authorization: Bearer TOKEN`"
        response = problem(401, "unauthorized", reason, {"www-authenticate": "Bearer"})
        return response


class BodyLimit:
    """Refuses bodies over `most` bytes, by their header before anything is read, and by counting what arrives.

    The rest of any refused body is read and dropped first: a client that is still sending would not read the answer.
    """

    def __init__(self, app: App, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers, read, finished = Headers(scope=scope), 0, False

        async def counted() -> Message:
            nonlocal read, finished
            message = await receive()
            read += len(message.get("body", b""))
            finished = not message.get("more_body")
            if read > self._most:
                raise HTTPException(413, self._reason())
            return message

        async def after_body(message: Message) -> None:
            nonlocal finished
            waits_for_us = "expect" in headers and not read
            if not (finished or waits_for_us):
                await drain(receive)
                finished = True
            await send(message)

        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._most:
            refusal: App = problem(413, "too_large", self._reason())
            return await refusal(scope, receive, after_body)
        await self._app(scope, counted, after_body)

    def _reason(self) -> str:
        return f"the request has more than {self._most} bytes; send fewer or smaller files"


async def drain(receive: Receive) -> None:
    """Read and drop the rest of a body, for at most `DRAIN_SECONDS`."""
    more = True
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while more:
                message = await receive()
                more = message["type"] == "http.request" and bool(message.get("more_body"))
    except TimeoutError:
        return
