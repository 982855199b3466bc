"""The ceiling against simulated raters whose true scores are known, and on the challenge's own ratings."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mmmos.data.ratings import read_ratings
from mmmos.errors import ManifestError
from mmmos.evaluation.ceiling import (
    Ceiling,
    ceilings,
    ceilings_of,
    error_variances,
    reliability,
    shrunk,
    true_scores,
)
from mmmos.metrics import METRICS, lcc, system_means, utterance_metrics
from mmmos.scores import AXES, AXIS_NAMES

R = 10


def panel(kind: str, clips: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True scores [N] and ten whole ratings of each [N, R]: what raters would say, rounded and cut off at the ends."""
    rng = np.random.default_rng(seed)
    means, spread, lowest = {
        "normal": (rng.normal(5, 1.5, clips), 1.7, 0),
        "uniform": (rng.uniform(1.5, 8, clips), 1.9, 0),
        "two kinds": (
            np.where(rng.random(clips) < 0.5, rng.normal(2.5, 0.6, clips), rng.normal(6, 0.8, clips)),
            1.8,
            0,
        ),
        "a third at the floor": (
            np.where(rng.random(clips) < 0.32, rng.normal(0.3, 0.5, clips), rng.normal(3.3, 1.3, clips)),
            *(1.6, 1),
        ),
    }[kind]
    spreads = spread * np.exp(0.2 * rng.standard_normal(clips))
    ratings = np.clip(np.round(means[:, None] + spreads[:, None] * rng.standard_normal((clips, R))), lowest, 10)
    steps = np.arange(lowest, 10) + 0.5  # a rating is the lowest and one more for each step that is passed
    truth = lowest + (1 - stats.norm.cdf((steps - means[:, None]) / spreads[:, None])).sum(axis=1)
    return truth, ratings


def four(ratings: np.ndarray) -> np.ndarray:
    """The same ratings [N, R] on every axis, [N, A, R]."""
    return np.repeat(ratings[:, None], 4, axis=1)


def alignment(ratings: np.ndarray) -> np.ndarray:
    """Correlation [A, A] of what a place in the lists [N, A, R] gives above its clip's mean: 0 for strangers."""
    apart = np.moveaxis(ratings - ratings.mean(axis=2, keepdims=True), 1, 0)
    return np.corrcoef(apart.reshape(len(apart), -1))


def one(ratings: np.ndarray, systems: Sequence[str] = ()) -> Ceiling:
    """The ceiling of one axis, of its systems if they are given."""
    return ceilings_of("PC", ratings, systems)[-1]


def of(found: list[Ceiling], axis: str = "PC", level: str = "utterance") -> Ceiling:
    (one,) = [item for item in found if (item.axis, item.level) == (axis, level)]
    return one


# --- clips, against what a predictor that knows the truth does get


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "uniform", "two kinds", "a third at the floor"])
def test_a_predictor_that_knows_the_truth_gets_the_ceiling(kind):
    truth, ratings = panel(kind)
    gets = utterance_metrics(truth, ratings.mean(axis=1))
    found = one(ratings)
    assert pytest.approx(gets["MSE"], rel=0.06) == found.MSE
    assert pytest.approx(gets["LCC"], abs=0.004) == found.LCC
    assert pytest.approx(gets["SRCC"], abs=0.008) == found.SRCC
    assert pytest.approx(gets["KTAU"], abs=0.012) == found.KTAU


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "uniform", "two kinds", "a third at the floor"])
def test_labels_taken_for_the_truth_would_flatter(kind):
    """New noise on old labels: their own noise counts as true scores, and the ceiling is too high."""
    truth, ratings = panel(kind)
    labels, errors = ratings.mean(axis=1), error_variances(ratings)
    noisy = labels + np.random.default_rng(0).standard_normal(len(labels)) * math.sqrt(errors.mean())
    gets, found = lcc(truth, labels), one(ratings).LCC
    assert lcc(labels, noisy) - gets > 2 * abs(found - gets)


@pytest.mark.parametrize("kind", ["normal", "two kinds"])
def test_fitted_true_scores_are_spread_as_the_true_ones(kind):
    truth, ratings = panel(kind)
    scores, noise = true_scores(ratings.mean(axis=1), error_variances(ratings), 1 / R)
    assert scores.std() == pytest.approx(truth.std(), rel=0.03)
    assert scores.std() < ratings.mean(axis=1).std()
    assert stats.wasserstein_distance(scores, truth) < 0.1
    assert noise.mean() == pytest.approx(error_variances(ratings).mean(), rel=0.05)
    assert (np.diff(scores) >= 0).all()


