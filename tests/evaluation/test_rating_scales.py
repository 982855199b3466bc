"""Figures in points are given where scores and labels share a scale, and never silently elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.errors import ManifestError, UsageError
from mmmos.evaluation import agreement as evaluate
from mmmos.evaluation.agreement import compare
from mmmos.evaluation.rating_scales import IN_POINTS, find_scales
from mmmos.scores import Scores

NAN = math.nan


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "BOOTSTRAP_SAMPLES", 10)


def rows(low: float, high: float) -> list[LabelledClip]:
    labels = np.linspace(low, high, 6)
    return [LabelledClip(Clip(f"{i}.wav"), (NAN, NAN, NAN, x), origin=f"r.csv:{i}") for i, x in enumerate(labels)]


def scores(scale: str | None, factor: float = 1.0) -> list[Scores]:
    return [Scores(PQ=factor * (i + (-1) ** i), id=f"{i}.wav", scale=scale) for i in range(6)]


@pytest.mark.parametrize(
    ("labels", "declared", "scale", "label_scale", "comparable", "words"),
    [
        ((2, 9), None, "0-10", "0-10", True, ""),
        ((2, 5), None, "0-10", "0-10", True, "if theirs is 1-5, add --scale 1 5"),
        ((2, 5), (0, 10), "0-10", "0-10", True, ""),
        ((2, 5), (1, 5), "0-10", "1-5", False, "m: scores are on the scale 0-10, labels on 1-5: no MSE and no bias"),
        ((2, 5), None, "1-5", "1-5", True, ""),
        ((2, 9), None, "1-5", "0-10", False, "m: scores are on the scale 1-5, labels on 0-10: no MSE"),
        ((2, 90), None, "0-10", "0-100", False, "m: scores are on the scale 0-10, labels on 0-100: no MSE"),
        ((-3, 3), None, "0-10", "unknown, between -3 and 3", False, "labels on unknown, between -3 and 3"),
        ((-3, 3), None, "-3 to 3", "-3 to 3", True, ""),
        ((2, 90), None, None, None, True, ""),
        ((2, 90), (0, 100), None, "0-100", True, ""),
    ],
)
def test_agreement_in_points_needs_one_scale(labels, declared, scale, label_scale, comparable, words) -> None:
    listed, own = rows(*labels), scores(scale)
    found = find_scales(listed, declared, [("m", own)])
    assert (found.labels, found.scores, found.comparable) == (label_scale, (scale,), (comparable,))
    assert words in " ".join(found.notes)
    assert bool(found.notes) == bool(words)
    (part, *_) = found.mask(evaluate.evaluate(listed, own, axes=["PQ"]))
    assert [math.isnan(getattr(part, name)) for name in IN_POINTS] == [not comparable] * 3
    assert math.isfinite(part.SRCC)


@pytest.mark.parametrize(("scale", "points"), [("0-10", True), (None, True), ("1-5", False)])
def test_two_models_are_compared_in_points_on_one_scale_only(scale: str | None, points: bool) -> None:
    listed, first, second = rows(2, 9), scores("0-10"), scores(scale, 0.5)
    found = find_scales(listed, None, [("a", first), ("b", second)])
    metrics = {item.metric for item in found.same_scale(compare(listed, first, second, axes=["PQ"]))}
    assert metrics == {"LCC", "SRCC", "KTAU"} | (set(IN_POINTS) if points else set())
    assert found.notes == (
        () if points else ("b: scores are on the scale 1-5, labels on 0-10: no MSE and no bias are given",)
    )


def test_mixed_scales_and_labels_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="m has scores on the scales 0-10, 1-5"):
        find_scales(rows(2, 9), None, [("m", [*scores("0-10"), *scores("1-5")])])
    with pytest.raises(ManifestError, match=r"r\.csv:3: PQ is 6\.2, outside the scale 1-5"):
        find_scales(rows(2, 9), (1, 5), [("m", scores("1-5"))])
