"""What the service counts, in Prometheus's text format at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from mmmos.scores import Provenance

SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
"""Upper bounds of the histograms' buckets, s."""


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        here: dict[str, Any] = {"registry": self.registry}
        timed: dict[str, Any] = {**here, "buckets": SECONDS}
        self._requests = Counter("mmmos_requests", "Answered requests.", ("method", "route", "status"), **here)
        self._latency = Histogram("mmmos_request_seconds", "Time from request to answer.", ("route",), **timed)
        self._clips = Counter("mmmos_clips", "Clips by result: ok or an error code.", ("result",), **here)
        self._audio = Counter("mmmos_audio_seconds", "Audio that was scored, s.", **here)
        self._windows = Counter("mmmos_windows", "Windows that the model scored.", **here)
        self._batch = Histogram("mmmos_batch_seconds", "Time of the model per batch of windows.", **timed)

    def describe(self, model: Provenance, limit: int, accepted: Callable[[], int], ready: Callable[[], bool]) -> None:
        """Add what is constant, and what is read when it is asked for."""
        labels = {"model": model.model, "sha256": model.model_sha256, "version": model.version, "device": model.device}
        Gauge("mmmos_model_info", "The model; always 1.", tuple(labels), registry=self.registry).labels(**labels).set(1)
        Gauge("mmmos_queue_limit", "Most clips in the queue.", registry=self.registry).set(limit)
        queue = Gauge("mmmos_queue_clips", "Clips that were accepted and have no row yet.", registry=self.registry)
        queue.set_function(accepted)
        Gauge("mmmos_ready", "1 if requests are accepted.", registry=self.registry).set_function(ready)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def finished(self, row: Mapping[str, Any]) -> None:
        """Count a clip that has its row."""
        self._clips.labels("ok" if row["error"] is None else row["error"]["code"]).inc()
        if row["end_time"] is not None:
            self._audio.inc(row["end_time"] - row["start_time"])

    def scored(self, windows: int, seconds: float) -> None:
        """Count a batch of the model."""
        self._windows.inc(windows)
        self._batch.observe(seconds)

    def text(self) -> bytes:
        """All metrics."""
        return bytes(generate_latest(self.registry))
