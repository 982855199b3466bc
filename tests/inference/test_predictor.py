"""Audio in, scores out: whatever form, company and order the audio comes in."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch

import mmmos
from mmmos.audio.clip import Clip
from mmmos.audio.decoder import Decoder, SequentialDecoder
from mmmos.audio.prefetch import PrefetchingDecoder
from mmmos.audio.windows import ClipReport, cut
from mmmos.encoders.base import EncoderSpec, encode_windows
from mmmos.encoders.table import ENCODERS
from mmmos.errors import AudioError, ModelFormatError, ModelNotFoundError, SampleRateError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.inference.predictor import Predictor, from_pretrained
from mmmos.model.folder import save_ensemble
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.model.info import ModelInfo
from mmmos.model.load import load_model
from mmmos.model.quality import ModelConfig
from mmmos.scores import AXES, Scale, Scores
from mmmos.version import VERSION
from tests.recorded_progress import RecordedProgress
from tests.sounds import SAMPLES, music
from tests.toys import CPU, SlowToy, ToyEncoder, toy_config, toy_member, toy_model

RATE = 16_000


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "toy", ToyEncoder)
    monkeypatch.setitem(ENCODERS, "slow", SlowToy)


@pytest.fixture(scope="module")
def toys() -> Iterator[Predictor]:
    """An ensemble of two on the toy encoder, which measures how loud a clip is."""
    config = toy_config(fusion=FusionConfig("mean_std", "none"))
    with mock.patch.dict(ENCODERS, {"toy": ToyEncoder}):
        predictor = Predictor(toy_model(toy_member(0, config), toy_member(1, config)), CPU)
    yield predictor
    predictor.close()


def axes(scores: Scores) -> list[float]:
    return [scores[axis] for axis in AXES]


def spread(scores: Scores) -> list[float]:
    return [scores.CE_std, scores.CU_std, scores.PC_std, scores.PQ_std]


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_path_floats_integers_and_tensor_agree(toys: Predictor, make_file: Callable[..., Path], rate: int) -> None:
    path = make_file("a.wav", 11.3, rate, channels=2, subtype="PCM_16")
    floats = soundfile.read(path, dtype="float32")[0].T
    integers = soundfile.read(path, dtype="int16")[0].T
    expected = toys.score(path)
    assert not any(map(math.isnan, axes(expected)))
    leaf = torch.from_numpy(floats).requires_grad_()
    for samples in (floats, floats.astype(np.float64), integers, leaf, torch.from_numpy(integers)):
        assert axes(toys.score(samples, sample_rate=rate)) == axes(expected)
    assert axes(toys.score(str(path))) == axes(expected)
    assert axes(toys.score(floats.T, sample_rate=rate, layout="channels_last")) == axes(expected)
    assert axes(toys.score(floats[0], sample_rate=rate)) == pytest.approx(axes(expected), abs=1e-5)


@pytest.mark.slow
def test_same_clip_same_score_every_time(toys: Predictor, make_file: Callable[..., Path]) -> None:
    path = make_file("a.wav", 3.0, 22_050)
    first = toys.score(path)
    toys.score(make_file("b.wav", 4.0))
    assert axes(toys.score(path)) == axes(first)
    another = Predictor(toys.model, CPU)
    assert axes(another.score(path)) == axes(first)
    another.close()


@pytest.mark.slow
def test_the_row_reports_what_was_scored(toys: Predictor, make_file: Callable[..., Path]) -> None:
    path = make_file("a.wav", 25.0, 22_050, channels=2)
    scores = toys.score(path, start_time=2.0, end_time=14.0)
    assert (scores.id, scores.path, scores.status, scores.error) == (str(path), str(path), "ok", None)
    assert (scores.start_time, scores.end_time, scores.duration) == (2.0, 14.0, 25.0)
    assert (scores.sample_rate, scores.channels, scores.n_windows) == (22_050, 2, 2)
    array = toys.score(music(1.0), sample_rate=RATE)
    assert (array.path, array.duration, array.end_time, array.n_windows) == (None, 1.0, 1.0, 1)


def test_list_of_clips_gives_results_and_errors_in_order(
    toys: Predictor, make_file: Callable[..., Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    paths = [make_file("a.wav", 1.0), tmp_path / "nosuch.wav", make_file("b.wav", 12.0), text, make_file("c.wav", 0.5)]
    found = toys.score(paths)
    assert [scores.id for scores in found] == list(map(str, paths))
    assert [scores.error.code if scores.error else None for scores in found] == [
        None,
        "not_found",
        None,
        "unsupported_format",
        None,
    ]
    for path, scores in zip(paths, found, strict=True):
        if scores.error:
            assert all(map(math.isnan, axes(scores)))
            with pytest.raises(AudioError) as caught:
                toys.score(path)
            assert (caught.value.code, str(caught.value)) == (scores.error.code, scores.error.message)
        else:
            assert scores == replace(toys.score(path), id=scores.id)
    assert [axes(scores) for scores in toys.score((paths[0], paths[2]))] == [axes(found[0]), axes(found[2])]
    assert toys.score([]) == []


def test_a_list_of_one_is_a_list(toys: Predictor) -> None:
    wave = music(1.0)
    (scores,) = toys.score([wave], sample_rate=RATE)
    assert axes(scores) == axes(toys.score(wave, sample_rate=RATE))


def test_channels_last_is_refused_unless_it_is_said(toys: Predictor) -> None:
    samples = np.stack([music(1.0), music(1.0, seed=1)], axis=1)
    with pytest.raises(TypeError, match="layout='channels_last'"):
        toys.score(samples, sample_rate=RATE)
    last = toys.score(samples, sample_rate=RATE, layout="channels_last")
    assert last.channels == 2
    assert axes(last) == axes(toys.score(samples.T, sample_rate=RATE))


@pytest.mark.parametrize("audio", [None, 7, {"path": "a.wav"}, np.zeros((2, 2, 400)), np.zeros(400, complex)])
def test_what_is_no_audio_is_refused(toys: Predictor, audio: object) -> None:
    for given in (audio, [music(1.0), audio]):
        with pytest.raises(TypeError):
            toys.score(given, sample_rate=RATE)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [SequentialDecoder(), PrefetchingDecoder(2)])
def test_bytes_and_open_files_score_as_their_path(make_file: Callable[..., Path], decoder: Decoder) -> None:
    path = make_file("a.flac", 11.3, 44_100, channels=2)
    with Predictor(toy_model(toy_member(0)), CPU, decoder=decoder) as toys, open(path, "rb") as file:
        expected = toys.score(path)
        found = toys.score([path.read_bytes(), file, path.read_bytes()[:100]])
        assert [(scores.id, scores.path) for scores in found] == [("bytes", None), (str(path), None), ("bytes", None)]
        assert [axes(scores) for scores in found[:2]] == [axes(expected)] * 2
        assert found[2].status == "error"
        assert file.read(4) == b"fLaC"


def test_stream_takes_clips_alone(toys: Predictor) -> None:
    with pytest.raises(TypeError, match=r"stream takes mmmos\.Clip objects, not str"):
        list(toys.stream(["a.wav"]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_score_that_is_no_number_is_an_error_of_its_clip(value: float) -> None:
    member = toy_member(0)
    member.model.heads.axes["PQ"][-1].bias.fill_(value)
    toys = Predictor(toy_model(member), CPU)
    first, silent = toys.score([music(1.0), np.zeros(2 * RATE)], sample_rate=RATE)
    assert (first.status, first.error.code) == ("error", "scoring_failed")
    assert all(map(math.isnan, axes(first)))
    assert silent.warnings[0] == "silent"
    model = replace(toys.model, info=ModelInfo(rated=("CE", "CU", "PC")))
    assert Predictor(model, CPU).score(music(1.0), sample_rate=RATE).status == "ok"


def test_scores_beyond_the_scale_are_clipped_with_a_warning(toys: Predictor) -> None:
    raw = toys.score(music(25.0), sample_rate=RATE)
    end = sorted(axes(raw))[2]  # one axis is on the end of this scale, one beyond
    model = replace(toys.model, info=ModelInfo(label_range=(-10.0, end)))
    scores = Predictor(model, CPU).score(music(25.0), sample_rate=RATE)
    assert axes(scores) == [min(score, end) for score in axes(raw)]
    assert ("out_of_range" in raw.warnings, "out_of_range" in scores.warnings) == (False, True)


def test_members_clipped_one_by_one_are_a_warning_too(toys: Predictor) -> None:
    raw = toys.score(music(1.0), sample_rate=RATE)
    end = raw.PQ + raw.PQ_std / 2  # beyond the mean, within the spread
    model = replace(toys.model, info=ModelInfo(rated=("PQ",), label_range=(-10.0, end), clip_output=True))
    scores = Predictor(model, CPU).score(music(1.0), sample_rate=RATE)
    assert scores.PQ < raw.PQ
    assert "out_of_range" in scores.warnings


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_without_windows_are_refused(toys: Predictor, batch_size: int) -> None:
    with pytest.raises(UsageError, match="from 1 on"):
        Predictor(toys.model, CPU, batch_size=batch_size)


def test_a_model_is_named_by_text_or_a_path() -> None:
    with pytest.raises(TypeError, match="not int"):
        mmmos.load(3)


def test_repr_of_a_predictor_is_one_line(toys: Predictor) -> None:
    assert repr(toys) == "<Predictor 'toys': toy, 2 members, scale 0-10, cpu, float32>"


def test_samples_need_a_rate_and_files_have_their_own(toys: Predictor, make_file: Callable[..., Path]) -> None:
    for rate in (None, 0, -16_000):
        with pytest.raises(SampleRateError, match="sample_rate="):
            toys.score(music(1.0), sample_rate=rate)
    with pytest.raises(SampleRateError, match="its own sample rate"):
        toys.score(make_file("a.wav"), sample_rate=RATE)


def test_a_long_clips_score_is_the_weighted_mean_of_its_windows(
    toys: Predictor, make_file: Callable[..., Path]
) -> None:
    path = make_file("a.wav", 25.0, subtype="FLOAT")
    samples, _ = soundfile.read(path, dtype="float32")
    samples[20 * RATE :] *= 0.03
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    parts, whole = toys.segments(path), toys.score(path)
    assert [(part.start_time, part.end_time, part.n_windows) for part in parts] == [
        (0, 10, 1),
        (10, 20, 1),
        (20, 25, 1),
    ]
    values = np.array([axes(part) for part in parts])
    np.testing.assert_allclose(axes(whole), np.average(values, axis=0, weights=[1, 1, 0.5]), rtol=1e-12)
    assert np.abs(values.mean(axis=0) - axes(whole)).min() > 1e-3  # the weights matter


def test_a_window_is_scored_as_the_clip_it_is(toys: Predictor) -> None:
    samples = music(23.0)
    for i, part in enumerate(toys.segments(samples, sample_rate=RATE)):
        alone = toys.score(samples[i * 10 * RATE :][: 10 * RATE], sample_rate=RATE)
        assert axes(part) == pytest.approx(axes(alone), abs=1e-6)
        assert spread(part) == pytest.approx(spread(alone), abs=1e-6)


@pytest.mark.parametrize("kind", ["file", "array"])
def test_a_segment_is_scored_as_a_clip_of_its_own(toys: Predictor, make_file: Callable[..., Path], kind: str) -> None:
    path = make_file("a.wav", 5.0)
    samples = soundfile.read(path, dtype="float32")[0]
    options = {"start_time": 1.5, "end_time": 3.25}
    given = toys.score(path, **options) if kind == "file" else toys.score(samples, sample_rate=RATE, **options)
    assert axes(given) == axes(toys.score(samples[24_000:52_000], sample_rate=RATE))
    assert axes(given) != axes(toys.score(path))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [2, 3, 4, 100])
def test_batches_change_no_score(
    toys: Predictor, make_file: Callable[..., Path], tmp_path: Path, batch_size: int
) -> None:
    bad = make_file("bad.wav", 25.0, subtype="FLOAT")
    samples, rate = soundfile.read(bad, dtype="float32")
    samples[22 * rate] = np.nan  # found when two of its windows are waiting already
    soundfile.write(bad, samples, rate, subtype="FLOAT")
    paths = [make_file(f"{seconds}.wav", seconds) for seconds in (0.7, 23.0, 10.0, 1.3)]
    paths[2:2] = [bad, tmp_path / "nosuch.wav"]
    one_by_one = toys.score(paths)
    batched = Predictor(toys.model, CPU, batch_size=batch_size)
    for ours, expected in zip(batched.score(paths), one_by_one, strict=True):
        assert axes(ours) == pytest.approx(axes(expected), abs=1e-4, nan_ok=True)
        unscored = {axis: 0.0 for axis in (*AXES, *(f"{axis}_std" for axis in AXES))}
        assert replace(ours, **unscored) == replace(expected, **unscored)
    assert [scores.status for scores in one_by_one] == ["ok", "ok", "error", "error", "ok", "ok"]
    assert one_by_one[2].error.code == "non_finite_audio"
    batched.close()


@pytest.mark.slow
def test_real_encoders_do_not_depend_on_neighbours(scorer: Predictor) -> None:
    clips = [music(seconds, seed=i) for i, seconds in enumerate((0.5, 3.0, 1.2, 0.5))]
    batched = Predictor(scorer.model, CPU, batch_size=4)
    for ours, clip in zip(batched.score(clips, sample_rate=RATE), clips, strict=True):
        assert axes(ours) == pytest.approx(axes(scorer.score(clip, sample_rate=RATE)), abs=1e-4)


def test_silent_windows_have_no_weight(toys: Predictor) -> None:
    audio, silence = music(10.0), np.zeros(10 * RATE, np.float32)
    alone = toys.score(audio, sample_rate=RATE)
    for parts in ([audio, silence], [silence, audio, silence]):
        scores = toys.score(np.concatenate(parts), sample_rate=RATE)
        assert axes(scores) == axes(alone)
        assert scores.warnings == ("partly_silent",)
        assert scores.n_windows == len(parts)
    first, second = toys.segments(np.concatenate([silence, audio]), sample_rate=RATE)
    assert all(map(math.isnan, axes(first)))
    assert "silent" in first.warnings
    assert axes(second) == axes(alone)
    assert "silent" not in second.warnings


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [SequentialDecoder(), PrefetchingDecoder(1)])
def test_rows_of_segments_have_their_own_warnings(tmp_path: Path, decoder: Decoder) -> None:
    config = toy_config(heads=HeadConfig(domains=("music", "sound", "noise")))
    rate = 44_100  # is resampled, so that the end of the sound rings
    sound = 0.9 * np.sign(music(10.0, rate))
    parts = [sound, np.zeros_like(sound), np.clip(50 * sound, -1, 1), music(0.6, rate)]
    wave = np.concatenate(parts)[:, None].repeat(3, axis=1)
    soundfile.write(tmp_path / "a.wav", wave, rate, "PCM_16")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-600])
    of_file = ["downmixed", "truncated"]
    with Predictor(toy_model(toy_member(0, config)), CPU, decoder=decoder) as predictor:
        clips = [Clip("a", str(tmp_path / "a.wav"))]
        (whole,), rows = list(predictor.stream(clips)), list(predictor.stream(clips, segments=True))
    own = [[word for word in row.warnings if word not in of_file] for row in rows]
    assert own == [[], ["silent"], ["clipped"], ["short"]]
    assert all(set(of_file) <= {*row.warnings} for row in rows)
    assert [row.domain is None for row in rows] == [False, True, False, False]
    assert [math.isnan(row.PQ) for row in rows] == [False, True, False, False]
    assert whole.warnings == ("clipped", "downmixed", "partly_silent", "truncated")


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_silence_after_an_abrupt_end_changes_no_score(toys: Predictor, rate: int) -> None:
    sound = 0.9 * np.sign(music(10.0, rate))
    longer = toys.score(np.concatenate([sound, np.zeros_like(sound)]), sample_rate=rate)
    assert axes(longer) == pytest.approx(axes(toys.score(sound, sample_rate=rate)), abs=0.02)
    assert "partly_silent" in longer.warnings


@pytest.mark.parametrize("factor", [2**15, 1e20])
@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float32, torch.float64])
def test_samples_off_the_scale_are_an_error_in_every_form(toys: Predictor, kind: Any, factor: float) -> None:
    wave = music(1.0).astype(np.float64) * factor
    samples = torch.from_numpy(wave).to(kind) if isinstance(kind, torch.dtype) else wave.astype(kind)
    with pytest.raises(AudioError, match=r"samples reach .*: divide them by") as caught:
        toys.score(samples, sample_rate=RATE)
    assert caught.value.code == "not_normalized"
    good, bad = toys.score([music(1.0), samples], sample_rate=RATE)
    assert (good.status, bad.error.code) == ("ok", "not_normalized")


@pytest.mark.parametrize("rate", [1, 100, 3_999, 768_001])
def test_rates_that_no_audio_has_are_an_error(toys: Predictor, rate: int) -> None:
    scores = toys.score([np.zeros(20_000, np.float32)], sample_rate=rate)[0]
    assert scores.error.code == "bad_sample_rate"
    assert f"{rate} Hz" in scores.error.message
    with pytest.raises(AudioError, match="resample the audio first"):
        toys.score(np.zeros(20_000, np.float32), sample_rate=rate)


@pytest.mark.parametrize("seconds", [1.0, 25.0])
def test_a_silent_clip_has_no_score_and_says_so(toys: Predictor, seconds: float) -> None:
    scores = toys.score(np.zeros(round(seconds * RATE)), sample_rate=RATE)
    assert all(map(math.isnan, axes(scores) + spread(scores)))
    assert scores.status == "ok"
    assert "silent" in scores.warnings
    assert scores.row()["PQ"] is None


def test_a_clip_that_is_too_short_is_refused(toys: Predictor) -> None:
    with pytest.raises(AudioError, match="at least 100 ms") as caught:
        toys.score(music(0.099), sample_rate=RATE)
    assert caught.value.code == "too_short"
    assert not math.isnan(toys.score(music(0.1), sample_rate=RATE).PQ)


def test_the_longest_minimum_of_the_encoders_counts() -> None:
    class Patient(ToyEncoder):
        min_samples = RATE // 2

    with mock.patch.dict(ENCODERS, {"toy": Patient}):
        predictor = Predictor(toy_model(toy_member(0)), CPU)
    with pytest.raises(AudioError, match="at least 500 ms"):
        predictor.score(music(0.4), sample_rate=RATE)
    assert not math.isnan(predictor.score(music(10.2), sample_rate=RATE).PQ)  # the rest is left out


def test_ensemble_is_the_weighted_mean_with_its_spread() -> None:
    members = [toy_member(seed) for seed in range(3)]
    weights = np.random.default_rng(0).dirichlet([1, 1, 1], 4).T
    together = Predictor(toy_model(*members, weights=weights), CPU).score(music(12.0), sample_rate=RATE)
    singles = [Predictor(toy_model(member), CPU).score(music(12.0), sample_rate=RATE) for member in members]
    values = np.array([axes(single) for single in singles])
    mean = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(axes(together), mean)
    np.testing.assert_allclose(spread(together), np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights)))
    assert all(math.isnan(value) for single in singles for value in spread(single))


def test_a_window_is_encoded_once_whatever_the_number_of_members(toys: Predictor) -> None:
    with mock.patch.object(ToyEncoder, "frames", autospec=True, side_effect=ToyEncoder.frames) as frames:
        toys.score(music(25.0), sample_rate=RATE)
    assert frames.call_count == 3


def test_every_encoder_receives_its_own_rate() -> None:
    specs = tuple(EncoderSpec(kind.name, kind.block_dims, kind().fingerprint()) for kind in (ToyEncoder, SlowToy))
    predictor = Predictor(toy_model(toy_member(0, ModelConfig(specs))), CPU)
    samples = music(11.0, 22_050)
    *windows, _ = cut(Clip("a", samples=samples[:, None], sample_rate=22_050), predictor.rates, 0.1)
    for window in windows:
        features = encode_windows(predictor.encoders, [window])
        for name, encoder in predictor.encoders.items():
            wave = torch.from_numpy(window.waves[encoder.sample_rate])
            assert len(wave) == round((window.end_time - window.start_time) * encoder.sample_rate)
            assert torch.equal(features[name].frames, encoder.encode(wave[None]).frames)
    assert not math.isnan(predictor.score(samples, sample_rate=22_050).PQ)


def test_scores_come_in_order_and_as_soon_as_they_are_known(toys: Predictor) -> None:
    taken = []

    def clips() -> Iterator[Clip]:
        for i in range(4):
            taken.append(i)
            yield Clip(str(i), samples=music(0.5 + i)[:, None], sample_rate=RATE)

    for i, scores in enumerate(toys.stream(clips())):
        assert scores.id == str(i)
        assert taken == list(range(i + 1))
    assert len(taken) == 4


def test_a_clip_waits_for_its_own_windows_alone(toys: Predictor) -> None:
    """Batches of two windows: A B1 | B2 C | D."""
    predictor = Predictor(toys.model, CPU, batch_size=2)
    taken = []

    def clips() -> Iterator[Clip]:
        for name, seconds in (("A", 0.5), ("B", 12.0), ("C", 0.5), ("D", 0.5)):
            taken.append(name)
            yield Clip(name, samples=music(seconds)[:, None], sample_rate=RATE)

    seen = [(scores.id, "".join(taken)) for scores in predictor.stream(clips())]
    assert seen == [("A", "AB"), ("B", "ABC"), ("C", "ABC"), ("D", "ABCD")]


def test_segments_with_hop_are_scores_of_those_segments(toys: Predictor, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(13.5), 16_000)
    found = toys.segments(tmp_path / "a.wav", hop=1.5)
    assert [(item.start_time, item.end_time) for item in found] == [(0, 10), (1.5, 11.5), (3, 13), (4.5, 13.5)]
    for item in found:
        alone = toys.score(tmp_path / "a.wav", start_time=item.start_time, end_time=item.end_time)
        assert [item[axis] for axis in AXES] == pytest.approx([alone[axis] for axis in AXES], abs=1e-5)
    with pytest.raises(UsageError, match="windows start every"):
        toys.segments(tmp_path / "a.wav", hop=0)


def test_segments_of_a_stream_are_rows_of_their_own(toys: Predictor, tmp_path: Path) -> None:
    clips = [
        Clip("a", samples=music(12.0)[:, None], sample_rate=RATE),
        Clip("b", str(tmp_path / "nosuch.wav")),
        Clip("c", samples=music(1.0)[:, None], sample_rate=RATE),
    ]
    found = list(toys.stream(clips, segments=True))
    assert [(scores.id, scores.start_time, scores.status) for scores in found] == [
        ("a", 0.0, "ok"),
        ("a", 10.0, "ok"),
        ("b", 0.0, "error"),
        ("c", 0.0, "ok"),
    ]
    with pytest.raises(AudioError, match="no such file"):
        toys.segments(tmp_path / "nosuch.wav")


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("segments", [False, True])
def test_stream_reports_every_window_and_clip(toys: Predictor, tmp_path: Path, batch_size: int, segments: bool) -> None:
    samples = np.concatenate([np.zeros(10 * RATE, np.float32), music(12.0)])
    clips = [
        Clip("a", samples=samples[:, None], sample_rate=RATE),
        Clip("b", str(tmp_path / "nosuch.wav")),
        Clip("c", samples=music(1.0)[:, None], sample_rate=RATE),
    ]
    events = RecordedProgress()
    predictor = Predictor(toys.model, CPU, batch_size=batch_size)
    list(predictor.stream(clips, segments=segments, progress=events))
    assert (events.total_windows, events.total_clips) == (3 + 1, 3)
    if batch_size == 1:
        assert events.order == "www..w."


@pytest.mark.slow
def test_a_closed_predictor_opens_again(toys: Predictor, make_file: Callable[..., Path]) -> None:
    path = make_file("a.wav")
    before = axes(toys.score(path))
    toys.close()
    assert toys.decoder.isolated.process is None  # type: ignore[attr-defined]
    assert axes(toys.score(path)) == before


@pytest.mark.slow
def test_a_decoder_that_dies_costs_its_clip_alone(toys: Predictor, make_file: Callable[..., Path]) -> None:
    paths = [make_file(f"{i}.wav", 12.0) for i in range(3)]
    expected = toys.score(paths)
    start, starts = toys.decoder.isolated.start, itertools.count()  # type: ignore[attr-defined]

    def start_to_die() -> Connection:
        pipe = start()
        if next(starts) == 1:
            toys.decoder.isolated.process.kill()  # type: ignore[attr-defined]
            toys.decoder.isolated.process.wait()  # type: ignore[attr-defined]
        return pipe

    with mock.patch.object(toys.decoder.isolated, "start", start_to_die):  # type: ignore[attr-defined]
        found = list(toys.stream(Clip(str(path), str(path)) for path in paths))
    assert [scores.error and scores.error.code for scores in found] == [None, "decode_crashed", None]
    assert [axes(found[i]) for i in (0, 2)] == [axes(expected[i]) for i in (0, 2)]


def test_samples_in_memory_need_no_process() -> None:
    predictor = Predictor(toy_model(toy_member(0)), CPU)
    predictor.score(music(1.0), sample_rate=RATE)
    assert predictor.decoder.isolated.process is None  # type: ignore[attr-defined]


def test_encoders_other_than_those_of_training_are_refused() -> None:
    spec = EncoderSpec("toy", ToyEncoder.block_dims, ToyEncoder(gain=2.0).fingerprint())
    with pytest.raises(ModelFormatError, match="toys was trained on another version of the encoder toy"):
        Predictor(toy_model(toy_member(0, ModelConfig((spec,)))), CPU)
    Predictor(toy_model(toy_member(0, ModelConfig((replace(spec, options={"gain": 2.0}),)))), CPU)


def test_an_unknown_encoder_is_reported() -> None:
    spec = EncoderSpec("nosuch", (4,), "")
    with pytest.raises(ModelNotFoundError, match="'nosuch'"):
        Predictor(toy_model(toy_member(0, ModelConfig((spec,)))), CPU)


def test_bfloat16_is_recorded_and_real(toys: Predictor) -> None:
    half = Predictor(toys.model, LoadOptions("cpu", "bfloat16"))
    *windows, report = cut(Clip("a", samples=music(2.0)[:, None], sample_rate=RATE), [RATE], 0.1)
    assert isinstance(report, ClipReport)
    ours, exact = (
        encode_windows(each.encoders, windows, each.running.arithmetic)["toy"].frames for each in (half, toys)
    )
    assert ours.dtype == exact.dtype == torch.float32
    error = (ours - exact).abs().mean()
    assert 1e-4 < error < 0.1
    scores = half.score(music(2.0), sample_rate=RATE)
    assert scores.provenance.dtype == scores.row()["dtype"] == "bfloat16"
    reference = toys.score(music(2.0), sample_rate=RATE)
    assert axes(scores) == pytest.approx(axes(reference), abs=0.1)
    assert axes(scores) != axes(reference)
    for dtype in ("auto", "float32"):
        same = Predictor(toys.model, LoadOptions("cpu", dtype)).score(music(2.0), sample_rate=RATE)
        assert axes(same) == axes(reference)
        assert same.provenance.dtype == "float32"


@pytest.mark.slow
def test_real_encoders_run_in_bfloat16(scorer: Predictor) -> None:
    half = Predictor(scorer.model, LoadOptions("cpu", "bfloat16"))
    ours, exact = (axes(each.score(music(1.0), sample_rate=RATE)) for each in (half, scorer))
    assert ours == pytest.approx(exact, abs=0.3)
    assert ours != exact


@pytest.mark.parametrize("dtype", ["bf16", "float16", "int4", None, torch.bfloat16])
def test_a_precision_that_there_is_not_is_refused(toys: Predictor, dtype: object) -> None:
    with pytest.raises(UsageError, match="auto, float32, bfloat16"):
        Predictor(toys.model, LoadOptions("cpu", dtype))


@pytest.mark.parametrize("device", ["tpu-9", "gpu", "cuda", "cuda:1"])
def test_a_device_that_there_is_not_is_refused(toys: Predictor, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"'{device}'"):
        Predictor(toys.model, LoadOptions(device))


@pytest.mark.slow
def test_provenance_is_in_every_row(toys: Predictor, tmp_path: Path) -> None:
    model = replace(toys.model, sha256="f" * 64, info=ModelInfo(calibrated=True, commercial_use=True))
    predictor = Predictor(model, CPU)
    for scores in predictor.stream(
        [Clip("a", samples=music(1.0)[:, None], sample_rate=RATE), Clip("b", str(tmp_path / "nosuch.wav"))]
    ):
        row = scores.row()
        assert {name: row[name] for name in ("model", "model_sha256", "version", "device", "dtype")} == {
            "model": "toys",
            "model_sha256": "f" * 64,
            "version": VERSION,
            "device": "cpu",
            "dtype": "float32",
        }
        assert row["calibrated"] is row["commercial_use"] is True
    predictor.close()


def test_a_trained_folder_scores_as_its_member_did(toys: Predictor, tmp_path: Path) -> None:
    save_ensemble(tmp_path / "m", toys.model.members, toys.model.weights, ModelInfo(), "")
    loaded = from_pretrained(tmp_path / "m", device="cpu")
    assert axes(loaded.score(music(1.0), sample_rate=RATE)) == axes(toys.score(music(1.0), sample_rate=RATE))


@pytest.mark.slow
def test_lite_says_what_it_is(scorer: Predictor) -> None:
    scores = scorer.score(SAMPLES / "speech_clean.flac")
    assert scores.provenance.model == "lite"
    assert scores.provenance.calibrated is scores.provenance.commercial_use is False
    assert scores.provenance.model_sha256 == load_model("lite").sha256
    assert all(0 <= value <= 10 for value in axes(scores))
    assert all(value > 0 for value in spread(scores))


@pytest.mark.slow
def test_lite_gives_the_same_score_in_every_process(scorer: Predictor) -> None:
    path = SAMPLES / "music_lowrate.mp3"
    code = (
        "import sys, json, torch; torch.set_num_threads(1); import mmmos\n"
        "scores = mmmos.load(device='cpu').score(sys.argv[1])\n"
        "print(json.dumps([scores[axis] for axis in mmmos.AXES]))"
    )
    words, environment = [sys.executable, "-c", code, path], os.environ | {"PYTHONHASHSEED": "1"}
    child = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True, timeout=120)
    assert json.loads(child.stdout) == axes(scorer.score(path))


@pytest.mark.slow
def test_load_takes_the_options_of_from_pretrained() -> None:
    assert mmmos.load(device="cpu", dtype="bfloat16").provenance.dtype == "bfloat16"
    with pytest.raises(ModelNotFoundError, match="'lyte'"):
        mmmos.load("lyte")


@pytest.mark.parametrize(
    ("probabilities", "domain", "rests_on"),
    [
        ([0.6, 0.3, 0.1], "music", "constructed"),  # a third of it is sound, so people do not stand behind the score
        ([0.7, 0.2, 0.1], "music", "human"),
        ([0.3, 0.6, 0.1], "sound", "constructed"),
        ([0.4, 0.2, 0.4], "music", "human"),  # the model says nothing of what its scores of noise rest on
        ([0.2, 0.2, 0.6], "noise", None),
    ],
)
def test_a_score_rests_on_the_weakest_of_what_the_clip_may_be(
    probabilities: list[float], domain: str, rests_on: str | None
) -> None:
    member = toy_member(0, toy_config(heads=HeadConfig(domains=("music", "sound", "noise"))))
    member.model.heads.gate.weight.zero_()
    member.model.heads.gate.bias.copy_(torch.tensor(probabilities).log())
    basis = {"music": dict.fromkeys(AXES, "human"), "sound": {"PQ": "constructed"}}
    with Predictor(replace(toy_model(member), info=ModelInfo(basis=basis)), CPU) as predictor:
        scores = predictor.score(music(1.0), sample_rate=RATE)
    assert (scores.domain, scores.PQ_basis) == (domain, rests_on)


@pytest.mark.slow
@pytest.mark.parametrize(("label_range", "name"), [((0, 10), "0-10"), ((1, 5), "1-5"), ((0, 100), "0-100")])
def test_scores_have_the_models_scale_and_are_clipped_to_it(
    toy_encoder: ToyEncoder, label_range: tuple[float, float], name: str
) -> None:
    member = replace(toy_member(0), scale=Scale((1000.0, -1000.0, 1000.0, -1000.0), (1.0,) * 4))
    info = ModelInfo(clip_output=True, label_range=label_range)
    with Predictor(replace(toy_model(member), info=info), CPU) as predictor:
        scores = predictor.score(music(1.0), sample_rate=RATE)
        (missing,) = predictor.score(["no-such-file.wav"])
    low, high = label_range
    assert [scores[axis] for axis in AXES] == [high, low, high, low]
    assert scores.row()["scale"] == missing.row()["scale"] == name
