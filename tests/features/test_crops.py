"""Which segments of a clip are extracted: all of it in windows, or 10 s anywhere in it, always the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip, to_clip
from mmmos.audio.windows import MIN_SECONDS, Window, cut
from mmmos.features.crops import Crop, plan_crops
from tests.sounds import music

MODES = ("random", "windows", "first")
CLIP = Clip("a", "a.wav")

durations = st.floats(0.05, 200.0) | st.sampled_from([10.0, 10.5, 20.0, 20.05, 20.1, 30.0])
starts = st.just(0.0) | st.floats(0.0, 30.0)


def bounds(crops: Sequence[Crop]) -> list[tuple[float, float | None]]:
    return [(crop.clip.start_time, crop.clip.end_time) for crop in crops]


@given(st.floats(0.01, 10.0), st.sampled_from(MODES), st.integers(1, 5))
def test_a_clip_up_to_10_s_is_taken_whole_and_once(duration: float, mode: str, count: int) -> None:
    (crop,) = plan_crops(CLIP, duration, mode, count, seed=0)
    assert crop.clip == CLIP  # so that its key is the same whatever is asked
    assert crop.weight == pytest.approx(duration / 10)


def test_first_takes_10_s_and_windows_take_a_rest_of_0_1_s() -> None:
    for duration, windows in ((10.001, 1), (10.09, 1), (10.1, 2), (10.3, 2), (10.5, 2)):
        assert bounds(plan_crops(CLIP, duration, "first", 1, 0)) == [(0.0, 10.0)]
        assert bounds(plan_crops(CLIP, duration, "windows", 1, 0)) == [(0.0, 10.0), (10.0, duration)][:windows]


@pytest.mark.parametrize("mode", MODES)
def test_less_than_a_sample_over_10_s_is_a_whole_clip(mode: str) -> None:
    for clip, duration in ((CLIP, 10 + 1e-9), (Clip("a", "a.wav", 0.3, 10.3 + 1e-12), 60.0)):
        assert plan_crops(clip, duration, mode, 5, 0) == (Crop(clip, 10.0),)


@given(st.floats(10.001, 500.0), starts)
def test_windows_cover_the_clip_and_weigh_what_they_hold(length: float, start: float) -> None:
    crops = plan_crops(Clip("a", "a.wav", start), start + length, "windows", 1, 0)
    edges = bounds(crops)
    assert edges[0][0] == start
    assert all(end == pytest.approx(next_start, abs=1e-9) for (_, end), (next_start, _) in pairwise(edges))
    left_out = start + length - edges[-1][1]
    assert left_out == pytest.approx(0, abs=1e-9) or 0 < left_out < MIN_SECONDS
    assert sum(crop.weight for crop in crops) == pytest.approx((length - left_out) / 10)
    for crop in crops:
        assert crop.clip.end_time - crop.clip.start_time + 1e-9 >= MIN_SECONDS
        assert crop.clip.end_time - crop.clip.start_time == pytest.approx(10 * crop.weight)
        assert crop.weight <= 1


@pytest.mark.parametrize("seconds", [10.0, 10.05, 10.1, 10.3, 10.5, 10.7, 20.0, 20.05, 20.1, 27.3])
@pytest.mark.parametrize("start", [0.0, 3.2])
def test_windows_are_those_that_scoring_cuts(seconds: float, start: float) -> None:
    clip = to_clip(music(start + seconds, 4_000), 4_000, start_time=start)
    cuts = [item for item in cut(clip, (4_000,), MIN_SECONDS) if isinstance(item, Window)]
    crops = plan_crops(clip, start + seconds, "windows", 1, 0)
    assert [crop.weight for crop in crops] == pytest.approx([window.weight for window in cuts])
    assert [crop.clip.start_time for crop in crops] == pytest.approx([window.start_time for window in cuts])


rooms = st.floats(1e-5, 1.0) | st.floats(0.01, 490.0) | st.sampled_from([0.001, 0.02, 0.4999, 0.5])


@given(rooms, starts, st.integers(1, 20), st.integers(0, 999))
def test_random_crops_are_10_s_inside_the_clip(room: float, start: float, count: int, seed: int) -> None:
    crops = plan_crops(Clip("a", "a.wav", start), start + 10 + room, "random", count, seed)
    assert len(crops) == count
    for crop in crops:
        assert crop.clip.end_time - crop.clip.start_time == pytest.approx(10)
        assert start <= crop.clip.start_time
        assert crop.clip.end_time <= start + 10 + room + 1e-9
        assert crop.weight == 1


@pytest.mark.slow
@given(rooms, starts, st.integers(0, 999))
def test_random_crops_reach_over_the_whole_room_of_every_length(room: float, start: float, seed: int) -> None:
    crops = plan_crops(Clip("a", "a.wav", start), start + 10 + room, "random", 200, seed)
    places = np.array([(crop.clip.start_time - start) / room for crop in crops])
    fractions = np.histogram(places, bins=4, range=(0, 1 + 1e-6))[0] / len(places)
    assert fractions == pytest.approx([0.25] * 4, abs=0.17)  # 5.5 standard deviations
    assert len(set(places)) > 50


@pytest.mark.slow
@given(st.floats(15.0, 500.0), st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_a_larger_count_begins_with_the_crops_of_a_smaller(length: float, few: int, more: int, seed: int) -> None:
    first, all_ = (plan_crops(CLIP, length, "random", count, seed) for count in (few, few + more))
    assert all_[:few] == first
    assert len(set(bounds(all_))) > 1


def test_random_crops_are_spread_over_the_clip() -> None:
    crops = plan_crops(CLIP, 110.0, "random", 2000, 0)
    starts = np.array([crop.clip.start_time for crop in crops])
    fractions = np.histogram(starts, bins=10, range=(0, 100))[0] / len(starts)
    assert fractions == pytest.approx([0.1] * 10, abs=0.03)


def test_random_crops_depend_on_seed_and_clip_and_nothing_else() -> None:
    def crops(path: str = "a.wav", seed: int = 0, name: str = "a") -> list[tuple[float, float | None]]:
        return bounds(plan_crops(Clip(name, path), 60.0, "random", 3, seed))

    np.random.seed(1)
    assert crops() == crops(path="elsewhere/a.wav") == crops(name="b")
    assert len({str(found) for found in (crops(), crops(seed=1), crops("b.wav"))}) == 3
    assert [start for start, _ in crops()] == [1.354, 16.642, 38.136]  # in every process and version


@pytest.mark.parametrize("mode", MODES)
def test_a_segment_is_the_clip(mode: str) -> None:
    short = Clip("a", "a.wav", 3.0, 9.0)
    assert plan_crops(short, 60.0, mode, 4, 0) == (Crop(short, 6.0),)
    long = Clip("a", "a.wav", 5.0, 31.0)
    edges = bounds(plan_crops(long, 60.0, mode, 40, 0))
    assert min(start for start, _ in edges) >= 5
    assert max(end for _, end in edges) <= 31
    if mode == "windows":
        assert edges == [(5, 15), (15, 25), (25, 31)]
    if mode == "first":
        assert edges == [(5, 15)]


@pytest.mark.parametrize("mode", MODES)
def test_a_segment_that_reaches_over_the_end_stops_there(mode: str) -> None:
    edges = bounds(plan_crops(Clip("a", "a.wav", 10.0, 99.0), 32.0, mode, 40, 0))
    assert max(end for _, end in edges) <= 32
    over = Clip("a", "a.wav", 25.0, 99.0)
    assert bounds(plan_crops(over, 32.0, mode, 3, 0)) == [(25.0, 99.0)]  # 7 s, whole


@pytest.mark.parametrize("mode", MODES)
def test_a_clip_of_unknown_length_is_taken_whole(mode: str) -> None:
    assert plan_crops(CLIP, math.nan, mode, 3, 0) == (Crop(CLIP, 10.0),)


@given(durations, starts, st.sampled_from(MODES), st.integers(1, 4))
def test_there_is_always_a_crop_and_never_one_over_10_s(duration: float, start: float, mode: str, count: int) -> None:
    crops = plan_crops(Clip("a", "a.wav", start), duration, mode, count, 0)
    assert crops
    assert all(0 < crop.weight <= 1 for crop in crops)
    for begin, end in bounds(crops):
        assert (end or duration) - begin <= 10 + 1e-9
