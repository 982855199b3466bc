"""Every warning on a sound made to earn it, and none on sounds that are well."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

import mmmos.audio.warnings
from mmmos.audio.clip import to_clip
from mmmos.audio.windows import ClipReport, cut
from tests.sounds import bass_string, dark_noise, harmonics, music, noise, sine

RATES = (16_000, 22_050, 44_100)


def warnings_of(samples: np.ndarray, rate: int) -> set[str]:
    """Warnings for samples [S] or [S, C]."""
    *_, report = cut(to_clip(samples, rate, layout="channels_last"), [16_000], 0.1)
    assert isinstance(report, ClipReport)
    return set(report.warnings)


def sixteen_bit(wave: np.ndarray) -> np.ndarray:
    return np.round(wave * 32_767).astype(np.int16)


def in_channels(*gains: float) -> np.ndarray:
    return music(2)[:, None] * np.array(gains)


FAULTY = {
    "silent": (np.zeros(32_000), 16_000),
    "partly_silent": (np.concatenate([music(10), np.zeros(160_000)]), 16_000),
    "clipped": (np.clip(8 * music(2), -1, 1), 16_000),
    "dc_offset": (music(2) + 0.05, 16_000),
    "phase_cancel": (in_channels(1, -0.9), 16_000),
    "downmixed": (in_channels(1, 1, 1), 16_000),
    "narrowband": (music(2, 8_000), 8_000),
    "upsampled": (soxr.resample(music(2), 16_000, 48_000), 48_000),
    "short": (music(0.5), 16_000),
}
NOT_OF_THE_SIGNAL = {
    "decode_warnings",
    "format_change",
    "header_mismatch",
    "out_of_range",
    "segment_clamped",
    "truncated",
}  # tested where they come from


@pytest.mark.parametrize("warning", FAULTY)
def test_each_fault_gets_its_warning_and_no_other(warning):
    assert warnings_of(*FAULTY[warning]) == {warning}


def test_the_table_lists_every_warning():
    assert sorted(mmmos.audio.warnings.WARNINGS) == sorted({*FAULTY, *NOT_OF_THE_SIGNAL})


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    "make",
    [
        lambda rate: noise(2, rate),
        lambda rate: noise(2, rate, slope=1),
        lambda rate: noise(2, rate, slope=2),
        lambda rate: noise(2, rate, slope=4),
        lambda rate: music(2, rate),
        lambda rate: 0.003 * music(2, rate),
        bass_string,
        dark_noise,
        harmonics,
    ],
    ids=["white", "pink", "brown", "black", "music", "quiet music", "bass", "dark", "harmonics"],
)
def test_sounds_that_are_well_get_no_warning(make, rate):
    wave = make(rate)
    assert warnings_of(wave, rate) == set()
    assert warnings_of(sixteen_bit(wave), rate) == set()


@pytest.mark.parametrize("hz", [440, 3_000, 4_500, 7_000, 10_000])
@pytest.mark.parametrize("rate", [22_050, 48_000])
def test_a_single_tone_is_no_wall(rate, hz):
    assert warnings_of(sixteen_bit(sine(hz, rate=rate)), rate) == set()


@pytest.mark.parametrize("source", [44_100, 48_000])
@pytest.mark.parametrize("rate", [11_025, 16_000, 22_050])
@pytest.mark.parametrize("make", [music, lambda seconds, rate: noise(seconds, rate, slope=1)], ids=["music", "pink"])
def test_a_lower_rate_alone_is_no_fault(make, rate, source):
    assert warnings_of(soxr.resample(make(2, source), source, rate), rate) == set()


@pytest.mark.parametrize("source", [8_000, 11_025, 12_000, 16_000, 22_050, 24_000])
@pytest.mark.parametrize("rate", [32_000, 48_000])
@pytest.mark.parametrize("quality", ["LQ", "VHQ"])
def test_upsampling_is_detected_by_its_cutoff(source, rate, quality):
    narrow = {"narrowband"} if source == 8_000 else set()
    for wave in (music(2, source), noise(2, source, slope=1), noise(2, source, slope=2)):
        raised = sixteen_bit(soxr.resample(wave, source, rate, quality=quality))
        assert warnings_of(raised, rate) == {"upsampled"} | narrow


@pytest.mark.parametrize(("level", "warnings"), [(0.9e-4, {"silent"}), (1.1e-4, set())])
def test_silence_ends_at_minus_80_decibels(level, warnings):
    assert warnings_of(noise(2, 16_000) * 2 * level, 16_000) == warnings


def test_silence_says_nothing_of_bandwidth():
    assert warnings_of(1e-4 * noise(2, 8_000), 8_000) == {"silent"}


@pytest.mark.parametrize(("share", "warnings"), [(0.0008, set()), (0.0012, {"clipped"})])
def test_a_thousandth_of_the_samples_is_clipping(share, warnings):
    wave = music(2)
    wave[:: round(1 / share)] = 1.0
    assert warnings_of(wave, 16_000) == warnings


def test_clipping_in_one_channel_counts_for_its_share():
    stereo = np.stack([music(2), music(2)], axis=1)
    stereo[::600, 0] = -1.0
    assert "clipped" not in warnings_of(stereo, 16_000)
    stereo[::400, 0] = -1.0
    assert "clipped" in warnings_of(stereo, 16_000)


@pytest.mark.parametrize(("offset", "warnings"), [(0.018, set()), (0.022, {"dc_offset"}), (-0.022, {"dc_offset"})])
def test_a_dc_offset_is_reported_from_two_percent(offset, warnings):
    assert warnings_of(noise(2, 16_000) + offset, 16_000) == warnings


@pytest.mark.parametrize("gains", [(1, 1), (1, 0), (1, 0.5), (1, -0.5), (0, 1)])
def test_stereo_that_survives_its_downmix_is_well(gains):
    assert warnings_of(in_channels(*gains), 16_000) == set()


@pytest.mark.parametrize("gains", [(1, -1), (1, -0.9), (-0.5, 0.5)])
def test_channels_that_cancel_are_reported(gains):
    assert "phase_cancel" in warnings_of(in_channels(*gains), 16_000)


def test_independent_channels_do_not_cancel():
    wide = np.stack([noise(2, 16_000, seed=seed) for seed in (1, 2)], axis=1)
    assert warnings_of(wide, 16_000) == set()


def test_channels_that_cancel_outright_leave_silence():
    assert warnings_of(in_channels(1, -1), 16_000) == {"phase_cancel", "silent"}


def test_many_channels_with_one_voice_do_not_cancel():
    assert warnings_of(in_channels(*[1] + [0] * 31), 16_000) == {"downmixed"}


@pytest.mark.parametrize(("seconds", "warnings"), [(1.999, {"short"}), (2.0, set())])
def test_two_seconds_are_long_enough(seconds, warnings):
    assert warnings_of(music(seconds), 16_000) == warnings


@pytest.mark.parametrize("seconds", [0.1, 0.25, 5])
def test_statistics_do_not_depend_on_the_size_of_blocks(seconds):
    wave, rate = FAULTY["upsampled"]
    stereo = np.stack([wave, wave], axis=1) + np.float32(0.05)
    checks = mmmos.audio.warnings.SignalChecks(rate, 2)
    for i in range(0, len(stereo), round(seconds * rate)):
        block = stereo[i : i + round(seconds * rate)]
        checks.update(block, block.mean(axis=1))
    assert checks.samples == len(stereo)
    assert checks.warnings() == {"dc_offset", "upsampled"}


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.integers(0, 60_000), max_size=4), st.sampled_from(["upsampled", "clipped", "phase_cancel"]))
def test_merge_is_as_if_all_had_been_taken_in_at_once(edges, fault):
    wave, rate = FAULTY[fault]
    samples = to_clip(wave, rate, layout="channels_last").samples
    channels = samples.shape[1]
    whole, merged = (mmmos.audio.warnings.SignalChecks(rate, channels) for _ in range(2))
    for block in np.split(samples, sorted(edges)):
        part = mmmos.audio.warnings.SignalChecks(rate, channels)
        if len(block):
            for checks in (whole, part):
                checks.update(block, block.mean(axis=1))
        merged.merge(part)
    assert merged.samples == whole.samples == len(samples)
    assert merged.warnings() == whole.warnings()
    assert fault in merged.warnings() or fault == "upsampled"


def test_nothing_taken_in_gives_no_warning():
    assert mmmos.audio.warnings.SignalChecks(16_000, 1).warnings() == set()


@pytest.mark.parametrize("rate", [4_000, 768_000])
def test_any_sample_rate_can_be_checked(rate):
    assert warnings_of(noise(2, rate), rate) == ({"narrowband"} if rate == 4_000 else set())
