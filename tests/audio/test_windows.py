"""A clip as windows: the same sound as in one piece, tiling the clip, in bounded memory."""

from __future__ import annotations

import tracemalloc
from itertools import product

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip, to_clip
from mmmos.audio.decode import from_array
from mmmos.audio.warnings import SignalChecks
from mmmos.audio.windows import WINDOW_SECONDS, ClipReport, Window, cut, probe
from mmmos.errors import AudioError, UsageError
from tests.audio.test_decode import write_ffmpeg
from tests.sounds import faded_sine, music

ODD_RATES = (44_101, 47_999, 22_051, pytest.param(384_000, marks=pytest.mark.slow))


def cut_all(
    clip: Clip, rates: tuple[int, ...] = (16_000,), min_seconds: float = 0.1
) -> tuple[list[Window], ClipReport]:
    *windows, report = cut(clip, rates, min_seconds)
    assert isinstance(report, ClipReport)
    return windows, report


def joined(windows: list[Window], rate: int = 16_000) -> np.ndarray:
    return np.concatenate([window.waves[rate] for window in windows])


def code_of(clip: Clip) -> str:
    with pytest.raises(AudioError) as caught:
        cut_all(clip)
    return caught.value.code


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000, *ODD_RATES])
def test_windows_equal_the_whole_signal_resampled_at_once(rate):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, round(12.3456 * rate)).astype(np.float32)
    windows, report = cut_all(to_clip(wave, rate), (16_000, 24_000))
    for wanted in (16_000, 24_000):
        whole = soxr.resample(wave, rate, wanted, quality="HQ") if wanted != rate else wave
        ours = joined(windows, wanted)
        assert abs(len(ours) - len(whole)) <= 1
        size = min(len(ours), len(whole))
        np.testing.assert_allclose(ours[:size], whole[:size], atol=1e-6)
    assert report.duration == len(wave) / rate


@pytest.mark.slow
@given(
    samples=st.integers(400, 180_000) | st.sampled_from([40_000, 80_000, 80_001, 80_399]), start=st.integers(0, 90_000)
)
def test_windows_tile_the_segment(samples, start):
    rate, wanted, least = 4_000, 8_000, 0.1
    clip = to_clip(np.ones(start + samples, np.float32), rate, start_time=start / rate)
    windows, report = cut_all(clip, (wanted,), least)
    seconds = samples / rate
    left_out = seconds % WINDOW_SECONDS if seconds > WINDOW_SECONDS and seconds % WINDOW_SECONDS < least else 0
    edges = [window.start_time for window in windows] + [windows[-1].end_time]
    np.testing.assert_allclose([window.end_time for window in windows], edges[1:])
    assert edges[0] == report.start_time == start / rate
    assert edges[-1] == pytest.approx(report.end_time - left_out)
    assert [report.end_time, report.duration] == pytest.approx([(start + samples) / rate] * 2)
    assert [window.weight for window in windows[:-1]] == pytest.approx([1] * (len(windows) - 1))
    assert sum(window.weight for window in windows) == pytest.approx((seconds - left_out) / WINDOW_SECONDS)
    for window in windows:
        assert len(window.waves[wanted]) == round((window.end_time - window.start_time) * wanted)


def test_short_last_part_is_left_out_and_counted():
    clip = to_clip(music(20.05), 16_000)
    windows, report = cut_all(clip, min_seconds=0.1)
    assert [window.end_time for window in windows] == [10, 20]
    assert (report.end_time, report.duration) == (20.05, 20.05)
    assert len(cut_all(clip, min_seconds=0.05)[0]) == 3


@pytest.mark.parametrize(("seconds", "code"), [(0.0999, "too_short"), (0.0, "no_samples")])
def test_a_clip_that_is_too_short_is_refused(seconds, code):
    assert code_of(to_clip(music(seconds), 16_000)) == code
    assert len(cut_all(to_clip(music(0.1), 16_000))[0]) == 1


