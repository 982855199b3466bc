"""The leaderboard on a small test set whose ratings are made here, and on the challenge's own."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mmmos.errors import ManifestError, UsageError
from mmmos.evaluation.agreement import MEAN_OF_AXES
from mmmos.evaluation.ceiling import ceilings
from mmmos.evaluation.leaderboard import (
    ABOVE_CEILING,
    Rank,
    rank_results,
    to_csv,
    to_json,
)
from mmmos.evaluation.published import Published, published
from mmmos.evaluation.track2 import Result, Truth, align, evaluate_track2, read_truth
from mmmos.metrics import METRICS, system_metrics, utterance_metrics
from mmmos.scores import AXES, AXIS_NAMES, Scores


def make_truth(systems: int = 6, clips: int = 8, seed: int = 0) -> tuple[Truth, np.ndarray]:
    """Ratings of a small test set, and the true scores [N, A] that they were drawn around."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(2, 8, (systems, 1, 4)) + rng.normal(0, 0.7, (systems, clips, 4))
    true = true.reshape(-1, 4)
    ratings = np.clip(np.round(true[..., None] + rng.normal(0, 1.5, (*true.shape, 10))), 0, 10)
    names = [f"audiomos2025-track2-sys{i:05d}-utt{j:06d}" for i in range(systems) for j in range(clips)]
    return Truth(tuple(names), tuple(name.split("-")[2][3:] for name in names), ratings), true


@cache
def evaluated() -> list[Result]:
    """The true scores of `make_truth()`, evaluated once: the ceilings take a second."""
    return evaluate_track2(*make_truth())


def predicted(truth: Truth, values: np.ndarray) -> list[Scores]:
    return [Scores(id=name).with_axes(row) for name, row in zip(truth.ids, values, strict=True)]


def of(results: list[Result], axis: str, level: str = "utterance") -> Result:
    (one,) = [item for item in results if (item.axis, item.level) == (axis, level)]
    return one


# --- finding each clip's row


def test_rows_are_put_in_the_order_of_the_truth():
    truth, true = make_truth()
    order = np.random.default_rng(1).permutation(len(truth.ids))
    given = predicted(truth, true)
    values, missing = align(truth, [given[i] for i in order])
    assert values == pytest.approx(true)
    assert missing == []


@pytest.mark.parametrize("form", ["{}", "{}.wav", "some/folder/{}.flac", r"c:\clips\{}.wav"])
def test_a_clip_is_known_by_the_id_in_its_name(form: str):
    truth, true = make_truth()
    by_id = [replace(item, id=form.format(item.id)) for item in predicted(truth, true)]
    by_path = [replace(item, id=str(i), path=form.format(item.id)) for i, item in enumerate(predicted(truth, true))]
    for given in (by_id, by_path):
        assert align(truth, given)[1] == []


def test_clips_without_a_row_or_an_axis_are_named():
    truth, true = make_truth()
    true[3, 1] = true[5] = math.nan
    values, missing = align(truth, predicted(truth, true)[:-2])
    assert missing == [truth.ids[i] for i in (3, 5, -2, -1)]
    assert np.isnan(values[-1]).all()


@pytest.mark.slow
def test_axis_without_predictions_is_not_missing_per_clip():
    truth, true = make_truth()
    true[:, 0] = math.nan
    values, missing = align(truth, predicted(truth, true))
    assert missing == []
    results = evaluate_track2(truth, values)
    assert {item.axis for item in results} == {"CU", "PC", "PQ"}


def test_rows_that_cannot_be_used():
    truth, true = make_truth()
    given = predicted(truth, true)
    with pytest.raises(ManifestError, match=f"two rows have scores of {truth.ids[0]}"):
        align(truth, [*given, given[0]])
    with pytest.raises(ManifestError, match="no row is of the Track 2 test set"):
        align(truth, [Scores(1, 1, 1, 1, id="a.wav")])
    with pytest.raises(ManifestError, match="has a score"):
        align(truth, [Scores(id=truth.ids[0])])
    others = [Scores(1, 1, 1, 1, id="audiomos2025-track2-sysXXXXX-uttYYYYYY"), *given]
    assert align(truth, others)[0] == pytest.approx(true)


# --- figures


