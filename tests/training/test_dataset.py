"""Rows meet their features: a training set's inputs are the aggregator's reduction, and labels keep in step."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import Encoder
from mmmos.features.cache import FeatureCache, clip_key
from mmmos.features.crops import CropMode
from mmmos.features.extractor import FeatureExtractor
from mmmos.model.aggregators import AGGREGATORS, Aggregator
from mmmos.training.dataset import Sequences, TrainingSet, build_training_set
from tests.feature_toys import build, encoded, extracted, row
from tests.sounds import music
from tests.toys import ToyEncoder

pytestmark = pytest.mark.usefixtures("shared_decoder")

RATE = 16_000


def training_set(
    extractor: FeatureExtractor,
    rows: Sequence[LabelledClip],
    aggregator: Aggregator,
    mode: CropMode = "windows",
    n: int = 1,
) -> TrainingSet:
    """The rows extracted, none of them left out, and reduced for an aggregator."""
    plans = extracted(extractor, [row.clip for row in rows], mode, n)
    return build_training_set(rows, plans, extractor, aggregator)


def of_crop(table: TrainingSet, number: int) -> torch.Tensor:
    return table.inputs.frames[table.inputs.starts[number] : table.inputs.starts[number + 1]].float()


@pytest.mark.slow
def test_extract_encodes_a_segment_as_its_own_clip(make_file: Callable[..., Path], extractor: FeatureExtractor) -> None:
    path = make_file("a.wav", 3.0)
    rows = [row(path), row(path, start=1.0, end=2.0)]
    table = training_set(extractor, rows, build("blstm_t", ["toy"], frame_norm="none"))
    assert torch.equal(of_crop(table, 1), of_crop(table, 0)[100:200])


@pytest.mark.slow
def test_epoch_crops_take_turns(make_file: Callable[..., Path], extractor: FeatureExtractor) -> None:
    paths = [make_file("long.wav", 25.0), make_file("short.wav", 2.0)]
    rows = list(map(row, paths))
    plans = extracted(extractor, [row.clip for row in rows], "random", 3)
    assert [len(plan.crops) for plan in plans] == [3, 1]
    table = build_training_set(rows, plans, extractor, build("blstm_t", ["toy"], frame_norm="none"))
    toy = extractor.encoders["toy"]
    epochs = [table.epoch_crops([1, 0], epoch) for epoch in (1, 2, 3, 4)]
    for batch, crop in zip(epochs, plans[0].crops, strict=False):
        assert torch.equal(batch.frames[0, :200], encoded(toy, paths[1]).frames[0].half().float())
        assert batch.mask.sum(dim=1).tolist() == [200, 1000]
        expected = encoded(toy, paths[0], crop.clip.start_time, crop.clip.end_time)
        assert torch.equal(batch.frames[1], expected.frames[0].half().float())
    assert not torch.equal(epochs[0].frames, epochs[1].frames)
    assert torch.equal(epochs[3].frames, epochs[0].frames)


def test_training_set_excludes_silent_windows(tmp_path: Path, extractor: FeatureExtractor) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(
        path, np.concatenate([np.zeros(101 * RATE // 10), music(14.9)]), RATE
    )  # resampling rings before a sound
    table = training_set(extractor, [row(path)], build())
    assert table.crops == (((0, 1.0), (1, 0.5)),)
    for number, (start, end) in enumerate(((10, 20), (20, 25))):
        expected = build("mlp", ["toy"]).reduce({"toy": encoded(extractor.encoders["toy"], path, start, end)})
        torch.testing.assert_close(of_crop(table, number)[:, :4], expected.frames[0])


@pytest.mark.parametrize("keep", ["frames", "pooled"])
@pytest.mark.parametrize("pool", ["mean", "mean_std"])
def test_training_set_equals_reduce_on_pooled(
    make_file: Callable[..., Path], toys: dict[str, Encoder], tmp_path: Path, keep: str, pool: str
) -> None:
    extractor = FeatureExtractor(
        {"toy": toys["toy"], "other": ToyEncoder(gain=3.0).train()}, FeatureCache(tmp_path, keep)
    )
    paths = [make_file(f"{i}.wav", 0.5 + i) for i in range(3)]
    for name in ("mlp", "blstm_h"):
        aggregator = build(name, ["other", "toy"], pool=pool)
        table = training_set(extractor, list(map(row, paths)), aggregator)
        assert table.inputs.frames.shape == (3, aggregator.input_dim)
        assert table.inputs.frames.dtype == torch.float32
        for i, path in enumerate(paths):
            features = {name: encoded(encoder, path) for name, encoder in extractor.encoders.items()}
            torch.testing.assert_close(of_crop(table, i), aggregator.reduce(features).frames[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("align", ["pool_lowest", "interp_linear", "repeat"])
def test_training_set_equals_reduce_on_frames(
    make_file: Callable[..., Path], extractor: FeatureExtractor, align: str
) -> None:
    paths = [make_file(f"{i}.wav", 0.5 + i) for i in range(3)]
    rows = list(map(row, paths))
    aggregator = build("blstm_t", ["slow", "toy"], align=align, align_rate_hz=20.0)
    table = training_set(extractor, rows, aggregator)
    assert table.inputs.frames.dtype == torch.float16
    assert table.inputs.rate_hz == 20.0
    for i, path in enumerate(paths):
        halved = encoded(extractor.encoders["toy"], path)
        own = extractor.cache.frames(clip_key(rows[i].clip), extractor.encoders["slow"].fingerprint()[:16])
        expected = aggregator.reduce({"toy": halved, "slow": own}).frames[0]
        assert expected.shape == (10 + 20 * i, 8)
        torch.testing.assert_close(of_crop(table, i), expected, rtol=2**-10, atol=2**-10)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_training_set_keeps_rows_and_inputs_in_step(
    make_file: Callable[..., Path], extractor: FeatureExtractor, name: str
) -> None:
    rows = [row(make_file(f"{i}.wav", seconds), float(i)) for i, seconds in enumerate((0.5, 12.0, 0.8))]
    alone = [training_set(extractor, [one], build(name)).inputs.frames for one in rows]
    for order in ([0, 1, 2], [2, 0, 1]):
        table = training_set(extractor, [rows[i] for i in order], build(name))
        parts = [(table, order), (table.take([rows[2], rows[1]]), [2, 1]), (table.take([]), [])]
        for part, numbers in parts:
            assert part.rows == tuple(rows[i] for i in numbers)
            expected = np.array([rows[i].labels for i in numbers], dtype=np.float32).reshape(-1, 4)
            np.testing.assert_array_equal(part.labels, expected)
            for i, crops in zip(numbers, part.crops, strict=True):
                assert torch.equal(torch.cat([of_crop(part, number) for number, _ in crops]), alone[i].float())
                assert sum(weight for _, weight in crops) == pytest.approx((0.5, 12.0, 0.8)[i] / 10)


@pytest.mark.parametrize(("name", "suffix"), [("mlp", ".float32"), ("blstm_t", ".float16")])
def test_training_set_pickles_as_a_mapped_file(
    make_file: Callable[..., Path], extractor: FeatureExtractor, name: str, suffix: str
) -> None:
    table = training_set(extractor, [row(make_file("a.wav", 25.0)), row(make_file("b.wav"))], build(name))
    file = table.inputs.file
    assert file.suffix == suffix
    assert file.stat().st_size == table.inputs.frames.nbytes
    sent = pickle.dumps(table)
    assert len(sent) < 3000
    again = pickle.loads(sent)
    assert Path("/proc/self/maps").read_text().count(str(file)) == 2
    for crops in ([0], [3, 1], [2, 0, 3, 1]):
        ours, theirs = table.inputs.batch(crops), again.inputs.batch(crops)
        assert torch.equal(ours.frames, theirs.frames)
        assert torch.equal(ours.mask, theirs.mask)
        assert ours.rate_hz == theirs.rate_hz
    assert [item.clip for item in again.rows] == [item.clip for item in table.rows]
    assert again.crops == table.crops


@pytest.mark.slow
def test_sequences_are_mapped_in_another_process(
    make_file: Callable[..., Path], extractor: FeatureExtractor, tmp_path: Path
) -> None:
    table = training_set(extractor, [row(make_file("a.wav", 25.0))], build())
    (tmp_path / "sent").write_bytes(pickle.dumps(table.inputs))
    code = (
        "import pickle, sys, torch; torch.set_num_threads(1)\n"
        "inputs = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert str(inputs.file) in open('/proc/self/maps').read()\n"
        "print(inputs.batch([2, 0]).frames.flatten().tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "sent"], stdout=subprocess.PIPE, check=True, text=True
    )
    assert eval(done.stdout) == table.inputs.batch([2, 0]).frames.flatten().tolist()


def test_sequences_in_memory_pickle_whole() -> None:
    inputs = Sequences(torch.randn(5, 3), (0, 2, 5), 10.0)
    again = pickle.loads(pickle.dumps(inputs))
    assert torch.equal(again.frames, inputs.frames)
    assert (again.starts, again.rate_hz, again.file) == (inputs.starts, 10.0, None)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_batch_pads_and_masks_crops(lengths: list[int], data: st.DataObject) -> None:
    frames = torch.randn(sum(lengths), 3).half()
    starts = tuple(int(start) for start in np.cumsum([0, *lengths]))
    crops = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    batch = Sequences(frames, starts, 10.0).batch(crops)
    assert batch.frames.dtype == torch.float32
    assert batch.mask.shape == (len(crops), max(lengths[i] for i in crops))
    for i, padded, mask in zip(crops, batch.frames, batch.mask, strict=True):
        assert torch.equal(padded[mask], frames[starts[i] : starts[i + 1]].float())
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)
        assert not padded[~mask].any()


def test_training_sets_with_equal_reduction_share_a_file(
    make_file: Callable[..., Path], extractor: FeatureExtractor
) -> None:
    rows = [row(make_file("a.wav")), row(make_file("b.wav", 1.0))]
    plans = extracted(extractor, [row.clip for row in rows])

    def inputs(aggregator: Aggregator, rows: Sequence[LabelledClip] = rows) -> Sequences:
        return build_training_set(rows, plans, extractor, aggregator).inputs

    first = inputs(build("mlp"))
    with mock.patch("mmmos.training.dataset.replacing", side_effect=AssertionError):
        assert inputs(build("blstm_h", standardize=True)).file == first.file
    others = [
        inputs(build("mlp", embed_norm="none")),
        inputs(build("mlp", ["slow", "toy"])),
        inputs(build("mlp"), rows[:1]),
        inputs(build("mlp"), rows[::-1]),
        inputs(build("blstm_t")),
    ]
    assert len({first.file, *(other.file for other in others)}) == 6


@pytest.mark.parametrize("ends", [1, 2])
def test_training_set_is_rewritten_after_an_interruption(
    make_file: Callable[..., Path], extractor: FeatureExtractor, ends: int
) -> None:
    rows = [row(make_file("a.wav"))]
    plans = extracted(extractor, [rows[0].clip])
    real = os.replace
    left = iter([real] * (ends - 1))  # the frames are named before their index is
    with (
        mock.patch("os.replace", side_effect=lambda *names: next(left)(*names)),
        pytest.raises((StopIteration, RuntimeError)),
    ):
        build_training_set(rows, plans, extractor, build())
    expected = build("mlp", ["toy"]).reduce({"toy": encoded(extractor.encoders["toy"], Path(plans[0].clip.path))})
    torch.testing.assert_close(
        build_training_set(rows, plans, extractor, build()).inputs.frames[:, :4], expected.frames[0]
    )


def test_training_set_of_no_rows_is_empty(extractor: FeatureExtractor) -> None:
    for name in AGGREGATORS:
        table = build_training_set([], [], extractor, build(name))
        assert table.inputs.frames.shape == (0, 8)
        assert table.labels.shape == (0, 4)
        assert table.frames(10).shape == (0, 8)


def test_training_set_excludes_clips_without_features(
    make_file: Callable[..., Path], extractor: FeatureExtractor
) -> None:
    rows = [row(make_file("a.wav")), row(make_file("b.wav", 1.0))]
    plans, _ = extractor.plan([row.clip for row in rows], "windows")
    extractor.extract(plans[:1])
    assert build_training_set(rows, plans, extractor, build()).rows == (rows[0],)


def test_frames_are_spread_over_the_rows_crops() -> None:
    lengths = [5, 100, 7, 30]
    frames = torch.arange(sum(lengths), dtype=torch.float16)[:, None]
    rows = tuple(LabelledClip(Clip(str(i)), (0.0,) * 4) for i in range(3))
    crops = (((0, 1.0),), ((1, 1.0), (3, 1.0)), ((2, 1.0),))
    table = TrainingSet(rows, Sequences(frames, (0, 5, 105, 112, 142), 1.0), crops, torch.zeros(3, 4))
    assert torch.equal(table.frames(142), frames.float())
    for most in (141, 50, 7):
        some = table.frames(most).flatten()
        assert most / 2 < len(some) <= most
        assert len(some.diff().unique()) == 1
    part = table.take([rows[2], rows[1]])
    assert part.frames(10**6).flatten().tolist() == list(range(5, 142))


def test_extract_keeps_precisions_apart(
    make_file: Callable[..., Path], toys: dict[str, Encoder], cache: FeatureCache
) -> None:
    rows = [row(make_file("a.wav"))]
    exact, half = FeatureExtractor(toys, cache), FeatureExtractor(toys, cache, torch.bfloat16)
    plans = extracted(exact, [rows[0].clip])
    assert half.size(plans) > 0
    with mock.patch.object(ToyEncoder, "frames", autospec=True, side_effect=ToyEncoder.frames) as frames:
        extracted(half, [rows[0].clip])
        assert frames.call_count == 2
    tables = [build_training_set(rows, plans, each, build(embed_norm="none")).inputs for each in (exact, half)]
    assert tables[0].file != tables[1].file
    assert not torch.equal(tables[0].frames, tables[1].frames)
    torch.testing.assert_close(tables[0].frames, tables[1].frames, rtol=0.02, atol=0.02)
    assert exact.fingerprints == half.fingerprints  # which models are checked against: the encoder is the same