@pytest.mark.slow
def test_fewer_raters_lower_the_ceiling():
    _, ratings = panel("normal", 1000)
    all_ten, five = one(ratings), one(ratings[:, :5])
    assert pytest.approx(2 * all_ten.MSE, rel=0.1) == five.MSE
    assert five.LCC < all_ten.LCC - 0.02
    assert five.KTAU < all_ten.KTAU - 0.05


# --- reliability


def test_reliability_is_shrouts_and_fleisss():
    """Six targets, four raters, ICC(1,1) .17 and ICC(1,4) .44 (Psychological Bulletin 86, 1979, tables 2 and 4)."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert reliability(ratings) == pytest.approx(0.44, abs=0.005)
    one = reliability(ratings) / (4 - 3 * reliability(ratings))  # Spearman and Brown, backwards
    assert one == pytest.approx(0.17, abs=0.005)


def test_reliability_by_its_definition():
    _, ratings = panel("uniform", 500)
    between = R * ratings.mean(axis=1).var(ddof=1)
    within = ((ratings - ratings.mean(axis=1, keepdims=True)) ** 2).sum() / (500 * (R - 1))
    assert reliability(ratings) == pytest.approx((between - within) / between)


def test_reliability_equals_spearman_brown_of_two_halves():
    truth, ratings = panel("normal", seed=1)
    halves = lcc(ratings[:, :5].mean(axis=1), ratings[:, 5:].mean(axis=1))
    assert 2 * halves / (1 + halves) == pytest.approx(reliability(ratings), abs=0.01)
    assert reliability(ratings) == pytest.approx(lcc(truth, ratings.mean(axis=1)) ** 2, abs=0.01)


def test_raters_without_agreement_leave_nothing_to_predict():
    noise = np.random.default_rng(3).integers(0, 11, (200, R)).astype(float)
    noise -= noise.mean(axis=1, keepdims=True) * 0.9  # clips alike beyond chance
    assert reliability(noise) == 0
    found = one(noise)
    assert math.isnan(found.LCC)
    assert math.isnan(found.SRCC)
    assert found.MSE > 0


@pytest.mark.slow
def test_where_raters_agree_on_all_the_ceiling_is_perfect():
    ratings = np.repeat(np.arange(0, 10, 0.25)[:, None], R, axis=1)
    found = one(ratings)
    assert found.MSE == 0
    assert found.LCC == 1
    assert reliability(ratings) == 1


@pytest.mark.parametrize("ratings", [np.ones((5, 3)), np.ones((1, 3)), np.arange(5.0)[:, None]])
def test_no_variance_or_a_single_rating_has_no_reliability(ratings):
    assert math.isnan(reliability(ratings))


def test_shrunk_has_the_variance_of_the_truth():
    rng = np.random.default_rng(0)
    labels = rng.normal(5, 2, 5000)
    assert shrunk(labels, np.full(5000, 1.0)).std() == pytest.approx(math.sqrt(3), rel=0.02)
    assert shrunk(labels, np.full(5000, 1.0)).mean() == pytest.approx(labels.mean())
    assert shrunk(labels, np.zeros(5000)) == pytest.approx(labels)


# --- systems and the composite


@pytest.mark.slow
def test_systems_have_a_ceiling_of_their_own():
    """36 systems of 20 clips, sixty times: what one who knows the truth gets on average."""
    gets, expected = [], []
    of_system = np.random.default_rng(100).normal(4, 1, 36)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        clips = rng.normal(0, 1, (36, 20))
        truth = (of_system[:, None] + clips - clips.mean(axis=1, keepdims=True)).ravel()
        ratings = truth[:, None] + rng.normal(0, 1.7, (36 * 20, R))
        systems = np.repeat(np.arange(36), 20).astype(str)
        means = system_means(truth, systems), system_means(ratings.mean(axis=1), systems)
        gets.append(list(utterance_metrics(*means).values()))
        if seed < 5:
            found = one(ratings, list(systems))
            expected.append([getattr(found, name) for name in METRICS])
            assert found.n == 36
            assert pytest.approx(1.7**2 / R / 20, rel=0.06) == found.MSE
    mse, *others = np.mean(gets, axis=0)
    assert np.mean(expected, axis=0)[0] == pytest.approx(mse, rel=0.1)
    assert np.abs(np.mean(expected, axis=0)[1:] - others) == pytest.approx(0, abs=0.01)


@pytest.mark.slow
def test_systems_of_other_sizes_weigh_their_own_clips():
    ratings = np.array([[1.0, 3.0], [2.0, 4.0], [8.0, 9.0]])
    found = one(ratings, ["a", "a", "b"])
    assert pytest.approx(((1 + 1) / 2 / 2 + 0.25) / 2) == found.MSE


@pytest.mark.slow
def test_the_composites_noise_is_that_of_each_raters_composite():
    _, ratings = panel("normal", 500)
    rng = np.random.default_rng(0)
    one_rater = four(ratings)  # who errs alike on all four axes
    strangers = rng.permuted(one_rater, axis=2)
    together, apart = of(ceilings(one_rater), "composite"), of(ceilings(strangers), "composite")
    assert pytest.approx(of(ceilings(one_rater)).MSE) == together.MSE
    assert pytest.approx(together.MSE / 4, rel=0.1) == apart.MSE
    assert alignment(one_rater) == pytest.approx(np.ones((4, 4)))
    assert alignment(strangers) == pytest.approx(np.eye(4), abs=0.05)


@pytest.mark.slow
def test_every_axis_has_its_own_and_the_seed_decides():
    ratings = np.stack([panel(kind, 300)[1] for kind in ("normal", "uniform", "two kinds", "normal")], axis=1)
    found = ceilings(ratings, ["a", "b", "c"] * 100)
    assert [(item.axis, item.level) for item in found] == [
        (axis, level) for axis in (*AXES, "composite") for level in ("utterance", "system")
    ]
    assert found == ceilings(ratings, ["a", "b", "c"] * 100)
    assert found != ceilings(ratings, ["a", "b", "c"] * 100, seed=1)
    for i, axis in enumerate(AXES):
        assert pytest.approx(error_variances(ratings[:, i]).mean()) == of(found, axis).MSE


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 10), (5, 4, 10, 1)])
def test_shapes_are_checked(shape):
    with pytest.raises(ValueError, match=r"\[N, 4, R\]"):
        ceilings(np.ones(shape))
    with pytest.raises(ValueError, match="systems"):
        ceilings(np.ones((5, 4, 10)), ["a"])


# --- ratings from a file


def line(name: str, **lists: object) -> str:
    given = {AXIS_NAMES[axis].replace(" ", "_"): lists.get(axis, [1.0, 2, 3]) for axis in ("PQ", "PC", "CE", "CU")}
    return json.dumps({"data_path": name} | given)


def test_ratings_are_read_by_name(tmp_path: Path):
    (tmp_path / "r.jsonl").write_text(f"{line('a', CE=[0, 1, 2])}\n\n{line('b', PQ=[7, 8, 10.0])}")
    ids, ratings = read_ratings(tmp_path / "r.jsonl")
    assert ids == ["a", "b"]
    assert ratings.shape == (2, 4, 3)
    assert ratings[0, AXES.index("CE")].tolist() == [0, 1, 2]
    assert ratings[1, AXES.index("PQ")].tolist() == [7, 8, 10]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (line("b", PC=[1, 2]), "line 2: PC has 2 ratings, not 3"),
        (line("b", PC=[]), "line 2: PC has 0 ratings"),
        (line("b", CU=[1, 2, 11]), "line 2: CU has a rating outside 0-10"),
        (line("b", CU=[1, 2, math.nan]), "line 2: CU has a rating outside 0-10"),
        (line("b", CU=[1, 2, "x"]), "line 2: CU is not a list of ratings"),
        (line("b", CU=5.0), "line 2: CU is not a list of ratings"),
        ('{"data_path": "b"}', "line 2: CE is not a list of ratings"),
        (line("a"), "line 2 has a again"),
        (line(""), "line 2 has no data_path"),
        ("[", "line 2 is not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, second: str, said: str):
    (tmp_path / "r.jsonl").write_text(f"{line('a')}\n{second}\n")
    with pytest.raises(ManifestError, match=said) as raised:
        read_ratings(tmp_path / "r.jsonl")
    assert str(raised.value).startswith(str(tmp_path / "r.jsonl"))


def test_no_line_is_no_clip(tmp_path: Path):
    (tmp_path / "r.jsonl").write_text("")
    ids, ratings = read_ratings(tmp_path / "r.jsonl")
    assert ids == []
    assert ratings.shape[:2] == (0, 4)


# --- the challenge's test set


@pytest.fixture(scope="module")
def test_set() -> tuple[list[str], np.ndarray]:
    folder = os.environ.get("MMMOS_DATA")
    if not folder:
        pytest.skip("MMMOS_DATA does not say where the label files are")
    return read_ratings(Path(folder, "labels", "audiomos2025_track2_human_annotations.jsonl"))


@pytest.mark.slow
@pytest.mark.data
def test_the_ceiling_of_production_complexity(test_set):
    ids, ratings = test_set
    found = ceilings(ratings, [name.split("-")[2] for name in ids])
    clips, systems = of(found, "PC"), of(found, "PC", "system")
    assert (clips.n, systems.n) == (3060, 36)
    assert [round(clips.MSE, 3), round(clips.LCC, 3)] == [0.190, 0.959]
    assert [round(systems.MSE, 4), round(systems.LCC, 4)] == [0.0022, 0.9994]
    assert pytest.approx(0.948, abs=0.003) == clips.SRCC
    assert pytest.approx(0.803, abs=0.005) == clips.KTAU


@pytest.mark.slow
@pytest.mark.data
def test_new_noise_on_the_labels_gives_the_higher_figures(test_set):
    """Where .962, .955 and .818 would come from: the labels as they are taken for the truth."""
    labels, errors = (f(test_set[1][:, AXES.index("PC")]) for f in (lambda x: x.mean(axis=1), error_variances))
    rng = np.random.default_rng(0)
    drawn = [labels + rng.standard_normal(len(labels)) * math.sqrt(errors.mean()) for _ in range(10)]
    found = np.mean([list(utterance_metrics(labels, noisy).values()) for noisy in drawn], axis=0)
    assert found == pytest.approx([0.190, 0.962, 0.955, 0.818], abs=0.003)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("axis", AXES)
def test_true_scores_predict_agreement_of_two_halves(test_set, axis):
    """What needs no model to measure; labels taken for the truth foretell it worse."""
    ratings = test_set[1][:, AXES.index(axis)]
    rng = np.random.default_rng(0)
    halves = [rng.permuted(ratings, axis=1) for _ in range(10)]
    pairs = [(half[:, :5].mean(axis=1), half[:, 5:].mean(axis=1)) for half in halves]

    def foretold(scores: np.ndarray, noise: np.ndarray) -> np.ndarray:
        def five() -> np.ndarray:  # means of five have twice the error variance of means of ten
            return np.round(5 * (scores + rng.standard_normal(len(scores)) * np.sqrt(2 * noise))) / 5

        return np.mean([list(utterance_metrics(five(), five()).values()) for _ in range(10)], axis=0)[1:]

    measured = np.mean([list(utterance_metrics(*pair).values()) for pair in pairs], axis=0)[1:]
    labels, errors = ratings.mean(axis=1), error_variances(ratings)
    ours = foretold(*true_scores(labels, errors, 1 / R)) - measured
    naive = foretold(labels, np.full(len(labels), errors.mean())) - measured
    assert np.abs(ours) == pytest.approx(0, abs=0.012)
    assert np.abs(ours).max() < np.abs(naive).max()


@pytest.mark.data
def test_a_place_in_the_four_lists_is_one_rater(test_set):
    aligned = alignment(test_set[1])
    assert aligned[np.triu_indices(4, 1)].min() > 0.05  # 27,000 strangers would stay within 0.02
    assert aligned[AXES.index("CE"), AXES.index("CU")] == pytest.approx(0.64, abs=0.01)


@pytest.mark.slow
@pytest.mark.data
def test_the_table_in_the_docs_is_measured(test_set):
    ids, ratings = test_set
    text = (Path(__file__).parents[2] / "docs" / "EVALUATION.md").read_text()
    found = ceilings(ratings, [name.split("-")[2] for name in ids])
    for axis in (*AXES, "composite"):
        (printed,) = [row.split("|")[2:-1] for row in text.splitlines() if row.startswith(f"| {axis} |")]
        clips, systems = of(found, axis), of(found, axis, "system")
        figures = [clips.reliability, *(getattr(item, name) for item in (clips, systems) for name in METRICS)]
        digits = [len(cell.strip().partition(".")[2]) for cell in printed]
        off = [abs(float(cell) - x) * 10**n for cell, x, n in zip(printed, figures, digits, strict=True)]
        assert max(off) < 1.5  # of the last digit: draws differ a little from one NumPy to the next
