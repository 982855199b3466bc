"""The words on a command line as clips: in a stable order, whatever the files are called."""

from __future__ import annotations

import io
import json
import os
import sys
import tracemalloc

import pytest

from mmmos.clips import Clip
from mmmos.errors import ManifestError
from mmmos.inputs import AUDIO_SUFFIXES, expand
from mmmos.manifest import SUFFIXES


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*paths: str) -> None:
    for path in paths:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        open(path, "w").close()


def paths(*words: str) -> list[str | None]:
    clips = list(expand(words))
    assert all(clip.id == clip.path for clip in clips)
    return [clip.path for clip in clips]


def type_in(monkeypatch: pytest.MonkeyPatch, lines: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))


def test_a_file_is_a_clip_whether_it_is_there_or_not():
    touch("a.wav", "noise.xyz")
    assert paths("a.wav", "missing.wav", "noise.xyz", "a.wav") == ["a.wav", "missing.wav", "noise.xyz", "a.wav"]
    assert list(expand(["a.wav"])) == [Clip("a.wav", "a.wav")]


def test_a_folder_is_walked_in_the_order_of_names():
    touch("f/b.wav", "f/a.wav", "f/d/z.mp3", "f/c/y.FLAC", "f/c/e/x.opus", "f/B.wav")
    assert paths("f") == ["f/B.wav", "f/a.wav", "f/b.wav", "f/c/y.FLAC", "f/c/e/x.opus", "f/d/z.mp3"]
    assert paths("f/") == paths("f")


def test_a_folder_holds_what_is_called_audio_and_no_lists():
    touch(*(f"f/x{suffix}" for suffix in AUDIO_SUFFIXES), "f/notes.txt", "f/cover.jpg", "f/list.csv", "f/wav")
    assert paths("f") == sorted(f"f/x{suffix}" for suffix in AUDIO_SUFFIXES)
    assert AUDIO_SUFFIXES.isdisjoint(SUFFIXES)


def test_an_empty_folder_is_no_clip():
    os.mkdir("f")
    assert paths("f") == []


def test_a_pattern_is_what_it_matches_in_the_order_of_names():
    touch("b2.wav", "a1.wav", "b1.wav", "f/b3.wav", "f/g/b4.wav")
    assert paths("b*.wav") == ["b1.wav", "b2.wav"]
    assert paths("?1.wav") == ["a1.wav", "b1.wav"]
    assert paths("**/b[34].wav") == ["f/b3.wav", "f/g/b4.wav"]


def test_a_pattern_that_matches_a_folder_walks_it():
    touch("f1/a.wav", "f2/b.wav", "f2/c.txt")
    assert paths("f*") == ["f1/a.wav", "f2/b.wav"]


def test_a_pattern_that_matches_a_folder_and_what_is_in_it_gives_no_clip_twice():
    touch("f/a.wav", "f/g/b.wav")
    assert sorted(paths("f/**")) == ["f/a.wav", "f/g/b.wav"]


def test_a_pattern_without_a_match_is_a_file_that_is_missing():
    assert paths("*.wav") == ["*.wav"]


def test_a_file_of_a_patterns_very_name_is_meant_itself():
    touch("a[1].wav", "a1.wav", "b*.wav", "bb.wav")
    assert paths("a[1].wav", "b*.wav") == ["a[1].wav", "b*.wav"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_dash_is_a_list_of_paths_on_standard_input(monkeypatch, end):
    type_in(monkeypatch, end.join([b"a.wav", b"", b" ", b"sp ace .wav", b"list.csv", b"last.wav"]))
    assert paths("first.wav", "-") == ["first.wav", "a.wav", "sp ace .wav", "list.csv", "last.wav"]


def test_standard_input_is_read_as_it_comes(monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as typed:
        monkeypatch.setattr(sys, "stdin", stdin)
        typed.write(b"a.wav\nb.wav\n")
        clips = expand(["-"])
        assert [next(clips).id, next(clips).id] == ["a.wav", "b.wav"]
        typed.write(b"c.wav\n")
        assert next(clips).id == "c.wav"


@pytest.mark.parametrize(
    "name",
    [
        "ünïcödé ☃ 🎵.wav".encode(),
        b"new\nline.wav",
        b"x" * 246 + b".wav",
        b" .wav",
        b"caf\xe9 \xff.wav",
        b"u\xe2\x80\xa8v.wav",
    ],
    ids=["unicode", "newline", "250 bytes", "space", "latin-1", "line separator"],
)
def test_names_come_through_byte_by_byte(monkeypatch, name):
    os.mkdir("f")
    touch(os.fsdecode(b"f/" + name))
    assert [os.fsencode(path) for path in paths("f")] == [b"f/" + name]
    assert [os.fsencode(path) for path in paths("f/*")] == [b"f/" + name]
    assert [os.fsencode(path) for path in paths(os.fsdecode(b"f/" + name))] == [b"f/" + name]
    if b"\n" not in name:
        type_in(monkeypatch, b"f/" + name + b"\n")
        assert [os.fsencode(path) for path in paths("-")] == [b"f/" + name]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".CSV", ".Tsv", ".JSONL", ".SCP"])
def test_a_list_is_its_rows(folder, suffix):
    text = {
        ".jsonl": json.dumps({"id": "1", "path": "a.wav", "start_time": 1, "end_time": 2}),
        ".json": json.dumps({"id": "1", "audio_filepath": "a.wav", "offset": 1, "duration": 1}),
        ".csv": "id,path,start_time,end_time\n1,a.wav,1,2",
        ".tsv": "id\tpath\tstart_time\tend_time\n1\ta.wav\t1\t2",
        ".scp": "1 a.wav",
    }[suffix.lower()]
    (folder / f"list{suffix}").write_text(text)
    start, end = (0.0, None) if suffix.lower() == ".scp" else (1.0, 2.0)
    assert list(expand([f"list{suffix}"])) == [Clip("1", "a.wav", start, end)]
    assert list(expand(["list*"], "/data")) == [Clip("1", "/data/a.wav", start, end)]


def test_a_list_that_is_missing_is_wrong_usage():
    with pytest.raises(ManifestError, match=r"none\.csv cannot be read"):
        list(expand(["none.csv"]))


def test_nothing_is_no_clip():
    assert paths() == []


@pytest.mark.parametrize("kind", ["jsonl", "csv", "scp"])
def test_a_long_list_takes_no_more_memory_than_a_short_one(folder, kind):
    def peak(rows: int) -> int:
        with open(f"list.{kind}", "w") as file:
            file.write("id,path\n" if kind == "csv" else "")
            for i in range(rows):
                row = {
                    "jsonl": f'{{"path": "/data/{i}.wav"}}',
                    "csv": f"{i},/data/{i}.wav",
                    "scp": f"{i} /data/{i}.wav",
                }
                file.write(row[kind] + "\n")
        tracemalloc.start()
        try:
            assert sum(1 for _ in expand([f"list.{kind}"])) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is kept from the first call on
    assert peak(20_000) < peak(1_000) + 20_000


def test_a_row_comes_before_the_next_line_is_read(folder):
    (folder / "list.jsonl").write_text('{"path": "a.wav"}\n{')
    clips = expand(["list.jsonl"])
    assert next(clips).id == "a.wav"
    with pytest.raises(ManifestError, match="line 2"):
        next(clips)
