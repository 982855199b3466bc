"""The functions of the routes: scores, the model and its words, state, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial
from types import TracebackType
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from mmmos.audio.clip import MIN_HOP, WINDOW_SECONDS
from mmmos.report.phrases import AXIS_MEANINGS, BASIS_PHRASES, ERROR_PHRASES, WARNING_PHRASES
from mmmos.scores import AXIS_NAMES
from mmmos.serve.jobs import Job
from mmmos.serve.outline import Outline
from mmmos.serve.progress import MEDIA_TYPE, ProgressResponse
from mmmos.serve.schemas import About, Health, ScoreResponse, form_and_raw_body, progress_lines, refusals
from mmmos.serve.scoring import ScoringQueue
from mmmos.serve.uploads import NAME_LENGTH, Upload, uploads
from mmmos.version import VERSION

SAMPLES = {
    "speech_clean.flac": "Clean speech",
    "speech_noisy.wav": "Noisy speech",
    "music_tabla.m4a": "A drum",
    "music_lowrate.mp3": "Music at a low bit rate",
    "sound_lowbit.wav": "An axe, with few bits",
}
"""The sample clips of the page, in formats that browsers play, and their names there."""

Name = Annotated[str, Query(max_length=NAME_LENGTH, description="The id of a clip that is the body itself.")]
Segments = Annotated[bool, Query(description="Add a row for each 10-second window.")]
Hop = Annotated[
    float | None,
    Query(
        ge=MIN_HOP,
        le=WINDOW_SECONDS,
        description="With segments, which it implies: seconds from the start of a window to the next. Windows overlap,"
        " and the clip's scores are the mean over all of them.",
    ),
]
WithOutline = Annotated[bool, Query(description="Add peaks of the waveform, and its loudness; not with a hop.")]
WithProgress = Annotated[bool, Query(description="Answer in lines of JSON: progress, and in the last one the rows.")]


class Routes:
    """The functions of the routes of one queue."""

    def __init__(self, queue: ScoringQueue, needs_token: bool) -> None:
        self._queue, self._needs_token = queue, needs_token

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an application, with what its OpenAPI document says of them."""
        why = refusals(
            _400="No body, or a broken form.",
            _401="The token is missing or wrong.",
            _403="The request is from a page of another site.",
            _413="More bytes or files than the service accepts.",
            _415="The body is not audio.",
            _422="A parameter or a field of the form is wrong.",
            _429="The queue is full: try again after the seconds in Retry-After.",
            _503="The service is not ready.",
            _504="The clips were not scored before the deadline.",
        )
        app.add_api_route(
            "/v1/score",
            self.score,
            methods=["POST"],
            response_model=ScoreResponse,
            responses={200: {"content": {MEDIA_TYPE: progress_lines()}}, **why},
            summary="Score clips",
            openapi_extra={"requestBody": form_and_raw_body()},
        )
        guarded: dict[int | str, Any] = {code: why[code] for code in (401, 403)}
        app.add_api_route(
            "/v1/about", self.about, response_model=About, responses=guarded, summary="The model and its words"
        )
        app.add_api_route("/healthz", self.healthz, response_model=Health, summary="Whether the process runs")
        app.add_api_route(
            "/readyz",
            self.readyz,
            response_model=Health,
            responses={503: why[503]},
            summary="Whether the model is loaded and its check clip verified",
        )
        app.add_api_route(
            "/metrics",
            self.metrics,
            response_class=Response,
            responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **guarded},
            summary="Metrics for Prometheus",
        )

    async def score(
        self,
        request: Request,
        segments: Segments = False,
        hop: Hop = None,
        outline: WithOutline = False,
        progress: WithProgress = False,
        name: Name = "clip",
    ) -> Any:
        """Score one or many files: a form with files in the field `file`, or a file as the body.

        A clip that cannot be scored has a row with an error; the others have their scores.
        """
        queue = self._queue
        if queue.problem is not None:
            raise HTTPException(503, queue.problem)
        deadline = asyncio.get_running_loop().time() + queue.limits.deadline
        late = f"not answered within {queue.limits.deadline:g} s; send fewer or shorter clips"
        try:
            async with asyncio.timeout_at(deadline), AsyncExitStack() as held:
                new_job = partial(_job, segments=segments, hop=hop, outline=outline)
                jobs = await held.enter_async_context(self._accepted(request, name, new_job))
                if not progress:
                    return JSONResponse({"rows": await self._rows(request, jobs)})
                return ProgressResponse(jobs, deadline, {"code": "deadline", "message": late}, held.pop_all())
        except TimeoutError:
            raise HTTPException(504, late) from None

    @asynccontextmanager
    async def _accepted(
        self, request: Request, name: str, new_job: Callable[[Upload], Job]
    ) -> AsyncIterator[list[Job]]:
        """The clips of a request, which the queue has. Those without a row at the end are given up."""
        with _Places(self._queue) as places:
            places.take(1)  # before the body is read: a full queue does not fill the disk
            async with uploads(request, name, self._queue.limits.queue) as clips:
                places.take(len(clips) - 1)
                request.state.log = {"clips": len(clips), "bytes": sum(clip.size for clip in clips)}
                jobs = [new_job(clip) for clip in clips]
                places.keep()
                self._queue.submit(jobs)
                try:
                    yield jobs
                finally:
                    for job in jobs:
                        job.cancelled = not job.row.done() or job.row.cancelled()

    async def _rows(self, request: Request, jobs: list[Job]) -> list[dict[str, Any]]:
        """The rows of clips, unless the client leaves first."""
        rows = asyncio.gather(*(asyncio.wrap_future(job.row) for job in jobs))
        left = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait((rows, left), return_when=asyncio.FIRST_COMPLETED)
            if not rows.done():
                raise HTTPException(499, "the client left")
            return list(rows.result())
        finally:
            left.cancel()
            rows.cancel()

    async def about(self) -> Any:
        """The model, its scale, and the meaning of axes, warnings, errors and evidence in words."""
        predictor, limits = self._queue.predictor, self._queue.limits
        info, provenance = predictor.model.info, predictor.provenance
        return {
            "model": {
                "name": provenance.model,
                "sha256": provenance.model_sha256,
                "version": VERSION,
                "scale": list(info.label_range),
                "calibrated": info.calibrated,
                "commercial_use": info.commercial_use,
            },
            "phrases": {
                "axes": {axis: [AXIS_NAMES[axis], text] for axis, text in AXIS_MEANINGS.items() if axis in info.rated},
                "warnings": WARNING_PHRASES,
                "errors": ERROR_PHRASES,
                "bases": BASIS_PHRASES,
            },
            "limits": asdict(limits),
            "token_required": self._needs_token,
            "samples": SAMPLES,
        }

    async def healthz(self) -> Any:
        """Whether the process runs and answers."""
        return {"status": "ok"}

    async def readyz(self) -> Any:
        """Whether the model is loaded, and scores its check clip as it should."""
        if self._queue.problem is not None:
            raise HTTPException(503, self._queue.problem)
        return {"status": "ok"}

    async def metrics(self) -> Any:
        """Counters of requests, clips, audio and windows, in Prometheus's text format."""
        return Response(self._queue.metrics.text(), media_type="text/plain; version=0.0.4")


class _Places:
    """Places in the queue that a request takes, and gives back unless its jobs keep them."""

    def __init__(self, queue: ScoringQueue) -> None:
        self._queue, self._held = queue, 0

    def __enter__(self) -> _Places:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.release(self._held)

    def take(self, count: int) -> None:
        """Take more places. Raises `HTTPException` 429."""
        if not self._queue.reserve(count):
            reason = f"the queue of {self._queue.limits.queue} clips is full; try again later"
            raise HTTPException(429, reason, {"retry-after": str(self._queue.retry_after())})
        self._held += count

    def keep(self) -> None:
        """Leave the places to the jobs, which give them back."""
        self._held = 0


def _job(clip: Upload, segments: bool, hop: float | None, outline: bool) -> Job:
    drawn = Outline() if outline and hop is None else None
    return Job(clip.name, clip.path, clip.size, segments or hop is not None, hop, drawn)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
