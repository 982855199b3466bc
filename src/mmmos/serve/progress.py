"""The answer to a request with `progress=true`: lines of JSON while clips are scored, the last with their rows.

Lines keep the connection in use, so that a proxy does not end it while an hour of audio is scored.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from mmmos.serve.jobs import Job

MEDIA_TYPE = "application/x-ndjson"

PROGRESS_SECONDS = 0.5
"""Time between two lines."""


class ProgressResponse(StreamingResponse):
    """Reports how far clips are scored, then their rows, or the error after the deadline.

    `deadline` is a time of the event loop's clock, in s. `held` is closed at the end, however it comes.
    """

    def __init__(self, jobs: Sequence[Job], deadline: float, late: dict[str, Any], held: AsyncExitStack) -> None:
        lines = _lines(jobs, deadline, late)
        super().__init__(lines, media_type=MEDIA_TYPE, headers={"x-accel-buffering": "no", "cache-control": "no-store"})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines."""
        async with self._held:
            await super().__call__(scope, receive, send)


async def _lines(jobs: Sequence[Job], deadline: float, late: dict[str, Any]) -> AsyncIterator[str]:
    clock, rows = asyncio.get_running_loop().time, [asyncio.wrap_future(job.row) for job in jobs]
    waiting = set(rows)
    try:
        while waiting:
            yield _line({"progress": [_progress(job) for job in jobs]})
            left = deadline - clock()
            if left <= 0:
                yield _line({"error": late})
                return
            _, waiting = await asyncio.wait(waiting, timeout=min(left, PROGRESS_SECONDS))
        yield _line({"rows": [row.result() for row in rows]})
    finally:
        for row in waiting:
            row.cancel()


def _progress(job: Job) -> dict[str, float | None]:
    return {"seconds": job.scored_seconds, "duration": job.duration if math.isfinite(job.duration) else None}


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, allow_nan=False) + "\n"
