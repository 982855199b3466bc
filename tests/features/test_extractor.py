"""Clips are encoded once, and the cache holds what the encoders return."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch

from mmmos.audio.clip import Clip
from mmmos.audio.isolated import IsolatedDecoder
from mmmos.audio.source import AudioInfo
from mmmos.encoders.base import Encoder
from mmmos.encoders.padded import Padded
from mmmos.errors import UsageError
from mmmos.features.cache import FeatureCache, clip_key
from mmmos.features.extractor import FeatureExtractor
from mmmos.features.source import EncoderSource
from mmmos.hub.options import LoadOptions
from tests.feature_toys import WideToy, clip, encoded, extracted
from tests.recorded_progress import RecordedProgress
from tests.sounds import music
from tests.toys import SlowToy, ToyEncoder

pytestmark = pytest.mark.usefixtures("shared_decoder")

RATE = 16_000


@pytest.mark.slow
def test_extract_keeps_windows_as_encoded(make_file: Callable[..., Path], extractor: FeatureExtractor) -> None:
    path = make_file("a.wav", 12.5)
    (plan,) = extracted(extractor, [clip(path)])
    toy, slow = extractor.encoders.values()
    for crop, (start, end) in zip(plan.crops, ((0, 10), (10, 12.5)), strict=True):
        found = extractor.cache.frames(clip_key(crop.clip), toy.fingerprint()[:16])
        assert torch.equal(found.frames, encoded(toy, path, start, end).frames.half().float())
        other = extractor.cache.frames(clip_key(crop.clip), slow.fingerprint()[:16])
        assert other.frames.shape == (1, (end - start) * 50, 4)
        assert other.rate_hz == 50.0


@pytest.mark.slow
def test_extract_encodes_each_crop_once(
    make_file: Callable[..., Path], extractor: FeatureExtractor, toys: dict[str, Encoder]
) -> None:
    clips = [clip(make_file(f"{seconds}.wav", seconds)) for seconds in (0.5, 12.0, 0.7)]
    extracted(extractor, clips[:1])
    with mock.patch.object(ToyEncoder, "frames", autospec=True, side_effect=ToyEncoder.frames) as frames:
        extracted(extractor, clips)
        assert frames.call_count == 2 * 3
        extracted(FeatureExtractor(toys, FeatureCache(extractor.cache.root, "pooled")), clips)
        extracted(FeatureExtractor({"slow": SlowToy().train()}, extractor.cache), clips)
        assert frames.call_count == 2 * 3
        extracted(FeatureExtractor({**toys, "new": ToyEncoder(gain=2.0).train()}, extractor.cache), clips)
        assert frames.call_count == 2 * 3 + 4


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "cuts"), [("windows", 1), ("first", 1), ("random", 4)])
def test_extract_cuts_windows_in_one_pass(
    make_file: Callable[..., Path], extractor: FeatureExtractor, mode: str, cuts: int
) -> None:
    clips = [clip(make_file("a.wav", 35.0))]
    with mock.patch.object(IsolatedDecoder, "cut", autospec=True, side_effect=IsolatedDecoder.cut) as cut:
        for _ in range(2):  # the second time there is nothing to do
            plans = extracted(extractor, clips, mode, n_crops=4)
            assert cut.call_count == cuts
    assert len(plans[0].crops) == {"windows": 4, "first": 1, "random": 4}[mode]


@pytest.mark.slow
def test_extract_resumes_with_the_next_crop(make_file: Callable[..., Path], extractor: FeatureExtractor) -> None:
    plans, _ = extractor.plan([clip(make_file("a.wav", 25.0)), clip(make_file("b.wav", 24.0))], "windows")
    real, calls = ToyEncoder.frames, []

    def frames(self: ToyEncoder, waves: torch.Tensor) -> torch.Tensor:
        calls.append(self.name)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, waves)

    with mock.patch.object(ToyEncoder, "frames", frames):
        with pytest.raises(KeyboardInterrupt):
            extractor.extract(plans)
        assert extractor.extract(plans) == {}
    assert len(calls) == 2 * 6 + 1
    whole = FeatureExtractor(extractor.encoders, FeatureCache(extractor.cache.root / "another"))
    whole.extract(plans)
    for crop in (crop for plan in plans for crop in plan.crops):
        key = clip_key(crop.clip)
        for ours, theirs in zip(
            *(each.frames(key, each.encoders).values() for each in (extractor, whole)), strict=True
        ):
            assert torch.equal(ours.frames, theirs.frames)


def test_extract_reports_unusable_clips(
    make_file: Callable[..., Path], tmp_path: Path, extractor: FeatureExtractor
) -> None:
    bad, silent, broken = (tmp_path / f"{name}.wav" for name in ("bad", "silent", "broken"))
    bad.write_text("no audio")
    soundfile.write(silent, np.zeros(12 * RATE), RATE)
    soundfile.write(broken, np.where(np.arange(12 * RATE) < 11 * RATE, music(12.0), np.nan), RATE, subtype="FLOAT")
    good = [clip(make_file("a.wav")), clip(make_file("b.wav", 1.0))]
    clips = [clip(bad), good[0], clip(make_file("short.wav", 0.01)), clip(silent), clip(broken), good[1]]
    clips.append(clip(tmp_path / "nosuch.wav"))
    plans, unopened = extractor.plan(clips, "windows")
    assert {clip.id: reason.split(":")[0] for clip, reason in unopened.items()} == {
        "bad.wav": "unsupported_format",
        "nosuch.wav": "not_found",
    }
    events = RecordedProgress()
    failed = extractor.extract(plans, events)
    assert {clip.id: reason.split(":")[0] for clip, reason in failed.items()} == {
        "short.wav": "too_short",
        "silent.wav": "silent",
        "broken.wav": "non_finite_audio",
    }
    assert events.total_clips == len(plans) == 5
    assert events.order.endswith("w.")
    assert extractor.extract(plans) == failed  # and again, though silence is in the cache
    assert [plan.clip for plan in plans if plan.clip not in failed] == good


def test_extract_reports_files_deleted_meanwhile(make_file: Callable[..., Path], extractor: FeatureExtractor) -> None:
    paths = [make_file("a.wav", 1.0), make_file("b.wav", 1.0)]
    plans, _ = extractor.plan(list(map(clip, paths)), "windows")
    paths[0].unlink()
    assert extractor.size(plans) > 0
    assert extractor.extract(plans) == {plans[0].clip: f"not_found: no such file: {paths[0]}"}
    paths[1].unlink()
    paths[1].mkdir()
    assert extractor.extract(plans)[plans[1].clip].startswith("decode_failed: the file cannot be read")
    assert extractor.decoder_peak_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["frames", "pooled"])
@pytest.mark.parametrize("mode", ["windows", "random"])
@pytest.mark.parametrize("padded", [False, True])
def test_size_estimates_the_growth_of_the_cache(
    make_file: Callable[..., Path], tmp_path: Path, keep: str, mode: str, padded: bool
) -> None:
    cache = FeatureCache(tmp_path / "cache", keep)
    wide = WideToy().train()
    extractor = FeatureExtractor({"toy": Padded(wide, 10.0) if padded else wide}, cache)
    clips = [clip(make_file(f"{seconds}.wav", seconds)) for seconds in (2.0, 9.0, 10.2, 33.0)]
    plans, _ = extractor.plan([*clips, clip(make_file("c.wav", 40.0), start=1.0, end=3.0)], mode, n_crops=2)
    expected = extractor.size(plans)
    assert not cache.root.exists()
    extractor.extract(plans[:2])
    before = sum(file.stat().st_size for file in cache.root.rglob("*.safetensors"))
    rest = extractor.size(plans)
    extractor.extract(plans)
    grown = sum(file.stat().st_size for file in cache.root.rglob("*.safetensors"))
    assert expected == pytest.approx(grown, rel=0.05)
    assert rest == pytest.approx(grown - before, rel=0.05)
    assert extractor.size(plans) == 0


@pytest.mark.parametrize("duration", [math.nan, math.inf])
def test_plan_measures_files_without_a_duration(
    make_file: Callable[..., Path], extractor: FeatureExtractor, duration: float
) -> None:
    path = make_file("a.wav", 25.0)
    info = AudioInfo(RATE, 1, duration, "WAV", "libsndfile")
    with mock.patch.object(IsolatedDecoder, "probe", return_value=info):
        plans, _ = extractor.plan([clip(path), clip(path, start=1.0, end=13.0)], "windows")
    assert [[crop.clip.end_time for crop in plan.crops] for plan in plans] == [[10, 20, 25], [11, 13]]


def test_prepare_drops_only_the_failed_of_two_clips_with_one_id(
    make_file: Callable[..., Path], tmp_path: Path, extractor: FeatureExtractor, caplog: pytest.LogCaptureFixture
) -> None:
    bad, silent = tmp_path / "bad.wav", tmp_path / "silent.wav"
    bad.write_text("no audio")
    soundfile.write(silent, np.zeros(RATE), RATE)
    good, unreadable, quiet = (Clip("a", str(path)) for path in (make_file("good.wav"), bad, silent))
    result = extractor.prepare([unreadable, good, quiet, Clip("a", "nosuch.wav")], "windows")
    assert [plan.clip for plan in result.plans] == [good]
    assert set(result.failures) == {unreadable, quiet}
    assert result.left_out == ["nosuch.wav", "a", "a"]
    assert [line.split(":")[0] for line in caplog.messages] == [
        "1 of 4 listed clips is missing",
        "a is left out",
        "a is left out",
    ]


def test_specs_name_the_encoders_in_the_order_asked(extractor: FeatureExtractor) -> None:
    assert [spec.name for spec in extractor.specs()] == ["toy", "slow"]
    (slow, toy) = extractor.specs(["slow", "toy"])
    assert (slow.name, toy.name) == ("slow", "toy")
    assert toy.fingerprint == extractor.encoders["toy"].fingerprint()
    assert toy.options == {"gain": 1.0}
    assert toy.checkpoint is None


@pytest.mark.parametrize("options", [{"backend": "openvino"}, {"dtype": "int8"}])
def test_features_are_extracted_with_torch_alone(options: dict[str, str], tmp_path: Path) -> None:
    source = EncoderSource(("toy",), LoadOptions("cpu", **options))
    with pytest.raises(UsageError, match="features are extracted with torch"):
        FeatureExtractor.load(source, lambda name: {}, tmp_path)
