"""The choice of the back end, and precisions that are available only after a check on final scores."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch

from mmmos.audio.clip import Clip
from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.device import low_precision_instructions
from mmmos.encoders.openvino_networks import load_openvino
from mmmos.encoders.table import ENCODERS
from mmmos.errors import BackendError, MissingExtraError, PrecisionError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.inference.backend import choose_backend
from mmmos.inference.precision import PrecisionCheck, find_check, save_check
from mmmos.inference.precision_check import check_precision
from mmmos.inference.predictor import Predictor
from mmmos.model.fusion import FusionConfig
from mmmos.model.quality import ModelConfig
from mmmos.scores import AXES
from tests.sounds import RATE, music, noise
from tests.toys import CPU, PartedToy, is_rounded, toy_member, toy_model

FAST, INT8 = LoadOptions("cpu", backend="openvino"), LoadOptions("cpu", "int8")
HALF = LoadOptions("cpu", "bfloat16", backend="openvino")
PASSED = PrecisionCheck("0" * 64, "bfloat16", "", 40, dict.fromkeys(AXES, 0.999), dict.fromkeys(AXES, 0.01), 0.02)


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Predictor]:
    """A model on an encoder with a part, and an empty cache of networks and checks."""
    monkeypatch.setenv("MMMOS_CACHE", str(tmp_path / "cache"))
    spec = EncoderSpec("toy", PartedToy.block_dims, PartedToy().fingerprint())
    config = ModelConfig((spec,), fusion=FusionConfig("mean_std", "none"))
    with mock.patch.dict(ENCODERS, {"toy": PartedToy}), Predictor(toy_model(toy_member(0, config)), CPU) as predictor:
        yield predictor


def check(**changes: object) -> PrecisionCheck:
    """A check of the toy model by the installed version on this CPU that passed, with other fields."""
    own = {"openvino": str(load_openvino().__version__), "instructions": low_precision_instructions()}
    return replace(PASSED, **{**own, **changes})


def axes(predictor: Predictor) -> list[float]:
    scores = predictor.score(music(2.0), sample_rate=RATE)
    return [scores[axis] for axis in AXES]


@pytest.mark.parametrize(
    ("options", "backend"),
    [({}, "torch"), ({"dtype": "bfloat16"}, "torch"), ({"dtype": "int8"}, "openvino"), ({"backend": "torch"}, "torch")],
)
def test_auto_is_openvino_for_int8_alone(options: dict[str, str], backend: str) -> None:
    assert LoadOptions(**options).running_backend == backend


@pytest.mark.parametrize(
    ("options", "message"),
    [({"backend": "onnx"}, "no back end is called 'onnx'"), ({"dtype": "int8", "backend": "torch"}, "int8 needs")],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LoadOptions(**options)


@pytest.mark.slow
def test_float32_needs_no_check_and_equals_torch(toys: Predictor) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    fast = Predictor(toys.model, FAST)
    assert axes(fast) == pytest.approx(axes(toys), abs=1e-4)
    row = fast.score(music(2.0), sample_rate=RATE).row()
    assert (row["backend"], row["dtype"]) == ("openvino", "float32")
    assert toys.score(music(2.0), sample_rate=RATE).row()["backend"] == "torch"


@pytest.mark.slow
def test_gradients_come_from_torch_on_any_backend(toys: Predictor) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    waves = torch.from_numpy(music(1.0))[None].requires_grad_()
    fast = Predictor(toys.model, FAST).module(waves, sample_rate=RATE)
    assert torch.equal(fast, toys.module(waves, sample_rate=RATE))
    fast.sum().backward()
    assert waves.grad.abs().sum() > 0


@pytest.mark.slow
def test_precision_is_refused_until_it_was_checked(toys: Predictor) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    with pytest.raises(PrecisionError, match="bfloat16 on openvino has not been checked for toys on this kind"):
        Predictor(toys.model, HALF)
    save_check(check())
    half = Predictor(toys.model, HALF)
    assert axes(half) == pytest.approx(axes(toys), abs=0.1)
    assert half.provenance.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"srcc": {"PQ": 0.98, "CE": 1.0}}, "at least 0.9800"),
        ({"srcc": {"PQ": None, "CE": 1.0}}, "at least nan"),
        ({"mean_change": {"PQ": 0.051, "CE": 0.0}}, "mean change at most 0.051"),
    ],
)
def test_precision_that_failed_is_refused_with_the_figure(
    toys: Predictor, changes: dict[str, object], figure: str
) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    save_check(check(**changes))
    with pytest.raises(PrecisionError, match=f"too much: .*{figure}"):
        Predictor(toys.model, HALF)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_sha256": "0" * 63 + "1"},
        {"openvino": "2024.0"},
        {"mmmos": "0"},
        {"precision": "int8"},
        {"instructions": "of another CPU"},
    ],
)
def test_check_of_something_else_does_not_count(toys: Predictor, changes: dict[str, object]) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    save_check(replace(check(), **changes))
    assert find_check(toys.model, "bfloat16", str(load_openvino().__version__)) is None


def test_int8_without_openvino_runs_in_torch_and_says_so(
    toys: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load_openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    exact = Predictor(toys.model, INT8)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "the openvino back end needs OpenVINO: pip install 'mmmos[fast]'; scoring with torch in float32"
    ]
    assert axes(exact) == axes(toys)
    assert (exact.provenance.dtype, exact.provenance.backend) == ("float32", "torch")
    with pytest.raises(MissingExtraError, match="needs OpenVINO"):
        Predictor(toys.model, FAST)


def test_openvino_on_a_gpu_is_refused(toys: Predictor) -> None:
    with pytest.raises(BackendError, match=r"for the CPU, not for cuda:0"):
        choose_backend(toys.model, toys.encoders, FAST, torch.device("cuda:0"))
    running = choose_backend(toys.model, toys.encoders, INT8, torch.device("cuda:0"))
    assert (running.backend, running.precision) == ("torch", "float32")


def clips(count: int, seconds: float = 1.0) -> list[Clip]:
    """Clips whose scores differ, since their levels do."""
    samples = [(noise(seconds, seed=i) * 0.9**i).astype(np.float32)[:, None] for i in range(count)]
    return [Clip(f"{i}", samples=wave, sample_rate=RATE) for i, wave in enumerate(samples)]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_check_measures_the_change_of_scores(toys: Predictor, precision: str) -> None:
    pytest.importorskip("nncf", reason="the extra mmmos[fast] is not installed")
    found = check_precision(toys, clips(20), precision)
    assert (found.clips, found.precision, found.model_sha256) == (20, precision, toys.model.sha256)
    assert set(found.srcc) == set(found.mean_change) == set(AXES)
    least, most = {"float32": (0, 1e-5), "bfloat16": (1e-5, 0.1), "int8": (1e-4, 0.5)}[precision]
    assert least * is_rounded(precision) <= found.max_change <= most
    assert found.instructions == low_precision_instructions()
    assert max(found.mean_change.values()) <= found.max_change
    assert all(value > 0.9 for value in found.srcc.values())
    assert bool(found.calibration) == (precision == "int8")


@pytest.mark.slow
def test_few_clips_are_checked_in_pieces(toys: Predictor) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    assert check_precision(toys, clips(5, 9.0), "float32").clips == 20  # four pieces of 2 s each
    with pytest.raises(UsageError, match="20 clips or pieces of 2 s with sound, and there are 12: give more"):
        check_precision(toys, clips(3, 9.0), "float32")


@pytest.mark.parametrize("words", [("--precision", "lite"), ("a.wav",)])
def test_doctor_needs_a_model_and_clips(run_mmmos: Callable[..., tuple[int, str, str]], words: tuple[str, ...]) -> None:
    status, _, stderr = run_mmmos("doctor", *words)
    assert status == 2
    assert "it needs both" in stderr


@pytest.mark.slow
def test_doctor_makes_precisions_available(
    toys: Predictor, tmp_path: Path, run_mmmos: Callable[..., tuple[int, str, str]]
) -> None:
    pytest.importorskip("nncf", reason="the extra mmmos[fast] is not installed")
    for i, clip in enumerate(clips(20)):
        soundfile.write(tmp_path / f"{i}.wav", clip.samples, RATE, subtype="FLOAT")
    with mock.patch("mmmos.inference.predictor.load_model", return_value=toys.model):
        status, stdout, _ = run_mmmos("doctor", "--precision", "toys", tmp_path)
    lines = stdout.splitlines()
    assert [line.split()[1:3] for line in lines] == [["toys", "bfloat16"], ["toys", "int8"]]
    assert all("on 20 clips" in line for line in lines)
    for line, options in zip(lines, (HALF, INT8), strict=True):
        if line.startswith("ok"):
            assert Predictor(toys.model, options).provenance.backend == "openvino"
        else:
            with pytest.raises(PrecisionError, match="too much"):
                Predictor(toys.model, options)
    assert status == (0 if all(line.startswith("ok") for line in lines) else 3)
