"""Names and groups of the systems of a report."""

from __future__ import annotations

import pytest

from mmmos.errors import UsageError
from mmmos.report.systems import System, groupings, named, split_by
from mmmos.scores import Scores


def system(name: str, *rows: dict) -> System:
    return System(name, [(Scores(id=row["id"], path=row["id"], domain=row.get("domain")), row) for row in rows])


def test_named_takes_given_names_and_files():
    assert named(["new=runs/1/scores.jsonl", "runs/2/scores.jsonl"]) == [
        ("new", "runs/1/scores.jsonl"),
        ("2/scores", "runs/2/scores.jsonl"),
    ]
    assert named(["runs/big/"]) == [("big", "runs/big/")]


def test_named_refuses_one_name_twice():
    with pytest.raises(UsageError, match="two results are called a"):
        named(["a=1.csv", "a=2.csv"])


def test_split_by_column_gives_systems():
    rows = [{"id": "1", "codec": "x"}, {"id": "1", "codec": "y"}, {"id": "2", "codec": "x"}]
    found = split_by([system("all", *rows)], "codec")
    assert [(item.name, [s.id for s in item.scores]) for item in found] == [("x", ["1", "2"]), ("y", ["1"])]
    with pytest.raises(UsageError, match="has no codec; its columns are id"):
        split_by([system("all", {"id": "1"})], "codec")


def test_groupings_are_columns_with_several_values():
    rows = [
        {"id": "corpus/a/1.wav", "domain": "music", "group": "g1", "set": "test"},
        {"id": "corpus/b/2.wav", "domain": "speech", "group": "g2", "set": "test"},
    ]
    found = groupings([system("s", *rows)])
    assert found == {"domain": ["music", "speech"], "folder": ["a", "b"], "group": ["g1", "g2"]}


def test_groupings_leave_out_columns_that_name_rows():
    rows = [{"id": f"folder{i}/x.wav", "domain": "music"} for i in range(300)]
    assert groupings([system("s", *rows)]) == {}
