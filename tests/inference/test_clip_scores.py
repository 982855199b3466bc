"""The row of a clip: its basis where it is similar to rated clips and where it is not, and its standard deviations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmmos.inference.clip_scores import WindowResult, with_scores
from mmmos.model.heads import HeadConfig
from mmmos.model.info import ModelInfo
from mmmos.model.system import ScoringModel
from mmmos.scores import AXES, Scores
from tests.toys import toy_config, toy_member, toy_model

BASIS = {"music": dict.fromkeys(AXES, "human"), "sound": dict.fromkeys(AXES, "constructed")}
RESIDUAL = {"music": {"PQ": 0.3}, "music, novel": {"PQ": 0.8}, "sound": {"PQ": 1.0}}


def model(members: int = 2, residual_std: dict[str, dict[str, float]] = RESIDUAL) -> ScoringModel:
    config = replace(toy_config(), heads=HeadConfig(domains=("music", "sound")))
    made = toy_model(*(toy_member(seed, config) for seed in range(members)))
    return replace(made, info=replace(made.info, basis=BASIS, residual_std=residual_std))


def result(probabilities: tuple[float, float], novelty: float, members: int = 2) -> WindowResult:
    prediction = np.full((members, len(AXES)), 5.0)
    prediction[0] += 0.4
    return WindowResult(prediction, np.array(probabilities), novelty)


@pytest.mark.parametrize(
    ("probabilities", "novelty", "basis"),
    [
        ((0.9, 0.1), 0.8, "human"),
        ((0.9, 0.1), 1.2, "extrapolated"),
        ((0.6, 0.4), 0.8, "constructed"),
        ((0.1, 0.9), 1.2, "constructed"),
    ],
)
def test_basis_is_human_for_clips_like_rated_ones(
    probabilities: tuple[float, float], novelty: float, basis: str
) -> None:
    assert with_scores(Scores(), model(), result(probabilities, novelty)).PQ_basis == basis


@pytest.mark.parametrize(("novelty", "near"), [(0.5, 0.3), (2.0, 0.8)])
def test_std_holds_the_spread_and_the_residual(novelty: float, near: float) -> None:
    found = with_scores(Scores(), model(), result((0.75, 0.25), novelty))
    assert found.PQ_std == pytest.approx((0.2**2 + 0.75 * near**2 + 0.25 * 1.0**2) ** 0.5)
    assert found.CE_std == pytest.approx(0.2)


def test_std_of_a_single_model_is_its_residual() -> None:
    alone = result((1.0, 0.0), 0.0, members=1)
    assert with_scores(Scores(), model(1), alone).PQ_std == pytest.approx(0.3)
    assert np.isnan(with_scores(Scores(), model(1, {}), alone).PQ_std)


def test_info_without_residuals_loads() -> None:
    stored = ModelInfo(residual_std=RESIDUAL).stored()
    assert ModelInfo.from_stored(stored).residual_std == RESIDUAL
    del stored["residual_std"]
    assert ModelInfo.from_stored(stored).residual_std == {}
