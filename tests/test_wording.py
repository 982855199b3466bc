"""Counts in messages."""

from __future__ import annotations

import pytest

from mmmos.wording import agree, counted


@pytest.mark.parametrize(
    ("count", "of", "text"),
    [
        (0, None, "0 clips are"),
        (1, None, "1 clip is"),
        (1234, None, "1,234 clips are"),
        (1, 4, "1 of 4 clips is"),
        (1, 1, "1 of 1 clip is"),
        (0, 1, "0 of 1 clip are"),
        (3, 2000, "3 of 2,000 clips are"),
    ],
)
def test_counted_and_agree_follow_the_number(count: int, of: int | None, text: str) -> None:
    assert f"{counted(count, 'clip', of)} {agree(count, 'is')}" == text


def test_agree_refuses_other_verbs() -> None:
    with pytest.raises(KeyError):
        agree(2, "could")
