"""musicnn: our network against TensorFlow's run of the published one, our front end against librosa, our promises."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mmmos.encoders.mel import mel_filters
from mmmos.encoders.musicnn import (
    FRAME_DIM,
    HOP,
    MELS,
    PATCH,
    SAMPLE_RATE,
    SHORTEST_TAIL,
    MusiCNN,
    _Front,
)
from mmmos.encoders.table import load_encoder
from mmmos.encoders.weights import bundled_state
from mmmos.errors import AudioError, ModelFormatError, UsageError
from tests.encoders.independence import assert_independent
from tests.references.mel import mel_spectrogram
from tests.sounds import notes

BUNDLED = files("mmmos") / "bundled" / "musicnn.safetensors"
GOLDEN = Path(__file__).parents[1] / "golden" / "musicnn.npz"
PUBLISHED_DIM = 753
ROUNDING = 5e-4  # of sums of values up to 71 in float32, whose order depends on the processor


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The network is too small to share out: threads that wait for each other took four times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder():
    return MusiCNN()


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def columns():
    """The published column that each of ours is."""
    with safe_open(str(BUNDLED), "np") as stored:
        return np.array(json.loads(stored.metadata()["source"])["columns"])


@pytest.mark.parametrize("patch", ["whole", "tail"])
def test_network_equals_tensorflow(encoder, golden, columns, patch):
    """TensorFlow ran on the float16 kernels that we ship, so only float32 rounding is left: 3e-6 of values up to 71."""
    ours = encoder.patch(torch.from_numpy(golden[f"{patch}_log_mel"]).float()).numpy()
    frames, summary = ours[:, golden["frame_index"], :FRAME_DIM], ours[:, :, FRAME_DIM:]
    np.testing.assert_allclose(frames, golden[f"{patch}_frames"][:, :, columns], rtol=1e-5, atol=ROUNDING)
    np.testing.assert_allclose(summary[:, 0], golden[f"{patch}_penultimate"], atol=ROUNDING)
    assert (summary == summary[:, :1]).all()


@pytest.mark.parametrize("patch", ["whole", "tail"])
def test_tags_follow_from_the_penultimate_layer(encoder, golden, patch):
    """Float16 moves the published tags' logits, which go down to -11, by under 0.01."""
    ours = encoder.patch(torch.from_numpy(golden[f"{patch}_log_mel"]).float()).numpy()
    logits = ours[:, 0, FRAME_DIM:] @ golden["output_kernel"] + golden["output_bias"]
    np.testing.assert_allclose(logits, golden[f"{patch}_logits"], atol=1e-4)
    np.testing.assert_allclose(logits, golden[f"{patch}_logits_float32"], atol=0.01)


def test_columns_left_out_are_constants(golden, columns):
    left_out = np.setdiff1d(np.arange(PUBLISHED_DIM), columns)
    assert (len(columns), len(left_out)) == (FRAME_DIM, 541)
    for patch in ("whole", "tail"):
        assert golden[f"{patch}_deviation"][:, left_out].max() < 1e-6
    values = np.concatenate([golden[f"{patch}_frames"][..., left_out].reshape(-1, 541) for patch in ("whole", "tail")])
    assert np.ptp(values, axis=0).max() < 1e-6


def test_maximum_over_frequency_comes_after_the_norm():
    """The trick for falling norms against the plain order: convolution, ReLU, norm, maximum."""
    torch.manual_seed(0)
    unit = _Front(6, 1, 5, 4).requires_grad_(False)
    for tensor in (unit.weight, unit.bias, unit.scale, unit.shift):
        tensor.normal_()
    unit.scale[:3] = torch.tensor([-1.5, 0.0, 1.5])
    x = torch.randn(2, 1, 12, 20)
    y = torch.conv2d(torch.nn.functional.pad(x, (1, 2)), unit.weight, unit.bias).relu()
    expected = (y * unit.scale[:, None, None] + unit.shift[:, None, None]).amax(2)
    torch.testing.assert_close(unit(x), expected)


