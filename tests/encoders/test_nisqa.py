"""NISQA: our network against PyTorch's attention and librosa's mels, the published layout, our promises, the file."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

from mmmos.encoders.nisqa import HOP, NISQA, RATE, SCORES
from mmmos.encoders.table import load_encoder
from mmmos.errors import AudioError, ModelFormatError, ModelNotFoundError
from mmmos.metrics import srcc
from tests.encoders.independence import assert_independent
from tests.references.nisqa import ARGS, Reference
from tests.sounds import music_tensor, white_noise

DATA = Path(os.environ.get("MMMOS_DATA", "/nowhere"))


@pytest.fixture(scope="module")
def reference() -> Reference:
    torch.manual_seed(0)
    return Reference()


@pytest.fixture(scope="module")
def released(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "nisqa.tar"
    state = {key: value.float() if value.ndim else value for key, value in reference.state_dict().items()}
    torch.save({"args": ARGS, "model_state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def encoder(released: Path) -> NISQA:
    return load_encoder("nisqa", released, trust_checkpoint=True)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [1.0, 1e-4])
def test_log_mel_equals_librosa_s(reference: Reference, encoder: NISQA, gain: float) -> None:
    wave = gain * music_tensor(0.5, RATE)
    wave[:, : RATE // 4] = 0  # so that both floors are in use
    ours = encoder.log_mel(wave)[0].double()
    torch.testing.assert_close(ours, reference.log_mel(wave[0]), atol=1e-2, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.14, 0.5, 1.0])
def test_frames_and_scores_equal_the_published_network_s(reference: Reference, encoder: NISQA, seconds: float) -> None:
    wave = music_tensor(seconds, RATE)
    hidden = reference.hidden(wave[0])
    frames = encoder.encode(wave).frames[0].double()
    torch.testing.assert_close(frames[:, :64], hidden, atol=1e-3, rtol=0)
    torch.testing.assert_close(frames[:, 64:], reference.scores(hidden).expand(len(frames), -1), atol=1e-3, rtol=0)
    torch.testing.assert_close(encoder.score(wave)[0].double(), frames[0, 64:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [14 * HOP, 17 * HOP - 1, 17 * HOP, 18 * HOP, RATE])
def test_number_of_frames(encoder: NISQA, samples: int) -> None:
    features = encoder.encode(white_noise(1.0, rate=RATE)[:, :samples])
    assert features.frames.shape == (1, -(-(samples // HOP - 13) // 4), 64 + len(SCORES))
    assert features.rate_hz == 25
    assert sum(encoder.block_dims) == encoder.dim


def test_less_than_one_segment_is_refused(encoder: NISQA) -> None:
    with pytest.raises(AudioError, match=r"0\.140 s"):
        encoder.encode(white_noise(1.0, rate=RATE)[:, : 14 * HOP - 1])


def test_neighbours_and_padding_change_nothing(encoder: NISQA) -> None:
    assert_independent(encoder, [white_noise(s, seed, rate=RATE)[0] for seed, s in enumerate((0.14, 0.5, 0.5))])


@pytest.mark.parametrize("level", [0.1, 0.0])
def test_gradient_reaches_the_waveform(encoder: NISQA, level: float) -> None:
    waves = white_noise(0.3, level=level, rate=RATE).requires_grad_()
    encoder(waves).frames.square().mean().backward()
    assert waves.grad is not None
    assert waves.grad.isfinite().all()
    assert bool(waves.grad.any()) == (level > 0)


def test_pickle_is_not_read_without_trust(released: Path) -> None:
    with pytest.raises(ModelFormatError, match="pickle of unknown origin"):
        load_encoder("nisqa", released)


def damaged(held: dict[str, Any], change: str) -> Any:
    args, state = dict(held["args"]), dict(held["model_state_dict"])
    if change == "weights alone":
        return state
    if change == "extra":
        return {"args": args, "model_state_dict": state | {"pool_layers.5.model.linear3.bias": torch.zeros(1)}}
    if change in args:
        return {"args": args | {change: 7}, "model_state_dict": state}
    del state[change]
    return {"args": args, "model_state_dict": state}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weights alone", "does not hold args and model_state_dict"),
        ("extra", r"unknown pools\.5\.rating\.bias"),
        ("ms_fmax", "another network than NISQA v2: ms_fmax is 7, not 20000"),
        ("pool", "another network than NISQA v2: pool is 7, not 'att'"),
        ("cnn.model.bn3.running_var", r"missing cnn\.model\.bn3\.running_var"),
        ("time_dependency.model.layers.1.self_attn.in_proj_bias", r"missing blocks\.1\.qkv\.bias"),
    ],
)
def test_damaged_checkpoints_are_refused(released: Path, tmp_path: Path, change: str, message: str) -> None:
    torch.save(damaged(torch.load(released, weights_only=False), change), tmp_path / "nisqa.tar")
    with pytest.raises(ModelFormatError, match=message):
        load_encoder("nisqa", tmp_path / "nisqa.tar", trust_checkpoint=True)


def test_without_a_file_the_message_says_where_it_is_from() -> None:
    with pytest.raises(ModelNotFoundError, match=r"nisqa is neither.*weights/nisqa\.tar"):
        load_encoder("nisqa")


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "models").is_dir(), reason="MMMOS_DATA has no published weights")
def test_released_weights_agree_with_listeners_on_codecs() -> None:
    encoder = load_encoder("nisqa", DATA / "models" / "nisqa.tar", trust_checkpoint=True)
    scores, ratings = [], []
    with open(DATA / "codec_mushra" / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file)][::4]
    for row in rows:
        samples, rate = soundfile.read(DATA / "codec_mushra" / row["path"], dtype="float32", always_2d=True)
        waves = torch.from_numpy(soxr.resample(samples.mean(1), rate, RATE))[None]
        scores.append(encoder.score(waves)[0, 0].item())
        ratings.append(float(row["mushra"]))
    assert srcc(np.array(scores), np.array(ratings)) > 0.3
    assert all(1 <= score <= 5 for score in scores)
