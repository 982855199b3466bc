"""EfficientAT: our network against batch norms and Kaldi's mels, the published layout, our promises, the real file."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile
import soxr
import torch
from safetensors.torch import save_file

from mmmos.encoders.efficientat import HOP, RATE, STRIDE, EfficientAT
from mmmos.encoders.table import load_encoder
from mmmos.errors import AudioError, ModelFormatError, ModelNotFoundError
from tests.encoders.independence import assert_independent
from tests.references.efficientat import Reference
from tests.sounds import music_tensor, white_noise

DATA = Path(os.environ.get("MMMOS_DATA", "/nowhere"))
SPEECH, MUSIC = 0, 137  # AudioSet's classes


@pytest.fixture(scope="module")
def reference() -> Reference:
    torch.manual_seed(0)
    return Reference(0.1)


@pytest.fixture(scope="module")
def released(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "mn01_as_mAP_298.pt"
    torch.save({key: value.float() if value.ndim else value for key, value in reference.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def encoder(released: Path) -> EfficientAT:
    return load_encoder("efficientat", released, trust_checkpoint=True)


def test_log_mel_equals_kaldi_s(reference: Reference, encoder: EfficientAT) -> None:
    wave = music_tensor(0.5, RATE)
    torch.testing.assert_close(encoder.log_mel(wave)[0].double(), reference.log_mel(wave[0]), atol=2e-4, rtol=0)


@pytest.mark.parametrize("seconds", [0.1, 0.33, 1.0])
def test_frames_equal_the_published_network_s(reference: Reference, encoder: EfficientAT, seconds: float) -> None:
    wave = music_tensor(seconds, RATE)
    maps = reference.maps(wave[0])
    scale = maps.abs().max().item()
    frames = encoder.encode(wave).frames[0].double()
    torch.testing.assert_close(frames, maps.mean(1).T, atol=1e-4 * scale, rtol=0)
    logits = reference.classifier(maps[None])
    torch.testing.assert_close(encoder.classify(wave).double(), logits, atol=1e-4 * logits.abs().max().item(), rtol=0)


@pytest.mark.parametrize("samples", [RATE // 10, 31 * HOP, 32 * HOP, 32 * HOP + 1, RATE])
def test_number_of_frames(encoder: EfficientAT, samples: int) -> None:
    features = encoder.encode(white_noise(1.0, rate=RATE)[:, :samples])
    assert features.frames.shape == (1, math.ceil(((samples - 1) // HOP + 1) / STRIDE), 96)
    assert features.rate_hz == 3.125
    assert encoder.block_dims == (encoder.dim,) == (96,)


def test_under_a_tenth_of_a_second_is_refused(encoder: EfficientAT) -> None:
    with pytest.raises(AudioError, match=r"0\.100 s"):
        encoder.encode(white_noise(0.09, rate=RATE))


def test_neighbours_and_padding_change_nothing(encoder: EfficientAT) -> None:
    assert_independent(encoder, [white_noise(s, seed, rate=RATE)[0] for seed, s in enumerate((0.1, 0.5, 0.5))])


def test_gradient_reaches_the_waveform_and_no_weight(encoder: EfficientAT) -> None:
    waves = music_tensor(0.3, RATE).requires_grad_()
    encoder(waves).frames.square().mean().backward()
    assert waves.grad is not None
    assert waves.grad.isfinite().all()
    assert waves.grad.any()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.slow
def test_safetensors_hold_the_same(released: Path, encoder: EfficientAT, tmp_path: Path) -> None:
    save_file(torch.load(released, weights_only=False), tmp_path / "mn01.safetensors")
    assert load_encoder("efficientat", tmp_path / "mn01.safetensors").fingerprint() == encoder.fingerprint()


def test_pickle_is_not_read_without_trust(released: Path) -> None:
    with pytest.raises(ModelFormatError, match="pickle of unknown origin"):
        load_encoder("efficientat", released)


def damaged(state: dict[str, Any], change: str) -> Any:
    if change == "no dict":
        return [1, 2]
    if change == "extra":
        return state | {"head.weight": torch.zeros(1)}
    if change == "shape":
        return state | {"features.3.block.1.0.weight": torch.zeros(5, 1, 3, 3)}
    return {key: value for key, value in state.items() if key != change}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no dict", "holds no table of tensors"),
        ("extra", r"unknown head\.weight"),
        ("shape", r"values in features\.3\.block\.1\.1\.weight, not 5"),
        ("features.16.1.weight", r"missing features\.16\.1\.weight"),
        ("features.5.block.0.1.running_mean", r"missing features\.5\.block\.0\.1\.running_mean"),
        ("features.5.block.2.conc_se_layers.0.fc1.bias", r"missing features\.5\.block\.2\.fc1\.bias"),
        ("classifier.5.bias", r"missing classifier\.2\.bias"),
    ],
)
def test_damaged_checkpoints_are_refused(released: Path, tmp_path: Path, change: str, message: str) -> None:
    torch.save(damaged(torch.load(released, weights_only=False), change), tmp_path / "mn01.pt")
    with pytest.raises(ModelFormatError, match=message):
        load_encoder("efficientat", tmp_path / "mn01.pt", trust_checkpoint=True)


def test_without_a_file_the_message_says_where_it_is_from() -> None:
    with pytest.raises(ModelNotFoundError, match=r"efficientat is neither.*mn04_as_mAP_432\.pt from the releases"):
        load_encoder("efficientat")


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "models").is_dir(), reason="MMMOS_DATA has no published weights")
@pytest.mark.parametrize(
    ("clip", "top"),
    [
        ("codec_mushra/audio/stim_01__lyra_32.flac", SPEECH),
        ("musdb18_aes/audio_44k/AM_Contra_Heart_Peripheral__mixture.flac", MUSIC),
    ],
)
def test_released_weights_name_speech_and_music(clip: str, top: int) -> None:
    encoder = load_encoder("efficientat", DATA / "models" / "mn04_as_mAP_432.pt", trust_checkpoint=True)
    samples, rate = soundfile.read(DATA / clip, dtype="float32", always_2d=True)
    waves = torch.from_numpy(soxr.resample(samples.mean(1), rate, RATE))[None]
    assert encoder.classify(waves).argmax() == top
    assert encoder.dim == 384
