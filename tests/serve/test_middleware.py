"""Every request: ids, headers, logs, metrics, the token, and how large a body may be."""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from mmmos.serve.app import create_app
from mmmos.serve.limits import Limits
from mmmos.serve.logs import JsonLines
from tests.serve.conftest import WAIT, GatedPredictor, served, wav

RAW = {"content-type": "application/octet-stream"}


def test_request_id_is_kept_or_made(client: TestClient):
    assert client.get("/healthz", headers={"x-request-id": "a-1.b_2"}).headers["x-request-id"] == "a-1.b_2"
    for given in ("", "x" * 65, 'a"b', "a b"):
        made = client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)


@pytest.mark.parametrize("path", ["/", "/healthz", "/none", "/static/page.css", "/v1/about"])
def test_headers_keep_other_sites_out(client: TestClient, path: str):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_log_has_a_json_line_per_request(client: TestClient, caplog: pytest.LogCaptureFixture):
    caplog.clear()
    client.post("/v1/score", content=wav(), headers={**RAW, "x-request-id": "seen"})
    (record,) = [record for record in caplog.records if record.name == "mmmos.serve"]
    line = json.loads(JsonLines().format(record))
    assert {name: line[name] for name in ("event", "request_id", "method", "path", "status", "clips", "bytes")} == {
        "event": "request",
        "request_id": "seen",
        "method": "POST",
        "path": "/v1/score",
        "status": 200,
        "clips": 1,
        "bytes": len(wav()),
    }


def test_json_lines_have_the_traceback():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", "levelno": 40})
        record.exc_info = (ValueError, error, error.__traceback__)
    assert "ValueError: two" in json.loads(JsonLines().format(record))["traceback"]


def metric(client: TestClient, name: str) -> float:
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[-1])


@pytest.mark.slow
def test_metrics_count_clips_windows_and_requests(client_of: Callable[..., TestClient]):
    client = client_of()
    before = metric(client, "mmmos_windows_total")
    files = [("file", wav(12.0)), ("file", b"no audio"), ("file", wav(0.5))]
    client.post("/v1/score", files=files)
    assert metric(client, "mmmos_windows_total") - before == 3
    assert metric(client, 'mmmos_clips_total{result="ok"}') == 2
    assert metric(client, 'mmmos_clips_total{result="unsupported_format"}') == 1
    assert metric(client, "mmmos_audio_seconds_total") == pytest.approx(12.5)
    assert metric(client, 'mmmos_requests_total{method="POST",route="/v1/score",status="200"}') == 1
    assert (metric(client, "mmmos_queue_clips"), metric(client, "mmmos_queue_limit")) == (0, 64)
    assert metric(client, "mmmos_ready") == 1
    assert "mmmos_model_info{" in client.get("/metrics").text


def test_metrics_do_not_grow_with_paths_and_methods(client: TestClient):
    for i in range(5):
        client.request("BREW", f"/pot/{i}")
    assert metric(client, 'mmmos_requests_total{method="other",route="other",status="404"}') == 5


WRONG = (None, "", "Bearer", "Bearer wrong", "Basic secret", "Bearer secret2", "Bearer ü")


@pytest.mark.slow
def test_token_is_required(client_of: Callable[..., TestClient]):
    client = client_of(token="secret")
    for path, method in (("/v1/score", "POST"), ("/v1/about", "GET"), ("/metrics", "GET")):
        for given in WRONG:
            headers = {} if given is None else {"authorization": given.encode()}
            response = client.request(method, path, headers=headers, content=wav())
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    headers = {**RAW, "authorization": "bearer secret"}
    assert client.post("/v1/score", content=wav(), headers=headers).status_code == 200
    assert client.get("/v1/about", headers=headers).json()["token_required"] is True
    for path in ("/", "/healthz", "/readyz"):
        assert client.get(path).status_code == 200


def test_pages_of_other_sites_are_refused(client: TestClient):
    for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
        headers = {**RAW, "sec-fetch-site": site}
        assert client.post("/v1/score", content=wav(), headers=headers).status_code == status


def chunks(size: int) -> Iterator[bytes]:
    """A body without a length."""
    for _ in range(size // 10_000):
        yield bytes(10_000)


@pytest.mark.slow
@pytest.mark.parametrize("body", [bytes(3_000_000), "chunked"], ids=["header", "chunked"])
@pytest.mark.parametrize("form", [True, False], ids=["form", "raw"])
def test_large_body_is_refused_after_draining(toy: GatedPredictor, body: bytes | str, form: bool):
    """FAULTS row 35: 413 by the header or by counting, while the client still sends; the service stays healthy."""
    app = create_app(toy, Limits(body_bytes=100_000), decoders=1)
    kind = "multipart/form-data; boundary=b" if form else "application/octet-stream"
    with served(app) as client:
        for _ in range(2):
            content = chunks(3_000_000) if body == "chunked" else body
            start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' if form else b""
            sent = (part for part in (start, *content)) if body == "chunked" else start + content
            response = client.post("/v1/score", content=sent, headers={"content-type": kind})
            assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
        assert app.state.queue.accepted == 0
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/score", content=wav(), headers=RAW).status_code == 200


@pytest.mark.slow
def test_client_that_asks_first_need_not_send(toy: GatedPredictor):
    """With `Expect: 100-continue` a body that is too large is refused before any of it is sent."""
    with served(create_app(toy, Limits(body_bytes=100), decoders=1)) as client:
        address = client.base_url.host, client.base_url.port
        with socket.create_connection(address, timeout=WAIT) as connection:
            head = "POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
