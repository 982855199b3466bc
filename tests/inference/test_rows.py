"""Rows out: JSON that is JSON, the same columns in every format, and no file in part that looks whole."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import replace

import pyarrow.json
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import mmmos.inference.rows
from mmmos.audio.clip import Clip
from mmmos.errors import UsageError
from mmmos.inference.resume import not_done
from mmmos.inference.rows import open_rows, to_json
from mmmos.scores import AXES, ClipError, Provenance, Scores, file_state

PROVENANCE = Provenance("lite", "ab" * 32, "0.1.0", "cpu", "float32", False, True)
NOT_UTF8 = os.fsdecode(b"caf\xe9.wav")
SCORED = Scores(
    *(5.125, 6.25, 2.5, 7.75),
    *(0.5, 0.25, 0.125, 0.0625),
    id='a,"b"\n☃.wav',
    path='/data/a,"b"\n☃.wav',
    start_time=1.5,
    end_time=12.25,
    sample_rate=44_100,
    channels=2,
    duration=20.0,
    n_windows=2,
    warnings=("clipped", "short"),
    provenance=PROVENANCE,
)
SILENT = Scores(id="b.wav", path="b.wav", warnings=("silent",), provenance=PROVENANCE)
FAILED = Scores(id="c.wav", error=ClipError("not_found", "no such file: c.wav"), provenance=PROVENANCE)
ALL = (SCORED, SILENT, FAILED)


def write(target, scores, **options):
    with open_rows(target, **options) as write_row:
        for item in scores:
            write_row(item)


def flat(scores: Scores) -> dict:
    """The row with the error's parts as columns, as tables have them."""
    row = scores.row()
    error = row.pop("error") or {"code": None, "message": None}
    return row | {f"error_{key}": value for key, value in error.items()}


@given(
    st.lists(st.floats(), min_size=9, max_size=9),
    st.sampled_from(["a.wav", 'a,"b"\n\r\u2028☃.wav', NOT_UTF8]),
    st.sampled_from(["mmmos", "audiobox"]),
)
def test_a_line_is_json_whatever_the_numbers_and_names(numbers, name, form):
    *axes, duration = numbers
    line = to_json(Scores(*axes, id=name, duration=duration), form)
    assert line.isascii()
    assert "\n" not in line
    row = json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    assert (row["CE"] is None) == (not math.isfinite(axes[0]))


def test_jsonl_is_the_rows(tmp_path):
    write(tmp_path / "a.jsonl", ALL)
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [scores.row() for scores in ALL]


def test_the_audiobox_format_is_its_four_keys():
    out = io.StringIO()
    write(out, ALL, form="audiobox")
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [tuple(row) for row in rows] == [AXES] * 3
    assert rows[0] == {axis: SCORED[axis] for axis in AXES}
    assert rows[2] == dict.fromkeys(AXES)


def test_csv_is_the_rows(tmp_path):
    write(tmp_path / "a.csv", ALL)
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    for row, scores in zip(found, ALL, strict=True):
        expected = flat(scores)
        assert list(row) == list(expected)
        assert row == {
            name: ";".join(value) if name == "warnings" else "" if value is None else str(value)
            for name, value in expected.items()
        }


def test_parquet_is_the_rows(tmp_path):
    write(tmp_path / "a.parquet", ALL)
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == [flat(scores) for scores in ALL]


def test_csv_and_parquet_have_the_same_columns_even_without_rows(tmp_path):
    for name in ("a.csv", "a.parquet"):
        write(tmp_path / name, [])
    header = (tmp_path / "a.csv").read_text().strip().split(",")
    table = parquet.read_table(tmp_path / "a.parquet")
    assert header == table.column_names == list(flat(SCORED))
    assert len(table) == 0


