"""FullBand: YAMNet's own spectrum and layers inside it, what is above 8 kHz, and our promises."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch

from mmmos.encoders import yamnet
from mmmos.encoders.fullband import BELOW, HOP, MELS, MIDDLE, RATE, STRIDE, WINDOW, FullBand, filters, grouped
from mmmos.encoders.table import load_encoder
from mmmos.encoders.weights import bundled_state
from mmmos.encoders.yamnet import YAMNet
from mmmos.errors import AudioError, ModelFormatError, UsageError
from tests.encoders.independence import assert_independent
from tests.sounds import music_tensor, swelling_tones, white_noise

INSIDE = slice(BELOW, BELOW + yamnet.MELS)  # YAMNet's bands


@pytest.fixture(scope="module")
def encoder() -> FullBand:
    return FullBand()


@pytest.fixture(scope="module")
def yamnet_encoder() -> YAMNet:
    return YAMNet(level_db=-24)


def test_filters_contain_yamnet_s(yamnet_encoder: YAMNet) -> None:
    ours, bins = filters(), yamnet.FFT // 2 + 1
    np.testing.assert_allclose(ours[INSIDE, :bins], yamnet_encoder.filters, atol=1e-5)
    assert ours.shape == (MELS, 3 * (bins - 1) + 1)
    assert (ours.max(axis=1) > 0.3).all()  # none falls between two bins
    assert 21_000 < np.flatnonzero(ours[-1]).max() * RATE / (3 * yamnet.FFT) < 22_000


def test_spectrum_equals_yamnet_s(encoder: FullBand, yamnet_encoder: YAMNet) -> None:
    wide = swelling_tones(2.0, RATE)  # nothing above 5 kHz
    low = soxr.resample(wide, RATE, yamnet.RATE, "VHQ")
    ours = encoder.log_mel(torch.from_numpy(wide)[None])[0, 5:-5, INSIDE]
    theirs = yamnet_encoder.log_mel(yamnet_encoder._prepared(torch.from_numpy(low)[None]))[0, 5:-5]
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)


def test_network_is_the_start_of_yamnet_s(encoder: FullBand, yamnet_encoder: YAMNet) -> None:
    x = torch.randn(1, 96, 64)
    end = encoder.blocks[MIDDLE:](encoder.start(x))
    expected = yamnet_encoder.blocks[:8](yamnet_encoder.first(x[:, None]))
    torch.testing.assert_close(end, expected, atol=1e-4, rtol=1e-4)
    whole = bundled_state("yamnet")
    assert all(torch.equal(value, whole[key]) for key, value in encoder.state_dict().items())


def test_blocks_are_means_of_the_maps(encoder: FullBand) -> None:
    wave = music_tensor(2.0, RATE)
    log_mel = encoder.log_mel(wave)
    middle = encoder.start(log_mel)
    end = encoder.blocks[MIDDLE:](middle)
    spectrum, bands, last = encoder.encode(wave).frames.split(encoder.block_dims, dim=2)
    torch.testing.assert_close(spectrum[0, 3], log_mel[0, 48:64].mean(0))
    torch.testing.assert_close(bands[0, 3, 256:512], middle[0, :, 6:8, 4:8].mean((1, 2)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(last[0, 3], end[0, :, 3].mean(1))


def test_what_is_above_eight_kilohertz_counts(encoder: FullBand) -> None:
    wave = white_noise(1.5, rate=RATE)
    dull = torch.from_numpy(soxr.resample(soxr.resample(wave[0].numpy(), RATE, 20_000), 20_000, RATE))[None]
    both = [encoder.encode(x).frames[0].mean(0).split(encoder.block_dims) for x in (wave, dull)]
    low, middle, high = (
        (a - b).norm() / b.norm() for a, b in zip(both[0][1].split(256), both[1][1].split(256), strict=True)
    )
    assert high > 5 * max(low, middle) > 0


@pytest.mark.parametrize("samples", [RATE // 10, WINDOW + 95 * HOP, WINDOW + 111 * HOP - 1, WINDOW + 111 * HOP])
def test_number_of_frames(encoder: FullBand, samples: int) -> None:
    features = encoder.encode(white_noise(2.0, rate=RATE)[:, :samples])
    spectra = max(96, 1 + (samples - WINDOW) // HOP)
    assert features.frames.shape == (1, spectra // STRIDE, 96 + 768 + 512)
    assert features.rate_hz == 6.25
    assert features.frames.isfinite().all()


def test_below_a_tenth_of_a_second_is_too_short(encoder: FullBand) -> None:
    with pytest.raises(AudioError, match=r"0\.100 s"):
        encoder.encode(white_noise(0.09, rate=RATE))


@pytest.mark.parametrize("gain", [0.01, 5.0])
def test_a_gain_changes_nothing(encoder: FullBand, gain: float) -> None:
    wave = music_tensor(1.0, RATE)
    torch.testing.assert_close(encoder.encode(gain * wave).frames, encoder.encode(wave).frames, atol=1e-3, rtol=0)


def test_neighbours_and_padding_change_nothing(encoder: FullBand) -> None:
    assert_independent(encoder, [white_noise(s, seed, rate=RATE)[0] for seed, s in enumerate((0.1, 1.3, 1.3))])


@pytest.mark.parametrize("level", [0.1, 0.0])
def test_gradient_reaches_the_waveform(encoder: FullBand, level: float) -> None:
    waves = white_noise(1.0, level=level, rate=RATE).requires_grad_()
    encoder(waves).frames.square().mean().backward()
    assert waves.grad is not None
    assert waves.grad.isfinite().all()
    assert bool(waves.grad.any()) == (level > 0)


def test_bfloat16_moves_it_little(encoder: FullBand) -> None:
    wave = music_tensor(1.0, RATE)
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder.encode(wave).frames.float()
    full = encoder.encode(wave).frames
    assert ((half - full).norm() / full.norm()).item() < 0.02


def test_groups_leave_out_a_part() -> None:
    assert grouped(torch.arange(7.0)[None, :, None], 3).flatten().tolist() == [1, 4]


def test_takes_no_checkpoint_and_loads_strictly() -> None:
    assert load_encoder("fullband").fingerprint() == FullBand().fingerprint()
    with pytest.raises(UsageError, match="comes with the package"):
        load_encoder("fullband", "x.pt")
    with pytest.raises(ModelFormatError, match=r"unknown blocks\.10\."):
        FullBand({key: value for key, value in bundled_state("yamnet").items() if "classifier" not in key})
