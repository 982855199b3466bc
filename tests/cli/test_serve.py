"""`mmmos serve` as a process: where it listens, whom it warns, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2 as httpx
import pytest

from mmmos.scores import AXES
from tests.serve.conftest import WAIT, wait_for, wav
from tests.sounds import SAMPLES

RAW = {"content-type": "application/octet-stream"}
RunMmmos = Callable[..., tuple[int, str, str]]


@contextmanager
def service(*words: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The command on a free port, ready, and a client of it."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MMMOS_TOKEN": ""}
    del environment["MMMOS_TOKEN"]
    with subprocess.Popen(
        [sys.executable, "-m", "mmmos", "serve", "--port", "0", "--decoders", "1", *words],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"at (http://\S+:\d+);", line):
                    break
            with httpx.Client(base_url=found[1], timeout=2 * WAIT) as client:
                wait_for(lambda: client.get("/readyz").status_code == 200)
                yield process, client
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_accepted_requests_before_it_ends(run_mmmos: RunMmmos, number: signal.Signals):
    """With the scores of the command (FAULTS row 37)."""
    path = SAMPLES / "speech_noisy.wav"
    body = wav(12.0)
    with service("--device", "cpu") as (process, client), ThreadPoolExecutor(3) as pool:
        (row,) = client.post("/v1/score", content=path.read_bytes(), headers=RAW).json()["rows"]
        begun = [pool.submit(client.post, "/v1/score", content=body, headers=RAW) for _ in range(3)]
        wait_for(lambda: "\nmmmos_queue_clips 3.0" in client.get("/metrics").text)
        process.send_signal(number)
        rows = [one.result().json()["rows"][0] for one in begun]
        assert [(other["status"], other["n_windows"]) for other in rows] == [("ok", 2)] * 3
        assert process.wait(WAIT) == 0
        lines = [json.loads(line) for line in process.stderr]
    assert [(line["event"], line["path"], line["status"]) for line in lines] == [("request", "/v1/score", 200)] * 4
    assert all(other["PQ"] == rows[0]["PQ"] for other in rows)
    expected = json.loads(run_mmmos("score", path, "--device", "cpu")[1])
    for axis in AXES:
        assert row[axis] == pytest.approx(expected[axis], abs=1e-4)  # another number of threads


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--host", "192.0.2.1"), "cannot listen on 192.0.2.1, port 8000"),
        (("--token", ""), "the token is empty"),
        (("--token", "ü"), "outside ASCII"),
    ],
)
def test_serve_refuses_wrong_options(run_mmmos: RunMmmos, words: tuple[str, ...], reason: str):
    status, _, notes = run_mmmos("serve", *words)
    assert status == 2
    assert reason in notes


def test_serve_reports_port_in_use(run_mmmos: RunMmmos):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, notes = run_mmmos("serve", "--port", port)
    assert status == 2
    assert f"port {port}: address already in use" in notes


@pytest.mark.parametrize(("words", "warned"), [((), True), (("--token", "t"), False), (("--host", "::1"), False)])
def test_serve_warns_where_anyone_may_use_it(run_mmmos: RunMmmos, words: tuple[str, ...], warned: bool):
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        _, _, notes = run_mmmos("serve", "--host", "0.0.0.0", "--model", "no-such-model", "--port", port, *words)
    assert ("anyone who reaches 0.0.0.0" in notes) == warned


def test_serve_without_its_extra_says_how_to_install_it(run_mmmos: RunMmmos, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, _, notes = run_mmmos("serve")
    assert status == 2
    assert "pip install 'mmmos[serve]'" in notes