def test_each_rate_is_cut_as_if_it_were_alone():
    clip = to_clip(music(12, 44_100), 44_100)
    together, _ = cut_all(clip, (16_000, 24_000, 44_100, 48_000))
    for rate in together[0].waves:
        alone, _ = cut_all(clip, (rate,))
        np.testing.assert_array_equal(joined(together, rate), joined(alone, rate))


def test_channels_are_averaged():
    channels = np.stack([music(2, seed=seed) for seed in range(3)])
    windows, report = cut_all(to_clip(channels, 16_000))
    np.testing.assert_allclose(joined(windows), channels.mean(axis=0), atol=1e-7)
    assert report.info.channels == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac"])
def test_a_segment_is_cut_like_a_clip_of_its_own(make_file, name):
    path = str(make_file(name, seconds=14, rate=44_100))
    whole = soundfile.read(path, dtype="float32")[0]
    segment, report = cut_all(Clip("a", path, 1.5, 13.25))
    alone, _ = cut_all(to_clip(whole[round(1.5 * 44_100) : round(13.25 * 44_100)], 44_100))
    np.testing.assert_allclose(joined(segment), joined(alone), atol=1e-6)
    assert [(window.start_time, window.end_time) for window in segment] == [(1.5, 11.5), (11.5, 13.25)]
    assert (report.start_time, report.end_time, report.duration) == (1.5, 13.25, 14)


@pytest.mark.parametrize("start", [-1.0, float("nan"), float("inf")])
def test_a_segment_start_is_finite_and_not_negative(start):
    assert code_of(to_clip(music(2), 16_000, start)) == "bad_segment"


@pytest.mark.parametrize("end", [0.5, 1.0, -1.0, float("nan"), float("inf")])
def test_a_segment_cannot_end_before_it_starts(end):
    assert code_of(to_clip(music(2), 16_000, 1.0, end)) == "bad_segment"


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "array"])
@pytest.mark.parametrize(("start", "end"), [(2.0, None), (2.0, 3.0), (100.0, 101.0)])
def test_a_segment_past_the_end_is_out_of_range(make_file, name, start, end):
    clip = to_clip(music(2), 16_000, start, end) if name == "array" else Clip("a", str(make_file(name)), start, end)
    assert code_of(clip) == "segment_out_of_range"


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("length", [1e-6, 0.05])
def test_a_segment_that_is_too_short_is_reported(start, length):
    assert code_of(to_clip(music(2), 16_000, start, start + length)) == "too_short"


@pytest.mark.parametrize(
    ("end", "warned"), [(2.0, False), (2.00001, False), (2.0001, False), (2.001, True), (50.0, True)]
)
def test_a_segment_that_ends_late_is_clamped(make_file, end, warned):
    windows, report = cut_all(Clip("a", str(make_file("a.wav")), 0.5, end))
    assert ("segment_clamped" in report.warnings) == warned
    assert windows[-1].end_time == report.end_time == report.duration == 2.0


@pytest.mark.slow
@pytest.mark.parametrize("rate", ODD_RATES)
def test_odd_rates_have_the_right_length(make_file, rate):
    windows, report = cut_all(Clip("a", str(make_file("a.wav", seconds=1.5, rate=rate))))
    assert (report.info.sample_rate, report.duration) == (rate, pytest.approx(1.5, abs=1 / rate))
    assert len(windows[0].waves[16_000]) == 24_000
    expected = music(1.5)  # its chord, if not its noise
    assert np.corrcoef(windows[0].waves[16_000], expected)[0, 1] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("rate", [44_101, 384_000])
