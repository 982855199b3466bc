"""Scores from a file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mmmos.errors import ManifestError
from mmmos.evaluation.predictions import read_predictions
from mmmos.inference.rows import open_rows
from mmmos.scores import AXES, ClipError, Provenance, Scores

NOBODY = Provenance("m", "0" * 64, "1", "cpu", "float32", False, False)


def same(a: Scores, b: Scores) -> bool:
    return a.id == b.id and [a[axis] for axis in AXES] == pytest.approx([b[axis] for axis in AXES], nan_ok=True)


# --- reading


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_what_score_wrote_is_read(tmp_path: Path, name: str):
    written = [
        Scores(
            1.5, 2.5, 3.5, 4.5, id="a", path="x/a.wav", start_time=2.0, end_time=3.0, scale="1-5", provenance=NOBODY
        ),
        Scores(id="b", path="x/b.wav", error=ClipError("not_found", "no such file"), provenance=NOBODY),
    ]
    with open_rows(tmp_path / name) as write:
        for scores in written:
            write(scores)
    found = read_predictions(tmp_path / name)
    assert [(item.id, item.path, item.start_time) for item in found] == [("a", "x/a.wav", 2.0), ("b", "x/b.wav", 0.0)]
    assert all(same(*pair) for pair in zip(found, written, strict=True))
    assert [item.scale for item in found] == ["1-5", None]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_read_predictions_restores_whole_rows(tmp_path: Path, name: str):
    given = {"scale": "0-10", "path": "x/a.wav", "end_time": 3.0, "duration": 3.0, "provenance": NOBODY}
    facts = {"sample_rate": 44_100, "channels": 2, "n_windows": 1, "warnings": ("clipped", "short"), "domain": "music"}
    written = [
        Scores(1.5, 2.5, 3.5, 4.5, 0.1, 0.2, 0.3, 0.4, id="a", PQ_basis="human", **facts, **given),
        Scores(id="b", error=ClipError("not_found", "no such file"), **given),
        Scores(id="c", warnings=("silent",), **given),
    ]
    with open_rows(tmp_path / name) as write:
        for scores in written:
            write(scores)
    assert [item.row() for item in read_predictions(tmp_path / name)] == [item.row() for item in written]


def test_read_predictions_ignores_other_uses_of_names(tmp_path: Path):
    line = '{"id": "a", "PQ": 1, "PQ_std": "wide", "warnings": {}, "error": "none", "model": 5, "channels": "two"}'
    (tmp_path / "p.jsonl").write_text(line)
    (found,) = read_predictions(tmp_path / "p.jsonl")
    assert (found.error, found.warnings, found.provenance, found.channels) == (None, (), None, None)


def test_other_columns_called_scale_say_nothing(tmp_path: Path):
    (tmp_path / "s.csv").write_text("id,PQ,scale\na,1,0.5\nb,2,large\nc,3,0-100\nd,4,")
    assert [item.scale for item in read_predictions(tmp_path / "s.csv")] == [None, None, "0-100", None]


def test_columns_go_by_name_long_or_short(tmp_path: Path):
    (tmp_path / "p.csv").write_text("\ufeffProduction_Quality,sample_id,PC,note\n7.5,a,2,x\n,b,3,\n")
    first, second = read_predictions(tmp_path / "p.csv")
    assert (first.id, first.path, first.PQ, first.PC) == ("a", None, 7.5, 2)
    assert math.isnan(first.CE)
    assert math.isnan(second.PQ)
    (tmp_path / "p.tsv").write_text("file\tCE\nb.wav\t1\n")
    (only,) = read_predictions(tmp_path / "p.tsv")
    assert (only.id, only.path, only.CE) == ("b.wav", "b.wav", 1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", "id,PQ\na,5\nb,x\n", "line 3: PQ is not a number: 'x'"),
        ("p.csv", "id,PQ\na,nan\n", "line 2: PQ is not a number"),
        ("p.csv", "id,PQ\na\n", "line 2 has fewer fields"),
        ("p.csv", "id,PQ\na,1,2\n", "line 2 has more fields"),
        ("p.csv", "name,PQ\na,1\n", "line 1: no column is called id, sample_id"),
        ("p.csv", "id,quality\na,1\n", "line 1: no column holds scores, as CE, "),
        ("p.csv", "id,PQ\na,\n", "has no score"),
        ("p.jsonl", '{"CE": 1, "CU": 2, "PC": 3, "PQ": 4}\n', "line 1 has none of id"),
        ("p.jsonl", '{"id": "a", "PQ": 1}\n{\n', "line 2 is not JSON"),
        ("p.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("p.jsonl", '{"id": "a", "PQ": [1]}\n', "line 1: PQ is not a number"),
        ("p.parquet", "no", "is not Parquet"),
        ("p.txt", "", "scores are read from .jsonl"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, said: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError, match=said) as raised:
        read_predictions(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("name", ["gone.csv", "gone.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    with pytest.raises(ManifestError, match=f"{name} cannot be read"):
        read_predictions(tmp_path / name)


@pytest.mark.parametrize(("name", "text"), [("p.jsonl", ""), ("p.csv", ""), ("p.csv", "id,PQ\n")])
def test_file_without_rows_is_refused(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError, match=f"{name}, line 1: there is no row; expected are id or path, and any of CE"):
        read_predictions(tmp_path / name)


def test_bad_rows_are_left_out_and_named(tmp_path: Path):
    (tmp_path / "p.csv").write_text("id,PQ,CE\na,1,2\nb,nan,3\n,4,4\nc,x,y\nd,5\ne,6,6\nf,nan,NaN\n")
    bad: list[ManifestError] = []
    found = read_predictions(tmp_path / "p.csv", bad.append)
    assert [item.id for item in found] == list("abe")
    assert [item.PQ for item in found] == pytest.approx([1, math.nan, 6], nan_ok=True)
    assert [item.CE for item in found] == [2, 3, 6]
    assert [str(error).removeprefix(f"{tmp_path}/p.csv, ") for error in bad] == [
        "line 4 has none of id, sample_id, path, data_path, audio_filepath, file",
        "line 5: CE is not a number: 'y'",
        "line 6 has fewer fields than line 1",
        "line 8: CE is not a number: 'NaN' (f)",
    ]