def test_parquet_types_do_not_depend_on_the_rows(tmp_path):
    write(tmp_path / "a.parquet", [FAILED])
    write(tmp_path / "b.parquet", [SCORED])
    assert parquet.read_schema(tmp_path / "a.parquet") == parquet.read_schema(tmp_path / "b.parquet")


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7])
def test_parquet_holds_every_row_of_every_group(tmp_path, monkeypatch, count):
    monkeypatch.setattr(mmmos.inference.rows, "PARQUET_ROWS", 3)
    write(tmp_path / "a.parquet", [Scores(id=str(i), provenance=PROVENANCE) for i in range(count)])
    assert parquet.read_table(tmp_path / "a.parquet")["id"].to_pylist() == [str(i) for i in range(count)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_tables_come_whole_or_not_at_all(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(mmmos.inference.rows, "PARQUET_ROWS", 1)
    old, new = f"old{suffix}", f"new{suffix}"
    (tmp_path / old).write_bytes(b"as it was")

    def write_in_part(path):
        with open_rows(path) as write_row:
            write_row(SCORED)
            assert not (tmp_path / new).exists()
            raise KeyboardInterrupt

    for name in (new, old):
        with pytest.raises(KeyboardInterrupt):
            write_in_part(tmp_path / name)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(old, b"as it was")]


def test_a_row_of_jsonl_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    path = tmp_path / "a.jsonl"
    with open_rows(path) as write_row:
        write_row(SILENT)
        assert "b.wav" in path.read_text()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_names_that_are_not_utf8_can_be_written(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    message = f"no such file: {NOT_UTF8}"
    write(path, [Scores(id=NOT_UTF8, path=NOT_UTF8, error=ClipError("not_found", message), provenance=PROVENANCE)])
    if suffix == ".jsonl":
        assert json.loads(path.read_text())["id"] == r"caf\udce9.wav"
    elif suffix == ".csv":
        assert path.read_text(encoding="utf-8").count(r"caf\udce9.wav") == 3
    else:
        assert parquet.read_table(path)["error_message"].to_pylist() == [r"no such file: caf\udce9.wav"]


def test_appending_keeps_what_is_there(tmp_path):
    write(tmp_path / "a.jsonl", [SCORED])
    write(tmp_path / "a.jsonl", [SILENT], append=True)
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2
    write(tmp_path / "a.jsonl", [FAILED])
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("a.txt", "mmmos", "written as"),
        ("a", "mmmos", "written as"),
        ("none/a.jsonl", "mmmos", "no folder"),
        ("none/a.parquet", "mmmos", "no folder"),
        ("a.csv", "audiobox", "JSONL"),
        ("a.parquet", "audiobox", "JSONL"),
    ],
)
def test_rows_that_cannot_be_written_are_refused_at_once(tmp_path, name, form, message):
    with pytest.raises(UsageError, match=message), open_rows(tmp_path / name, form):
        pytest.fail("it should not have been opened")
    assert list(tmp_path.iterdir()) == []


def listed(*scores: Scores) -> list[Clip]:
    ends = [None if math.isnan(item.end_time) else item.end_time for item in scores]
    return [Clip(item.id, item.path, item.start_time, end) for item, end in zip(scores, ends, strict=True)]


def test_what_has_a_score_is_not_scored_again_and_errors_are(tmp_path):
    path = tmp_path / "a.jsonl"
    assert not_done(listed(*ALL), path, PROVENANCE) == listed(*ALL)
    write(path, ALL)
    assert not_done(listed(*ALL), path, PROVENANCE) == listed(FAILED)
    assert path.read_text() == f"{to_json(SCORED)}\n{to_json(SILENT)}\n"
    assert list(tmp_path.iterdir()) == [path]


def test_starts_are_compared_as_rows_give_them(tmp_path):
    clips = [Clip("a", start_time=start) for start in (0.0, 1 / 3, 2 / 3)] + [Clip("b")]
    path = tmp_path / "a.jsonl"
    for count in range(5):
        write(path, [Scores(id=clip.id, start_time=clip.start_time, provenance=PROVENANCE) for clip in clips[:count]])
        assert not_done(clips, path, PROVENANCE) == clips[count:]


def test_a_clip_that_is_listed_twice_needs_two_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    clips = [Clip("a", end_time=1.0), Clip("a", end_time=3.0)]
    write(path, [Scores(id="a", end_time=1.0, provenance=PROVENANCE)])
    assert not_done(clips, path, PROVENANCE) == clips[1:]


