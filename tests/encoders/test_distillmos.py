"""DistillMOS: the published network, and what every encoder promises."""

from __future__ import annotations

import math
import runpy
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmos.encoders.distillmos import DistillMOS, compress
from mmmos.encoders.weights import bundled_state
from mmmos.errors import AudioError, ModelFormatError
from tests.sounds import speech

RATE = 16_000
SEGMENT = 122_880
CONVERSION = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "encoders" / "distillmos.py"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads on a busy machine wait for each other: ten times slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder() -> DistillMOS:
    return DistillMOS()


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """The original network with its own weights. It imports torchaudio and uses it on files only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
        package = pytest.importorskip("distillmos")
        return package.ConvTransformerSQAModel().eval().requires_grad_(False)


def published_frames(network: nn.Module, waves: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [B, 384, 200] after the last BatchNorm and MOS [B] of one segment a row."""
    caught = []
    hook = network.transformer_pool_attn.norm_trans.register_forward_hook(lambda *call: caught.append(call[2]))
    mos = network(waves)[:, 0]
    hook.remove()
    return caught[0].transpose(1, 2), mos


SEGMENTS = torch.stack(
    [
        speech(7.68, seed=1),
        0.01 * speech(7.68, seed=2, hiss=0.1),
        F.pad(speech(3.0, seed=4), (SEGMENT // 2, SEGMENT - SEGMENT // 2 - 3 * RATE)),
    ]
)


@pytest.fixture(scope="module")
def expected(published: nn.Module) -> tuple[Tensor, Tensor]:
    return published_frames(published, SEGMENTS)


@pytest.mark.slow
def test_network_and_folding_match_the_published_network(published: nn.Module, expected: tuple[Tensor, Tensor]) -> None:
    ours = DistillMOS(CONVERSION["convert"](published.state_dict()))
    frames, mos = expected
    values = ours.encode(SEGMENTS).frames
    torch.testing.assert_close(values[..., :200], frames, atol=1e-4, rtol=0)
    torch.testing.assert_close(values[..., 200], mos[:, None].expand(-1, 384), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.score(SEGMENTS[:1]), mos[:1], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_bundled_weights_are_the_published_ones_rounded(
    published: nn.Module, encoder: DistillMOS, expected: tuple[Tensor, Tensor]
) -> None:
    halves = CONVERSION["rounded"](CONVERSION["convert"](published.state_dict()))
    bundled = bundled_state("distillmos")
    assert bundled.keys() == halves.keys()
    assert all(torch.equal(bundled[key], value.float()) for key, value in halves.items())
    frames, mos = expected
    values = encoder.encode(SEGMENTS).frames
    assert (values[:, 0, 200] - mos).abs().max() < 2e-3
    assert (values[..., :200] - frames).abs().mean() < 1e-3


@pytest.mark.slow
def test_long_clip_equals_its_segments_one_by_one(published: nn.Module) -> None:
    """Clipped speech has the same peak in every segment, so the published scaling is ours as well."""
    ours = DistillMOS(CONVERSION["convert"](published.state_dict()))
    clip = speech(1000 * 0.02, seed=5).mul(3).clamp(-0.2, 0.2)
    starts = (0, 308, 616)
    frames, mos = published_frames(published, torch.stack([clip[s * 320 :][:SEGMENT] for s in starts]))
    total, count = torch.zeros(1000, 201), torch.zeros(1000, 1)
    for start, values, score in zip(starts, frames, mos, strict=True):
        total[start : start + 384] += torch.cat([values, score.expand(384, 1)], dim=1)
        count[start : start + 384] += 1
    torch.testing.assert_close(ours.frames(clip[None])[0], total / count, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.score(clip[None]), mos.mean()[None], atol=1e-5, rtol=0)


def test_an_unknown_published_tensor_stops_the_conversion(published: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"does not know.*extra"):
        CONVERSION["convert"]({**published.state_dict(), "extra": torch.zeros(1)})


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 1.0, 7.4, 7.51, 7.68])
def test_short_clip_is_one_segment_with_zeros_after_it(encoder: DistillMOS, seconds: float) -> None:
    """The shortcut over the padding changes nothing."""
    clip = speech(seconds)[None]
    padded = encoder.encode(F.pad(clip, (0, SEGMENT - clip.shape[1]))).frames
    values = encoder.encode(clip).frames
    torch.testing.assert_close(values, padded[:, : values.shape[1]], atol=2e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 1.0, 7.68, 7.69, 10.0, 23.0])
def test_frame_count(encoder: DistillMOS, seconds: float) -> None:
    clip = speech(seconds)[None]
    values = encoder.encode(clip, sample_rate=RATE).frames
    assert values.shape == (1, math.ceil(clip.shape[1] / 320), encoder.dim)
    assert values.isfinite().all()
    assert ((values[..., 200] > 1) & (values[..., 200] < 5)).all()


def test_too_short_clip_is_refused(encoder: DistillMOS) -> None:
    with pytest.raises(AudioError, match=r"0\.100 s"):
        encoder.encode(torch.zeros(1, 1599))


@pytest.mark.slow
def test_features_ignore_neighbours_padding_and_level(encoder: DistillMOS) -> None:
    clips = [speech(1.0, seed=1), speech(8.0, seed=2), speech(1.0, seed=3)]
    waves = nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=0.7)
    batch = encoder.encode(waves, torch.tensor([len(clip) for clip in clips]))
    for clip, frames, mask in zip(clips, batch.frames, batch.mask, strict=True):
        alone = encoder.encode(clip[None]).frames[0]
        torch.testing.assert_close(frames[mask], alone, atol=2e-5, rtol=0)
        torch.testing.assert_close(encoder.encode(clip[None] / 4).frames[0], alone, atol=2e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "kind"), [(1, "speech"), (1, "silence"), (1, "half"), (8, "half")])
def test_gradient_is_finite(encoder: DistillMOS, seconds: float, kind: str) -> None:
    clip = speech(seconds)[None]
    if kind != "speech":
        clip[:, 0 if kind == "silence" else clip.shape[1] // 2 :] = 0
    clip.requires_grad_()
    values = encoder.frames(clip)
    assert values.isfinite().all()
    (values.square().mean() + encoder.score(clip).sum()).backward()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()
    assert kind == "silence" or clip.grad.abs().max() > 0


@pytest.mark.slow
def test_gradient_points_uphill(encoder: DistillMOS) -> None:
    clip = speech(1.0)[None].requires_grad_()
    (slope,) = torch.autograd.grad(encoder.score(clip).sum(), clip)
    step = 1e-4 * slope / slope.norm()
    with torch.no_grad():
        rise = (encoder.score(clip + step) - encoder.score(clip - step)).item() / 2
    assert rise == pytest.approx(1e-4 * slope.norm().item(), rel=0.1)


def test_compression_keeps_the_published_value_at_and_near_zero() -> None:
    spectrum = torch.tensor([[0.0, 0.0], [1e-14, 0.0], [-3e-9, 4e-9], [30.0, -40.0]])
    magnitude = spectrum.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(compress(spectrum), magnitude**0.3 * spectrum / magnitude, atol=0, rtol=1e-5)


def test_stays_frozen(encoder: DistillMOS) -> None:
    assert not encoder.train().training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.modules())


def test_incomplete_weights_are_refused() -> None:
    state = bundled_state("distillmos")
    del state["project.bias"]
    with pytest.raises(ModelFormatError, match=r"missing project\.bias"):
        DistillMOS(state)
