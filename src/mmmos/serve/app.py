"""The service as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from mmmos.inference.predictor import Predictor
from mmmos.serve.limits import Limits
from mmmos.serve.metrics import Metrics
from mmmos.serve.middleware import BodyLimit, Guard, Observe, problem
from mmmos.serve.routes import Routes
from mmmos.serve.scoring import ScoringQueue
from mmmos.version import VERSION

STATIC = Path(__file__).parent / "static"
"""The page: HTML, style, modules of JavaScript, and sample clips. Nothing is loaded from elsewhere."""

CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "not_audio"}
CODES |= {422: "bad_request", 429: "queue_full", 503: "not_ready", 504: "deadline"}
"""The code of a refusal, by its HTTP status."""

ABOUT = "Quality of audio without a reference, on four axes. docs/ROWS.md explains the columns of a row."


def create_app(
    predictor: Predictor, limits: Limits | None = None, token: str | None = None, decoders: int = 4
) -> FastAPI:
    """The service of a predictor, which nothing else may use meanwhile.

    `decoders` is the number of clips that are decoded at a time, each in a process of its own. With a `token`, scores
    and metrics need it.
    """
    limits, metrics = limits or Limits(), Metrics()
    queue = ScoringQueue(predictor, limits, metrics, decoders)
    metrics.describe(predictor.provenance, limits.queue, lambda: queue.accepted, lambda: queue.problem is None)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        await asyncio.to_thread(queue.close)

    app = FastAPI(title="MMMOS", version=VERSION, description=ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.queue = queue
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    Routes(queue, token is not None).add_to(app)
    app.add_api_route("/", _page, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC, follow_symlink=True))
    app.add_middleware(Guard, token=token)
    app.add_middleware(BodyLimit, most=limits.body_bytes)
    app.add_middleware(Observe, metrics=metrics)
    if token is not None:
        _document_token(app)
    return app


def _page() -> Any:
    return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})


def _refused(request: Request, error: Any) -> Any:
    code = CODES.get(error.status_code, "refused")
    return problem(error.status_code, code, str(error.detail), error.headers)


def _invalid(request: Request, error: Any) -> Any:
    """A sentence for the first parameter that is wrong."""
    first = error.errors()[0]
    return problem(422, CODES[422], f"{' '.join(map(str, first['loc']))}: {first['msg']}")


def _document_token(app: FastAPI) -> None:
    document = app.openapi()
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path in ("/v1/score", "/v1/about", "/metrics"):
        for operation in document["paths"][path].values():
            operation["security"] = [{"token": []}]
