"""Nested folds choose settings on other clips than those that they report."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from recipes.lite.heads import PARTS
from recipes.lite.nested import nested_scores

PARTS_OF = np.arange(40) % PARTS


def test_nested_scores_choose_on_other_parts_than_they_report():
    rng = np.random.default_rng(0)
    target = rng.normal(size=len(PARTS_OF))
    asked: list[tuple[float, frozenset[int]]] = []

    def fit(noise: float, without: frozenset[int]) -> NDArray[np.float64]:
        """Part 2 alone is best with most noise in its scores."""
        asked.append((noise, without))
        return np.where(PARTS_OF == 2, target / (1 + noise), target + noise * np.sin(np.arange(len(target))))

    def goodness(scores: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
        return -float(np.abs(scores - target)[inside].mean())

    found = nested_scores([0.5, 0.0, 1.0], fit, PARTS_OF, goodness)
    np.testing.assert_array_equal(found, target)
    assert {frozenset({outer, inner}) for outer in range(PARTS) for inner in range(PARTS)} <= {own for _, own in asked}


@pytest.mark.parametrize("outer", range(PARTS))
def test_scores_of_the_reported_part_do_not_change_its_choice(outer: int):
    def fit(choice: int, without: frozenset[int]) -> NDArray[np.float64]:
        """On the part itself choice 0 is by far the best, on the others choice 1 is a little better."""
        return np.where(outer == PARTS_OF, 99.0 - 90 * choice, choice * 1.0)

    found = nested_scores([0, 1], fit, PARTS_OF, lambda scores, inside: float(scores[inside].mean()))
    assert (found[outer == PARTS_OF] == 9).all()  # choice 1
    assert (found[outer != PARTS_OF] == 0).all()  # choice 0, for the sake of that part
