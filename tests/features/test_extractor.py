"""Clips encoded once: rows of a table are the encoders' own frames, and no row is made up."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmmos.audio.clip import Clip
from mmmos.audio.decode import AudioInfo
from mmmos.audio.isolated import IsolatedDecoder
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import Encoder, Features
from mmmos.encoders.padded import Padded
from mmmos.features.cache import FeatureCache, clip_key
from mmmos.features.extractor import Extractor, Planned
from mmmos.model.aggregators import AGGREGATORS, Aggregator
from mmmos.model.fusion import FusionConfig
from mmmos.training.dataset import Sequences, Table
from tests.recorded_progress import RecordedProgress
from tests.sounds import music
from tests.toys import SlowToy, ToyEncoder

RATE = 16_000


class WideToy(ToyEncoder):
    """As wide as a small network."""

    name = "wide"
    dim = 128
    block_dims = (128,)

    def __init__(self) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(128, 160, generator=torch.Generator().manual_seed(1)))


def row(path: Path, number: float = 5.0, start: float = 0.0, end: float | None = None) -> LabelledClip:
    return LabelledClip(Clip(path.name, str(path), start, end), (number, math.nan, 2.0, 3.0))


@pytest.fixture(scope="module")
def child() -> Iterator[IsolatedDecoder]:
    with IsolatedDecoder() as decoder:
        yield decoder


@pytest.fixture(autouse=True)
def _one_child_for_all_tests(child: IsolatedDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """To start one takes longer than most tests."""
    monkeypatch.setattr("mmmos.features.extractor.IsolatedDecoder", lambda: nullcontext(child))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def toys() -> dict[str, Encoder]:
    return {"toy": ToyEncoder().train(), "slow": SlowToy().train()}


@pytest.fixture
def extractor(toys: dict[str, Encoder], cache: FeatureCache) -> Extractor:
    return Extractor(toys, cache)


def heard(extractor: Extractor, rows: Sequence[LabelledClip], how: str = "windows", count: int = 1) -> list[Planned]:
    """The rows planned and encoded, none of them lost."""
    plans, unopened = extractor.plan(rows, how, count)
    assert unopened == extractor.extract(plans) == {}
    return plans


def build(name: str = "mlp", names: Sequence[str] = ("toy", "slow"), **options: object) -> Aggregator:
    """An aggregator on some of the toys."""
    return AGGREGATORS[name](
        {name: ToyEncoder.block_dims for name in names}, FusionConfig(**{"blstm_hidden": 3} | options)
    )


def encoded(encoder: Encoder, path: Path, start: float = 0.0, end: float | None = None) -> Features:
    """What the encoder itself gives of a file at its own rate, or at twice that."""
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == encoder.sample_rate
    return encoder.encode(
        torch.from_numpy(samples[round(start * rate) : None if end is None else round(end * rate)])[None]
    )


def of_crop(table: Table, number: int) -> torch.Tensor:
    return table.inputs.frames[table.inputs.starts[number] : table.inputs.starts[number + 1]].float()


def test_every_window_is_kept_as_the_encoder_gives_it(make_file: Callable[..., Path], extractor: Extractor) -> None:
    path = make_file("a.wav", 12.5)
    (plan,) = heard(extractor, [row(path)])
    toy, slow = extractor.encoders.values()
    for crop, (start, end) in zip(plan.crops, ((0, 10), (10, 12.5)), strict=True):
        found = extractor.cache.frames(clip_key(crop.clip), toy.fingerprint()[:16])
        assert torch.equal(found.frames, encoded(toy, path, start, end).frames.half().float())
        other = extractor.cache.frames(clip_key(crop.clip), slow.fingerprint()[:16])
        assert other.frames.shape == (1, (end - start) * 50, 4)
        assert other.rate_hz == 50.0


def test_a_stretch_is_encoded_as_a_clip_of_its_own(make_file: Callable[..., Path], extractor: Extractor) -> None:
    path = make_file("a.wav", 3.0)
    plans = heard(extractor, [row(path), row(path, start=1.0, end=2.0)])
    table = extractor.table(plans, build("blstm_t", ["toy"], frame_norm="none"))
    assert torch.equal(of_crop(table, 1), of_crop(table, 0)[100:200])


def test_a_crop_is_encoded_once_however_many_models_train_on_it(
    make_file: Callable[..., Path], extractor: Extractor, toys: dict[str, Encoder]
) -> None:
    rows = [row(make_file(f"{seconds}.wav", seconds)) for seconds in (0.5, 12.0, 0.7)]
    heard(extractor, rows[:1])
    with mock.patch.object(ToyEncoder, "frames", autospec=True, side_effect=ToyEncoder.frames) as frames:
        plans = heard(extractor, rows)
        assert frames.call_count == 2 * 3
        for name in AGGREGATORS:
            for names in (["toy"], ["slow", "toy"]):
                extractor.table(plans, build(name, names))
        heard(Extractor(toys, FeatureCache(extractor.cache.root, "pooled")), rows)
        heard(Extractor({"slow": SlowToy().train()}, extractor.cache), rows)
        assert frames.call_count == 2 * 3
        heard(Extractor({**toys, "new": ToyEncoder(gain=2.0).train()}, extractor.cache), rows)
        assert frames.call_count == 2 * 3 + 4


def test_epochs_hear_the_crops_of_a_clip_in_turn(make_file: Callable[..., Path], extractor: Extractor) -> None:
    paths = [make_file("long.wav", 25.0), make_file("short.wav", 2.0)]
    plans = heard(extractor, list(map(row, paths)), "random", count=3)
    assert [len(plan.crops) for plan in plans] == [3, 1]
    table = extractor.table(plans, build("blstm_t", ["toy"], frame_norm="none"))
    toy = extractor.encoders["toy"]
    epochs = [table.heard([1, 0], epoch) for epoch in (1, 2, 3, 4)]
    for batch, crop in zip(epochs, plans[0].crops, strict=False):
        assert torch.equal(batch.frames[0, :200], encoded(toy, paths[1]).frames[0].half().float())
        assert batch.mask.sum(dim=1).tolist() == [200, 1000]
        expected = encoded(toy, paths[0], crop.clip.start_time, crop.clip.end_time)
        assert torch.equal(batch.frames[1], expected.frames[0].half().float())
    assert not torch.equal(epochs[0].frames, epochs[1].frames)
    assert torch.equal(epochs[3].frames, epochs[0].frames)


@pytest.mark.parametrize(("how", "cuts"), [("windows", 1), ("first", 1), ("random", 4)])
def test_windows_come_in_one_pass_over_the_file_and_random_crops_one_by_one(
    make_file: Callable[..., Path], extractor: Extractor, how: str, cuts: int
) -> None:
    rows = [row(make_file("a.wav", 35.0))]
    with mock.patch.object(IsolatedDecoder, "cut", autospec=True, side_effect=IsolatedDecoder.cut) as cut:
        for _ in range(2):  # the second time there is nothing to do
            plans = heard(extractor, rows, how, count=4)
            assert cut.call_count == cuts
    assert len(plans[0].crops) == {"windows": 4, "first": 1, "random": 4}[how]


def test_broken_off_it_goes_on_with_the_next_crop(make_file: Callable[..., Path], extractor: Extractor) -> None:
    plans, _ = extractor.plan([row(make_file("a.wav", 25.0)), row(make_file("b.wav", 24.0))], "windows")
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
    whole = Extractor(extractor.encoders, FeatureCache(extractor.cache.root / "another"))
    whole.extract(plans)
    for aggregator in (build(), build("blstm_t")):
        tables = (extractor.table(plans, aggregator), whole.table(plans, aggregator))
        assert torch.equal(tables[0].inputs.frames, tables[1].inputs.frames)


def test_clips_without_sound_to_learn_from_are_left_out_with_the_reason(
    make_file: Callable[..., Path], tmp_path: Path, extractor: Extractor
) -> None:
    bad, silent, broken = (tmp_path / f"{name}.wav" for name in ("bad", "silent", "broken"))
    bad.write_text("no audio")
    soundfile.write(silent, np.zeros(12 * RATE), RATE)
    soundfile.write(broken, np.where(np.arange(12 * RATE) < 11 * RATE, music(12.0), np.nan), RATE, subtype="FLOAT")
    good = [row(make_file("a.wav")), row(make_file("b.wav", 1.0))]
    rows = [row(bad), good[0], row(make_file("short.wav", 0.01)), row(silent), row(broken), good[1]]
    rows.append(row(tmp_path / "nosuch.wav"))
    plans, unopened = extractor.plan(rows, "windows")
    assert {name: reason.split(":")[0] for name, reason in unopened.items()} == {
        "bad.wav": "unsupported_format",
        "nosuch.wav": "not_found",
    }
    events = RecordedProgress()
    failed = extractor.extract(plans, events)
    assert {name: reason.split(":")[0] for name, reason in failed.items()} == {
        "short.wav": "too_short",
        "silent.wav": "silent",
        "broken.wav": "non_finite_audio",
    }
    assert events.total_clips == len(plans) == 5
    assert events.order.endswith("w.")
    assert extractor.extract(plans) == failed  # and again, though silence is in the cache
    table = extractor.table([plan for plan in plans if plan.row.clip.id not in failed], build())
    assert table.rows == tuple(good)
    assert len(table.crops) == len(table.labels) == len(table.inputs.starts) - 1 == 2


def test_a_file_that_goes_meanwhile_is_left_out_as_not_found(
    make_file: Callable[..., Path], extractor: Extractor
) -> None:
    paths = [make_file("a.wav", 1.0), make_file("b.wav", 1.0)]
    plans, _ = extractor.plan(list(map(row, paths)), "windows")
    paths[0].unlink()
    assert extractor.size(plans) > 0
    assert extractor.extract(plans) == {"a.wav": f"not_found: no such file: {paths[0]}"}
    paths[1].unlink()
    paths[1].mkdir()
    assert extractor.extract(plans)["b.wav"].startswith("decode_failed: the file cannot be read")
    assert extractor.decoder_peak_bytes > 0


def test_silent_windows_have_no_part_in_their_clip(tmp_path: Path, extractor: Extractor) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(
        path, np.concatenate([np.zeros(101 * RATE // 10), music(14.9)]), RATE
    )  # resampling rings before a sound
    table = extractor.table(heard(extractor, [row(path)]), build())
    assert table.crops == (((0, 1.0), (1, 0.5)),)
    for number, (start, end) in enumerate(((10, 20), (20, 25))):
        expected = build("mlp", ["toy"]).reduce({"toy": encoded(extractor.encoders["toy"], path, start, end)})
        torch.testing.assert_close(of_crop(table, number)[:, :4], expected.frames[0])


@pytest.mark.parametrize("keep", ["frames", "pooled"])
@pytest.mark.parametrize("how", ["mean", "mean_std"])
def test_a_pooled_table_is_what_the_aggregator_makes_of_the_features(
    make_file: Callable[..., Path], toys: dict[str, Encoder], tmp_path: Path, keep: str, how: str
) -> None:
    extractor = Extractor({"toy": toys["toy"], "other": ToyEncoder(gain=3.0).train()}, FeatureCache(tmp_path, keep))
    paths = [make_file(f"{i}.wav", 0.5 + i) for i in range(3)]
    plans = heard(extractor, list(map(row, paths)))
    for name in ("mlp", "blstm_h"):
        aggregator = build(name, ["other", "toy"], pool=how)
        table = extractor.table(plans, aggregator)
        assert table.inputs.frames.shape == (3, aggregator.input_dim)
        assert table.inputs.frames.dtype == torch.float32
        for i, path in enumerate(paths):
            features = {name: encoded(encoder, path) for name, encoder in extractor.encoders.items()}
            torch.testing.assert_close(of_crop(table, i), aggregator.reduce(features).frames[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("align", ["pool_lowest", "interp_linear", "repeat"])
def test_an_aligned_table_is_that_too_within_float16(
    make_file: Callable[..., Path], extractor: Extractor, align: str
) -> None:
    paths = [make_file(f"{i}.wav", 0.5 + i) for i in range(3)]
    plans = heard(extractor, list(map(row, paths)))
    aggregator = build("blstm_t", ["slow", "toy"], align=align, align_rate_hz=20.0)
    table = extractor.table(plans, aggregator)
    assert table.inputs.frames.dtype == torch.float16
    assert table.inputs.rate_hz == 20.0
    for i, path in enumerate(paths):
        halved = encoded(extractor.encoders["toy"], path)
        own = extractor.cache.frames(clip_key(plans[i].crops[0].clip), extractor.encoders["slow"].fingerprint()[:16])
        expected = aggregator.reduce({"toy": halved, "slow": own}).frames[0]
        assert expected.shape == (10 + 20 * i, 8)
        torch.testing.assert_close(of_crop(table, i), expected, rtol=2**-10, atol=2**-10)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_rows_labels_and_inputs_keep_in_step(make_file: Callable[..., Path], extractor: Extractor, name: str) -> None:
    rows = [row(make_file(f"{i}.wav", seconds), float(i)) for i, seconds in enumerate((0.5, 12.0, 0.8))]
    plans = heard(extractor, rows)
    alone = [extractor.table([plan], build(name)).inputs.frames for plan in plans]
    for order in ([0, 1, 2], [2, 0, 1]):
        table = extractor.table([plans[i] for i in order], build(name))
        parts = [(table, order), (table.take([rows[2], rows[1]]), [2, 1]), (table.take([]), [])]
        for part, numbers in parts:
            assert part.rows == tuple(rows[i] for i in numbers)
            expected = np.array([rows[i].labels for i in numbers], dtype=np.float32).reshape(-1, 4)
            np.testing.assert_array_equal(part.labels, expected)
            for i, crops in zip(numbers, part.crops, strict=True):
                assert torch.equal(torch.cat([of_crop(part, number) for number, _ in crops]), alone[i].float())
                assert sum(weight for _, weight in crops) == pytest.approx((0.5, 12.0, 0.8)[i] / 10)


@pytest.mark.parametrize(("name", "suffix"), [("mlp", ".float32"), ("blstm_t", ".float16")])
def test_a_pickled_table_maps_the_same_file(
    make_file: Callable[..., Path], extractor: Extractor, name: str, suffix: str
) -> None:
    table = extractor.table(heard(extractor, [row(make_file("a.wav", 25.0)), row(make_file("b.wav"))]), build(name))
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
def test_another_process_maps_it_too(make_file: Callable[..., Path], extractor: Extractor, tmp_path: Path) -> None:
    table = extractor.table(heard(extractor, [row(make_file("a.wav", 25.0))]), build())
    (tmp_path / "sent").write_bytes(pickle.dumps(table.inputs))
    code = (
        "import pickle, sys, torch; torch.set_num_threads(1)\n"
        "inputs = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert str(inputs.file) in open('/proc/self/maps').read()\n"
        "print(inputs.batch([2, 0]).frames.flatten().tolist())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "sent"], stdout=subprocess.PIPE, check=True, text=True
    )
    assert eval(told.stdout) == table.inputs.batch([2, 0]).frames.flatten().tolist()


def test_sequences_in_memory_are_pickled_whole() -> None:
    inputs = Sequences(torch.randn(5, 3), (0, 2, 5), 10.0)
    again = pickle.loads(pickle.dumps(inputs))
    assert torch.equal(again.frames, inputs.frames)
    assert (again.starts, again.rate_hz, again.file) == (inputs.starts, 10.0, None)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_a_batch_is_its_crops_padded_and_masked(lengths: list[int], data: st.DataObject) -> None:
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


def test_models_that_reduce_alike_share_a_file_that_is_written_once(
    make_file: Callable[..., Path], extractor: Extractor
) -> None:
    plans = heard(extractor, [row(make_file("a.wav")), row(make_file("b.wav", 1.0))])
    first = extractor.table(plans, build("mlp")).inputs
    with mock.patch("mmmos.features.extractor.replacing", side_effect=AssertionError):
        assert extractor.table(plans, build("blstm_h", standardize=True)).inputs.file == first.file
    others = [
        extractor.table(plans, build("mlp", embed_norm="none")),
        extractor.table(plans, build("mlp", ["slow", "toy"])),
        extractor.table(plans[:1], build("mlp")),
        extractor.table(plans[::-1], build("mlp")),
        extractor.table(plans, build("blstm_t")),
    ]
    assert len({first.file, *(table.inputs.file for table in others)}) == 6


@pytest.mark.parametrize("ends", [1, 2])
def test_a_table_whose_writing_was_broken_off_is_written_anew(
    make_file: Callable[..., Path], extractor: Extractor, ends: int
) -> None:
    plans = heard(extractor, [row(make_file("a.wav"))])
    real = os.replace
    left = iter([real] * (ends - 1))  # the frames are named before their index is
    with (
        mock.patch("os.replace", side_effect=lambda *names: next(left)(*names)),
        pytest.raises((StopIteration, RuntimeError)),
    ):
        extractor.table(plans, build())
    expected = build("mlp", ["toy"]).reduce({"toy": encoded(extractor.encoders["toy"], Path(plans[0].row.clip.path))})
    torch.testing.assert_close(extractor.table(plans, build()).inputs.frames[:, :4], expected.frames[0])


def test_no_rows_make_an_empty_table(extractor: Extractor) -> None:
    for name in AGGREGATORS:
        table = extractor.table([], build(name))
        assert table.inputs.frames.shape == (0, 8)
        assert table.labels.shape == (0, 4)
        assert table.frames(10).shape == (0, 8)


def test_what_was_never_heard_is_not_in_the_table(make_file: Callable[..., Path], extractor: Extractor) -> None:
    rows = [row(make_file("a.wav")), row(make_file("b.wav", 1.0))]
    plans, _ = extractor.plan(rows, "windows")
    extractor.extract(plans[:1])
    assert extractor.table(plans, build()).rows == (rows[0],)


def test_frames_for_fitting_are_spread_over_the_rows_own_crops() -> None:
    lengths = [5, 100, 7, 30]
    frames = torch.arange(sum(lengths), dtype=torch.float16)[:, None]
    rows = tuple(LabelledClip(Clip(str(i)), (0.0,) * 4) for i in range(3))
    crops = (((0, 1.0),), ((1, 1.0), (3, 1.0)), ((2, 1.0),))
    table = Table(rows, Sequences(frames, (0, 5, 105, 112, 142), 1.0), crops, torch.zeros(3, 4))
    assert torch.equal(table.frames(142), frames.float())
    for most in (141, 50, 7):
        some = table.frames(most).flatten()
        assert most / 2 < len(some) <= most
        assert len(some.diff().unique()) == 1
    part = table.take([rows[2], rows[1]])
    assert part.frames(10**6).flatten().tolist() == list(range(5, 142))


@pytest.mark.parametrize("keep", ["frames", "pooled"])
@pytest.mark.parametrize("how", ["windows", "random"])
@pytest.mark.parametrize("padded", [False, True])
def test_the_room_that_features_take_is_known_beforehand(
    make_file: Callable[..., Path], tmp_path: Path, keep: str, how: str, padded: bool
) -> None:
    cache = FeatureCache(tmp_path / "cache", keep)
    wide = WideToy().train()
    extractor = Extractor({"toy": Padded(wide, 10.0) if padded else wide}, cache)
    rows = [row(make_file(f"{seconds}.wav", seconds)) for seconds in (2.0, 9.0, 10.2, 33.0)]
    plans, _ = extractor.plan([*rows, row(make_file("c.wav", 40.0), start=1.0, end=3.0)], how, count=2)
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


def test_features_of_another_precision_lie_apart(
    make_file: Callable[..., Path], toys: dict[str, Encoder], cache: FeatureCache
) -> None:
    rows = [row(make_file("a.wav"))]
    exact, half = Extractor(toys, cache), Extractor(toys, cache, torch.bfloat16)
    plans = heard(exact, rows)
    assert half.size(plans) > 0
    with mock.patch.object(ToyEncoder, "frames", autospec=True, side_effect=ToyEncoder.frames) as frames:
        heard(half, rows)
        assert frames.call_count == 2
    tables = [each.table(plans, build(embed_norm="none")).inputs for each in (exact, half)]
    assert tables[0].file != tables[1].file
    assert not torch.equal(tables[0].frames, tables[1].frames)
    torch.testing.assert_close(tables[0].frames, tables[1].frames, rtol=0.02, atol=0.02)
    assert exact.fingerprints == half.fingerprints  # which models are checked against: the encoder is the same


@pytest.mark.parametrize("told", [math.nan, math.inf])
def test_a_file_whose_header_has_no_length_is_measured(
    make_file: Callable[..., Path], extractor: Extractor, told: float
) -> None:
    path = make_file("a.wav", 25.0)
    info = AudioInfo(RATE, 1, told, "WAV", "libsndfile")
    with mock.patch.object(IsolatedDecoder, "probe", return_value=info):
        plans, _ = extractor.plan([row(path), row(path, start=1.0, end=13.0)], "windows")
    assert [[crop.clip.end_time for crop in plan.crops] for plan in plans] == [[10, 20, 25], [11, 13]]
