"""Means and deviations against NumPy's, the best really best, rows that survive a file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.errors import UsageError
from mmmos.experiments.result_tables import Entry, ResultTable, column, every_table, tabulate
from mmmos.experiments.results import BIAS, Result, converged, read_results, results_of, write_results
from mmmos.metrics import METRICS
from mmmos.paper import CONFIGURATIONS, ENCODER_SUBSETS, ROWS
from mmmos.scores import AXES

NUMBERS = st.floats(-2, 2) | st.just(math.nan)
COLUMN = st.lists(st.lists(NUMBERS, max_size=3), min_size=1, max_size=8)
METRIC = st.sampled_from((*METRICS, *BIAS))


def result(row: str = "BiEnc MLP UT", seed: int = 42, **options: object) -> Result:
    """A result on 234 clips of Dev for Table III; `options` are other fields of it."""
    plain = Result("III", row, seed, "Dev", "utterance", "composite", 234, 0.361, 0.822, 0.849, 0.672, -0.1, 0.351)
    return replace(plain, **options)


def entries_of(table: ResultTable, row: str) -> dict[tuple[str, str, str], Entry]:
    """A row's entries by set, level and metric."""
    places = ((group.set, group.level, metric) for group, metric in table.columns)
    return dict(zip(places, dict(table.rows)[row], strict=True))


def badness(mean: float, metric: str) -> float:
    """What is to be small, to the three decimals that people see."""
    if metric == "bias":
        return abs(round(mean, 3))
    return round(mean, 3) if metric in ("MSE", "debiased_MSE") else -round(mean, 3)


@pytest.mark.slow
@given(COLUMN, METRIC)
def test_mean_and_deviation_are_numpys(values: list[list[float]], metric: str) -> None:
    for runs, entry in zip(values, column(values, [None] * len(values), metric), strict=True):
        assert entry.runs == len(runs)
        assert entry.of == max(map(len, values))
        np.testing.assert_equal(entry.mean, np.mean(runs) if runs else math.nan)
        np.testing.assert_equal(entry.std, np.std(runs, ddof=1) if len(runs) > 1 else math.nan)


@given(COLUMN, METRIC)
def test_the_best_is_best_and_the_second_next(values: list[list[float]], metric: str) -> None:
    made = column(values, [None] * len(values), metric)
    known = [entry for entry in made if not math.isnan(entry.mean)]
    assert all(entry.rank == 0 for entry in made if math.isnan(entry.mean))
    steps = sorted({badness(entry.mean, metric) for entry in known})
    for entry in known:
        step = steps.index(badness(entry.mean, metric))
        assert entry.rank == (step + 1 if step < 2 else 0)


def test_figures_equal_after_rounding_have_the_same_rank() -> None:
    made = column([[0.8491], [0.8494], [0.8489], [0.8479]], [None] * 4, "SRCC")
    assert [entry.rank for entry in made] == [1, 1, 1, 2]
    assert [entry.rank for entry in column([[-0.3], [0.1], [0.2]], [None] * 3, "bias")] == [0, 1, 2]
    assert [entry.rank for entry in column([[0.3], [0.1], [0.2]], [None] * 3, "MSE")] == [0, 1, 2]


@pytest.mark.slow
@given(st.permutations(range(12)))
def test_the_order_of_results_does_not_matter(order: list[int]) -> None:
    rng = np.random.default_rng(0)
    results = [
        result(row, seed, SRCC=rng.random(), set=name)
        for row in CONFIGURATIONS[:3]
        for seed in (42, 43)
        for name in ("Dev", "PAM")
    ]
    ours, moved = (tabulate(given, "III") for given in (results, [results[i] for i in order]))
    assert [(group.set, group.level) for group in moved.groups] == [("Dev", "utterance"), ("PAM", "utterance")]
    assert [row for row, _ in moved.rows] == list(CONFIGURATIONS)
    for row in CONFIGURATIONS[:3]:
        for place, entry in entries_of(ours, row).items():
            assert entries_of(moved, row)[place].mean == pytest.approx(entry.mean)
            assert entries_of(moved, row)[place].rank == entry.rank


def test_the_papers_table_has_all_its_rows_and_its_figures() -> None:
    table = tabulate([result()], "III")
    assert tuple(row for row, _ in table.rows) == CONFIGURATIONS
    ours = entries_of(table, "BiEnc MLP UT")
    assert [ours["Dev", "utterance", metric].paper for metric in METRICS] == [0.361, 0.822, 0.849, 0.672]
    missing = entries_of(table, "TriEnc MLP UT")["Dev", "utterance", "MSE"]
    assert (missing.status, missing.runs, missing.paper) == ("failed", 0, 0.342)


def test_no_axis_of_its_own_has_the_papers_figure() -> None:
    table = tabulate([result(axis="PQ")], "III", "PQ")
    assert all(entry.paper is None for _, entries in table.rows for entry in entries)


def test_rows_are_those_that_were_asked_for_then_others() -> None:
    table = tabulate([result("new"), result("b")], "III", rows=["a", "b"])
    assert [row for row, _ in table.rows] == ["a", "b", "new"]
    assert {entry.status for entry in entries_of(table, "a").values()} == {"failed"}


