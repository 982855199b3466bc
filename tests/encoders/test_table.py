"""What the base class promises for every encoder, how weights are loaded, and the table of names."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mmmos.encoders.base import Features
from mmmos.encoders.padded import Padded
from mmmos.encoders.table import ENCODERS, load_encoder
from mmmos.encoders.weights import bundled_state, load_strictly, read_checkpoint
from mmmos.errors import AudioError, ModelFormatError, ModelNotFoundError, SampleRateError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.io.atomic import hash_file
from tests.toys import TRUSTED, ToyEncoder

BUNDLED = ("distillmos", "dnsmos", "musicnn", "yamnet")


class WideToy(ToyEncoder):
    """Every frame depends on the whole clip."""

    def frames(self, waves: torch.Tensor) -> torch.Tensor:
        return super().frames(waves / waves.square().mean(dim=1, keepdim=True).sqrt())


@pytest.mark.slow
@given(st.lists(st.integers(160, 900), max_size=6), st.integers(0, 300))
def test_features_do_not_depend_on_neighbours_or_padding(sizes: list[int], padding: int) -> None:
    toy_encoder = WideToy().train()
    clips = [torch.randn(size, generator=torch.Generator().manual_seed(i)) for i, size in enumerate(sizes)]
    waves = torch.full((len(sizes), max(sizes, default=0) + padding), torch.nan)  # would make any frame NaN
    for row, clip in zip(waves, clips, strict=True):
        row[: len(clip)] = clip
    together = toy_encoder.encode(waves, torch.tensor(sizes, dtype=torch.long))
    assert together.frames.shape == (len(sizes), max(sizes, default=0) // 160, 4)
    assert together.mask.sum(dim=1).tolist() == [size // 160 for size in sizes]
    assert (together.frames[~together.mask] == 0).all()
    for clip, frames, mask in zip(clips, together.frames, together.mask, strict=True):
        torch.testing.assert_close(frames[mask], toy_encoder.encode(clip[None]).frames[0], rtol=1e-5, atol=1e-5)


def test_without_lengths_every_row_is_whole(toy_encoder: ToyEncoder) -> None:
    waves = torch.randn(2, 500)
    whole, said = toy_encoder.encode(waves), toy_encoder.encode(waves, torch.tensor([500, 500]))
    assert torch.equal(whole.frames, said.frames)
    assert whole.mask.all()
    assert whole.rate_hz == 100.0


def test_stays_frozen_and_in_evaluation_mode_whatever_is_asked(toy_encoder: ToyEncoder) -> None:
    waves = torch.randn(1, 16_000)
    before = toy_encoder.encode(waves).frames
    nn.Sequential(toy_encoder).train()  # as part of a model that is being trained
    toy_encoder.train(True).requires_grad_(True)
    assert not any(module.training for module in toy_encoder.modules())
    assert not any(parameter.requires_grad for parameter in toy_encoder.parameters())
    assert torch.equal(toy_encoder.encode(waves).frames, before)


def test_load_encoder_freezes_what_its_class_forgot_to(toy_encoder: ToyEncoder) -> None:
    assert ToyEncoder().training
    loaded = load_encoder("toy")
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_device_without_weights_and_buffers_is_refused() -> None:
    class Constant(ToyEncoder):
        def __init__(self) -> None:
            nn.Module.__init__(self)

    with pytest.raises(TypeError, match="toy has no weights and no buffer: register"):
        _ = Constant().device


def test_encode_gives_no_gradient_and_a_call_does(toy_encoder: ToyEncoder) -> None:
    waves = torch.randn(2, 400, requires_grad=True)
    lengths = torch.tensor([400, 200])
    assert not toy_encoder.encode(waves, lengths).frames.requires_grad
    toy_encoder(waves, lengths).frames.sum().backward()
    reached = waves.grad.abs() > 0
    assert reached[0, :320].all()
    assert not reached[1, 160:].any()


@pytest.mark.parametrize("rate", [8_000, 44_100, 0])
def test_another_sample_rate_is_refused(toy_encoder: ToyEncoder, rate: int) -> None:
    with pytest.raises(SampleRateError, match=rf"toy takes audio at 16000 Hz, not at {rate} Hz"):
        toy_encoder.encode(torch.zeros(1, 400), sample_rate=rate)
    assert toy_encoder.encode(torch.zeros(1, 400), sample_rate=16_000).frames.shape == (1, 2, 4)


@pytest.mark.parametrize("lengths", [[400, 159], [0, 400], [400, -1]])
def test_one_row_that_is_too_short_is_refused(toy_encoder: ToyEncoder, lengths: list[int]) -> None:
    with pytest.raises(AudioError, match=r"toy needs 0\.010 s") as caught:
        toy_encoder.encode(torch.zeros(2, 400), torch.tensor(lengths))
    assert caught.value.code == "too_short"
    assert toy_encoder.encode(torch.zeros(2, 160)).mask.all()


@pytest.mark.parametrize(
    ("waves", "lengths"),
    [
        (torch.zeros(400), None),
        (torch.zeros(1, 1, 400), None),
        (torch.zeros(1, 400, dtype=torch.int16), None),
        (torch.zeros(2, 400), [400]),
        (torch.zeros(2, 400), [400, 401]),
    ],
)
def test_other_layouts_are_refused(toy_encoder: ToyEncoder, waves: torch.Tensor, lengths: list[int] | None) -> None:
    with pytest.raises(ValueError, match=r"waves|lengths"):
        toy_encoder.encode(waves, None if lengths is None else torch.tensor(lengths))


@pytest.mark.parametrize(("frames", "mask"), [((2, 3), (2, 3)), ((2, 3, 4), (2, 4)), ((2, 3, 4), (3,))])
def test_features_of_other_shapes_are_refused(frames: tuple[int, ...], mask: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not match"):
        Features(torch.zeros(frames), torch.ones(mask, dtype=torch.bool), 100.0)


def test_fingerprint_distinguishes_weights_and_settings(toy_encoder: ToyEncoder) -> None:
    nudged, renamed, halved = ToyEncoder(), ToyEncoder(), ToyEncoder().half()
    with torch.no_grad():
        nudged.directions[3, 159] += 1e-6
    renamed.name = "toy2"
    prints = [encoder.fingerprint() for encoder in (toy_encoder, ToyEncoder(gain=2.0), nudged, renamed, halved)]
    assert len(set(prints)) == len(prints)


def test_fingerprint_is_that_of_the_values_alone(toy_encoder: ToyEncoder) -> None:
    expected = toy_encoder.fingerprint()
    toy_encoder.encode(torch.randn(1, 400))
    assert toy_encoder.fingerprint() == expected
    turned = ToyEncoder()
    turned.directions = nn.Parameter(turned.directions.detach().t().contiguous().t())  # other strides
    assert turned.fingerprint() == expected


@pytest.mark.slow
def test_fingerprint_is_the_same_in_another_process() -> None:
    code = "from mmmos.encoders import load_encoder; print(load_encoder('musicnn').fingerprint())"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == load_encoder("musicnn").fingerprint()


def test_strict_loading_takes_exactly_the_right_tensors() -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    load_strictly(target, source.state_dict(), "here")
    assert torch.equal(target.weight, source.weight)
    assert torch.equal(target.bias, source.bias)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bias": None}, "missing bias"),
        ({"extra": (1,)}, "unknown extra"),
        ({"weight": (3, 2)}, "of another shape: weight"),
        ({"bias": (1,)}, "of another shape: bias"),  # would broadcast
        ({"bias": None, "gain": (2,), "weight": (1,)}, "missing bias; unknown gain; of another shape: weight"),
        ({name: (1,) for name in "edcba"}, "unknown a, b, c ..."),
    ],
)
def test_strict_loading_names_keys_and_changes_nothing(changes: dict[str, tuple[int, ...] | None], words: str) -> None:
    module = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    state |= {key: torch.zeros(shape) for key, shape in changes.items() if shape is not None}
    state = {key: value for key, value in state.items() if changes.get(key, ()) is not None}
    with pytest.raises(ModelFormatError) as caught:
        load_strictly(module, state, "some/file")
    assert str(caught.value) == f"some/file does not fit Linear: {words}"
    assert all(torch.equal(module.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_come_in_float32(name: str) -> None:
    state = bundled_state(name)
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in state.values())


def test_missing_bundled_weights_are_named() -> None:
    with pytest.raises(ModelNotFoundError, match=r"nosuch are missing: .*nosuch\.safetensors"):
        bundled_state("nosuch")


STATE = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.float16)}


def pickled(path: Path) -> Path:
    torch.save(STATE, path)
    return path


def assert_read(found: Any) -> None:
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], value) for key, value in STATE.items())


def test_matching_tensors_are_shared_without_a_copy() -> None:
    module = nn.Module()
    module.same, module.small, module.turned = (nn.Parameter(torch.zeros(2, 3)) for _ in range(3))
    module.small.requires_grad_(False)
    module.register_buffer("count", torch.tensor(0))
    state = {"same": torch.rand(2, 3), "small": torch.rand(2, 3).half(), "turned": torch.rand(3, 2).T}
    load_strictly(module, state | {"count": torch.tensor(7)}, "here", share=True)
    assert module.same.data_ptr() == state["same"].data_ptr()
    assert module.turned.data_ptr() != state["turned"].data_ptr()
    for key, value in state.items():
        found = module.get_parameter(key)
        assert torch.equal(found, value.float())
        assert (found.dtype, found.is_contiguous(), found.requires_grad) == (torch.float32, True, key != "small")
    assert module.count == 7


@pytest.mark.parametrize("share", [False, True])
def test_strict_loading_is_as_strict_with_shared_tensors(share: bool) -> None:
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(ModelFormatError, match="missing bias; unknown gain"):
        load_strictly(module, {"weight": torch.zeros(2, 3), "gain": torch.zeros(2)}, "here", share)
    assert torch.equal(module.weight, before)


def mapped(path: Path) -> bool:
    """Whether this process has something of the file in its memory by way of a map."""
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the system does not list mapped files")
@pytest.mark.parametrize("name", ["m.safetensors", "m.pt"])
def test_tensors_of_a_checkpoint_stay_in_its_file(tmp_path: Path, name: str) -> None:
    path, module, source = tmp_path / name, nn.Linear(300, 200), nn.Linear(300, 200).state_dict()
    save_file(source, path) if name == "m.safetensors" else torch.save(source, path)
    load_strictly(module, read_checkpoint(path, TRUSTED), name, share=True)
    assert mapped(path)
    os.replace(path, tmp_path / "moved")
    save_file({"other": torch.zeros(9)}, path)  # a new file in its place changes nothing
    with torch.no_grad():
        module.bias += 1  # nor is what is written here written there
    assert torch.equal(module.weight, source["weight"])
    del module
    assert not mapped(tmp_path / "moved")
    kept = read_checkpoint((tmp_path / "moved").rename(tmp_path / name), TRUSTED)
    assert all(torch.equal(kept[key], value) for key, value in source.items())


def test_a_pickle_of_the_older_kind_is_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    assert_read(read_checkpoint(tmp_path / "m.pt", TRUSTED))


def test_a_safetensors_checkpoint_is_read_without_being_asked(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "m.safetensors")
    assert_read(read_checkpoint(tmp_path / "m.safetensors"))


def test_a_pickle_is_read_only_when_it_is_trusted(tmp_path: Path) -> None:
    path = pickled(tmp_path / "m.pt")
    with pytest.raises(ModelFormatError, match=r"m\.pt is a pickle of unknown origin; --trust-checkpoint"):
        read_checkpoint(path)
    assert_read(read_checkpoint(path, TRUSTED))


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["m.pt", "m.bin", "m.safetensors"])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, name: str) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"a": _Trap(sprung)}, tmp_path / name)
    for trust in (False, True):
        with pytest.raises(ModelFormatError):
            read_checkpoint(tmp_path / name, LoadOptions(trust_checkpoint=trust))
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, name: str, left: int) -> None:
    path = tmp_path / name
    if name == "m.pt":
        pickled(path)
    else:
        save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ModelFormatError, match="cannot be read"):
        read_checkpoint(path, TRUSTED)


def test_a_missing_checkpoint_is_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "m.pt", tmp_path):
        with pytest.raises(ModelNotFoundError, match=str(path)):
            read_checkpoint(path, TRUSTED)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_a_file_is_hashed_whole(tmp_path: Path, size: int) -> None:
    data = bytes(i % 251 for i in range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "f").write_bytes(data)
    assert hash_file(tmp_path / "f") == hashlib.sha256(data).hexdigest()
    assert hash_file(tmp_path / "f", b"prefix\n") == hashlib.sha256(b"prefix\n" + data).hexdigest()


def test_every_encoder_of_the_table_goes_by_its_name() -> None:
    assert all(encoder.name == name for name, encoder in ENCODERS.items())
    assert ENCODERS.keys() >= set(BUNDLED)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_encoders_are_what_they_declare(name: str) -> None:
    encoder = load_encoder(name)
    assert not encoder.training
    assert sum(encoder.block_dims) == encoder.dim
    shortest = encoder.encode(torch.randn(1, encoder.min_samples), sample_rate=encoder.sample_rate)
    assert shortest.frames.shape[2] == encoder.dim
    assert shortest.frames.isfinite().all()
    second = encoder.encode(torch.randn(1, encoder.sample_rate))
    assert second.frames.shape[1] == pytest.approx(encoder.rate_hz, abs=1)


def test_unknown_encoder_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ModelNotFoundError, match=rf"'musiccnn'; there are {', '.join(ENCODERS)}"):
        load_encoder("musiccnn")


def test_options_reach_the_class_and_unknown_ones_are_refused(toy_encoder: ToyEncoder) -> None:
    assert load_encoder("toy", gain=2.0).fingerprint() == ToyEncoder(gain=2.0).fingerprint()
    with pytest.raises(TypeError, match="volume"):
        load_encoder("toy", volume=2.0)


@given(st.lists(st.integers(160, 3000), min_size=1, max_size=4))
@settings(max_examples=20)
def test_silence_after_a_clip_counts_as_audio(sizes: list[int]) -> None:
    plain = WideToy().train()
    padded = Padded(plain, 0.125)  # 2000 samples
    waves = torch.randn(len(sizes), max(sizes))
    together = padded.encode(waves, torch.tensor(sizes))
    assert together.rate_hz == plain.rate_hz
    for wave, size, frames, mask in zip(waves, sizes, together.frames, together.mask, strict=True):
        audio = torch.zeros(1, max(size, 2000))
        audio[0, :size] = wave[:size]
        assert mask.sum() == max(size, 2000) // 160
        torch.testing.assert_close(frames[mask], plain.encode(audio).frames[0])
        assert torch.equal(padded.encode(audio).frames, plain.encode(audio).frames)  # long enough: unchanged


def test_padded_encoder_declares_its_inner_encoders_needs(toy_encoder: ToyEncoder) -> None:
    loaded = load_encoder("toy", gain=2.0, pad_silence=10)
    assert isinstance(loaded, Padded)
    for name in ("name", "sample_rate", "dim", "block_dims", "rate_hz", "min_samples"):
        assert vars(loaded)[name] == getattr(toy_encoder, name)
    assert loaded.settings() == {"gain": 2.0, "pad_silence": 10.0}
    again = load_encoder("toy", **loaded.settings())  # as from a model's config
    assert again.fingerprint() == loaded.fingerprint()
    others = [load_encoder("toy", gain=2.0, pad_silence=seconds) for seconds in (0, 5.0)]
    assert len({encoder.fingerprint() for encoder in (loaded, *others)}) == 3
    assert not isinstance(others[0], Padded)
    for padded in (loaded, Padded(ToyEncoder(), 1.0)):
        assert not any(module.training for module in padded.modules())
        assert not any(parameter.requires_grad for parameter in padded.parameters())


def test_a_padded_encoder_still_refuses_a_clip_that_is_too_short(toy_encoder: ToyEncoder) -> None:
    with pytest.raises(AudioError, match=r"toy needs 0\.010 s"):
        Padded(toy_encoder, 1.0).encode(torch.zeros(1, 159))


def test_gradient_passes_through_a_padded_encoder(toy_encoder: ToyEncoder) -> None:
    waves = torch.randn(1, 400, requires_grad=True)
    Padded(toy_encoder, 0.05)(waves).frames.sum().backward()
    assert waves.grad.isfinite().all()
    assert waves.grad.count_nonzero() > 390  # the third frame is half silence


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_silence_of_no_length_is_refused(toy_encoder: ToyEncoder, seconds: float) -> None:
    with pytest.raises(UsageError, match=f"above 0 s, not to {seconds} s"):
        load_encoder("toy", pad_silence=seconds)
