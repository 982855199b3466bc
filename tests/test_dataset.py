"""Clips encoded once: the cache's rows are the encoders' own frames, and no row is made up."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch

from conftest import ToyEncoder
from mmmos.aggregators import FusionConfig, MlpAggregator
from mmmos.cache import FeatureCache, clip_key
from mmmos.clips import Clip
from mmmos.dataset import extract, load_table
from mmmos.manifest import LabelledClip


class SlowToy(ToyEncoder):
    """Hears 8 kHz."""

    name = "slow"
    sample_rate = 8_000
    rate_hz = 50.0


def row(path: Path, number: float = 5.0, start: float = 0.0, end: float | None = None) -> LabelledClip:
    return LabelledClip(Clip(path.name, str(path), start, end), (number, math.nan, 2.0, 3.0))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def encoders() -> dict[str, ToyEncoder]:
    return {"toy": ToyEncoder().train(), "slow": SlowToy().train()}


def aggregator(encoders: dict[str, ToyEncoder]) -> MlpAggregator:
    return MlpAggregator({name: (4,) for name in encoders}, FusionConfig("mean_std", "none"))


def test_cached_frames_are_those_of_every_window_one_after_another(
    make_file: Callable[..., Path], cache: FeatureCache, encoders: dict[str, ToyEncoder]
) -> None:
    path = make_file("a.wav", 12.5)
    assert extract([row(path)], encoders, cache) == {}
    samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    found = cache.get(clip_key(row(path).clip), encoders["toy"].fingerprint())
    expected = [encoders["toy"].encode(part[None]).frames[0] for part in samples.split(160_000)]
    torch.testing.assert_close(found.frames[0], torch.cat(expected), rtol=2**-11, atol=1e-6)
    slow = cache.get(clip_key(row(path).clip), encoders["slow"].fingerprint())
    assert slow.frames.shape == (1, 12.5 * 50, 4)
    assert slow.rate_hz == 50.0


def test_a_stretch_is_encoded_as_a_clip_of_its_own(
    make_file: Callable[..., Path], cache: FeatureCache, encoders: dict[str, ToyEncoder]
) -> None:
    path = make_file("a.wav", 3.0)
    rows = [row(path), row(path, start=1.0, end=2.0)]
    extract(rows, encoders, cache)
    whole, part = (cache.get(clip_key(item.clip), encoders["toy"].fingerprint()) for item in rows)
    torch.testing.assert_close(part.frames, whole.frames[:, 100:200])


def test_every_clip_is_encoded_once(
    make_file: Callable[..., Path], cache: FeatureCache, encoders: dict[str, ToyEncoder]
) -> None:
    rows = [row(make_file(f"{seconds}.wav", seconds)) for seconds in (0.5, 0.6, 0.7)]
    extract(rows[:1], encoders, cache)
    with mock.patch.object(ToyEncoder, "frames", autospec=True, side_effect=ToyEncoder.frames) as frames:
        extract(rows, encoders, cache)
        assert frames.call_count == 2 * 2
        extract(rows, {**encoders, "new": ToyEncoder(gain=2.0).train()}, cache)
        assert frames.call_count == 2 * 2 + 3


def test_clips_that_cannot_be_decoded_are_left_out_with_the_reason(
    make_file: Callable[..., Path], tmp_path: Path, cache: FeatureCache, encoders: dict[str, ToyEncoder]
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    short = make_file("short.wav", 0.01)
    rows = [row(bad), row(make_file("a.wav")), row(short), row(make_file("b.wav", 1.0))]
    failed = extract(rows, encoders, cache)
    assert {name: reason.split(":")[0] for name, reason in failed.items()} == {
        "bad.wav": "unsupported_format",
        "short.wav": "too_short",
    }
    table = load_table(rows, encoders, cache, aggregator(encoders))
    assert table.rows == (rows[1], rows[3])
    assert len(table.inputs) == len(table.labels) == 2


def test_progress_counts_every_clip(
    make_file: Callable[..., Path], tmp_path: Path, cache: FeatureCache, encoders: dict[str, ToyEncoder]
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    told = []
    extract([row(make_file("a.wav")), row(bad)], encoders, cache, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_table_holds_reduced_features_and_labels_of_the_same_row(
    make_file: Callable[..., Path], cache: FeatureCache, encoders: dict[str, ToyEncoder]
) -> None:
    rows = [row(make_file(f"{i}.wav", 0.5 + i / 10), float(i)) for i in range(3)]
    extract(rows, encoders, cache)
    for order in (rows, rows[::-1]):
        table = load_table(order, encoders, cache, aggregator(encoders))
        assert table.rows == tuple(order)
        assert len(table.inputs.unique(dim=0)) == 3
        np.testing.assert_array_equal(table.labels, np.array([item.labels for item in order], dtype=np.float32))
        for item, inputs in zip(order, table.inputs, strict=True):
            key = clip_key(item.clip)
            parts = {name: cache.get(key, encoder.fingerprint()) for name, encoder in encoders.items()}
            assert torch.equal(inputs, aggregator(encoders).reduce(parts)[0])


def test_no_rows_make_an_empty_table(cache: FeatureCache, encoders: dict[str, ToyEncoder]) -> None:
    table = load_table([], encoders, cache, aggregator(encoders))
    assert table.inputs.shape == (0, 16)
    assert table.labels.shape == (0, 4)


def test_taking_rows_keeps_each_with_its_own_numbers(
    make_file: Callable[..., Path], cache: FeatureCache, encoders: dict[str, ToyEncoder]
) -> None:
    rows = [row(make_file(f"{i}.wav", 0.5 + i / 10), float(i)) for i in range(3)]
    extract(rows, encoders, cache)
    table = load_table(rows, encoders, cache, aggregator(encoders))
    part = table.take([rows[2], rows[0]])
    assert part.rows == (rows[2], rows[0])
    assert torch.equal(part.inputs, table.inputs[[2, 0]])
    np.testing.assert_array_equal(part.labels, table.labels[[2, 0]])
