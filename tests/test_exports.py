"""Names that users call stay where they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from importlib.metadata import version

import pytest

import mmmos
from mmmos.hub.options import LoadOptions


def test_every_exported_name_is_there():
    assert all(getattr(mmmos, name) is not None for name in mmmos.__all__)


def test_dir_lists_the_public_names_alone():
    assert dir(mmmos) == sorted(mmmos.__all__)
    assert {"load", "from_pretrained", "Predictor", "Scores", "AXES", "__version__"} <= set(dir(mmmos))


def test_version_is_that_of_the_package():
    assert mmmos.__version__ == version("mmmos")


@pytest.mark.parametrize("function", [mmmos.load, mmmos.from_pretrained, mmmos.Predictor, mmmos.Predictor.score])
def test_signatures_show_every_option(function: Callable[..., object]):
    kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


def test_load_takes_every_option_of_its_parts():
    options = set(inspect.signature(mmmos.load).parameters)
    placed = set(inspect.signature(mmmos.Predictor).parameters) - {"model", "options", "decoder"}
    decoding = {"deadline", "decoders"}  # of the decoder that `load` gives the predictor
    assert options == {"name"} | placed | decoding | {field.name for field in fields(LoadOptions)}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = mmmos.lod


PACKAGES = {
    "audio": "Clip ClipReport Window cut",
    "encoders": "ENCODERS Encoder Features load_encoder",
    "features": "Crop FeatureCache FeatureExtractor",
    "model": "ScoringModel load_model save_model",
    "inference": "Predictor from_pretrained",
    "training": "Settings train_folder",
    "evaluation": "compare evaluate",
}


@pytest.mark.parametrize(("package", "names"), PACKAGES.items())
def test_packages_export_their_public_names(package: str, names: str):
    module = import_module(f"mmmos.{package}")
    assert dir(module) == names.split()
    for name in names.split():
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module 'mmmos.{package}' has no attribute 'clip_'"):
        module.clip_  # noqa: B018


def test_axes_are_in_the_one_order():
    assert mmmos.AXES == ("CE", "CU", "PC", "PQ")


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("losses.LOSSES", {"con", "ut", "dcq", "ccc"}),
        ("encoders.ENCODERS", {"distillmos", "dnsmos", "musicnn", "yamnet"}),
        ("model.aggregators.AGGREGATORS", {"mlp"}),
        ("ensemble.STRATEGIES", {"all"}),
    ],
)
def test_tables_hold_what_they_should(table: str, names: set[str]):
    module, _, name = table.rpartition(".")
    assert names <= set(getattr(import_module(f"mmmos.{module}"), name))


@pytest.mark.parametrize("metric", ["mse", "lcc", "srcc", "ktau"])
def test_metrics_take_prediction_then_target(metric: str):
    function = getattr(import_module("mmmos.metrics"), metric)
    assert list(inspect.signature(function).parameters) == ["prediction", "target"]
