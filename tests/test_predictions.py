"""Scores from a file: what is read, and which clip they are of."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mmmos.clips import Clip
from mmmos.errors import ManifestError
from mmmos.manifest import LabelledClip
from mmmos.predictions import matched, read_predictions
from mmmos.rows import open_rows
from mmmos.scores import AXES, ClipError, Provenance, Scores

NOBODY = Provenance("m", "0" * 64, "1", "cpu", "float32", False, False)


def row(path: str, start: float = 0.0, end: float | None = None, name: str = "") -> LabelledClip:
    return LabelledClip(Clip(name or path, path, start, end), (5.0,) * 4)


def scored(path: str, start: float = math.nan, value: float = 5.0, name: str = "") -> Scores:
    return Scores(*(value,) * 4, id=name or path, path=path, start_time=start)


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
        ("p.csv", "name,PQ\na,1\n", "line 2 has none of id, sample_id"),
        ("p.csv", "id,quality\na,1\n", "line 2 has none of the axes"),
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


def test_an_empty_file_has_no_scores(tmp_path: Path):
    (tmp_path / "p.jsonl").write_text(json.dumps({}) * 0)
    assert read_predictions(tmp_path / "p.jsonl") == []


# --- matching


def test_the_id_goes_before_the_path_and_the_path_before_the_name():
    rows = [row("x/a.wav", name="one"), row("x/b.wav", name="two"), row("x/c.wav", name="three"), row("x/d.wav")]
    by_id, by_path = scored("x/b.wav", name="one"), scored("x/b.wav", name="other")
    by_name = scored("elsewhere/c.wav", name="another")
    assert matched(rows, [by_name, by_id]) == [by_id, by_id, by_name, None]
    assert matched(rows[1:], [by_name, by_path]) == [by_path, by_name, None]


def test_a_test_id_matches_the_file_of_that_name():
    found = Scores(1, 1, 1, 1, id="sys1-utt1.x", start_time=math.nan)
    assert matched([row("test/sys1-utt1.x.wav")], [found]) == [found]
    assert matched([row("test/sys1-utt1.y.wav")], [found]) == [None]


def test_a_name_that_is_not_the_only_one_is_no_match():
    rows = [row("song1/bass.wav"), row("song2/bass.wav"), row("song3/drums.wav")]
    assert matched(rows, [scored("else/bass.wav"), scored("else/drums.wav"), scored("other/drums.wav")]) == [None] * 3


def test_stretches_of_a_file_are_told_by_their_start():
    rows = [row("a.wav", 0, 5), row("a.wav", 5, 10), row("a.wav", 10)]
    parts = [scored("a.wav", start, start) for start in (5.0, 0.0)]
    assert matched(rows, parts) == [parts[1], parts[0], None]
    assert matched(rows[1:], [scored("a.wav", 0.0)]) == [None, None]


def test_two_rows_of_a_clip_are_refused():
    windows = [scored("a.wav", start) for start in (0.0, 10.0)]
    with pytest.raises(ManifestError, match=r"2 rows have scores of a\.wav"):
        matched([row("a.wav")], windows)
    with pytest.raises(ManifestError, match=r"2 rows have scores of a\.wav from 10 s"):
        matched([row("a.wav", 10.0)], [windows[1], windows[1]])
