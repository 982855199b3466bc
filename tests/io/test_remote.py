"""Lists and audio at an address: read as if they were local, and what cannot be read is reported clip by clip."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mmmos.audio.clip import Clip
from mmmos.audio.decode import open_audio
from mmmos.audio.isolated import IsolatedDecoder
from mmmos.audio.windows import Window
from mmmos.data.inputs import expand
from mmmos.data.manifest import stream_clips
from mmmos.errors import AudioError, ManifestError, MissingExtraError, UsageError
from mmmos.io.remote import Copies, filesystem, is_url

SAMPLES = Path(__file__).parents[2] / "samples"


def put(url: str, data: bytes | str) -> str:
    files, path = filesystem(url)
    files.pipe_file(path, data.encode() if isinstance(data, str) else data)
    return url


@pytest.fixture
def memory() -> str:
    return f"memory://{secrets.token_hex(4)}"


def paths(*words: str) -> list[str | None]:
    return [clip.path for clip in expand(words)]


# ── lists


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_list_at_an_address_is_its_rows(request, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.wav").touch()
    root = request.getfixturevalue(kind)
    rows = ["a.wav", "here.wav", "/data/b.wav", "s3://other/c.wav"]  # whatever there is here
    lists = {
        "l.jsonl": "\n".join(json.dumps({"path": row}) for row in rows),
        "l.csv": "\ufeffpath,PQ\r\n" + "\r\n".join(f"{row},1" for row in rows),
        "l.scp": "\n".join(f"{row} {row}" for row in rows),
    }
    for name, text in lists.items():
        url = put(f"{root}/lists/{name}", text)
        assert paths(url) == [f"{root}/lists/a.wav", f"{root}/lists/here.wav", "/data/b.wav", "s3://other/c.wav"]
        assert [clip.path for clip in stream_clips(url, "/root")][:2] == ["/root/a.wav", "/root/here.wav"]
        assert [clip.path for clip in stream_clips(url, "/root")][2:] == rows[2:]


def test_the_line_at_fault_is_named_with_the_address(memory):
    url = put(f"{memory}/l.jsonl", '{"path": "a.wav"}\n{')
    clips = stream_clips(url)
    assert next(clips).path == f"{memory}/a.wav"
    with pytest.raises(ManifestError, match=rf"^{url}, line 2 is not JSON"):
        next(clips)
    with pytest.raises(ManifestError, match=rf"^{memory}/none.csv cannot be read"):
        paths(f"{memory}/none.csv")


# ── folders and patterns


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_folder_at_an_address_is_walked_in_the_order_of_names(request, kind):
    root = f"{request.getfixturevalue(kind)}/audio"
    for name in ("b.wav", "a.FLAC", "notes.md", "l.csv", "d/e/z.mp3", "c/y.wav"):
        put(f"{root}/{name}", "path" if name == "l.csv" else "x")
    found = [f"{root}/{name}" for name in ("a.FLAC", "b.wav", "c/y.wav", "d/e/z.mp3")]
    assert paths(root) == paths(f"{root}/") == found
    assert paths(f"{root}/*.wav") == found[1:2]
    assert paths(f"{root}/**/*.wav") == [f"{root}/b.wav", f"{root}/c/y.wav"]
    assert paths(f"{root}/b.wav", f"{root}/notes.md") == [f"{root}/b.wav", f"{root}/notes.md"]


@pytest.mark.slow
def test_what_is_not_at_its_address_is_a_file_that_is_missing(s3):
    missing = [f"{s3}/none.wav", f"{s3}/none", f"{s3}/no*.wav", f"{s3}-none/a.wav"]
    assert paths(*missing) == missing
    assert paths("http://localhost/a.wav?signature=1") == ["http://localhost/a.wav?signature=1"]
    with pytest.raises(UsageError, match="entire path component"):
        paths(f"{s3}/a**.wav")


def test_unknown_scheme_is_refused_before_scoring(monkeypatch):
    with pytest.raises(UsageError, match="nowhere://a"):
        paths("nowhere://a.wav")

    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'mmmos\[s3\]'"):
        paths("a.wav", "s3://bucket/a.wav")


@pytest.mark.slow
@pytest.mark.parametrize("word", ["https://host/a.wav", "http://host/list.jsonl"])
def test_score_names_the_extra_for_the_web_where_it_is_missing(word):
    code = "import sys; sys.modules['aiohttp'] = None; from mmmos.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "score", word],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{word} needs a package that is not installed: pip install 'mmmos[http]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_paths_are_no_addresses_and_addresses_no_paths():
    assert all(map(is_url, ("s3://a", "gs://a/b.wav", "S3://a", "file:///a", "http://a")))
    assert not any(map(is_url, ("", "a.wav", "/a", "a/b://c", "://a", "c:/a", "a:b", "1://a", "s3:/a", "\ns3://a")))


# ── audio


@pytest.fixture(scope="module")
def one_decoder() -> Iterator[IsolatedDecoder]:
    with IsolatedDecoder() as decoder:
        yield decoder


@pytest.fixture
def decoder(one_decoder: IsolatedDecoder, s3: str) -> IsolatedDecoder:
    """A decoder that reaches the bucket; it is that of the other tests, which takes a moment to start."""
    one_decoder.start()
    return one_decoder


def windows(decoder: IsolatedDecoder, path: str) -> list[object]:
    items = list(decoder.cut(Clip("a", path), [16_000], 0.1))
    return [
        (item.start_time, item.end_time, item.waves[16_000].tobytes()) if isinstance(item, Window) else item
        for item in items
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["music_tabla.m4a", "sound_clean.opus", "music_lowrate.mp3", "speech_clean.flac"])
def test_audio_at_an_address_is_what_it_is_here(decoder, s3, name):
    url = put(f"{s3}/{name}", (SAMPLES / name).read_bytes())
    assert windows(decoder, url) == windows(decoder, str(SAMPLES / name))


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "aiff", "raw"])
def test_a_format_is_detected_by_the_bytes_and_not_by_the_name(make_file, memory, kind):
    wave = make_file(f"a.{'wav' if kind == 'raw' else kind}").read_bytes()
    url = put(f"{memory}/clip.{kind}", wave)
    with open_audio(url) as source:
        blocks = list(source.blocks())
    assert sum(map(len, blocks)) == pytest.approx(32_000, abs=3000)
    assert np.isfinite(np.concatenate(blocks)).all()


def why(decoder: IsolatedDecoder, path: str) -> str:
    with pytest.raises(AudioError) as caught:
        list(decoder.cut(Clip("a", path), [16_000], 0.1))
    return f"{caught.value.code}: {caught.value}"


@pytest.mark.slow
def test_what_cannot_be_fetched_or_decoded_has_a_code(decoder, s3):
    assert why(decoder, f"{s3}/none.wav") == f"not_found: no such file: {s3}/none.wav"
    assert why(decoder, f"{s3}-none/a.wav").startswith("not_found")
    assert why(decoder, put(f"{s3}/empty.wav", "")).startswith("empty_file")
    assert why(decoder, put(f"{s3}/text.wav", "no audio" * 99)).startswith("unsupported_format")
    assert why(decoder, "nowhere://a.wav") == "fetch_failed: nowhere://a.wav: Protocol not known: nowhere"


@pytest.mark.slow
def test_a_server_that_is_gone_is_an_error_of_the_clip(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with IsolatedDecoder() as decoder:
        assert why(decoder, f"{s3}/a.wav").startswith(f"fetch_failed: {s3}/a.wav: Could not connect")


@pytest.mark.slow
def test_audio_on_the_web_is_fetched_and_a_refusal_is_reported(decoder, make_file):
    class Refusing(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            if self.path == "/secret.wav":
                self.send_error(403)
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None: ...

    path, fetched = make_file("a.wav"), []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Refusing, directory=str(path.parent))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        root = f"http://127.0.0.1:{server.server_port}"
        try:
            assert windows(decoder, f"{root}/a.wav") == windows(decoder, str(path))
            assert why(decoder, f"{root}/none.wav") == f"not_found: no such file: {root}/none.wav"
            assert why(decoder, f"{root}/secret.wav").startswith(f"fetch_failed: {root}/secret.wav: 403")
            fetched.clear()
            for start in range(6):
                list(decoder.cut(Clip("a", f"{root}/a.wav", start / 4), [16_000], 0.1))
            assert len(fetched) == 2, "segments of one file do not each need a copy"
        finally:
            server.shutdown()


@pytest.mark.slow
def test_score_reads_a_list_and_its_clips_from_the_web(run_mmmos, make_file, monkeypatch):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    path = make_file("a.wav")
    (path.parent / "l.jsonl").write_text('{"path": "a.wav"}\n{"path": "none.wav"}\n')
    monkeypatch.chdir(path.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(path.parent))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        try:
            status, out, err = run_mmmos("score", f"{root}/l.jsonl", "a.wav")
        finally:
            server.shutdown()
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1, err
    assert [row["path"] for row in rows] == [f"{root}/a.wav", f"{root}/none.wav", "a.wav"]
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert rows[0]["PQ"] == rows[2]["PQ"]
    assert rows[1]["error"]["code"] == "not_found"


@pytest.mark.slow
def test_a_server_that_says_nothing_is_under_the_deadline(s3, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with IsolatedDecoder(deadline=1.5) as decoder:
            assert why(decoder, f"{s3}/a.wav").startswith("decode_timeout")


def test_last_copy_is_kept_while_the_file_is_unchanged(memory, monkeypatch):
    got, real = [], MemoryFileSystem.get_file
    monkeypatch.setattr(MemoryFileSystem, "get_file", lambda *words: got.append(words[1]) or real(*words))
    files, copies = len(os.listdir("/dev/fd")), Copies()

    def contents(name: str) -> bytes:
        with copies.fetch(f"{memory}/{name}") as path:
            return path.read_bytes()

    for name in "ab":
        put(f"{memory}/{name}", name)
    assert [contents("a"), contents("a"), len(got)] == [b"a", b"a", 2], "not unless it is asked for"
    copies.keep = True
    got.clear()
    assert [contents(name) for name in "aaaaabbbbaa"] == [name.encode() for name in "aaaaabbbbaa"]
    assert len(got) == 6  # the second time its state is asked for, too
    put(f"{memory}/a", "A")
    assert [contents("a"), contents("a"), len(got)] == [b"A", b"A", 7]
    with pytest.raises(AudioError, match="no such file"):
        contents("none")
    assert [contents("b"), contents("b")] == [b"b", b"b"]
    copies.keep = False
    contents("b")
    assert len(os.listdir("/dev/fd")) == files


@pytest.mark.slow
def test_no_copy_is_left(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    url = put(f"{s3}/a.opus", (SAMPLES / "sound_clean.opus").read_bytes())
    with IsolatedDecoder() as decoder:
        items = decoder.cut(Clip("a", url), [16_000], 0.1)
        next(items)
        assert not any(tmp_path.iterdir())
        decoder.close()  # killed in the middle
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_what_lies_here_needs_no_fsspec(make_file):
    code = (
        "import sys; from mmmos.audio.isolated import *; from mmmos.audio.windows import cut\n"
        "from mmmos.data.inputs import expand\n"
        "list(cut(*expand(sys.argv[1:]), [16000], 0.1)); print('fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, make_file("a.wav")], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