@pytest.mark.slow
def test_log_mel_equals_librosa(encoder):
    librosa = pytest.importorskip("librosa")
    wave = notes(2.0)[0]
    power = mel_spectrogram(wave.double().numpy(), rate=SAMPLE_RATE, fft=512, hop=HOP, bands=MELS)
    ours = encoder.log_mel(wave[None])[0].T.numpy()
    np.testing.assert_allclose(ours, np.log10(10000 * power + 1), atol=1e-4)
    np.testing.assert_allclose(
        mel_filters(22_050, 1024, 40), librosa.filters.mel(sr=22_050, n_fft=1024, n_mels=40), atol=1e-7
    )


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.99, 3.0, 3.1, 10.0, 23.0])
def test_every_length(encoder, seconds):
    features = encoder.encode(notes(seconds))
    assert features.frames.shape == (1, 1 + round(seconds * SAMPLE_RATE) // HOP, encoder.dim)
    assert features.rate_hz == 62.5
    assert features.mask.all()
    assert features.frames.isfinite().all()


def test_below_a_tenth_of_a_second_is_too_short(encoder):
    with pytest.raises(AudioError, match=r"0\.100 s"):
        encoder.encode(notes(0.09))


@pytest.mark.parametrize(
    ("frames", "patches"),
    [
        (PATCH - 1, [PATCH - 1]),
        (PATCH, [PATCH]),
        (PATCH + SHORTEST_TAIL - 1, [PATCH + SHORTEST_TAIL - 1]),
        (PATCH + SHORTEST_TAIL, [PATCH, SHORTEST_TAIL]),
        (2 * PATCH, [PATCH, PATCH]),
        (2 * PATCH + 1, [PATCH, PATCH + 1]),
    ],
)
def test_patches(encoder, frames, patches):
    """Each patch's features are those of the network on that patch alone."""
    waves = notes((frames - 1) * HOP / SAMPLE_RATE, clips=2)
    parts = encoder.log_mel(waves).split(patches, dim=1)
    expected = torch.cat([encoder.patch(part) for part in parts], 1)
    torch.testing.assert_close(encoder.frames(waves), expected, rtol=1e-4, atol=1e-4)


def test_neighbours_and_padding_change_nothing(encoder):
    assert_independent(encoder, [notes(s, seed)[0] for seed, s in enumerate((0.1, 3.5, 5.0, 5.0))])


def test_level_makes_a_gain_irrelevant(encoder):
    levelled, wave = load_encoder("musicnn", level_db=-26), notes(1.2)
    expected = levelled.encode(wave).frames
    torch.testing.assert_close(levelled.encode(0.01 * wave).frames, expected, atol=1e-3, rtol=1e-3)
    at_level = wave / wave.square().mean().sqrt() * 10 ** (-26 / 20)
    torch.testing.assert_close(encoder.encode(at_level).frames, expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(encoder.encode(0.01 * wave).frames, expected, atol=0.05)
    assert levelled.fingerprint() != encoder.fingerprint()
    with pytest.raises(UsageError, match="level_db is a level in dB or None, not nan"):
        MusiCNN(level_db=float("nan"))


@pytest.mark.slow
@pytest.mark.parametrize("level_db", [None, -26])
@pytest.mark.parametrize("level", [0.1, 0.0])
def test_gradient_reaches_the_waveform(level, level_db):
    waves = notes(4.5, level=level, clips=2).requires_grad_()
    MusiCNN(level_db=level_db)(waves).frames.square().mean().backward()
    assert waves.grad.isfinite().all()
    assert bool(waves.grad.any()) == (level > 0)


def test_stays_frozen(encoder):
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.encode(notes(1.0).requires_grad_()).frames.requires_grad


def test_weights_are_loaded_strictly(encoder):
    state = bundled_state("musicnn")
    assert MusiCNN(state).fingerprint() == encoder.fingerprint()
    del state["penultimate.bias"]
    with pytest.raises(ModelFormatError, match=r"missing penultimate\.bias"):
        MusiCNN(state)


def test_bundled_file_says_where_it_is_from():
    with safe_open(str(BUNDLED), "np") as stored:
        notes = json.loads(stored.metadata()["source"])
        kinds = {name: stored.get_tensor(name).dtype for name in stored.keys()}  # noqa: SIM118 (not a dict)
    assert (notes["package"], notes["version"]) == ("musicnn", "0.1.0")
    assert notes["license"].startswith("ISC")
    assert len(notes["wheel_sha256"]) == 64
    assert all(kind == (np.float16 if name.endswith("weight") else np.float32) for name, kind in kinds.items())
