"""The plugin for VERSA, against the interface of its utterance metrics: a setup function, a metric, a configuration."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

import mmmos
from mmmos.inference.predictor import Predictor
from tests.sounds import music

PLUGIN = Path(__file__).parents[2] / "contrib" / "versa"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it lies in a checkout of VERSA."""
    monkeypatch.syspath_prepend(PLUGIN)
    from versa.utterance_metrics import mmmos_scores

    found: ModuleType = mmmos_scores
    return found


def test_functions_have_versas_names_and_arguments(plugin: ModuleType):
    assert list(inspect.signature(plugin.mmmos_metric).parameters) == ["model", "pred_x", "fs"]
    setup = inspect.signature(plugin.mmmos_setup).parameters
    assert setup["use_gpu"].default is False
    assert all(each.default is not inspect.Parameter.empty for each in setup.values())


@pytest.mark.slow
def test_metric_gives_the_scores_of_the_package(plugin: ModuleType, scorer: Predictor):
    samples = music(1.0, 22_050).astype(np.float32)
    expected = scorer.score(samples, sample_rate=22_050)
    found = plugin.mmmos_metric(scorer, samples, 22_050)
    assert found == {f"mmmos_{axis}": expected[axis] for axis in mmmos.AXES}
    assert all(type(value) is float for value in found.values())
    stereo = np.stack([samples, samples], axis=1)  # [S, C], as soundfile gives it
    assert plugin.mmmos_metric(scorer, stereo, 22_050) == pytest.approx(found, abs=1e-4)


def test_audio_without_a_score_is_nan_or_an_error(plugin: ModuleType, scorer: Predictor):
    assert all(math.isnan(value) for value in plugin.mmmos_metric(scorer, np.zeros(16_000), 16_000).values())
    for samples, code in ((np.ones(800) * 0.1, "too_short"), (np.full(16_000, np.nan), "non_finite_audio")):
        with pytest.raises(mmmos.AudioError) as error:
            plugin.mmmos_metric(scorer, samples, 16_000)
        assert error.value.code == code


def test_configuration_and_branches_of_the_scorer_work(
    plugin: ModuleType, scorer: Predictor, monkeypatch: pytest.MonkeyPatch
):
    """The code for VERSA's scorer, as the README has it, with the entry of the YAML file."""
    loaded: list[tuple[Any, ...]] = []
    monkeypatch.setattr(mmmos, "load", lambda *args, **options: loaded.append((args, options)) or scorer)
    (config,) = yaml.safe_load((PLUGIN / "egs" / "separate_metrics" / "mmmos.yaml").read_text())
    load, use = re.findall(r"```\n(elif .*?)```", (PLUGIN / "README.md").read_text(), flags=re.DOTALL)
    samples = music(1.0, 16_000)
    names: dict[str, Any] = {
        "config": config,
        "use_gpu": False,
        "score_modules": {},
        "gen_wav": samples,
        "gen_sr": 16_000,
    }
    exec(load.removeprefix("el"), names)
    exec(use.removeprefix("el"), names | {"key": "mmmos"}, names)
    assert set(names["score"]) == {"mmmos_PQ", "mmmos_PC", "mmmos_CE", "mmmos_CU"}
    assert loaded == [(("lite",), {"device": "cpu", "dtype": "auto", "accept_licenses": ()})]


def test_setup_without_the_package_says_what_to_install(plugin: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plugin, "mmmos", None)
    with pytest.raises(ModuleNotFoundError, match="pip install mmmos"):
        plugin.mmmos_setup()


@pytest.mark.slow
def test_plugins_own_tests_pass(plugin: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Those that are meant for VERSA's repository, called one by one."""
    monkeypatch.chdir(PLUGIN)
    names: dict[str, Any] = {}
    exec((PLUGIN / "test" / "test_metrics" / "test_mmmos.py").read_text(), names)
    model = names["model"].__wrapped__() if hasattr(names["model"], "__wrapped__") else plugin.mmmos_setup()
    names["test_scores_are_finite_at_any_rate"](model, 16_000)
    names["test_silence_has_no_score"](model)
    names["test_noise_lowers_production_quality"](model)
