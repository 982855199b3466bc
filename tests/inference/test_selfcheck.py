"""The clip that every model folder holds the scores of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmmos.inference.predictor import Predictor
from mmmos.inference.selfcheck import check_clip, check_scores
from mmmos.model.load import load_model
from mmmos.model.system import Member
from mmmos.scores import AXES
from tests.toys import CPU, ToyEncoder, toy_member, toy_model


@pytest.mark.slow
def test_the_clip_is_always_the_same_and_has_no_fault(scorer: Predictor) -> None:
    samples, rate = check_clip()
    np.testing.assert_array_equal(samples, check_clip()[0])
    assert (samples.dtype, samples.shape, rate) == (np.float32, (64_000,), 16_000)
    expected = [0.129213, 0.001391, -0.094784, 0.005594, -0.01631, -0.010021, -0.061783, 0.008192]
    assert samples[7::9000].tolist() == pytest.approx(expected, abs=1e-6)
    assert scorer.score(samples, sample_rate=rate).warnings == ()


def test_check_scores_are_those_of_a_predictor(toy_encoder: ToyEncoder) -> None:
    model = toy_model(toy_member(0), toy_member(1))
    samples, rate = check_clip()
    scores = Predictor(model, CPU).score(samples, sample_rate=rate)
    assert check_scores(model) == {axis: round(scores[axis], 4) for axis in AXES}


@pytest.mark.slow
def test_the_bundled_model_says_what_it_said() -> None:
    model = load_model("lite")
    assert check_scores(model) == pytest.approx(model.info.check, abs=0.01)


def test_another_weight_gives_other_check_scores(toy_encoder: ToyEncoder) -> None:
    member = toy_member(0)
    before = check_scores(toy_model(member))
    state = {key: value + (0.01 if ".PQ." in key else 0) for key, value in member.model.state_dict().items()}
    moved = toy_member(0).model
    moved.load_state_dict(state)
    after = check_scores(toy_model(Member(moved, member.scale)))
    assert [axis for axis in AXES if before[axis] != after[axis]] == ["PQ"]
    assert torch.equal(member.model.heads.axes["CE"][-1].bias, moved.heads.axes["CE"][-1].bias)
