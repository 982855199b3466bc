"""How a model is fitted, and the two paths of docs/ARCHITECTURE.md."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import pytest

from mmmos.training.config import TrainConfig
from mmmos.training.settings import PAPER

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "ARCHITECTURE.md"


@pytest.mark.parametrize(("aggregator", "size"), [("mlp", 32), ("blstm_h", 16), ("blstm_t", 16)])
def test_batch_size_follows_the_aggregator_unless_given(aggregator: str, size: int) -> None:
    settings = replace(PAPER, aggregator=aggregator)
    assert TrainConfig(settings).batch_size == size
    assert TrainConfig(replace(settings, batch_size=7)).batch_size == 7


def test_two_paths_name_at_most_12_existing_functions_each() -> None:
    section = ARCHITECTURE.read_text().partition("## Two paths")[2].partition("\n## ")[0]
    steps = re.findall(r"^(\d+)\. ", section, re.MULTILINE)
    ends = [int(step) for step, following in zip(steps, [*steps[1:], "1"], strict=True) if following == "1"]
    assert len(ends) == 2
    assert max(ends) <= 12
    names = re.findall(r"`(mmmos\.[\w.]+)`", section)
    assert len(names) > 20
    for name in names:
        resolve_name(name)  # raises AttributeError where a function was renamed