def test_memory_holds_a_window_and_a_block_however_long_the_clip(rate):
    def peak(seconds: int) -> int:
        endless = np.broadcast_to(np.float32(0.01), (seconds * rate, 1))
        tracemalloc.start()
        windows = sum(
            isinstance(item, Window) for item in cut(Clip("a", samples=endless, sample_rate=rate), (16_000,), 0.1)
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert windows == seconds / WINDOW_SECONDS
        return most

    window, block = 4 * 16_000 * WINDOW_SECONDS, 4 * rate
    short, long = peak(20), peak(60)
    assert long < 4 * window + 4 * block
    assert long < short + block


def test_a_window_is_silent_by_itself():
    wave = np.concatenate([music(10), np.zeros(160_000, np.float32), music(5)])
    windows, report = cut_all(to_clip(wave, 16_000))
    assert [window.silent for window in windows] == [False, True, False]
    assert report.warnings == ("partly_silent",)


def test_sound_at_one_rate_is_sound_at_all():
    whistle = faded_sine(10_000, 2.0, level=0.1)
    (window,), _ = cut_all(to_clip(whistle, 48_000), (16_000, 48_000))
    assert not window.silent


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_clip_without_any_sound_is_silent(rate):
    windows, report = cut_all(to_clip(np.zeros(12 * rate, np.float32), rate))
    assert all(window.silent for window in windows)
    assert report.warnings == ("silent",)


def test_a_sample_that_is_no_number_is_an_error():
    wave = music(2)
    wave[20_000] = np.nan
    assert code_of(to_clip(wave, 16_000)) == "non_finite_audio"
    assert len(cut_all(to_clip(wave, 16_000, end_time=1.2))[0]) == 1


@pytest.mark.parametrize("rate", [1, 100, 3_999, 768_001, 2_822_400])
def test_rates_that_no_audio_has_are_refused_before_any_work(tmp_path, rate, monkeypatch):
    monkeypatch.setattr("mmmos.audio.decode.Source.blocks", lambda *_: pytest.fail("the file was read"))
    soundfile.write(tmp_path / "a.wav", np.zeros(20_000), rate)
    for clip in (to_clip(np.zeros(20_000, np.float32), rate), Clip("a", str(tmp_path / "a.wav"))):
        with pytest.raises(AudioError, match=rf"{rate} Hz is not within 4000 to 768000 Hz: .*resample") as caught:
            cut_all(clip)
        assert caught.value.code == "bad_sample_rate"
    with pytest.raises(AudioError, match=f"{rate} Hz"):
        probe(Clip("a", str(tmp_path / "a.wav")))


@pytest.mark.parametrize("rate", [4_000, 768_000])
def test_rates_at_the_limits_are_cut(rate):
    (window,), _ = cut_all(to_clip(music(0.5, rate), rate))
    assert len(window.waves[16_000]) == 8_000


def test_warnings_do_not_depend_on_the_decoder(tmp_path):
    raised = soxr.resample(music(3), 16_000, 48_000)[:, None]
    soundfile.write(tmp_path / "a.wav", raised, 48_000)
    write_ffmpeg(tmp_path / "a.m4a", "alac", raised, 48_000)
    for name in ("a.wav", "a.m4a"):
        assert cut_all(Clip("a", str(tmp_path / name)))[1].warnings == ("upsampled",)


def test_warnings_are_sorted(make_file):
    path = make_file("a.wav", seconds=0.5, rate=8_000, channels=3)
    path.write_bytes(path.read_bytes()[:-100])
    assert cut_all(Clip("a", str(path)))[1].warnings == ("downmixed", "narrowband", "short", "truncated")


def test_a_tail_just_as_long_as_the_shortest_clip_is_kept():
    clip = Clip("array", samples=np.zeros((161_600, 1), np.float32), sample_rate=16_000)
    *windows, _ = cut(clip, [16_000], 0.1)
    assert [len(window.waves[16_000]) for window in windows] == [160_000, 1_600]


EDGE_RATES = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 44_101, 48_000, 96_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rate"),
    [*product(("array", "wav"), EDGE_RATES), *product(("tensor", "flac", "m4a", "segment"), (8_000, 44_101, 48_000))],
)
def test_sound_that_stops_at_the_edge_of_a_window_leaves_silence(tmp_path, kind, rate):
    if kind == "tensor":
        torch = pytest.importorskip("torch")
    sound, zeros = music(10, rate), np.zeros(10 * rate, np.float32)
    sound *= 0.99 / np.abs(sound).max()
    sound[-rate:] = 0.99 * np.sign(sound[-rate:])  # as abrupt as can be
    start = 1.5 if kind == "segment" else 0.0
    wave = np.concatenate([sound[: round(start * rate)], sound, zeros, sound[::-1]])
    path = str(tmp_path / f"a.{kind}")
    if kind in ("wav", "flac"):
        soundfile.write(path, wave, rate, "PCM_16")
    elif kind == "m4a":
        write_ffmpeg(tmp_path / "a.m4a", "alac", wave[:, None], rate)
    clips = {
        "array": lambda: to_clip(wave, rate),
        "tensor": lambda: to_clip(torch.from_numpy(wave), rate),
        "segment": lambda: to_clip(wave, rate, start_time=start),
    }
    windows, report = cut_all(clips.get(kind, lambda: Clip("a", path))(), (16_000, 24_000))
    assert [window.silent for window in windows] == [False, True, False]
    assert windows[1].warnings == ("silent",)
    assert "partly_silent" in report.warnings


