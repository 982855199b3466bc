"""The words on a command line as clips: in a stable order, whatever the files are called."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tracemalloc
from collections.abc import Callable

import pytest

from mmmos.audio.clip import Clip
from mmmos.data.inputs import expand
from mmmos.errors import ManifestError, UsageError
from mmmos.io.lists import AUDIO_SUFFIXES, SUFFIXES


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


def test_pattern_of_a_folder_and_its_files_gives_clips_once():
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
        ".ndjson": json.dumps({"id": "1", "path": "a.wav", "start_time": 1, "end_time": 2}),
        ".json": json.dumps({"id": "1", "audio_filepath": "a.wav", "offset": 1, "duration": 1}),
        ".csv": "id,path,start_time,end_time\n1,a.wav,1,2",
        ".tsv": "id\tpath\tstart_time\tend_time\n1\ta.wav\t1\t2",
        ".scp": "1 a.wav",
        ".txt": "a.wav",
    }[suffix.lower()]
    start, end = (0.0, None) if suffix.lower() in (".scp", ".txt") else (1.0, 2.0)
    name = "a.wav" if suffix == ".txt" else "1"
    (folder / f"list{suffix}").write_text(text)
    with gzip.open(folder / f"packed{suffix}.gz", "wt") as file:
        file.write(text)
    assert list(expand([f"list{suffix}"])) == [Clip(name, "a.wav", start, end)]
    assert list(expand(["list*"], "/data")) == [Clip(name, "/data/a.wav", start, end)]
    assert list(expand([f"packed{suffix}.gz"])) == list(expand([f"list{suffix}"]))


def test_a_json_array_is_a_list_of_objects_or_paths(folder):
    rows = [{"path": "a.wav", "start_time": 1}, "b.wav", 7]
    for name, indent in (("list.json", None), ("list.jsonl", 2)):
        (folder / name).write_text("\n" + json.dumps(rows, indent=indent))
        bad: list[ManifestError] = []
        assert list(expand([name], on_bad_row=bad.append)) == [Clip("a.wav", "a.wav", 1.0), Clip("b.wav", "b.wav")]
        assert [str(error) for error in bad] == [f"{name}, line 3 is not a JSON object"]
    (folder / "list.json").write_text('["a.wav",')
    with pytest.raises(ManifestError, match=r"^list\.json: the array that begins in line 1 is not JSON"):
        list(expand(["list.json"]))


def test_a_text_file_is_a_path_a_line(folder):
    touch("f/noise")
    (folder / "f" / "list.txt").write_bytes(b"\xef\xbb\xbfnoise\r\n\r\n  sp ace.wav \r\nno\xefl.wav\n")
    assert [os.fsencode(clip.path or "") for clip in expand(["f/list.txt"])] == [
        b"f/noise",
        b"f/sp ace.wav",
        b"f/no\xefl.wav",
    ]


def test_prose_is_not_a_list(folder, expanded):
    touch("a.wav")
    (folder / "readme.txt").write_text("Recordings of 2021.\nSee a.wav\n")
    with pytest.raises(ManifestError, match=r"^readme\.txt, line 1 is not the path of an audio file: 'Recordings"):
        list(expand(["readme.txt"]))
    assert expanded("*")[0] == ["a.wav"]


def test_truncated_or_unpacked_gz_list_is_refused(folder):
    (folder / "list.jsonl.gz").write_bytes(gzip.compress(b'{"path": "a.wav"}\n' * 1000)[:-20])
    with pytest.raises(ManifestError, match=r"^list\.jsonl\.gz cannot be read"):
        list(expand(["list.jsonl.gz"]))
    (folder / "list.jsonl.gz").write_text('{"path": "a.wav"}')
    with pytest.raises(ManifestError, match=r"^list\.jsonl\.gz cannot be read"):
        list(expand(["list.jsonl.gz"]))


@pytest.mark.parametrize(
    "text", ['{"path": "a.wav"}\n{"path": 1}\n"b.wav"', '["a.wav", {"path": 1}, "b.wav"]', '[\n"a.wav"]']
)
def test_a_dash_may_be_json(monkeypatch, text, expanded):
    type_in(monkeypatch, text.encode())
    found, messages = expanded("-")
    assert found == ["a.wav", "b.wav"][: 1 + text.count("b.wav")]
    assert [sentence[:22] for sentence in messages] == ["standard input, line 2"] * text.count("1")


def test_a_path_in_brackets_on_standard_input_is_a_path(monkeypatch):
    type_in(monkeypatch, b"[1] a.wav\n{2}.wav\n")
    assert paths("-") == ["[1] a.wav", "{2}.wav"]


def test_a_list_that_is_missing_is_wrong_usage():
    with pytest.raises(ManifestError, match=r"none\.csv cannot be read"):
        list(expand(["none.csv"]))


def test_nothing_is_no_clip():
    assert paths() == []


@pytest.mark.slow
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


@pytest.fixture
def expanded(caplog: pytest.LogCaptureFixture) -> Callable[..., tuple[list[str | None], list[str]]]:
    """`expanded("f")` gives the paths, and the messages on what is left out."""

    def call(*words: str) -> tuple[list[str | None], list[str]]:
        bad: list[str] = []
        caplog.clear()
        paths = [clip.path for clip in expand(words, on_bad_row=lambda error: bad.append(str(error)))]
        return paths, [*caplog.messages, *bad]

    return call


def test_links_to_folders_are_followed_once(expanded):
    touch("other/b.wav", "f/a.wav", "f/d/c.wav")
    os.symlink("../other", "f/link")
    os.symlink("../../other", "f/d/again")
    os.symlink("..", "f/d/up")
    os.symlink(".", "f/self")
    found, messages = expanded("f")
    assert found == ["f/a.wav", "f/d/c.wav", "f/d/again/b.wav"]
    links = ("f/d/up", "f/link", "f/self")
    assert messages == [f"{link} is left out: a link to a folder that has already been read" for link in links]


def test_hidden_files_and_those_of_other_systems_are_no_clips(expanded):
    touch("f/a.wav", "f/._a.wav", "f/.b.wav", "f/.git/c.wav", "f/__MACOSX/d.wav")
    assert expanded("f") == (["f/a.wav"], [])
    assert paths("f/._a.wav") == ["f/._a.wav"]  # named, it is tried


def test_what_is_left_out_of_a_folder_is_counted_by_its_kind(expanded):
    touch("f/a.SPH", "f/b.wv1", "f/notes.txt", "f/d/more.TXT", "f/LICENSE", "f/list.csv")
    found, (message,) = expanded("f")
    assert found == ["f/a.SPH", "f/b.wv1"]
    assert message.startswith("f: 4 files without an audio suffix are left out (2 .txt, ")
    assert "1 without a suffix" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_logged(expanded):
    touch("f/a.wav", "f/locked/b.wav")
    os.chmod("f/locked", 0)
    assert expanded("f") == (["f/a.wav"], ["f/locked is left out: Permission denied"])


def test_an_error_of_the_system_in_a_walk_is_logged(monkeypatch, expanded):
    touch("f/a.wav", "f/locked/b.wav")
    scan = os.scandir

    def scandir(path):
        if path == "f/locked":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert expanded("f") == (["f/a.wav"], ["f/locked is left out: Permission denied"])


def test_other_table_is_skipped_in_a_pattern_and_refused_by_name(folder, expanded):
    touch("f/a.wav")
    (folder / "f/metadata.csv").write_text("LJ001-0001|Printing, in the only sense|Printing\n")
    found, (message,) = expanded("f/*")
    assert found == ["f/a.wav"]
    assert "f/metadata.csv, line 1" in message
    with pytest.raises(ManifestError, match=r"f/metadata\.csv, line 1"):
        list(expanded("f/metadata.csv"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.jsonl", '{"path": "a.wav"}\n{"path": \n[1]\n{"x": 1}\n{"path": "b.wav"}\n'),
        ("l.csv", "path,start_time\na.wav,0\nx\nx,1,2\nx,soon\nb.wav,1\n"),
        ("l.scp", "1 a.wav\nx\ny\nz\n2 b.wav\n"),
    ],
)
def test_a_bad_row_costs_one_row(folder, name, text, expanded):
    (folder / name).write_text(text)
    found, messages = expanded(name)
    assert found == ["a.wav", "b.wav"]
    assert len(messages) == 3
    assert all(sentence.startswith(f"{name}, line ") for sentence in messages)


def test_a_command_of_a_kaldi_list_is_a_clip_that_is_never_run(folder):
    (folder / "l.scp").write_text("1 a.wav\n2 touch ran |\n")
    assert [clip.id for clip in expand(["l.scp"], on_bad_row=lambda error: None)] == ["1", "2"]
    assert not os.path.exists("ran")


@pytest.mark.parametrize(
    "data",
    [b"RIFF\x24\0\0\0WAVEfmt \n", b"fLaC\0\0\0\x22\n\n", b"OggS\0\2\n", b"\xff\xfb\x90\n", b"\0\0\0\x20ftypM4A \n"],
    ids=["wav", "flac", "ogg", "mp3", "m4a"],
)
def test_audio_on_standard_input_is_one_clip(monkeypatch, data):
    type_in(monkeypatch, data)
    (clip,) = expand(["-"])
    assert (clip.id, clip.path, clip.data) == ("-", None, data)


def test_paths_that_begin_as_audio_does_are_paths(monkeypatch):
    type_in(monkeypatch, b"RIFF/a.wav\nID3.mp3\n")
    assert paths("-") == ["RIFF/a.wav", "ID3.mp3"]


def test_a_pipe_is_read_here():
    reading, writing = os.pipe()
    os.write(writing, b"RIFF")
    os.close(writing)
    try:
        (clip,) = expand([f"/dev/fd/{reading}"])
    finally:
        os.close(reading)
    assert (clip.path, clip.data) == (None, b"RIFF")


def test_named_pipe_is_left_to_the_decoder(tmp_path):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)  # nobody writes to it
    (clip,) = expand([str(pipe)])
    assert (clip.path, clip.data) == (str(pipe), None)


def test_standard_input_that_is_closed_is_wrong_usage(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input, which is closed"):
        list(expand(["-"]))
