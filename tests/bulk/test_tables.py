"""Rows as a table: the same from every format and from the folder of a run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

import mmmos
from mmmos.bulk.plan import make_plan
from mmmos.bulk.stores import open_store
from mmmos.bulk.workers import Job, work_on
from mmmos.errors import ManifestError, UsageError
from mmmos.inference.rows import open_rows, table_row, table_schema
from mmmos.scores import ClipError, Provenance, Scores
from tests.bulk_toys import ToyTask, clips_named

PROVENANCE = Provenance("lite", "ab" * 32, "0.1.0", "cpu", "float32", False, True)
SCORED = Scores(
    *(5.125, 6.25, math.nan, 7.75),
    id="a;b.wav",
    path="a;b.wav",
    end_time=2.0,
    sample_rate=44_100,
    n_windows=1,
    warnings=("clipped", "short"),
    provenance=PROVENANCE,
)
FAILED = Scores(id="c.wav", error=ClipError("not_found", "no, such file"), provenance=PROVENANCE)
OTHER = replace(SCORED, PQ=1.5, warnings=())
ALL = [replace(SCORED, others=(("new", OTHER),)), replace(FAILED, others=(("new", FAILED),))]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_every_format_gives_the_same_table(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with open_rows(path, others=["new"]) as write:
        for scores in ALL:
            write(scores)
    table = mmmos.read_rows(path)
    assert table.schema == table_schema(["new"])
    assert table.to_pylist() == [table_row(scores) for scores in ALL]


def test_rows_of_earlier_versions_and_other_columns_are_kept(tmp_path):
    old = {name: value for name, value in SCORED.row().items() if name not in ("scale", "stream", "file_bytes")}
    lines = [old | {"rating": 3.5, "mixed": 1}, old | {"rating": None, "mixed": "x"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = mmmos.read_rows(str(tmp_path / "a.jsonl"))
    assert table.column_names == [*table_schema().names, "rating", "mixed"]
    assert table["scale"].null_count == 2
    assert table["rating"].to_pylist() == [3.5, None]
    assert table["mixed"].to_pylist() == ["1", "x"]
    parquet.write_table(table.drop_columns(["scale"]), tmp_path / "a.parquet")
    assert mmmos.read_rows(tmp_path / "a.parquet") == table


def test_the_four_columns_of_audiobox_are_a_table(tmp_path):
    with open_rows(tmp_path / "a.jsonl", "audiobox") as write:
        write(SCORED)
    assert mmmos.read_rows(tmp_path / "a.jsonl").to_pydict() == {
        "CE": [5.125],
        "CU": [6.25],
        "PC": [None],
        "PQ": [7.75],
    }


def test_damaged_lines_are_left_out_or_refused(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(SCORED.row()) + '\n{"id": "half')
    assert mmmos.read_rows(path).num_rows == 1
    assert "line 2 is not JSON" in caplog.text
    with pytest.raises(ManifestError, match="line 2"):
        mmmos.read_rows(path, strict=True)


def test_folder_of_a_run_gives_its_finished_parts_in_order(tmp_path):
    store, task = open_store(tmp_path / "run"), ToyTask()
    plan = make_plan(store, clips_named("a", "b", "c", "empty", "e"), task.describe(), 2)
    assert mmmos.read_rows(tmp_path / "run").num_rows == 0
    for shard in (2, 0):
        work_on(store, plan, task.start(), Job(shard))
    table = mmmos.read_rows(tmp_path / "run")
    assert table["id"].to_pylist() == ["0-a", "1-b", "4-e"]
    assert table.schema.metadata is None


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("none.csv", ManifestError, "there is no such file"),
        ("none.parquet", ManifestError, "there is no such file"),
        ("a.txt", ManifestError, "rows are read from .jsonl"),
        ("folder", UsageError, "is not an mmmos run"),
    ],
)
def test_what_has_no_rows_is_refused(tmp_path: Path, name: str, error: type[Exception], message: str):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.txt").write_text("a.wav")
    with pytest.raises(error, match=message):
        mmmos.read_rows(tmp_path / name)
    with pytest.raises(UsageError, match="'arrow' or 'pandas', not 'polars'"):
        mmmos.read_rows(tmp_path / name, "polars")


def test_pandas_frame_has_the_same_values(tmp_path):
    pytest.importorskip("pandas", reason="pandas is optional")
    with open_rows(tmp_path / "a.parquet") as write:
        write(SCORED)
        write(FAILED)
    frame = mmmos.read_rows(tmp_path / "a.parquet", "pandas")
    assert frame.PQ[0] == 7.75
    assert frame.error_code.isna().tolist() == [True, False]
    assert isinstance(pyarrow.Table.from_pandas(frame), pyarrow.Table)
