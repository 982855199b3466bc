"""The plain spectrum: bands where the tones are, blind to gain, and frames on time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmmos.encoders.mel import mel_filters
from mmmos.encoders.spectrum import BANDS, FFT, HOP, RANGE_DB, RATE, Spectrum
from mmmos.encoders.table import load_encoder
from mmmos.errors import AudioError, UsageError
from tests.sounds import music_tensor, sine


@pytest.fixture(scope="module")
def spectrum() -> Spectrum:
    return Spectrum()


def by_numpy(samples: np.ndarray) -> np.ndarray:
    """The same written with numpy's FFT, frame by frame, in float64."""
    padded = np.pad(samples.astype(np.float64), FFT // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
    starts = range(0, len(samples) + 1, HOP)
    power = np.stack([np.abs(np.fft.rfft(window * padded[at : at + FFT])) ** 2 for at in starts])
    bands = power @ mel_filters(RATE, FFT, BANDS, low_hz=40.0).T
    level = np.log10(np.maximum(bands / bands.max(), 10 ** (-RANGE_DB / 10)))
    return level - level.mean()


def test_frames_are_the_levels_that_numpy_finds(spectrum: Spectrum) -> None:
    samples = music_tensor(0.7, RATE)
    np.testing.assert_allclose(spectrum.encode(samples).frames[0], by_numpy(samples[0].numpy()), atol=2e-4)


@given(st.integers(1025, 6000))
def test_there_are_50_frames_a_second(samples: int) -> None:
    features = Spectrum().encode(music_tensor(0.3, RATE)[:, :samples])
    assert features.frames.shape == (1, 1 + samples // HOP, 64)
    assert features.mask.all()
    assert features.rate_hz == 50.0


def test_a_gain_changes_nothing(spectrum: Spectrum) -> None:
    expected = spectrum.encode(music_tensor(0.5, RATE)).frames
    for gain in (1e-3, 0.1, 3.0):
        torch.testing.assert_close(
            spectrum.encode(gain * music_tensor(0.5, RATE)).frames, expected, rtol=1e-4, atol=1e-4
        )


def test_a_tone_is_loudest_in_its_band_and_higher_ones_higher(spectrum: Spectrum) -> None:
    tones = (100.0, 440.0, 2_000.0, 7_000.0, 9_500.0, 11_500.0)
    waves = torch.from_numpy(np.stack([sine(hz, 0.5, RATE) for hz in tones])).float()
    loudest = spectrum.encode(waves).frames[:, 5:-5].mean(dim=1).argmax(dim=1).tolist()
    filters = mel_filters(RATE, FFT, BANDS, low_hz=40.0)
    expected = [filters[:, round(hz * FFT / RATE)].argmax() for hz in tones]
    assert np.abs(np.subtract(loudest, expected)).max() <= 1
    assert loudest == sorted(set(loudest))


def test_frame_t_is_centred_on_its_sample(spectrum: Spectrum) -> None:
    click = torch.zeros(1, RATE)
    click[0, 20 * HOP] = 1.0
    level = spectrum.encode(click).frames[0].mean(dim=1)
    assert level.argmax() == 20
    torch.testing.assert_close(level[18], level[22])


def test_frames_depend_on_frequencies_above_8_khz(spectrum: Spectrum) -> None:
    noise = torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    bins = torch.fft.rfft(noise)
    bins[:, len(bins[0]) // 2 :] = 0  # nothing above 8 kHz
    dull = torch.fft.irfft(bins)
    top = [spectrum.encode(sound).frames[0, :, -8:].mean() for sound in (noise, dull)]
    assert top[0] - top[1] > 3  # bels


@pytest.mark.parametrize(("name", "value"), [("RATE", 32_000), ("HOP", 640), ("FFT", 1024), ("RANGE_DB", 60.0)])
def test_another_version_has_another_fingerprint(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    before = Spectrum().fingerprint()
    assert before == Spectrum().fingerprint()
    monkeypatch.setattr(f"mmmos.encoders.spectrum.{name}", value)
    assert Spectrum().fingerprint() != before


def test_quiet_parts_stop_at_the_floor(spectrum: Spectrum) -> None:
    samples = torch.from_numpy(np.append(sine(1_000.0, 0.5, RATE), np.zeros(RATE))).float()[None]
    frames = spectrum.encode(samples).frames[0]
    assert (frames.max() - frames.min()).item() == pytest.approx(RANGE_DB / 10, abs=1e-4)
    assert torch.isfinite(spectrum.encode(torch.zeros(1, RATE)).frames).all()


def test_a_clip_does_not_depend_on_its_neighbours_or_padding(spectrum: Spectrum) -> None:
    waves = [music_tensor(seconds, RATE, seed=i)[0] for i, seconds in enumerate((0.3, 1.0, 0.3))]
    lengths = torch.tensor([len(each) for each in waves])
    together = spectrum.encode(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths)
    for each, frames, mask in zip(waves, together.frames, together.mask, strict=True):
        torch.testing.assert_close(frames[mask], spectrum.encode(each[None]).frames[0], rtol=1e-4, atol=1e-4)


def test_it_stays_exact_in_bfloat16(spectrum: Spectrum) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        rough = spectrum.encode(music_tensor(0.3, RATE)).frames
    assert torch.equal(rough, spectrum.encode(music_tensor(0.3, RATE)).frames)


def test_gradients_reach_the_samples(spectrum: Spectrum) -> None:
    samples = music_tensor(0.2, RATE).requires_grad_()
    spectrum(samples).frames.square().sum().backward()
    assert samples.grad.isfinite().all()
    assert samples.grad.any()


def test_a_clip_below_the_minimum_is_refused(spectrum: Spectrum) -> None:
    assert spectrum.encode(music_tensor(0.1, RATE)[:, : spectrum.min_samples]).mask.sum() > 1
    with pytest.raises(AudioError, match="spectrum needs"):
        spectrum.encode(music_tensor(0.1, RATE)[:, : spectrum.min_samples - 1])


def test_it_comes_with_the_package_under_its_name() -> None:
    encoder = load_encoder("spectrum")
    assert encoder.fingerprint() == Spectrum().fingerprint()
    assert not list(encoder.parameters())
    assert (sum(encoder.block_dims), encoder.dim, encoder.sample_rate) == (BANDS, BANDS, RATE)
    with pytest.raises(UsageError, match="takes no checkpoint"):
        load_encoder("spectrum", "weights.pt")
