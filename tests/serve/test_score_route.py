"""`POST /v1/score`: rows like those of `mmmos score`, whatever the body is, and refusals that say why."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from mmmos.inference.predictor import Predictor
from mmmos.scores import AXES
from mmmos.serve.app import create_app
from mmmos.serve.limits import Limits
from mmmos.serve.schemas import ScoreResponse
from tests.serve.conftest import GatedPredictor, served, wait_for, wav
from tests.sounds import SAMPLES

WAV = {"content-type": "audio/wav"}


def error_of(response) -> str:
    return response.json()["error"]["code"]


@pytest.mark.slow
def test_rows_equal_those_of_the_predictor(scorer: Predictor):
    """A sample of each container, next to a broken file, in one form."""
    paths = [
        SAMPLES / name for name in ("music_lowrate.mp3", "music_tabla.m4a", "sound_clean.opus", "speech_phone.wav")
    ]
    files = [("file", (path.name, path.read_bytes())) for path in paths]
    files.insert(2, ("file", ("broken.wav", b"RIFF and so on")))
    with TestClient(create_app(scorer)) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        rows = client.post("/v1/score", files=files).json()["rows"]
    assert [row["id"] for row in rows] == [name for _, (name, _) in files]
    assert rows.pop(2)["error"]["code"] == "unsupported_format"
    for path, row in zip(paths, rows, strict=True):
        expected = scorer.score(path).row()
        changed = {name for name in expected if row[name] != expected[name]}
        assert changed == {"id", "path", "file_mtime"}


def test_raw_body_gets_a_row(client: TestClient):
    (row,) = client.post("/v1/score", params={"name": "a.wav"}, content=wav(), headers=WAV).json()["rows"]
    assert (row["id"], row["status"], row["sample_rate"], row["path"]) == ("a.wav", "ok", 16_000, None)
    assert row["file_bytes"] == len(wav())
    assert "segments" not in row


def test_segments_have_a_row_per_window(client: TestClient, toy: GatedPredictor):
    (row,) = client.post("/v1/score", params={"segments": True}, content=wav(23.0), headers=WAV).json()["rows"]
    assert [(part["start_time"], part["end_time"]) for part in row["segments"]] == [(0, 10), (10, 20), (20, 23)]
    weights = [10, 10, 3]
    for axis in AXES:
        mean = np.average([part[axis] for part in row["segments"]], weights=weights)
        assert row[axis] == pytest.approx(mean, abs=1e-5)


@pytest.mark.slow
def test_hop_gives_the_rows_of_overlapping_windows(client: TestClient, toy: GatedPredictor):
    (row,) = client.post("/v1/score", params={"hop": 4.0}, content=wav(15.0), headers=WAV).json()["rows"]
    expected = toy.segments(wav(15.0), hop=4.0)
    assert [part["start_time"] for part in row["segments"]] == [0, 4, 8]
    assert [[part[axis] for axis in AXES] for part in row["segments"]] == [
        pytest.approx([scores[axis] for axis in AXES], abs=1e-5) for scores in expected
    ]


@pytest.mark.slow
def test_progress_lines_end_with_the_rows(client: TestClient):
    """The last line is the answer without progress; the lines before it never go back."""
    files = [("file", ("a.wav", wav(23.0))), ("file", b"no audio")]
    options = {"segments": True, "outline": True}
    answer = client.post("/v1/score", params=options | {"progress": True}, files=files)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    *lines, last = map(json.loads, answer.text.splitlines())
    assert last == client.post("/v1/score", params=options, files=files).json()
    seconds = [line["progress"][0]["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert {line["progress"][0]["duration"] for line in lines} <= {None, 23.0}
    assert {line["progress"][1]["duration"] for line in lines} == {None}


@pytest.mark.slow
def test_progress_reports_the_scored_windows(toy: GatedPredictor):
    """Line by line: three windows wait at the gate, and are counted when it opens."""
    with served(create_app(toy, decoders=1)) as client:
        toy.gate.clear()
        with client.stream("POST", "/v1/score", params={"progress": True}, content=wav(23.0), headers=WAV) as answer:
            lines = (json.loads(line) for line in answer.iter_lines())
            known = next(line for line in lines if line["progress"][0]["duration"])
            assert known == {"progress": [{"seconds": 0, "duration": 23}]}
            toy.gate.set()
            *_, last = lines
        assert last["rows"][0]["n_windows"] == 3


def test_answers_match_their_schema(client: TestClient):
    options = {"segments": True, "outline": True}
    files = [("file", ("a.wav", wav(12.0))), ("file", ("silent.wav", wav(0.2)[:44] + bytes(6400))), ("file", b"?")]
    answer = client.post("/v1/score", params=options, files=files).json()
    parsed = ScoreResponse.model_validate(answer)
    assert [row.status for row in parsed.rows] == ["ok", "ok", "error"]
    assert parsed.rows[1].warnings == ["short", "silent"]
    assert parsed.rows[0].model_dump(exclude_unset=True) == answer["rows"][0]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "s3://bucket/a.wav", "ls |", "a\nb", "ü", ""])
def test_name_is_never_a_path(client: TestClient, name: str):
    (row,) = client.post("/v1/score", params={"name": name}, content=b"no audio", headers=WAV).json()["rows"]
    assert row["id"] == (name or "clip")
    assert row["error"]["code"] == "unsupported_format"
    assert "tmp" not in row["error"]["message"]


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "#EXTM3U\n{path}\n",
    ],
)
def test_playlist_opens_no_server_file(client: TestClient, text: str):
    body = text.format(path=SAMPLES / "speech_clean.flac").encode()
    (row,) = client.post("/v1/score", content=body, headers=WAV).json()["rows"]
    assert row["status"] == "error"
    assert row["duration"] is None


@pytest.mark.parametrize(
    ("status", "code", "options"),
    [
        (400, "bad_request", {}),
        (400, "bad_request", {"content": b"--x", "headers": {"content-type": "multipart/form-data"}}),
        (415, "not_audio", {"json": {"path": "/etc/passwd"}}),
        (422, "bad_request", {"files": {"other": b"1"}}),
        (422, "bad_request", {"data": {"file": "/etc/passwd"}, "files": {"file": b"1"}}),
        (422, "bad_request", {"params": {"segments": "perhaps"}, "content": b"1", "headers": WAV}),
        (422, "bad_request", {"params": {"name": "x" * 1001}, "content": b"1", "headers": WAV}),
    ],
)
def test_wrong_request_is_refused_with_reason(client: TestClient, status: int, code: str, options: dict):
    response = client.post("/v1/score", **options)
    assert (response.status_code, error_of(response)) == (status, code)
    assert len(response.json()["error"]["message"]) > 20


@pytest.mark.slow
def test_more_files_than_places_are_refused(client_of: Callable[..., TestClient]):
    client = client_of(Limits(queue=2))
    files = [("file", (f"{i}.wav", wav(0.2))) for i in range(3)]
    assert client.post("/v1/score", files=files).status_code == 413
    assert len(client.post("/v1/score", files=files[:2]).json()["rows"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "file"),
    [
        (Limits(seconds=1.0), wav(1.5)),
        (Limits(sample_rate=16_000), wav(0.5, 22_050)),
        (Limits(channels=1), wav(0.5, channels=2)),
        (Limits(seconds=1.0), wav(1.5)[:40] + bytes(4) + wav(1.5)[44:]),  # the header says 0 s
    ],
)
def test_clip_beyond_limits_gets_an_error_row(client_of: Callable[..., TestClient], limits: Limits, file: bytes):
    client = client_of(limits)
    (row, other) = client.post("/v1/score", files=[("file", file), ("file", wav())]).json()["rows"]
    assert row["error"]["code"] == "over_limit"
    assert other["status"] == "ok"


@pytest.mark.slow
def test_full_queue_refuses_and_serves_the_rest(toy: GatedPredictor):
    """FAULTS row 36: 40 requests at once on 12 places: 12 rows, 28 refusals, and the service stays healthy."""
    app = create_app(toy, Limits(queue=12), decoders=1)
    with served(app) as client, ThreadPoolExecutor(40) as pool:
        toy.gate.clear()
        begun = [pool.submit(client.post, "/v1/score", content=wav(), headers=WAV) for _ in range(40)]
        wait_for(lambda: sum(one.done() for one in begun) == 28)
        assert app.state.queue.accepted == 12
        assert client.get("/healthz").status_code == 200
        toy.gate.set()
        answers = [one.result() for one in begun]
        assert sorted(answer.status_code for answer in answers) == [200] * 12 + [429] * 28
        refused = [answer for answer in answers if answer.status_code == 429]
        assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
        assert {error_of(answer) for answer in refused} == {"queue_full"}
        assert client.post("/v1/score", content=wav(), headers=WAV).status_code == 200
    assert app.state.queue.accepted == 0


@pytest.mark.slow
def test_request_past_the_deadline_is_answered(toy: GatedPredictor):
    app = create_app(toy, Limits(deadline=0.5), decoders=1)
    with served(app) as client:
        toy.gate.clear()
        late = client.post("/v1/score", content=wav(), headers=WAV)
        assert (late.status_code, error_of(late)) == (504, "deadline")
        late = client.post("/v1/score", params={"progress": True}, content=wav(), headers=WAV)
        assert json.loads(late.text.splitlines()[-1])["error"]["code"] == "deadline"
        toy.gate.set()
        wait_for(lambda: app.state.queue.accepted == 0)


@pytest.mark.slow
@pytest.mark.parametrize("progress", [False, True])
def test_clip_of_a_client_that_left_is_given_up(toy: GatedPredictor, progress: bool):
    app = create_app(toy, decoders=1)
    with served(app) as client:
        toy.gate.clear()
        thread = threading.Thread(target=_give_up, args=(client, wav(60.0), progress))
        thread.start()
        thread.join()
        toy.gate.set()
        wait_for(lambda: app.state.queue.accepted == 0)
        windows = client.get("/metrics").text.split("\nmmmos_windows_total ")[1].split()[0]
        assert float(windows) < 6
        assert client.post("/v1/score", content=wav(), headers=WAV).json()["rows"][0]["status"] == "ok"


def _give_up(client: Any, body: bytes, progress: bool) -> None:
    options = {"params": {"progress": progress}, "content": body, "headers": WAV}
    if progress:
        with client.stream("POST", "/v1/score", **options) as answer:
            next(answer.iter_lines())
    else:
        with pytest.raises(Exception, match="timed out"):
            client.post("/v1/score", **options, timeout=1.0)


@pytest.mark.slow
def test_short_clip_passes_a_long_one(toy: GatedPredictor):
    """With two decoders, a clip of minutes does not keep the next one waiting."""
    app = create_app(toy, decoders=2)
    with served(app) as client, ThreadPoolExecutor(2) as pool:
        toy.gate.clear()
        long = pool.submit(client.post, "/v1/score", content=wav(300.0, 8_000), headers=WAV)
        wait_for(lambda: app.state.queue.accepted == 1)
        short = pool.submit(client.post, "/v1/score", content=wav(), headers=WAV)
        wait_for(lambda: app.state.queue.accepted == 2)
        toy.gate.set()
        assert short.result().status_code == 200
        assert not long.done()
        assert long.result().json()["rows"][0]["n_windows"] == 30
