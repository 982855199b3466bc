"""Weights that sum to 1, the weighted mean against NumPy's, and who is chosen against SciPy and the paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmmos.ensemble import STRATEGIES, best_first, composite_metrics, in_both
from mmmos.ensemble.paper import RANKING_RULES
from mmmos.errors import UsageError
from mmmos.model.system import combine
from mmmos.paper import CHECK_MARKED, CONFIGURATIONS, DEV_RANKING, PAM_RANKING, printed_figures

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 8), st.just(4))


def drawn(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions [M, N, A] from 0 to 10, and weights [M, A] with columns that sum to 1."""
    rng = np.random.default_rng(seed)
    weights = rng.random((shape[0], shape[2])) + 1e-3
    return rng.uniform(0, 10, shape), weights / weights.sum(axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
@given(shape=SHAPES, seed=st.integers(0, 999))
def test_weights_of_each_axis_sum_to_1(name: str, shape: tuple[int, int, int], seed: int) -> None:
    predictions, _ = drawn(shape, seed)
    targets = np.random.default_rng(seed).uniform(0, 10, shape[1:])
    weights = STRATEGIES[name](predictions, targets, names=CONFIGURATIONS[4 : 4 + shape[0]])
    assert weights.shape == (shape[0], shape[2])
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1)


@pytest.mark.slow
@given(SHAPES, st.integers(0, 999))
def test_combination_is_numpys_weighted_average(shape: tuple[int, int, int], seed: int) -> None:
    predictions, weights = drawn(shape, seed)
    mean, std = combine(predictions, weights)
    for axis in range(4):
        average = np.average(predictions[:, :, axis], axis=0, weights=weights[:, axis])
        variance = np.average((predictions[:, :, axis] - average) ** 2, axis=0, weights=weights[:, axis])
        np.testing.assert_allclose(mean[:, axis], average)
        if shape[0] > 1:
            np.testing.assert_allclose(std[:, axis], np.sqrt(variance), atol=1e-12)


@pytest.mark.slow
@given(SHAPES, st.integers(0, 999))
def test_order_of_members_does_not_matter(shape: tuple[int, int, int], seed: int) -> None:
    predictions, weights = drawn(shape, seed)
    order = np.random.default_rng(seed).permutation(shape[0])
    for ours, other in zip(combine(predictions, weights), combine(predictions[order], weights[order]), strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-12)


def test_a_single_member_has_no_spread() -> None:
    predictions, weights = drawn((1, 5, 4), 0)
    mean, std = combine(predictions, weights)
    np.testing.assert_array_equal(mean, predictions[0])
    assert np.isnan(std).all()


def test_a_member_without_weight_has_no_effect() -> None:
    predictions, weights = drawn((3, 5, 4), 0)
    weights[2], weights[:2] = 0, 0.5
    changed = predictions.copy()
    changed[2] = 99
    for ours, other in zip(combine(predictions, weights), combine(changed, weights), strict=True):
        np.testing.assert_array_equal(ours, other)


def test_members_that_agree_have_no_spread_but_a_number() -> None:
    predictions, weights = drawn((1, 5, 4), 0)
    mean, std = combine(np.repeat(predictions, 3, axis=0), np.repeat(weights / 3, 3, axis=0))
    np.testing.assert_allclose(mean, predictions[0])
    np.testing.assert_allclose(std, 0, atol=1e-12)


STRATEGY = st.sampled_from(sorted(STRATEGIES))


def models(count: int, clips: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N, A], and predictions [M, N, A] that follow them, each model with another amount of noise."""
    rng = np.random.default_rng(seed)
    targets = rng.uniform(0, 10, (clips, 4))
    noise = rng.uniform(0.5, 5, (count, 1, 1))
    return targets + noise * rng.standard_normal((count, clips, 4)), targets


def chosen(weights: np.ndarray) -> list[int]:
    """The members with a weight, after a check that their weights are equal."""
    members = np.flatnonzero(weights[:, 0])
    expected = np.zeros_like(weights)
    expected[members] = 1 / len(members)
    np.testing.assert_allclose(weights, expected)
    return members.tolist()


def by_scipy(predictions: np.ndarray, targets: np.ndarray) -> list[int]:
    """Models by SciPy's SRCC of the mean over axes, best first."""
    values = [stats.spearmanr(model.mean(axis=1), targets.mean(axis=1)).statistic for model in predictions]
    return np.argsort(values)[::-1].tolist()


