"""Timelines: the sound in columns, curves of windows, pictures and pages."""

from __future__ import annotations

import base64
import math
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmmos.audio.clip import Clip
from mmmos.audio.decoder import SequentialDecoder
from mmmos.audio.windows import Window, cut
from mmmos.errors import UsageError
from mmmos.report.curves import Timeline
from mmmos.report.sound import BANDS, COLUMNS, FLOOR_DB, RATE, SoundPicture, picture
from mmmos.report.timeline import check_timeline, make_timeline, timeline_data, write_timeline
from mmmos.scores import Scores
from tests.browser import data_of, rendered
from tests.sounds import music

SOUND = SoundPicture(0.0, 30.0, np.zeros(3, np.float32), np.ones(3, np.float32), np.zeros((3, BANDS), np.float32))


def window(start: float, end: float, value: float = 5.0, *warnings: str) -> Scores:
    return Scores(value, value, value, value, 0.5, id="a", start_time=start, end_time=end, warnings=warnings)


def timeline(*windows: Scores) -> Timeline:
    return Timeline("a", None, windows, SOUND)


def sound_of(wave: np.ndarray, rate: int = RATE) -> SoundPicture:
    return picture(cut(Clip("a", samples=wave, sample_rate=rate), [RATE], 0.0), 0.0, len(wave) / rate)


def test_curve_of_single_windows_is_steps():
    found = timeline(window(0, 10, 4), window(10, 20, math.nan, "silent"), window(20, 25, 6))
    assert not found.overlaps
    times, values, spread = zip(*found.curve("CE"), strict=True)
    assert times == (0, 10, 10, 20, 20, 25)
    assert values == pytest.approx((4, 4, math.nan, math.nan, 6, 6), nan_ok=True)
    assert set(spread) == {0.5}
    assert found.silence() == [(10, 20)]


def test_curve_of_overlapping_windows_is_at_their_middle():
    found = timeline(window(0, 10), window(2, 12), window(4, 13))
    assert [time for time, _, _ in found.curve("PQ")] == [0, 5, 7, 8.5, 13]  # and to the ends of the clip


def test_warnings_of_touching_windows_are_one_segment():
    found = timeline(window(0, 10, 5, "clipped"), window(10, 20, 5, "clipped", "short"), window(30, 40, 5, "clipped"))
    assert found.warnings() == {"clipped": [(0, 20), (30, 40)], "short": [(10, 20)]}


def test_picture_shows_level_and_frequency():
    time = np.arange(8 * RATE) / RATE
    wave = np.where(time < 4, 0.5 * np.sin(2 * np.pi * 300 * time), 0.1 * np.sin(2 * np.pi * 9000 * time))
    found = sound_of(wave.astype(np.float32))
    half = len(found.low) // 2
    assert found.high[: half - 2].min() == pytest.approx(0.5, abs=0.01)
    assert found.low[half + 2 :].max() == pytest.approx(-0.1, abs=0.01)
    low_band, high_band = found.mel[: half - 2].mean(0).argmax(), found.mel[half + 2 :].mean(0).argmax()
    assert low_band < BANDS / 4
    assert high_band > BANDS * 3 / 4
    assert found.mel.max() == 0
    assert found.mel.min() >= FLOOR_DB


def test_picture_of_silence_and_of_a_short_clip():
    found = sound_of(np.zeros(RATE // 10, np.float32))
    assert len(found.low) == 6
    assert (found.low == 0).all()
    assert np.isfinite(found.mel).all()


@pytest.mark.slow
def test_picture_needs_the_same_memory_for_long_clips():
    def peak(windows: int) -> int:
        noise = np.random.default_rng(0).normal(0, 0.1, 10 * RATE).astype(np.float32)

        def items() -> Iterator[Window]:
            for i in range(windows):
                yield Window(10.0 * i, 10.0 * i + 10, False, {RATE: noise.copy()})

        tracemalloc.start()
        found = picture(items(), 0.0, 10.0 * windows)
        assert len(found.low) == COLUMNS
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(60) < 1.1 * peak(6)


@pytest.mark.slow
def test_make_timeline_covers_the_windows(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", music(12), 16_000)
    clip = Clip("a.wav", str(tmp_path / "a.wav"), hop=2.0)
    decoder = SequentialDecoder()
    found = make_timeline(clip, [window(0, 10), window(2, 12)], decoder)
    decoder.close()
    assert (found.sound.start, found.sound.end) == (0, 12)
    assert found.sound.high.max() == pytest.approx(music(12).max(), abs=0.05)


def test_timeline_data_holds_the_spectrum():
    found = timeline_data(timeline(window(0, 10, 4, "clipped")), None)
    assert base64.b64decode(found["mel"]) == bytes([255]) * 3 * BANDS
    assert found["curves"]["PQ"] == [[0, 4.0, 0.0], [10, 4.0, 0.0]]
    assert found["warnings"][0]["segments"] == [(0, 10)]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_write_timeline_draws_a_picture(tmp_path: Path, suffix: str):
    found = timeline(window(0, 10, 4, "clipped"), window(10, 20, math.nan, "silent"), window(20, 30, 6))
    write_timeline(tmp_path / f"t{suffix}", found)
    first = (tmp_path / f"t{suffix}").read_bytes()
    assert first.startswith({".png": b"\x89PNG", ".svg": b"<?xml"}[suffix])
    write_timeline(tmp_path / f"t{suffix}", found)
    assert (tmp_path / f"t{suffix}").read_bytes() == first


def test_check_timeline_refuses_other_suffixes(tmp_path: Path):
    with pytest.raises(UsageError, match=r"timelines are written as \.png"):
        check_timeline(tmp_path / "t.gif")
    with pytest.raises(UsageError, match="there is no folder"):
        check_timeline(tmp_path / "no" / "t.html")


@pytest.mark.slow
def test_score_command_draws_a_timeline(
    tmp_path: Path, make_file: Callable[..., Path], run_mmmos: Callable[..., tuple[int, str, str]]
):
    make_file("a.wav", seconds=13.0)
    words = ("score", tmp_path / "a.wav", "--segments", "--hop", "3", "--plot", tmp_path / "t.html")
    status, stdout, stderr = run_mmmos(*words)
    assert status == 0, stderr
    assert stdout.count("\n") == 2
    data = data_of(tmp_path / "t.html")
    assert [item["start"] for item in data["windows"]] == [0, 3]
    assert data["source"].startswith("data:audio/")
    assert run_mmmos(*words)[0] == 2  # the page exists
    text, console = rendered(tmp_path / "t.html", tmp_path / "browser")
    assert console == []
    assert "0:03\u20130:13" in text


@pytest.mark.parametrize("words", [["--plot", "t.png"], ["--hop", "2"], ["--segments", "--plot", "t.png"]])
def test_score_command_refuses_unusable_plots(
    tmp_path: Path, words: list[str], run_mmmos: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, music(0.5), 16_000)
    status, _, stderr = run_mmmos("score", "a.wav", "b.wav", *words)
    assert status == 2
    assert "needs --segments" in stderr or "--plot draws one clip, not 2" in stderr