def test_a_row_cut_short_is_taken_off(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, [SCORED, SILENT])
    whole = path.read_bytes()
    one = whole[: whole[:-1].rindex(b"\n") + 1]
    for size in (len(one) + 8, (len(one) + len(whole)) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert not_done(listed(SCORED, SILENT), path, PROVENANCE) == listed(SILENT)
        assert path.read_bytes() == one
        write(path, [SILENT], append=True)
        assert path.read_bytes() == whole


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "a.jsonl").touch()
    assert not_done(listed(SCORED), tmp_path / "a.jsonl", PROVENANCE) == listed(SCORED)


@pytest.mark.parametrize("line", ['{"CE": 5.0}', '{"CE": 5.0}\n', "no row\n", "[]\n", "3", "\n"])
def test_a_file_of_other_lines_is_left_alone(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{to_json(SCORED)}\n{line}")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="line 2 is not an mmmos row"):
        not_done([], path, PROVENANCE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("model_sha256", "cd" * 32, "model"), ("version", "9.9", "version"), ("dtype", "bfloat16", "precision")],
)
def test_rows_of_two_models_versions_or_precisions_do_not_mix(tmp_path, name, value, message):
    path = tmp_path / "a.jsonl"
    write(path, ALL)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=f"line 1 is a row of another {message}"):
        not_done([], path, replace(PROVENANCE, **{name: value}))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "other",
    [{"id": "b"}, {"path": "other.wav"}, {"start_time": 0.5}, {"end_time": 2.0}, {"end_time": None}, {"stream": 1}],
    ids=str,
)
def test_a_row_belongs_to_one_path_segment_and_stream(tmp_path, other):
    path, clip = tmp_path / "a.jsonl", Clip("a", "a.wav", 0.0, 1.0)
    row = Scores(id="a", path="a.wav", end_time=1.0, duration=5.0, provenance=PROVENANCE)
    write(path, [row])
    both = [replace(clip, **other), clip]
    assert not_done(both, path, PROVENANCE) == both[:1]


def test_a_row_to_the_end_of_the_file_is_of_every_end_beyond(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, [Scores(id="a", path="a", end_time=5.0, duration=5.0, provenance=PROVENANCE)])
    for end in (None, 5.0, 7.0):
        assert not_done([Clip("a", "a", 0.0, end)], path, PROVENANCE) == []
    assert not_done([Clip("a", "a", 0.0, 4.0)], path, PROVENANCE) != []


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_has_changed_is_scored_again(tmp_path, change):
    path, audio = tmp_path / "a.jsonl", tmp_path / "a.wav"
    audio.write_bytes(b"one")
    state = dict(zip(("file_bytes", "file_mtime"), file_state(str(audio)), strict=True))
    clip = Clip("a", str(audio))
    write(path, [Scores(id="a", path=str(audio), provenance=PROVENANCE, **state)])
    assert not_done([clip], path, PROVENANCE) == []
    mtime = audio.stat().st_mtime_ns
    if change == "size":
        audio.write_bytes(b"other")
    os.utime(audio, ns=(mtime, mtime + 5_000_000 * (change == "time")))
    assert not_done([clip], path, PROVENANCE) == [clip]
    assert path.read_text() == ""  # its old score does not describe the file as it is now


def test_rows_of_earlier_versions_of_the_table_are_resumed(tmp_path):
    path, audio = tmp_path / "a.jsonl", tmp_path / "a.wav"
    audio.write_bytes(b"one")
    row = Scores(id="a", path=str(audio), provenance=PROVENANCE).row()
    old = {name: value for name, value in row.items() if name not in ("stream", "file_bytes", "file_mtime")}
    path.write_text(json.dumps(old) + "\n")
    assert not_done([Clip("a", str(audio))], path, PROVENANCE) == []


def test_names_that_are_not_utf8_are_resumed_and_read_by_others(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, [Scores(id=NOT_UTF8, path=NOT_UTF8, provenance=PROVENANCE)])
    assert not_done([Clip(NOT_UTF8, NOT_UTF8)], path, PROVENANCE) == []
    assert pyarrow.json.read_json(path)["path"].to_pylist() == [r"caf\udce9.wav"]
