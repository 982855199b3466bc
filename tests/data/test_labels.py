"""Lists of labels as spreadsheets and rating tools write them."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from mmmos.data.labels import read_labels
from mmmos.errors import ManifestError
from mmmos.evaluation.ceiling import reliability, reliability_of
from mmmos.scores import AXES

PQ = AXES.index("PQ")


def labels(path: Path) -> list[tuple[str, float]]:
    """Id and PQ of each clip."""
    return [(row.clip.id, row.labels[PQ]) for row in read_labels(path, label_range=None)]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# --- tables


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_delimiters_and_encodings(tmp_path: Path, encoding: str):
    rows = [["note", " path ", "PQ"], ["é", '"a,b;c|d.wav"', "3.5"], ["", "ü.wav", '"4,25"']]
    for name, delimiter, end in product(["a.csv", "a.tsv"], [",", ";", "\t", "|"], ["\n", "\r\n"]):
        text = end.join(delimiter.join(row) for row in rows)
        found = labels(write(tmp_path / name, text, encoding))
        assert found == [("a,b;c|d.wav", 3.5), ("ü.wav", 4.25)], (name, delimiter, end)


def test_decimal_commas_and_the_separator_line_of_excel(tmp_path: Path):
    path = write(tmp_path / "a.csv", "sep=;\n\npath;PQ;start_time\na.wav;3,5;1,5\nb.wav;x;0\n")
    with pytest.raises(ManifestError, match=r"a\.csv, line 5: PQ is not a number: 'x'"):
        labels(path)
    write(path, "sep=;\n\npath;PQ;start_time\na.wav;3,5;1,5\n")
    (row,) = read_labels(path)
    assert (row.labels[PQ], row.clip.start_time, row.origin) == (3.5, 1.5, f"{path}, line 4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: there is no row: the file is empty; the columns to give are path .*PQ"),
        ("path,PQ\n", "line 1: there is no row below the header path, PQ; the columns to give are path .*PQ"),
        (
            "Path,PQ\na.wav,3",
            "line 1: no column is called path, .*; the columns are Path, PQ: is Path meant to be path?",
        ),
        ("audio_file;MOS\na.wav;3", "the columns are audio_file, MOS: is audio_file meant to be audio_filepath?"),
        (
            "path,pq\na.wav,3",
            "line 1: no column holds labels, as CE, .*; the columns are path, pq: is pq meant to be PQ?",
        ),
        ("path,ProductionQualty\na.wav,3", "is ProductionQualty meant to be Production_Quality?"),
        ("path,zzz\na.wav,3", "the columns are path, zzz$"),
        ("path,PQ,PQ\na.wav,3,4", "line 1: the column PQ stands twice"),
        ("path,PQ\na.wav,\nb.wav,\n", "a.csv, line 2 has no label"),
    ],
)
def test_mistakes_in_a_table_name_line_and_columns(tmp_path: Path, text: str, said: str):
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(ManifestError, match=said.replace("?", "\\?")) as raised:
        read_labels(path, axes=["PQ"])
    assert str(raised.value).startswith(f"{path}, line ")


def test_other_encodings_are_named(tmp_path: Path):
    with pytest.raises(ManifestError, match=r"cannot be read.*save it as UTF-8"):
        labels(write(tmp_path / "a.csv", "path,PQ\nä.wav,3", "latin-1"))


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
def test_scores_are_not_labels(tmp_path: Path, name: str):
    row = {"path": "a.wav", "PQ": 5, "n_windows": 1, "model_sha256": "0"}
    text = json.dumps(row) if name == "r.jsonl" else f"{','.join(row)}\n{','.join(map(str, row.values()))}"
    with pytest.raises(ManifestError, match=r"line [12]: these are scores of mmmos .*--scores"):
        labels(write(tmp_path / name, text))


# --- raters


@pytest.mark.parametrize(
    "columns",
    [
        ("PQ_1", "PQ_2", "PQ_3"),
        ("PQ_rater1", "PQ_rater2", "PQ_rater3"),
        ("PQ_rater_anna", "PQ_rater_bob", "PQ_rater_eve"),
        ("Production_Quality_1", "Production_Quality_2", "Production_Quality_3"),
        ("PQ-r1", "PQ-r2", "PQ r3"),
    ],
)
def test_columns_of_several_raters_are_averaged(tmp_path: Path, columns: tuple[str, ...]):
    text = f'path,{",".join(columns)},PQ_std\na.wav,3,4,8,1\nb.wav,2,,"3,5",1\nc.wav,7,,,\n'
    rows = read_labels(write(tmp_path / "a.csv", text))
    assert [row.labels[PQ] for row in rows] == [5, 2.75, 7]
    assert [row.ratings[PQ] for row in rows] == [(3, 4, 8), (2, 3.5), (7,)]


def test_mean_goes_before_single_ratings(tmp_path: Path):
    (row,) = read_labels(write(tmp_path / "a.csv", "path,PQ,PQ_1,PQ_2\na.wav,5,1,2\n"))
    assert row.labels[PQ] == 5


def test_rows_of_one_rating_are_averaged(tmp_path: Path):
    text = "path,rater,PQ,CE,system\na.wav,x,3,,s\nb.wav,x,1,2,t\na.wav,y,4,5,s\na.wav,z,8,,s\n"
    first, second = read_labels(write(tmp_path / "a.csv", text))
    assert (first.clip.id, first.labels[PQ], first.labels[0], first.system, first.list_rows) == ("a.wav", 5, 5, "s", 3)
    assert (first.ratings[PQ], first.ratings[0]) == ((3, 4, 8), (5,))
    assert (second.labels[PQ], second.list_rows) == (1, 1)


def test_second_and_missing_ratings_of_a_rater_are_left_out(tmp_path: Path):
    bad: list[ManifestError] = []
    text = "path,rater,PQ\na.wav,x,3\na.wav,x,9\na.wav,,9\na.wav,y,5\n"
    (row,) = read_labels(write(tmp_path / "a.csv", text), on_bad_row=bad.append)
    assert row.ratings[PQ] == (3, 5)
    assert ["line 3: x has rated" in str(bad[0]), "line 4: " in str(bad[1]), len(bad)] == [True, True, 2]


def test_reliability_of_lists_is_that_of_a_table():
    ratings = np.random.default_rng(0).normal(size=(20, 1)) + np.random.default_rng(1).normal(size=(20, 5))
    assert reliability_of([*ratings.tolist(), [3.0]]) == pytest.approx(reliability(ratings), abs=1e-12)
    assert math.isnan(reliability_of([[1.0], [2.0]]))


# --- bad rows


def test_a_bad_row_costs_one_row(tmp_path: Path):
    lines = [
        "path,PQ,CE",
        "a.wav,3,4",
        "b.wav,,",
        "c.wav,good,4",
        ",3,4",
        "a.wav,5,5",
        "d.wav,1",
        "e.wav,inf,1",
        "f.wav,,2",
    ]
    path, bad = write(tmp_path / "a.csv", "\n".join(lines)), []
    found = read_labels(path, label_range=None, on_bad_row=bad.append)
    assert [row.clip.id for row in found] == ["a.wav", "f.wav"]
    assert [int(str(error).removeprefix(f"{path}, line ")[0]) for error in bad] == [3, 4, 5, 6, 7, 8]
    with pytest.raises(ManifestError, match="line 3 has no label"):
        read_labels(path)


def test_a_list_of_bad_rows_alone_is_refused(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", '{"file_name": "a.wav", "PQ": 3}\n{"file_name": "b.wav", "PQ": 3}\n')
    with pytest.raises(ManifestError, match=r"no row can be used \(2 rows left out\); the first: .*line 1 has no path"):
        read_labels(path, on_bad_row=lambda error: None)
