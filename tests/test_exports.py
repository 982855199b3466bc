"""Names that users call stay where they are."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

import mmmos


@pytest.mark.parametrize("name", mmmos.__all__)
def test_every_exported_name_is_there(name: str):
    assert getattr(mmmos, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = mmmos.lod


def test_axes_are_in_the_one_order():
    assert mmmos.AXES == ("CE", "CU", "PC", "PQ")


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("losses.LOSSES", {"con", "ut", "dcq", "ccc"}),
        ("encoders.ENCODERS", {"distillmos", "dnsmos", "musicnn"}),
        ("aggregators.AGGREGATORS", {"mlp"}),
        ("ensemble.STRATEGIES", {"all"}),
    ],
)
def test_tables_hold_what_they_should(table: str, names: set[str]):
    module, name = table.split(".")
    assert names <= set(getattr(import_module(f"mmmos.{module}"), name))


@pytest.mark.parametrize("metric", ["mse", "lcc", "srcc", "ktau"])
def test_metrics_take_prediction_then_target(metric: str):
    function = getattr(import_module("mmmos.metrics"), metric)
    assert list(inspect.signature(function).parameters) == ["prediction", "target"]