def test_sound_in_the_last_samples_is_not_silence():
    wave = np.concatenate([np.zeros(440_990, np.float32), music(5, 44_100)])
    assert [window.silent for window in cut_all(to_clip(wave, 44_100))[0]] == [False, False]


@pytest.mark.slow
def test_clipping_is_of_the_windows_that_clip():
    rate = 4_000
    wave = 0.3 * np.random.default_rng(0).uniform(-1, 1, 170 * rate).astype(np.float32)
    wave[102 * rate : 150 * rate] = np.clip(100 * wave[102 * rate : 150 * rate], -1, 1)
    windows, report = cut_all(to_clip(wave, rate))
    assert [window.start_time for window in windows if "clipped" in window.warnings] == [100, 110, 120, 130, 140]
    assert "clipped" in report.signal_warnings


def faulty_parts(rate: int) -> list[np.ndarray]:
    """Ten seconds [S, 2] of each fault, the last one shorter."""
    seconds = np.stack([music(10, rate, seed=1), 0.5 * music(10, rate, seed=2)], axis=1)
    return [
        seconds,
        np.clip(20 * seconds, -1, 1),
        seconds + np.float32(0.1),
        seconds * np.float32([1, -2]),
        np.zeros_like(seconds),
        np.repeat(soxr.resample(seconds[:, :1], rate, 8_000), 2, axis=1).repeat(rate // 8_000, axis=0),
        seconds[: rate // 2],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16_000, 32_000])
def test_a_window_has_the_warnings_of_a_clip_of_its_own(rate):
    parts = faulty_parts(rate)
    windows, report = cut_all(to_clip(np.concatenate(parts), rate, layout="channels_last"))
    alone = [cut_all(to_clip(part, rate, layout="channels_last"))[1] for part in parts]
    assert [window.warnings for window in windows] == [report.signal_warnings for report in alone]
    found = {warning for window in windows for warning in window.warnings}
    assert {"clipped", "dc_offset", "phase_cancel", "silent", "short"} <= found
    assert "short" not in report.warnings
    assert report.file_warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.0, 3.1])
@pytest.mark.parametrize("rate", [11_025, 16_000])
def test_a_clip_has_the_warnings_of_its_signal_in_one_piece(rate, start):
    for wave in (*faulty_parts(16_000)[:4], np.concatenate(faulty_parts(16_000))):
        whole = SignalChecks(rate, 2)
        clip = to_clip(wave, rate, start, layout="channels_last")
        for block in from_array(clip.samples[round(start * rate) :], rate).blocks():
            whole.update(block, block.mean(axis=1))
        _, report = cut_all(clip)
        assert set(report.signal_warnings) - {"silent", "partly_silent"} == whole.warnings()


def test_what_is_wrong_with_a_file_is_not_of_its_windows(make_file):
    path = make_file("a.wav", seconds=13, channels=3)
    path.write_bytes(path.read_bytes()[:-100])
    windows, report = cut_all(Clip("a", str(path), 0.0, 20.0))
    assert report.file_warnings == ("downmixed", "segment_clamped", "truncated")
    assert [window.warnings for window in windows] == [(), ()]


@pytest.mark.parametrize("scale", [2**15, 2**23, 2**31])
@pytest.mark.parametrize("name", ["a.wav", "array"])
def test_samples_scaled_like_integers_are_refused(tmp_path, name, scale):
    wave = music(12)
    wave[: 11 * 16_000] /= 1e6  # found in the last second
    wave *= scale
    soundfile.write(tmp_path / "a.wav", wave, 16_000, "FLOAT")
    clip = to_clip(wave, 16_000) if name == "array" else Clip("a", str(tmp_path / name))
    with pytest.raises(AudioError, match=f"divide them by {scale}, ") as caught:
        cut_all(clip)
    assert caught.value.code == "not_normalized"


@pytest.mark.parametrize(
    ("peak", "code"), [(4.01, "not_normalized"), (1e20, "not_normalized"), (np.inf, "non_finite_audio")]
)
def test_one_sample_off_the_scale_is_enough(peak, code):
    wave = music(2)
    wave[20_000] = -peak
    assert code_of(to_clip(wave, 16_000)) == code
    assert len(cut_all(to_clip(wave, 16_000, end_time=1.2))[0]) == 1
    wave[20_000] = 4.0
    assert len(cut_all(to_clip(wave, 16_000))[0]) == 1


# --- windows that overlap


@pytest.mark.slow
@pytest.mark.parametrize("hop", [2.0, 0.7, 10.0])
@pytest.mark.parametrize("seconds", [3.0, 10.0, 14.05, 23.4])
def test_hop_windows_are_segments_of_the_clip(hop, seconds):
    rate = 16_000
    wave = np.random.default_rng(1).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)
    windows, _ = cut_all(Clip("a", samples=wave, sample_rate=rate, hop=hop))
    assert [window.start_time for window in windows] == pytest.approx([i * hop for i in range(len(windows))])
    assert all(window.end_time < seconds for window in windows[:-1])
    assert seconds - windows[-1].end_time < 0.1  # what is left is shorter than a window may be
    for window in windows:
        start, end = round(window.start_time * rate), round(window.end_time * rate)
        np.testing.assert_array_equal(window.waves[rate], wave[start:end])


