"""Features on disk: whole or not there, and never those of another clip."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.encoders.base import Features
from mmmos.errors import AudioError
from mmmos.features.cache import FeatureCache, clip_key, file_key

KEY, PRINT = "ab" * 32, "cd" * 32


def features(frames: int = 5, level: float = 1.0, dim: int = 3) -> Features:
    values = level * torch.randn(1, frames, dim, generator=torch.Generator().manual_seed(frames))
    return Features(values, torch.ones(1, frames, dtype=torch.bool), 62.5)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def slim(tmp_path: Path) -> FeatureCache:
    """In the same folder, without frames."""
    return FeatureCache(tmp_path / "cache", "pooled")


def files_of(cache: FeatureCache) -> list[Path]:
    return sorted(path for path in cache.root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EACCES, "not_readable"), (errno.ENOENT, "not_found"), (errno.EIO, "decode_failed")]
)
def test_files_without_a_key_say_why(tmp_path: Path, number: int, code: str) -> None:
    (tmp_path / "a.wav").write_bytes(b"sound")
    with mock.patch("builtins.open", side_effect=OSError(number, "no")), pytest.raises(AudioError) as caught:
        file_key(str(tmp_path / "a.wav"))
    assert caught.value.code == code


@pytest.mark.parametrize("level", [1e-2, 1.0, 1e3])
def test_frames_come_back_within_float16(cache: FeatureCache, level: float) -> None:
    put = features(level=level)
    cache.put(KEY, PRINT, put)
    found = cache.frames(KEY, PRINT)
    assert found.frames.dtype == torch.float32
    torch.testing.assert_close(found.frames, put.frames, rtol=2**-11, atol=1e-7)
    assert torch.equal(found.frames, put.frames.half().float())
    assert torch.equal(found.mask, put.mask)
    assert found.rate_hz == put.rate_hz


@pytest.mark.slow
@given(st.integers(1, 30), st.integers(1, 5), st.sampled_from([1e-3, 1.0, 300.0]))
def test_mean_and_deviation_are_torchs_of_the_frames_given(
    tmp_path_factory: pytest.TempPathFactory, count: int, dim: int, level: float
) -> None:
    put = features(count, level, dim)
    for keep in ("frames", "pooled"):
        cache = FeatureCache(tmp_path_factory.mktemp("cache"), keep)
        cache.put(KEY, PRINT, put)
        mean, std = cache.pooled(KEY, PRINT)
        assert mean.dtype == std.dtype == torch.float32  # not rounded as the frames are
        torch.testing.assert_close(mean, put.frames[0].mean(dim=0, keepdim=True), rtol=1e-5, atol=1e-5 * level)
        expected = put.frames[0].std(dim=0, keepdim=True, correction=0)
        torch.testing.assert_close(std, expected, rtol=1e-5, atol=1e-5 * level)


def test_only_real_frames_are_kept(cache: FeatureCache) -> None:
    put = features(5)
    put.mask[0, 3:] = False
    cache.put(KEY, PRINT, put)
    assert torch.equal(cache.frames(KEY, PRINT).frames, put.frames[:, :3].half().float())
    assert cache.frames(KEY, PRINT).mask.all()
    torch.testing.assert_close(cache.pooled(KEY, PRINT)[0], put.frames[:, :3].mean(dim=1))


@pytest.mark.parametrize("keep", ["frames", "pooled"])
def test_a_silent_crop_is_known_and_empty(tmp_path: Path, keep: str) -> None:
    cache = FeatureCache(tmp_path, keep)
    cache.put(KEY, PRINT, Features(torch.zeros(1, 0, 3), torch.zeros(1, 0, dtype=torch.bool), 62.5))
    assert cache.holds(KEY, PRINT)
    assert [tuple(part.shape) for part in cache.pooled(KEY, PRINT)] == [(0, 3), (0, 3)]
    if keep == "frames":
        assert cache.frames(KEY, PRINT).frames.shape == (1, 0, 3)
        assert cache.frames(KEY, PRINT).rate_hz == 62.5


def test_statistics_never_stand_in_for_frames(slim: FeatureCache, cache: FeatureCache) -> None:
    slim.put(KEY, PRINT, features())
    assert slim.holds(KEY, PRINT)
    assert slim.pooled(KEY, PRINT) is not None
    for either in (slim, cache):
        assert either.frames(KEY, PRINT) is None
    assert not cache.holds(KEY, PRINT)
    cache.put(KEY, PRINT, features())
    assert cache.holds(KEY, PRINT)


def test_frames_serve_those_who_want_statistics_alone(slim: FeatureCache, cache: FeatureCache) -> None:
    cache.put(KEY, PRINT, features())
    assert slim.holds(KEY, PRINT)
    torch.testing.assert_close(slim.pooled(KEY, PRINT)[0], features().frames.mean(dim=1))


def test_statistics_alone_take_no_room_for_frames(slim: FeatureCache) -> None:
    sizes = []
    for count in (10, 1000):
        slim.put(KEY, PRINT, features(count, dim=64))
        (file,) = files_of(slim)
        sizes.append(file.stat().st_size)
    assert sizes[0] == sizes[1] < 2 * 64 * 4 + 400


@pytest.mark.parametrize("keep", ["frames", "pooled"])
@pytest.mark.parametrize(("count", "dim"), [(500, 64), (62, 3840), (1, 1024)])
def test_size_says_what_a_crop_takes(tmp_path: Path, keep: str, count: int, dim: int) -> None:
    cache = FeatureCache(tmp_path, keep)
    cache.put(KEY, PRINT, features(count, dim=dim))
    (file,) = files_of(cache)
    assert cache.size(count, dim) == pytest.approx(file.stat().st_size, rel=0.05)


def test_another_clip_or_encoder_has_no_entry(cache: FeatureCache) -> None:
    assert cache.pooled(KEY, PRINT) is None
    cache.put(KEY, PRINT, features())
    for key, fingerprint in (("ab" * 31 + "00", PRINT), (KEY, "ef" * 32)):
        assert not cache.holds(key, fingerprint)
        assert cache.frames(key, fingerprint) is None
        assert cache.pooled(key, fingerprint) is None


def test_a_later_put_takes_the_place_of_the_entry(cache: FeatureCache) -> None:
    for frames in (5, 7):
        cache.put(KEY, PRINT, features(frames))
    assert cache.frames(KEY, PRINT).frames.shape[1] == 7
    assert len(files_of(cache)) == 1


@pytest.mark.parametrize("step", ["mmmos.features.cache.save_file", "os.fsync", "os.replace"])
def test_an_end_before_the_rename_leaves_no_entry(cache: FeatureCache, slim: FeatureCache, step: str) -> None:
    with mock.patch(step, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        cache.put(KEY, PRINT, features())
    for either in (cache, slim):
        assert not either.holds(KEY, PRINT)
        assert either.pooled(KEY, PRINT) is None
    cache.put(KEY, PRINT, features())
    assert cache.holds(KEY, PRINT)


def test_half_of_a_file_of_a_lost_process_is_no_entry(cache: FeatureCache) -> None:
    with mock.patch("os.replace"):  # as if it ended just before
        cache.put(KEY, PRINT, features())
    (partial,) = files_of(cache)
    partial.write_bytes(partial.read_bytes()[:20])
    assert not cache.holds(KEY, PRINT)
    assert cache.frames(KEY, PRINT) is cache.pooled(KEY, PRINT) is None


def test_a_changed_byte_segment_or_stream_gives_another_key(make_file: Callable[..., Path]) -> None:
    path = make_file("a.wav")
    clip = Clip("a", str(path))
    keys = [clip_key(clip), clip_key(Clip("a", str(path), stream=1))]
    keys += [clip_key(Clip("a", str(path), start, end)) for start, end in ((0.5, None), (0.0, 1.0), (0.5, 1.0))]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    keys.append(clip_key(clip))
    assert len(set(keys)) == 6


def test_key_does_not_depend_on_name_or_place(make_file: Callable[..., Path], tmp_path: Path) -> None:
    path = make_file("a.wav")
    moved = tmp_path / "moved.bin"
    moved.write_bytes(path.read_bytes())
    assert clip_key(Clip("a", str(path))) == clip_key(Clip("b", str(moved))) == clip_key(Clip(str(moved)))


def test_a_file_is_read_again_when_it_has_changed_and_not_before(make_file: Callable[..., Path]) -> None:
    path = make_file("a.wav")
    with mock.patch("mmmos.features.cache.hash_file", side_effect=lambda path: path) as hashed:
        for start in (0.0, 0.0, 0.5):
            clip_key(Clip("a", str(path), start))
        assert hashed.call_count == 1
        path.write_bytes(path.read_bytes() + b"\0")
        clip_key(Clip("a", str(path)))
        assert hashed.call_count == 2