@pytest.mark.parametrize("count", [3, 16, 20])
@pytest.mark.parametrize(("name", "size"), [("pam_top_8", 8), ("pam_top_4", 4), ("pam_top_1", 1), ("dev_top_8", 8)])
def test_the_best_are_the_best_by_scipys_srcc(name: str, size: int, count: int) -> None:
    dev, pam = models(count, 40, 0), models(count, 50, 1)
    best = by_scipy(*(pam if name.startswith("pam") else dev))[:size]
    assert chosen(STRATEGIES[name](*dev, names=None, pam=pam)) == sorted(best)


def test_without_pam_the_choice_is_made_on_what_is_given() -> None:
    dev = models(20, 40, 0)
    assert chosen(STRATEGIES["pam_top_8"](*dev)) == chosen(STRATEGIES["dev_top_8"](*dev))


@pytest.mark.slow
@given(STRATEGY, st.integers(8, 20), st.integers(0, 99))
def test_choice_ignores_the_order_of_models_and_clips(name: str, count: int, seed: int) -> None:
    predictions, targets = models(count, 12, seed)
    names = [CONFIGURATIONS[i] if i < 16 else f"other {i}" for i in range(count)]
    rng = np.random.default_rng(seed)
    order, clips = rng.permutation(count), rng.permutation(12)
    weights = STRATEGIES[name](predictions, targets, names=names)
    moved = STRATEGIES[name](predictions[order][:, clips], targets[clips], names=[names[i] for i in order])
    np.testing.assert_array_equal(moved, weights[order])


def test_equal_srcc_is_decided_by_ktau_then_mse_then_name() -> None:
    def model(srcc: float, ktau: float, mse: float) -> dict[str, float]:
        return {"SRCC": srcc, "KTAU": ktau, "MSE": mse}

    nan = float("nan")
    same = model(0.8, 0.6, 0.4)
    assert best_first([model(0.8, 0.6, 0.4), model(0.81, 0.1, 9)], "ab") == [1, 0]
    assert best_first([same, model(0.8, 0.61, 9)], "ab") == [1, 0]
    assert best_first([same, model(0.8, 0.6, 0.3)], "ab") == [1, 0]
    assert best_first([same, same], "ba") == [1, 0]
    assert best_first([same, model(0.8 + 1e-15, 0.5, 0.4)], "ab") == [0, 1]
    assert best_first([model(nan, nan, 0.1), model(-0.9, -0.8, 9)], "ab") == [1, 0]


def test_a_model_that_scores_everything_alike_comes_last() -> None:
    predictions, targets = models(9, 30, 0)
    predictions[4] = 5.0
    assert 4 not in chosen(STRATEGIES["dev_top_8"](predictions, targets))


def test_the_composite_is_of_clips_that_were_rated_on_every_axis() -> None:
    predictions, targets = models(5, 30, 0)
    unrated = targets.copy()
    unrated[:10, 2] = np.nan
    assert composite_metrics(predictions, unrated) == composite_metrics(predictions[:, 10:], targets[10:])


def test_where_none_was_the_composite_is_of_the_axes_that_were() -> None:
    predictions, targets = models(5, 30, 0)
    unrated = targets.copy()
    unrated[:, 2] = np.nan
    unrated[0] = np.nan
    kept = [0, 1, 3]
    for found, model in zip(composite_metrics(predictions, unrated), predictions, strict=True):
        p, t = model[1:, kept].mean(axis=1), targets[1:, kept].mean(axis=1)
        assert found["SRCC"] == pytest.approx(stats.spearmanr(p, t).statistic)
        assert found["MSE"] == pytest.approx(np.mean((p - t) ** 2))


