"""Features on disk: whole or not there, and never those of another clip."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch

from mmmos.cache import FeatureCache, clip_key
from mmmos.clips import Clip
from mmmos.encoders import Features

KEY, PRINT = "ab" * 32, "cd" * 32


def features(frames: int = 5, level: float = 1.0) -> Features:
    values = level * torch.randn(1, frames, 3, generator=torch.Generator().manual_seed(frames))
    return Features(values, torch.ones(1, frames, dtype=torch.bool), 62.5)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.mark.parametrize("level", [1e-2, 1.0, 1e3])
def test_what_is_put_comes_back_within_float16(cache: FeatureCache, level: float) -> None:
    put = features(level=level)
    cache.put(KEY, PRINT, put)
    found = cache.get(KEY, PRINT)
    assert found is not None
    assert found.frames.dtype == torch.float32
    torch.testing.assert_close(found.frames, put.frames, rtol=2**-11, atol=1e-7)
    assert torch.equal(found.mask, put.mask)
    assert found.rate_hz == put.rate_hz


def test_only_real_frames_are_kept(cache: FeatureCache) -> None:
    put = features(5)
    put.mask[0, 3:] = False
    cache.put(KEY, PRINT, put)
    found = cache.get(KEY, PRINT)
    assert found is not None
    assert found.frames.shape == (1, 3, 3)
    assert found.mask.all()


def test_another_clip_or_encoder_has_no_entry(cache: FeatureCache) -> None:
    assert cache.get(KEY, PRINT) is None
    cache.put(KEY, PRINT, features())
    assert cache.get("ab" * 31 + "00", PRINT) is None
    assert cache.get(KEY, "ef" * 32) is None


def test_a_later_put_takes_the_place_of_the_entry(cache: FeatureCache) -> None:
    for frames in (5, 7):
        cache.put(KEY, PRINT, features(frames))
    found = cache.get(KEY, PRINT)
    assert found is not None
    assert found.frames.shape[1] == 7


@pytest.mark.parametrize("step", ["mmmos.cache.save_file", "mmmos.cache.os.fsync", "mmmos.cache.os.replace"])
def test_an_end_before_the_rename_leaves_no_entry(cache: FeatureCache, step: str) -> None:
    with mock.patch(step, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        cache.put(KEY, PRINT, features())
    assert cache.get(KEY, PRINT) is None
    cache.put(KEY, PRINT, features())
    assert cache.get(KEY, PRINT) is not None


def test_half_of_a_file_of_a_lost_process_is_no_entry(cache: FeatureCache) -> None:
    final = cache.path(KEY, PRINT)
    final.parent.mkdir(parents=True)
    with mock.patch("mmmos.cache.os.replace") as replace:
        cache.put(KEY, PRINT, features())
    partial = Path(replace.call_args.args[0])
    assert replace.call_args.args[1] == final
    partial.write_bytes(partial.read_bytes()[:20])
    assert cache.get(KEY, PRINT) is None


def test_bytes_are_on_the_disk_before_they_have_their_name(cache: FeatureCache) -> None:
    steps = []
    real_sync, real_replace = os.fsync, os.replace
    with (
        mock.patch("mmmos.cache.os.fsync", side_effect=lambda fd: steps.append("sync") or real_sync(fd)),
        mock.patch("mmmos.cache.os.replace", side_effect=lambda a, b: steps.append("name") or real_replace(a, b)),
    ):
        cache.put(KEY, PRINT, features())
    assert steps == ["sync", "name"]


def test_a_changed_byte_or_stretch_gives_another_key(make_file: Callable[..., Path]) -> None:
    path = make_file("a.wav")
    clip = Clip("a", str(path))
    keys = [clip_key(clip)]
    keys += [clip_key(Clip("a", str(path), start, end)) for start, end in ((0.5, None), (0.0, 1.0), (0.5, 1.0))]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    keys.append(clip_key(clip))
    assert len(set(keys)) == 5


def test_key_does_not_depend_on_name_or_place(make_file: Callable[..., Path], tmp_path: Path) -> None:
    path = make_file("a.wav")
    moved = tmp_path / "moved.bin"
    moved.write_bytes(path.read_bytes())
    assert clip_key(Clip("a", str(path))) == clip_key(Clip("b", str(moved))) == clip_key(Clip(str(moved)))
