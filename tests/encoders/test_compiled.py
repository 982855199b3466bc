"""Parts of encoders: recorded, replaced, and run by OpenVINO like by torch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from mmmos.encoders import network_cache, quantise
from mmmos.encoders import openvino_networks as networks
from mmmos.encoders.base import Encoder
from mmmos.encoders.compiled import noise, part_names, recorded, with_parts
from mmmos.encoders.m2d import M2D
from mmmos.encoders.m2d_checkpoint import M2DConfig
from mmmos.encoders.muq import MuQ
from mmmos.encoders.muq_checkpoint import MuQConfig
from mmmos.encoders.openvino_networks import compile_encoder, load_openvino
from mmmos.encoders.padded import Padded
from mmmos.encoders.quantise import quantise_encoder
from mmmos.encoders.table import load_encoder
from mmmos.encoders.wavlm import WavLM
from mmmos.errors import BackendError, MissingExtraError
from recipes.paper.random_weights import TINY_WAVLM
from tests.sounds import music_tensor
from tests.toys import PartedToy, is_rounded


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of networks."""
    monkeypatch.setenv("MMMOS_CACHE", str(tmp_path))
    return tmp_path / "networks"


def double(name: str, part: object) -> object:
    return lambda *tensors: 2 * part(*tensors)


def test_replaced_parts_leave_the_encoder_alone() -> None:
    toy, wave = PartedToy(), music_tensor(1.0)
    before = toy.frames(wave)
    doubled = with_parts(toy, double)
    assert torch.equal(doubled.frames(wave), 2 * before)
    assert torch.equal(toy.frames(wave), before)
    assert doubled.directions is toy.directions
    assert doubled.fingerprint() == toy.fingerprint()


def test_padded_encoder_has_the_parts_of_its_own() -> None:
    padded, wave = Padded(PartedToy(), 2.0), music_tensor(1.0)
    assert part_names(padded) == ["project"]
    assert torch.equal(with_parts(padded, double).frames(wave), 2 * padded.frames(wave))


def test_recorded_inputs_are_those_of_each_call() -> None:
    toy, waves = PartedToy(), [music_tensor(1.0), music_tensor(2.0)]
    parts, calls = recorded(toy, waves)
    assert [inputs[0].shape for inputs in calls["project"]] == [(1, 100, 160), (1, 200, 160)]
    assert torch.equal(parts["project"](*calls["project"][1]), toy.frames(waves[1]))


def test_missing_openvino_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load_openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mmmos\[fast\]'"):
        compile_encoder(PartedToy(), "float32")


def test_old_openvino_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load_openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(__version__="2023.3.0-1"))
    with pytest.raises(BackendError, match=r"2023\.3\.0-1 is too old"):
        compile_encoder(PartedToy(), "float32")
    load_openvino.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 1.0, 12.3])
def test_compiled_parts_equal_torch_at_any_length(seconds: float) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    toy, wave = PartedToy(), noise(PartedToy(), 3, seconds)
    torch.testing.assert_close(compile_encoder(toy, "float32").frames(wave), toy.frames(wave), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_networks_are_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    wave = music_tensor(1.0)
    first = compile_encoder(PartedToy(), "float32").frames(wave)
    monkeypatch.setattr(networks, "convert", None)
    assert torch.equal(compile_encoder(PartedToy(), "float32").frames(wave), first)
    change = (compile_encoder(PartedToy(), "bfloat16").frames(wave) - first).abs().max()
    assert change < 0.1  # of the same network, compiled in another precision


@pytest.mark.slow
def test_network_of_other_weights_is_never_used(cache: Path) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    toy, other, wave = PartedToy(), PartedToy(), music_tensor(1.0)
    compile_encoder(toy, "float32")
    with torch.no_grad():
        other.directions.mul_(3)
    torch.testing.assert_close(compile_encoder(other, "float32").frames(wave), other.frames(wave), atol=1e-4, rtol=1e-4)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["key.json", "network.bin", "network.xml"])
def test_damaged_network_is_converted_again(cache: Path, name: str) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    toy, wave = PartedToy(), music_tensor(1.0)
    compile_encoder(toy, "float32")
    (folder,) = cache.iterdir()
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-5])
    torch.testing.assert_close(compile_encoder(toy, "float32").frames(wave), toy.frames(wave), atol=1e-4, rtol=0)
    assert len((folder / name).read_bytes()) >= len(whole) - 2  # the digits of names differ
    assert list(cache.iterdir()) == [folder]


class Fixed(PartedToy):
    """Its part has a value of the clip that it was traced with."""

    def project(self, windows: Tensor) -> Tensor:
        return super().project(windows) - float(windows.mean()) * 1000


class Growing(PartedToy):
    """Its part has an operation that OpenVINO does not have."""

    def project(self, windows: Tensor) -> Tensor:
        return torch.special.airy_ai(super().project(windows))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "message"), [(Fixed, "differs from torch by"), (Growing, "cannot convert")])
def test_part_that_openvino_gets_wrong_is_refused(kind: type[Encoder], message: str, cache: Path) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    root = logging.getLogger()
    before = root.level, root.handlers[:], root.filters[:]
    with pytest.raises(BackendError, match=message):
        compile_encoder(kind(), "float32")
    assert (root.level, root.handlers, root.filters) == before
    assert not cache.exists()


@pytest.mark.slow
def test_cache_that_may_not_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMMOS_CACHE", str(tmp_path / "file"))
    with pytest.raises(BackendError, match="set MMMOS_CACHE"):
        compile_encoder(PartedToy(), "float32")