def test_hop_windows_equal_the_whole_signal_resampled_at_once():
    wave = np.random.default_rng(2).uniform(-0.5, 0.5, 15 * 44_100).astype(np.float32)
    windows, _ = cut_all(Clip("a", samples=wave, sample_rate=44_100, hop=1.1))
    whole = soxr.resample(wave, 44_100, 16_000, quality="HQ")
    for window in windows:
        start = round(window.start_time * 16_000)
        ours = window.waves[16_000]
        size = min(len(ours), len(whole) - start)
        np.testing.assert_allclose(ours[:size], whole[start : start + size], atol=1e-6)
        assert size >= len(ours) - 1


@pytest.mark.slow
def test_hop_windows_have_the_warnings_of_their_own_signal():
    quiet = np.zeros(12 * 16_000, dtype=np.float32)
    loud = np.clip(8 * music(13), -1, 1).astype(np.float32)
    wave = np.concatenate([loud, quiet])
    windows, report = cut_all(Clip("a", samples=wave, sample_rate=16_000, hop=2.5))
    for window in windows:
        part = Clip(
            "a", samples=wave[round(window.start_time * 16_000) : round(window.end_time * 16_000)], sample_rate=16_000
        )
        ((alone,), _) = cut_all(part)
        assert (window.warnings, window.silent) == (alone.warnings, alone.silent)
    _, whole = cut_all(Clip("a", samples=wave, sample_rate=16_000))
    assert set(report.warnings) == {*whole.warnings, "partly_silent"} == {"clipped", "partly_silent"}


@pytest.mark.parametrize("hop", [0, 0.1, 10.5, float("nan")])
def test_clip_refuses_other_hops(hop):
    with pytest.raises(UsageError, match=r"windows start every 0.25 to 10 s, not every"):
        Clip("a", hop=hop)