@pytest.mark.slow
def test_figures_are_those_of_the_metrics():
    truth, true = make_truth()
    results = evaluated()
    labels = truth.ratings.mean(axis=2)
    for i, axis in enumerate(AXES):
        assert {name: of(results, axis).figures[name] for name in METRICS} == pytest.approx(
            utterance_metrics(true[:, i], labels[:, i])
        )
        assert {name: of(results, axis, "system").figures[name] for name in METRICS} == pytest.approx(
            system_metrics(true[:, i], labels[:, i], truth.systems)
        )
    assert of(results, "PC").n == 48
    assert of(results, "PC", "system").n == 6


@pytest.mark.slow
def test_both_readings_of_one_figure_for_four_axes():
    truth, true = make_truth()
    results = evaluated()
    labels = truth.ratings.mean(axis=2)
    together = utterance_metrics(true.mean(axis=1), labels.mean(axis=1))
    for level in ("utterance", "system"):
        for name in METRICS:
            apart = np.mean([of(results, axis, level).figures[name] for axis in AXES])
            assert of(results, MEAN_OF_AXES, level).figures[name] == pytest.approx(apart)
            best = np.mean([of(results, axis, level).ceiling[name] for axis in AXES])
            assert of(results, MEAN_OF_AXES, level).ceiling[name] == pytest.approx(best)
    assert of(results, "composite").figures["MSE"] == pytest.approx(together["MSE"])
    assert of(results, "composite").figures["MSE"] < of(results, MEAN_OF_AXES).figures["MSE"]


@pytest.mark.slow
def test_some_clips_are_evaluated_as_if_they_were_the_whole_set():
    truth, true = make_truth()
    kept = np.arange(len(true)) % 3 > 0
    part = Truth(
        tuple(np.array(truth.ids)[kept].tolist()), tuple(np.array(truth.systems)[kept].tolist()), truth.ratings[kept]
    )
    gaps = np.where(kept[:, None], true, math.nan)
    assert evaluate_track2(truth, gaps) == evaluate_track2(part, true[kept])


@pytest.mark.slow
def test_results_hold_the_ceiling_and_the_fraction_reached():
    truth, true = make_truth()
    found = of(evaluate_track2(truth, true + 1), "PC")
    best = next(item for item in ceilings(truth.ratings) if item.axis == "PC")
    assert found.ceiling == {name: getattr(best, name) for name in METRICS}
    assert found.fraction_of_ceiling("MSE") == pytest.approx(best.MSE / found.figures["MSE"])
    assert found.fraction_of_ceiling("MSE") < 0.5
    assert found.fraction_of_ceiling("LCC") == pytest.approx(found.figures["LCC"] / best.LCC)


@pytest.mark.slow
def test_only_who_knows_the_labels_is_above_the_ceiling():
    truth, true = make_truth(20, 20)
    assert of(evaluate_track2(truth, true), "PC").fraction_of_ceiling("LCC") < ABOVE_CEILING
    perfect = of(evaluate_track2(truth, truth.ratings.mean(axis=2)), "PC")
    assert perfect.fraction_of_ceiling("LCC") > ABOVE_CEILING
    assert math.isnan(perfect.fraction_of_ceiling("MSE"))


# --- published rows


def row_of(rows: list[Published], team: str, level: str, axis: str = "PC") -> dict:
    (one,) = [row for row in rows if (row.team, row.axis, row.level) == (team, axis, level)]
    return dict(one.figures)


def test_published_is_table_one_whole():
    rows = published()
    assert len(rows) == 22
    assert {row.axis for row in rows} == {"PC"}
    assert all(tuple(row.figures) == tuple(METRICS) for row in rows)
    assert row_of(rows, "MMMOS", "utterance") == {"MSE": 0.432, "LCC": 0.942, "SRCC": 0.922, "KTAU": 0.752}
    assert row_of(rows, "MMMOS", "system") == {"MSE": 0.168, "LCC": 0.991, "SRCC": 0.949, "KTAU": 0.838}
    assert row_of(rows, "B02", "utterance") == {"MSE": 0.562, "LCC": 0.905, "SRCC": 0.902, "KTAU": 0.723}
    assert row_of(rows, "T15", "system") == {"MSE": 0.334, "LCC": 0.991, "SRCC": 0.952, "KTAU": 0.822}