def test_rows_of_ones_own_stand_as_they_came() -> None:
    table = tabulate([result("z", table="Mine"), result("a", table="Mine", set="Radio")], "Mine")
    assert [row for row, _ in table.rows] == ["z", "a"]
    assert [group.set for group in table.groups] == ["Dev", "Radio"]
    assert entries_of(table, "z")["Radio", "utterance", "MSE"].status == "failed"
    assert all(entry.paper is None for _, entries in table.rows for entry in entries)


def test_an_undefined_metric_is_no_failure() -> None:
    table = tabulate([result(seed=1, SRCC=math.nan), result(seed=2)], "III")
    entry = entries_of(table, "BiEnc MLP UT")["Dev", "utterance", "SRCC"]
    assert (entry.status, entry.runs, entry.rank) == ("undefined", 2, 0)


def test_systems_and_test_have_the_bias_and_the_rest_on_request() -> None:
    results = [result(), result(set="PAM", level="system"), result(set="Test")]
    for bias in (False, True):
        dev, pam, test = tabulate([replace(x, table="Mine") for x in results], "Mine", bias=bias).groups
        assert dev.metrics == (*METRICS, *(BIAS if bias else ()))
        assert pam.metrics == test.metrics == (*METRICS, *BIAS)


def test_sizes_are_the_smallest_and_the_largest() -> None:
    assert tabulate([result(n=230), result(seed=43, n=234)], "III").groups[0].n == (230, 234)


def test_two_results_of_one_run_are_refused() -> None:
    with pytest.raises(UsageError, match="BiEnc MLP UT, Dev have the same seed"):
        tabulate([result(), result(MSE=0.4)], "III")


def test_tables_come_in_the_papers_order_and_others_after() -> None:
    results = [
        result("x", table="Mine"),
        result(axis="PQ"),
        result(),
        result(set="Test"),
        result("WavLM", table="II"),
    ]
    tables = every_table(results)
    assert [(table.name, table.axis, len(table.groups)) for table in tables] == [
        ("II", "composite", 1),
        ("III", "composite", 1),
        ("III", "composite", 1),
        ("III", "PQ", 1),
        ("Mine", "composite", 1),
    ]
    assert tables[2].part.endswith("other sets")
    assert tables[2].groups[0].set == "Test"


def test_a_table_that_was_asked_for_and_never_ran_is_all_failed() -> None:
    (table,) = every_table([], {"II": ENCODER_SUBSETS})
    assert tuple(row for row, _ in table.rows) == ROWS["II"]
    assert {entry.status for _, entries in table.rows for entry in entries} == {"failed"}
    assert [group.set for group in table.groups] == ["Dev"]


@pytest.mark.slow
@given(
    st.builds(
        Result,
        st.text(max_size=5),
        st.text(max_size=5),
        st.integers(),
        st.text(max_size=5),
        st.sampled_from(["utterance", "system"]),
        st.sampled_from(["composite", "mean_of_axes", "CE", "CU", "PC", "PQ"]),
        st.integers(0, 9999),
        *[st.floats(allow_infinity=False)] * 6,
    )
)
def test_a_result_survives_a_file(tmp_path_factory: pytest.TempPathFactory, one: Result) -> None:
    path = tmp_path_factory.getbasetemp() / "results.jsonl"
    write_results([one, one], path)
    assert len(path.read_bytes().split(b"\n")) == 3
    assert json.loads(path.read_text().split("\n")[0]).keys() == one.to_json().keys()
    for back in read_results(path):
        np.testing.assert_equal(vars(back), vars(one))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "3",
        '{"table": "II"}',
        json.dumps(result().to_json() | {"level": "song"}),
        json.dumps(result().to_json() | {"axis": "MOS"}),
        json.dumps(result().to_json() | {"extra": 1}),
        json.dumps(result().to_json() | {"MSE": math.inf}),
    ],
)
def test_a_line_that_is_no_result_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(result().to_json()) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=r"results\.jsonl, line 2 is not a result"):
        read_results(path)


def test_results_of_earlier_versions_are_read(tmp_path: Path) -> None:
    line = {name: value for name, value in result().to_json().items() if name != "constant_MSE"}
    (tmp_path / "r.jsonl").write_text(json.dumps(line) + "\n")
    (back,) = read_results(tmp_path / "r.jsonl")
    assert math.isnan(back.constant_MSE)
    assert replace(back, constant_MSE=1.0) == replace(result(), constant_MSE=1.0)


def test_constant_mse_is_that_of_the_mean_label() -> None:
    rng = np.random.default_rng(0)
    labels = rng.uniform(1, 9, (30, 4))
    rows = [LabelledClip(Clip(str(i)), tuple(map(float, own)), system="abc"[i % 3]) for i, own in enumerate(labels)]
    constant = np.tile(labels.mean(axis=0), (30, 1))
    found = {(one.level, one.axis): one for one in results_of(constant, rows, "Dev", "T", "constant", 1)}
    for axis in (*AXES, "composite"):
        one = found["utterance", axis]
        assert one.constant_MSE == pytest.approx(one.MSE)
        assert not converged(one.MSE, one.constant_MSE)
    systems = np.array([labels[i::3].mean(axis=0) for i in range(3)])
    assert found["system", "PQ"].constant_MSE == pytest.approx(systems[:, 3].var())