def test_what_does_not_fit_together_is_refused() -> None:
    predictions, targets = models(3, 10, 0)
    with pytest.raises(ValueError, match="2 names for the predictions of 3 models"):
        STRATEGIES["dev_top_8"](predictions, targets, names=["a", "b"])
    with pytest.raises(ValueError, match="must be"):
        composite_metrics(predictions, targets[:5])
    with pytest.raises(ValueError, match="finite"):
        composite_metrics(predictions * np.nan, targets)


def test_the_submitted_ensemble_is_the_check_marked_eight() -> None:
    weights = STRATEGIES["submitted"](*models(16, 20, 0))
    assert {CONFIGURATIONS[i] for i in chosen(weights)} == set(CHECK_MARKED)


def test_of_the_check_marked_those_that_are_here() -> None:
    predictions, targets = models(3, 20, 0)
    names = ["TriEnc MLP UT", "mine", "TriEnc BLSTM(h) Con"]
    assert chosen(STRATEGIES["submitted"](predictions, targets, names=names)) == [0, 2]
    with pytest.raises(UsageError, match="none of model 0, model 1, model 2"):
        STRATEGIES["submitted"](predictions, targets)


def test_submitted_refuses_unknown_rule() -> None:
    with pytest.raises(UsageError, match="paper_checkmarks, rule_12_12, rule_11_12"):
        STRATEGIES["submitted"](*models(16, 20, 0), rule="rule_10_10")


def paper_rankings() -> tuple[list[int], list[int]]:
    """Table III's rankings on Dev and PAM, best first, as indexes of `CONFIGURATIONS`."""
    return [CONFIGURATIONS.index(row) for row in DEV_RANKING], [CONFIGURATIONS.index(row) for row in PAM_RANKING]


def test_the_papers_rule_gives_nine_and_one_less_gives_its_eight() -> None:
    nine = {CONFIGURATIONS[i] for i in in_both(*paper_rankings(), *RANKING_RULES["rule_12_12"])}
    eight = {CONFIGURATIONS[i] for i in in_both(*paper_rankings(), *RANKING_RULES["rule_11_12"])}
    assert nine == {*CHECK_MARKED, "TriEnc MLP CCC"}
    assert eight == set(CHECK_MARKED)


def test_rankings_are_those_of_best_first() -> None:
    for name, ranking in (("Dev", DEV_RANKING), ("PAM", PAM_RANKING)):
        metrics = [printed_figures("III", row, name, "utterance") for row in CONFIGURATIONS]
        assert [CONFIGURATIONS[i] for i in best_first(metrics, CONFIGURATIONS)] == list(ranking)


def ranked(order: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N, A], and predictions [M, N, A] of models whose SRCC falls in this order.

    Each turns a longer run of clips round.
    """
    targets = np.tile(np.arange(60.0)[:, None], (1, 4))
    predictions = np.tile(targets, (len(order), 1, 1))
    for place, model in enumerate(order):
        predictions[model, : place + 2] = targets[: place + 2][::-1]
    assert best_first(composite_metrics(predictions, targets), ["same"] * len(order)) == order
    return predictions, targets


@pytest.mark.parametrize(("rule", "count"), [("rule_12_12", 9), ("rule_11_12", 8)])
def test_the_rule_holds_for_predictions_that_rank_as_the_papers(rule: str, count: int) -> None:
    on_dev, on_pam = paper_rankings()
    assert len(chosen(STRATEGIES["submitted"](*ranked(on_dev), pam=ranked(on_pam), rule=rule))) == count


@pytest.mark.slow
def test_rules_that_leave_nobody_say_so() -> None:
    order = list(range(40))
    with pytest.raises(UsageError, match="no model is among the best on both sets"):
        STRATEGIES["submitted"](*ranked(order), pam=ranked(order[::-1]), rule="rule_12_12")