def test_published_takes_more_rows(tmp_path: Path):
    (tmp_path / "o.csv").write_text(
        "team,axis,level,MSE,LCC,SRCC,KTAU\n"
        "T04,PC,system,,0.991,,0.816\n"
        "Ours,PQ,system,0.1,,,\n"
        "mine,composite,utterance,,0.8,,\n"
    )
    rows = published(tmp_path / "o.csv")
    assert len(rows) == 24
    assert row_of(rows, "T04", "system") == {"MSE": 0.291, "LCC": 0.991, "SRCC": 0.945, "KTAU": 0.816}
    assert row_of(rows, "MMMOS", "system", "PQ") == {"MSE": 0.1}
    assert row_of(rows, "mine", "utterance", "composite") == {"LCC": 0.8}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("team,axis,level,LCC\nT04,PC,system,0.9\n", r"line 2: LCC of T04 is 0\.991 already, not 0\.9"),
        ("team,axis,level,LCC\nT04,PX,system,0.9\n", "line 2: no axis and level is called 'PX'"),
        ("team,axis,level,LCC\nT04,PC,clip,0.9\n", "line 2: no axis and level"),
        ("team,axis,level,LCC\nT03,PC,system,1.2\n", "line 2: LCC cannot be '1.2'"),
        ("team,axis,level,MSE\nT03,PC,system,-1\n", "line 2: MSE cannot be"),
        ("team,axis,level,MSE\nT03,PC,system,x\n", "line 2: MSE cannot be"),
        ("team,axis,level,MSE\nT03,PC\n", "line 2 has fewer fields than line 1"),
        ("team,LCC\nT04,0.9\n", "line 1: the columns are team, LCC; expected are team, axis, level"),
    ],
)
def test_others_that_cannot_be_used_are_named(tmp_path: Path, text: str, said: str):
    (tmp_path / "o.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        published(tmp_path / "o.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        published(tmp_path / "gone.csv")


# --- places


def result(**figures: float) -> Result:
    given = {"MSE": 0.5, "LCC": 0.9, "SRCC": 0.9, "KTAU": 0.7} | figures
    return Result("PC", "system", 36, given, dict.fromkeys(METRICS, 1.0))


def rows_of(metric: str, *values: float | None) -> list[Published]:
    given = [{} if value is None else {metric: value} for value in values]
    return [Published(f"T{i}", "PC", "system", figures) for i, figures in enumerate(given)]


def place_of(found: list[Rank], metric: str) -> tuple[int, int]:
    (one,) = [(item.rank, item.of) for item in found if item.metric == metric]
    return one


@pytest.mark.parametrize(("ours", "rank"), [(0.2, 1), (0.3, 1), (0.31, 2), (0.5, 2), (0.51, 3), (0.9, 4)])
def test_a_low_error_comes_first(ours: float, rank: int):
    found = rank_results([result(MSE=ours)], rows_of("MSE", 0.5, 0.3, None, 0.7))
    assert place_of(found, "MSE") == (rank, 4)


@pytest.mark.parametrize(("ours", "rank"), [(0.995, 1), (0.991, 1), (0.9906, 1), (0.9904, 3), (0.94, 4)])
def test_rank_by_correlation_with_ties_as_printed(ours: float, rank: int):
    found = rank_results([result(LCC=ours)], rows_of("LCC", 0.991, None, 0.991, 0.95))
    assert place_of(found, "LCC") == (rank, 4)


def test_rank_without_other_figures_or_with_undefined_ones():
    found = rank_results([result(KTAU=math.nan)], rows_of("MSE", 0.3))
    assert place_of(found, "SRCC") == (1, 1)
    assert not [item for item in found if item.metric == "KTAU"]
    assert rank_results([replace(result(), axis="PQ")], rows_of("MSE", 0.3)) == []


def test_places_rank_a_system_among_all_eleven():
    """The figures of the paper's entry tie with its own row: its claim, and 12 to be ranked."""
    ours = {"utterance": (0.432, 0.942, 0.922, 0.752), "system": (0.168, 0.991, 0.949, 0.838)}
    results = [
        Result("PC", level, 36, dict(zip(METRICS, values, strict=True)), dict.fromkeys(METRICS, 1.0))
        for level, values in ours.items()
    ]
    found = rank_results(results, published())
    assert [item.rank for item in found] == [1, 1, 1, 1, 3, 1, 2, 1]
    assert {item.of for item in found} == {12}
    middling = rank_results([result(MSE=0.3, LCC=0.982, SRCC=0.93, KTAU=0.8)], published())
    assert [item.rank for item in middling] == [9, 7, 8, 7]


# --- as text


@pytest.mark.slow
def test_all_of_it_as_json_and_csv():
    results, rows = evaluated(), published()
    limits = {("CE", "utterance", "LCC"): (0.5, 0.7)}
    report = json.loads(json.dumps(to_json(results, rows, rank_results(results, rows), limits), allow_nan=False))
    assert len(report["results"]) == 12
    assert {item["axis"] for item in report["results"]} == {*AXES, "composite", MEAN_OF_AXES}
    first = report["results"][0]
    assert first["MSE"] == pytest.approx(of(results, "CE").figures["MSE"], abs=1e-6)
    assert set(first["ceiling"]) == set(first["reached"]) == set(METRICS)
    assert [item["MSE"] for item in report["published"] if item["team"] == "B02"] == [0.562, 0.226]
    assert {item["of"] for item in report["places"]} == {12}
    assert {item["level"] for item in report["places"]} == {"utterance", "system"}
    table = list(csv.DictReader(io.StringIO(to_csv(results, limits))))
    assert len(table) == 12
    assert (table[0]["low_LCC"], table[0]["high_LCC"], table[1]["low_LCC"]) == ("0.500000", "0.700000", "")
    assert (first["low"]["LCC"], first["high"]["LCC"], first["low"]["MSE"]) == (0.5, 0.7, None)
    assert float(table[0]["ceiling_LCC"]) == pytest.approx(first["ceiling"]["LCC"], abs=1e-6)


# --- the raters' file


def write_truth(path: Path, truth: Truth) -> Path:
    names = [AXIS_NAMES[axis].replace(" ", "_") for axis in AXES]
    lines = [
        json.dumps({"data_path": name} | dict(zip(names, ratings.tolist(), strict=True)))
        for name, ratings in zip(truth.ids, truth.ratings, strict=True)
    ]
    path.write_text("\n".join(lines))
    return path


def test_the_raters_file_is_read_and_must_be_of_the_test_set(tmp_path: Path):
    truth, _ = make_truth()
    found = read_truth(write_truth(tmp_path / "r.jsonl", truth))
    assert (found.ids, found.systems) == (truth.ids, truth.systems)
    assert (found.ratings == truth.ratings).all()
    other = replace(truth, ids=("x.wav", *truth.ids[1:]))
    with pytest.raises(ManifestError, match=r"r\.jsonl is not of the Track 2 test set: x\.wav"):
        read_truth(write_truth(tmp_path / "r.jsonl", other))
    (tmp_path / "r.jsonl").write_text("")
    with pytest.raises(ManifestError, match="it is empty"):
        read_truth(tmp_path / "r.jsonl")


@pytest.mark.slow
@pytest.mark.data
def test_the_whole_test_set():
    folder = os.environ.get("MMMOS_DATA")
    if not folder:
        pytest.skip("MMMOS_DATA does not say where the label files are")
    truth = read_truth()
    assert (len(truth.ids), len(set(truth.systems))) == (3060, 36)
    # What the mean of the training labels gets, in every clip: no order, and the error that the labels' spread is.
    constant = np.tile([4.960057, 5.672429, 3.500057, 6.093629], (3060, 1))
    results = evaluate_track2(truth, constant)
    assert of(results, "composite").figures["MSE"] == pytest.approx(1.5945, abs=1e-3)
    assert of(results, "composite", "system").figures["MSE"] == pytest.approx(0.9970, abs=1e-3)
    expected = {"CE": 2.5295, "CU": 2.3344, "PC": 1.8588, "PQ": 1.2578}
    assert {axis: of(results, axis, "system").figures["MSE"] for axis in AXES} == pytest.approx(expected, abs=1e-3)
    assert math.isnan(of(results, "PC").figures["LCC"])
    assert not [item for item in rank_results(results, published()) if item.metric != "MSE"]