@pytest.mark.slow
def test_int8_networks_are_near_and_of_their_calibration() -> None:
    pytest.importorskip("nncf", reason="the extra mmmos[fast] is not installed")
    toy, waves = PartedToy(), [noise(PartedToy(), 1, 1.0), music_tensor(1.0)]
    with pytest.raises(BackendError, match="no int8 network of toy"):
        compile_encoder(toy, "int8", "ranges")
    quantise_encoder(toy, waves, "ranges")
    ours, exact = compile_encoder(toy, "int8", "ranges").frames(waves[0]), toy.frames(waves[0])
    change = (ours - exact).square().mean().sqrt() / exact.std()
    assert 1e-4 * is_rounded("int8") <= change < quantise.MAX_NOISE
    with pytest.raises(BackendError, match="no int8 network of toy"):
        compile_encoder(toy, "int8", "other ranges")


@pytest.mark.slow
def test_int8_part_that_is_too_inexact_stays_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf", reason="the extra mmmos[fast] is not installed")
    monkeypatch.setattr(quantise, "MAX_NOISE", 0.0)
    toy, wave = PartedToy(), noise(PartedToy(), 1, 1.0)
    quantise_encoder(toy, [wave], "ranges")
    ours, half = (compile_encoder(toy, kind, "ranges").frames(wave) for kind in ("int8", "bfloat16"))
    assert torch.equal(ours, half)


@pytest.mark.slow
def test_int8_conformer_takes_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf", reason="the extra mmmos[fast] is not installed")
    monkeypatch.setattr(quantise, "MAX_NOISE", 0.2)  # which every layer meets: none is left out in turn
    muq = tiny_muq()
    quantise_encoder(muq, [noise(muq, 1, 3.0)], "ranges")
    (conform,) = network_cache.cache_folder().glob("networks/muq-conform-int8-*")
    assert "FakeQuantize" in (conform / "network.xml").read_text()
    compiled = compile_encoder(muq, "int8", "ranges")
    for seconds in (0.5, 6.3):
        exact = muq.frames(noise(muq, 1, seconds))
        change = (compiled.frames(noise(muq, 1, seconds)) - exact).square().mean().sqrt()
        assert change / exact.std() < 0.2


class OneLength(PartedToy):
    """A convolution per channel after a transpose: NNCF gives its input one range per time."""

    def project(self, windows: Tensor) -> Tensor:
        mixed = super().project(windows).transpose(1, 2)
        return torch.nn.functional.conv1d(mixed, torch.ones(4, 1, 3), padding=1, groups=4).transpose(1, 2)


@pytest.mark.slow
def test_int8_network_of_one_length_stays_bfloat16() -> None:
    pytest.importorskip("nncf", reason="the extra mmmos[fast] is not installed")
    toy, wave = OneLength(), noise(PartedToy(), 1, 1.0)
    quantise_encoder(toy, [wave], "ranges")
    ours, half = (compile_encoder(toy, kind, "ranges").frames(wave) for kind in ("int8", "bfloat16"))
    assert torch.equal(ours, half)


class Outliers(PartedToy):
    """Of its two layers, the second has an input with a large value that it does not use: 8 bits lose the others."""

    def project(self, windows: Tensor) -> Tensor:
        once = super().project(windows)
        mixing = torch.eye(once.shape[-1])
        mixing[0] = 0
        return torch.cat([once[..., :1] * 0 + 1e4, once[..., 1:]], dim=-1) @ mixing


@pytest.mark.slow
def test_int8_leaves_out_the_layer_that_is_too_inexact() -> None:
    pytest.importorskip("nncf", reason="the extra mmmos[fast] is not installed")
    if not is_rounded("int8"):
        pytest.skip("on this CPU int8 may overflow, so that other layers are too inexact, too")
    toy, wave = Outliers(), noise(PartedToy(), 1, 1.0)
    quantise_encoder(toy, [wave], "ranges")
    (folder,) = (folder for folder in network_cache.cache_folder().glob("networks/*int8*"))
    network = load_openvino().Core().read_model(folder / "network.xml")
    products = [op for op in network.get_ordered_ops() if op.get_type_name() == "MatMul"]
    rounded = [op.input_value(0).get_node().get_type_name() == "FakeQuantize" for op in products]
    assert rounded == [True, False]
    ours, exact = compile_encoder(toy, "int8", "ranges").frames(wave), toy.frames(wave)
    assert 1e-4 < (ours - exact).square().mean().sqrt() / exact.std() < quantise.MAX_NOISE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dnsmos", "musicnn", "yamnet"])
def test_bundled_encoders_equal_torch(name: str) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    encoder = load_encoder(name)
    wave = music_tensor(3.2, encoder.sample_rate)
    exact = encoder.encode(wave).frames
    change = (compile_encoder(encoder, "float32").encode(wave).frames - exact).abs().max()
    assert change <= 1e-4 * max(1.0, float(exact.abs().max()))


def tiny_m2d() -> Encoder:
    return M2D(M2DConfig(input_size=(32, 41), patch_size=(16, 4), width=64, depth=1, hidden=64))


def tiny_muq() -> Encoder:
    sizes = {"encoder_dim": 16, "encoder_depth": 1, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": 4}
    return MuQ(MuQConfig(**sizes, conv_depthwise_kernel_size=3))


def tiny_wavlm() -> Encoder:
    return WavLM(TINY_WAVLM, "all", pad_seconds=4.0)


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny_m2d, tiny_muq, tiny_wavlm])
def test_encoders_of_the_paper_equal_torch(make: Callable[[], Encoder]) -> None:
    pytest.importorskip("openvino", reason="the extra mmmos[fast] is not installed")
    encoder = make()
    wave = music_tensor(3.2, encoder.sample_rate)
    exact = encoder.encode(wave).frames
    torch.testing.assert_close(compile_encoder(encoder, "float32").encode(wave).frames, exact, atol=1e-4, rtol=1e-4)
