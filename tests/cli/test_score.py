"""The command line as a user meets it: what goes where, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

import mmmos
from mmmos.io.atomic import locked
from tests.sounds import SAMPLES


@pytest.fixture
def run(run_mmmos: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """`run("score", "a.wav")` gives exit status, stdout and stderr."""
    return run_mmmos


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_score_prints_rows_to_stdout_and_notes_to_stderr(run, make_file):
    status, out, err = run("score", make_file("a.wav"))
    (row,) = rows(out)
    assert status == 0
    assert row["status"] == "ok"
    assert 0 < row["PQ"] < 10
    assert (row["model"], row["calibrated"], row["device"], row["dtype"]) == ("lite", False, "cpu", "float32")
    assert len(err.splitlines()) == 1
    assert "not calibrated" in err


@pytest.mark.slow
def test_a_bad_clip_costs_exit_status_1_and_no_other_clip(run, make_file, tmp_path):
    (tmp_path / "b.wav").write_bytes(b"")
    status, out, err = run("score", make_file("a.wav"), tmp_path / "b.wav", make_file("c.wav"))
    assert status == 1
    assert [row["status"] for row in rows(out)] == ["ok", "error", "ok"]
    assert "1 of 3 clips" in err


def test_an_empty_folder_is_nothing_to_do(run, tmp_path):
    status, out, err = run("score", tmp_path)
    assert (status, out) == (0, "")
    assert "nothing to score" in err


@pytest.mark.parametrize(
    "words",
    [
        ("score",),
        ("score", "a.wav", "--no-such-option"),
        ("score", "a.wav", "--model", "./no-such-model"),
        ("score", "a.wav", "-o", "rows.xlsx"),
        ("score", "a.wav", "-o", "no-such-folder/rows.csv"),
        ("score", "a.wav", "--device", "abacus"),
        ("score", "a.wav", "--resume"),
        ("score", "a.wav", "--workers", "2"),
        ("score", "a.wav", "--shard-size", "5", "-o", "rows.jsonl"),
        ("score", "a.wav", "-o", "rows/", "--segments"),
        ("score", "a.wav", "-o", "rows/", "--format", "audiobox"),
        ("score", "a.wav", "-o", "rows/", "--resume"),
        ("score", "a.wav", "-o", "no-such-scheme://rows"),
        ("score", "no-such-list.csv"),
        ("train", "no-such-list.csv", "-o", "model"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(run, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert next(word for word in (*words, "Missing") if str(word).strip("./-") in err)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_rows_go_to_a_file_of_the_kind_its_name_says(run, make_file, tmp_path, name):
    status, out, _ = run("score", make_file("a.wav"), make_file("b.wav"), "-o", tmp_path / name)
    assert (status, out) == (0, "")
    read = {
        ".jsonl": lambda path: rows(path.read_text()),
        ".csv": lambda path: list(csv.DictReader(path.read_text().splitlines())),
        ".parquet": lambda path: parquet.read_table(path).to_pylist(),
    }[Path(name).suffix]
    found = read(tmp_path / name)
    assert [Path(row["id"]).name for row in found] == ["a.wav", "b.wav"]
    assert all(float(row["PQ"]) > 0 for row in found)


@pytest.mark.slow
def test_rows_go_to_a_folder_and_the_command_resumes(run, make_file, tmp_path):
    files = [make_file(f"{name}.wav") for name in "abc"]
    run("score", *files, "-o", tmp_path / "rows.jsonl")
    words = ("score", *files, "--workers", 1, "--shard-size", 2, "-o")
    status, out, err = run(*words, tmp_path / "rows")  # workers write folders
    assert (status, out) == (0, "")
    assert "not calibrated" in err
    assert "2 of 2 shards, 3 of 3 clips, 3 ok, 0 errors" in err
    found = parquet.read_table(tmp_path / "rows").to_pylist()
    expected = rows((tmp_path / "rows.jsonl").read_text())
    assert [{key: row[key] for key in ("id", "path", "PQ", "model_sha256")} for row in found] == [
        {key: row[key] for key in ("id", "path", "PQ", "model_sha256")} for row in expected
    ]
    before = (tmp_path / "rows" / "part-00001.parquet").stat().st_mtime_ns
    (tmp_path / "rows" / "part-00000.parquet").unlink()
    assert run(*words, f"{tmp_path}/rows/")[0] == 0
    assert parquet.read_table(tmp_path / "rows").to_pylist() == found
    assert (tmp_path / "rows" / "part-00001.parquet").stat().st_mtime_ns == before
    status, _, err = run("score", *files[:2], "-o", tmp_path / "rows", "--shard-size", 2)  # it is a folder by now
    assert (status, "another list" in err) == (2, True)


@pytest.mark.parametrize("options", [(), ("--overwrite",), ("--resume",)])
@pytest.mark.parametrize("words", [("list.jsonl",), ("./link.jsonl",), ("list*",), ("a.wav", "list.jsonl")])
def test_an_input_is_never_replaced_by_rows(run, make_file, tmp_path, monkeypatch, words, options):
    make_file("a.wav")
    monkeypatch.chdir(tmp_path)
    Path("list.jsonl").write_text('{"path": "a.wav"}\n')
    Path("link.jsonl").symlink_to("list.jsonl")
    status, out, err = run("score", *words, "-o", "list.jsonl", *options)
    assert (status, out) == (2, "")
    assert "list.jsonl is an input" in err
    assert Path("list.jsonl").read_text() == '{"path": "a.wav"}\n'
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_an_output_is_replaced_only_with_overwrite(run, make_file, tmp_path, name):
    clip, out = make_file("a.wav"), tmp_path / name
    out.write_text("mine")
    status, _, err = run("score", clip, "-o", out)
    assert (status, f"{name} exists; add --overwrite" in err, out.read_text()) == (2, True, "mine")
    assert run("score", clip, "-o", out, "--overwrite")[0] == 0
    assert out.read_bytes() != b"mine"


def test_a_run_is_never_written_among_the_clips(run, make_file, tmp_path):
    clip = make_file("a.wav")
    for words in (("-o", tmp_path), ("-o", f"{tmp_path}/"), ("-o", tmp_path, "--workers", 1)):
        status, _, err = run("score", tmp_path, *words)
        assert (status, "has other files, such as a.wav" in err) == (2, True)
    assert list(tmp_path.iterdir()) == [clip]


@pytest.mark.slow
def test_a_second_run_with_one_output_is_refused(run, make_file, tmp_path):
    clip, out = make_file("a.wav"), tmp_path / "rows.jsonl"
    with locked(out):
        status, _, err = run("score", clip, "-o", out)
    assert (status, "another run" in err) == (2, True)
    assert not out.exists()
    assert run("score", clip, "-o", out)[0] == 0


@pytest.mark.slow
def test_resume_scores_only_what_is_missing(run, make_file, tmp_path):
    files = [make_file(f"{name}.wav") for name in "abc"]
    out = tmp_path / "rows.jsonl"
    run("score", *files, "-o", out)
    whole = out.read_text()
    first, second, third = whole.splitlines(keepends=True)
    out.write_text(first.replace('"version"', '"kept": true, "version"') + second[:50])
    status, _, err = run("score", *files, "-o", out, "--resume")
    assert (status, f"1 of 3 clips has a score in {out}" in err) == (0, True)
    kept, *rest = out.read_text().splitlines(keepends=True)
    assert '"kept": true' in kept
    assert rest == [second, third]


@pytest.mark.slow
def test_scoring_runs_no_code_of_the_folder_it_is_in(make_file, tmp_path):
    clip = make_file("a.flac")
    for name in ("soundfile", "numpy", "select", "mmmos", "multiprocessing", "torch", "pyarrow"):
        (tmp_path / f"{name}.py").write_text(f"open('{tmp_path}/ran', 'w')")
    words = [Path(sys.executable).with_name("mmmos"), "score", clip.name, "-o", "rows/", "--workers", "1"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_names_that_look_like_markup_are_names(run, tmp_path):
    (tmp_path / "[/live]").mkdir(parents=True)
    status, _, err = run("score", tmp_path / "[/live]")
    assert status == 0
    assert "[/live]" in err


def test_version_is_printed(run):
    status, out, _ = run("--version")
    assert (status, out.strip()) == (0, mmmos.__version__)


def test_evaluating_nothing_is_wrong_usage(run, tmp_path):
    (tmp_path / "r.csv").write_text("path,PQ\ngone.wav,5\n")
    status, out, err = run("evaluate", tmp_path / "r.csv")
    assert (status, out) == (2, "")
    assert "none of its clips is there (1 clip listed)" in err


def test_a_model_cannot_take_the_name_of_a_bundled_one(run, make_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("r.csv").write_text("\n".join(["path,PQ,group", *(f"{make_file(f'{i}.wav')},{i},{i}" for i in range(4))]))
    status, _, err = run("train", "r.csv", "-o", "lite")
    assert status == 2
    assert "comes with mmmos" in err


@pytest.mark.slow
def test_train_fills_no_folder_of_its_inputs(run, make_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    clips = [make_file(f"{i}.wav") for i in range(6)]
    Path("r.csv").write_text("\n".join(["path,PQ", *(f"{clip},{i}" for i, clip in enumerate(clips))]))
    Path("out/config.json").write_text("\n".join(json.dumps({"path": str(clip), "PQ": 3}) for clip in clips))
    Path("out/checkpoint.pt").write_bytes(b"weights of an encoder")
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    for words in (
        ("r.csv", "--dev", "out/config.json"),
        ("out/config.json",),
        ("r.csv", "--encoders", "muq=out/checkpoint.pt"),
    ):
        status, _, err = run("train", *words, "-o", "out")
        assert (status, "lies in the output folder out" in err) == (2, True)
    status, _, err = run("train", "r.csv", "-o", "r.csv")
    assert (status, "r.csv is a file; name a new folder" in err) == (2, True)
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["<", ">>", "2>>"])
def test_redirected_file_is_never_an_output(make_file, tmp_path, stream):
    clip, target = make_file("a.wav"), tmp_path / "rows.jsonl"
    target.write_text(f"{clip}\n")
    command = f'"$0" -m mmmos score - -o rows.jsonl --overwrite {stream} rows.jsonl'
    typed = None if stream == "<" else f"{clip}\n".encode()
    found = subprocess.run(["bash", "-c", command, sys.executable], cwd=tmp_path, input=typed, timeout=120, check=False)
    assert found.returncode == 2
    assert target.read_text().startswith(f"{clip}\n")


@pytest.mark.slow
def test_audiobox_format_is_four_keys_a_line_in_input_order(run, make_file):
    _, out, _ = run("score", make_file("a.wav"), "missing.wav", "--format", "audiobox")
    good, bad = rows(out)
    assert list(good) == ["CE", "CU", "PC", "PQ"]
    assert set(bad.values()) == {None}


@pytest.mark.slow
def test_segments_tile_the_clip(run, make_file):
    _, out, _ = run("score", make_file("a.wav", seconds=23.0), "--segments")
    found = rows(out)
    assert [(row["start_time"], row["end_time"]) for row in found] == [(0, 10), (10, 20), (20, 23)]


@pytest.mark.slow
def test_paths_come_from_standard_input(run, make_file, monkeypatch):
    typed = f"{make_file('a.wav')}\n\n{make_file('b.wav')}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
    _, out, _ = run("score", "-")
    assert [Path(row["path"]).name for row in rows(out)] == ["a.wav", "b.wav"]


@pytest.mark.slow
def test_train_then_score_and_evaluate_with_the_new_model(run, make_file, tmp_path):
    lines = ["path,PQ,group", *(f"{make_file(f'{i}.wav', 0.5, 8000 + 1000 * i)},{i % 10},{i}" for i in range(12))]
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("\n".join([*lines, "gone.wav,5,x"]))
    status, out, err = run("train", ratings, "-o", tmp_path / "model", "--set", "epochs=3")
    result = json.loads(out)
    assert status == 0
    assert result["train_clips"] + result["dev_clips"] == 12
    assert "of 3 listed clips is missing" in err
    assert "gone.wav" in err
    status, out, _ = run("score", tmp_path / "0.wav", "--model", tmp_path / "model")
    assert status == 0
    assert rows(out)[0]["model_sha256"]
    status, out, err = run("evaluate", ratings, "--model", tmp_path / "model")
    figures = json.loads(out)
    assert status == 0
    assert figures["clips"] == 12
    assert [part["axis"] for part in figures["agreement"]] == ["PQ"]


def test_licenses_name_every_bundled_part(run):
    status, out, _ = run("licenses")
    assert status == 0
    assert all(
        name in out
        for name in ("DistillMOS", "DNSMOS", "musicnn", "YAMNet", "lite", "MIT", "ISC", "Apache", "CC BY-NC")
    )


@pytest.mark.slow
def test_doctor_finds_a_sound_installation(run):
    status, out, _ = run("doctor")
    assert status == 0, out
    assert "BAD" not in out


@pytest.mark.slow
def test_a_terminal_gets_a_table():
    main_end, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "80"}
    words = [sys.executable, "-m", "mmmos", "score", "speech_clean.flac", "gone.wav"]
    process = subprocess.Popen(words, stdout=terminal, stderr=subprocess.DEVNULL, cwd=SAMPLES, env=environment)
    os.close(terminal)
    shown = b""
    while chunk := _read(main_end):
        shown += chunk
    assert process.wait() == 1
    head, clean, gone, mark = shown.decode().splitlines()
    assert head.split() == ["clip", "(scores", "0-10)", "PQ", "PC", "CE", "CU", "notes"]
    assert mark.startswith("~ ")
    assert clean.startswith("speech_clean.flac")
    assert "not_found" in gone


def _read(end: int) -> bytes:
    try:
        return os.read(end, 4096)
    except OSError:  # how Linux says that the other end has closed
        return b""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_and_leaves_whole_rows(make_file, tmp_path, number, status):
    hanging = tmp_path / "hanging.wav"
    os.mkfifo(hanging)
    words = [sys.executable, "-m", "mmmos", "score", make_file("a.wav"), hanging]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    first = process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=180)
    assert process.returncode == status
    assert json.loads(first)["status"] == "ok"
    assert "--resume" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(make_file):
    files = [str(make_file(f"{i}.wav")) for i in range(4)]
    command = f"{sys.executable} -m mmmos score {' '.join(files)} | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.slow
def test_closed_descriptors_and_missing_tmpdir_are_harmless(make_file, tmp_path):
    clip, out = make_file("a.wav"), tmp_path / "rows.jsonl"
    command = f"TMPDIR={tmp_path}/gone {sys.executable} -m mmmos score {clip} -o {out} <&- >&- 2>&-"
    assert subprocess.run(command, shell=True, check=False).returncode == 0
    assert [row["status"] for row in rows(out.read_text())] == ["ok"]


@pytest.mark.slow
def test_audio_through_a_pipe_has_the_score_of_its_file(make_file):
    clip = make_file("a.wav")
    command = f"cat {clip} | {sys.executable} -m mmmos score - /dev/null {clip} <(cat {clip})"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    found = rows(done.stdout)
    assert [row["PQ"] for row in found] == [found[2]["PQ"], None, found[2]["PQ"], found[2]["PQ"]]
    assert found[2]["PQ"] > 0
