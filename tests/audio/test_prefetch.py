"""Prefetching: the same windows in the same order as decoding one by one, bounded, and nothing is left behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mmmos.audio import prefetch
from mmmos.audio.clip import Clip
from mmmos.audio.isolated import DEADLINE_SECONDS, IsolatedDecoder
from mmmos.audio.prefetch import PREFETCH_ITEMS, PrefetchingDecoder
from mmmos.audio.windows import ClipReport, Window, cut
from mmmos.errors import AudioError, ManifestError
from mmmos.inference.predictor import Predictor
from tests.sounds import SAMPLES, music
from tests.toys import ToyEncoder, toy_member, toy_model

RATES = (16_000, 24_000)

Item = Window | ClipReport | AudioError


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    threads, children = threading.active_count(), children_of(os.getpid())
    yield
    assert threading.active_count() == threads
    assert children_of(os.getpid()) <= children


def children_of(process: int) -> set[int]:
    """Processes that this one has started and that are still there, dead or alive."""
    found = Path(f"/proc/{process}/task").glob("*/children")
    return {int(word) for path in found for word in path.read_text().split()}


@pytest.fixture
def decoders() -> Iterator[PrefetchingDecoder]:
    with PrefetchingDecoder(2) as decoders:
        yield decoders


@pytest.fixture
def stuck(tmp_path: Path) -> Clip:
    """A file that nobody writes: to open it is to wait forever."""
    path = tmp_path / "stuck.wav"
    os.mkfifo(path)
    return Clip("stuck", str(path))


@pytest.fixture
def mixed(make_file: Callable[..., Path], tmp_path: Path) -> list[Clip]:
    """Good and broken clips: files, segments of files, samples in memory."""
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound in here")
    long = str(make_file("long.wav", seconds=47, rate=8_000))
    samples = Clip("samples", None, samples=music(3.0)[:, None], sample_rate=16_000)
    broken = [Clip(name, str(tmp_path / name)) for name in ("empty.wav", "gone.wav", "text.wav")]
    good = [Clip(path.name, str(path)) for path in sorted(SAMPLES.glob("*.*")) if path.suffix != ".md"]
    segments = [Clip("part", long, start, start + 13) for start in (0.0, 7.5, 40.0, 60.0)]
    return [*broken[:1], Clip("long", long), *good, *broken, samples, *segments, *broken, *good[:2]]


def all_of(clip: Clip, items: Iterator[Window | ClipReport]) -> tuple[str, list[Item]]:
    taken: list[Item] = []
    try:
        taken.extend(items)
    except AudioError as error:
        taken.append(error)
    return clip.id, taken


def plain(item: Item) -> tuple[Any, ...]:
    if isinstance(item, AudioError):
        return item.code, str(item)
    if isinstance(item, ClipReport):
        return (item,)
    return item.start_time, item.end_time, item.silent, {rate: wave.tobytes() for rate, wave in item.waves.items()}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_windows_come_as_if_cut_one_after_the_other(mixed: list[Clip], count: int) -> None:
    with PrefetchingDecoder(count) as decoders:
        found = [all_of(clip, items) for clip, items in decoders.cut(mixed, RATES, 0.1)]
    wanted = [all_of(clip, cut(clip, RATES, 0.1)) for clip in mixed]
    assert [name for name, _ in found] == [clip.id for clip in mixed]
    for (_, theirs), (_, ours) in zip(found, wanted, strict=True):
        assert [plain(item) for item in theirs] == [plain(item) for item in ours]


@pytest.mark.slow
@pytest.mark.usefixtures("toy_encoder")
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_scores_are_those_of_one_after_the_other(mixed: list[Clip], segments: bool, batch_size: int) -> None:
    rows = []
    for count in (0, 2):
        with Predictor(
            toy_model(toy_member(0)), batch_size=batch_size, decoder=PrefetchingDecoder(count) if count else None
        ) as predictor:
            rows.append([scores.row() for scores in predictor.stream(mixed, segments=segments)])
            assert (predictor.decoder.peak_bytes() > 10 * 2**20) or not os.path.exists("/proc/self/status")
    assert rows[0] == rows[1]
    assert {row["status"] for row in rows[0]} == {"ok", "error"}


@pytest.mark.slow
def test_children_serve_one_list_after_the_other(decoders: PrefetchingDecoder, mixed: list[Clip]) -> None:
    for _ in range(2):
        assert len([all_of(*pair) for pair in decoders.cut(mixed, RATES, 0.1)]) == len(mixed)
        children = [decoder.process for decoder in decoders.decoders]
    assert list(decoders.cut([], RATES, 0.1)) == []
    assert [decoder.process for decoder in decoders.decoders] == children
    assert all(child is not None and child.poll() is None for child in children)


@pytest.mark.slow
def test_what_waits_is_bounded_whatever_the_lengths(
    decoders: PrefetchingDecoder, make_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = 0
    lock = threading.Lock()
    original = prefetch._Job.put

    def count(self: Any, item: Any, room: Any) -> None:
        nonlocal put
        with lock:
            put += 1
        original(self, item, room)

    monkeypatch.setattr(prefetch._Job, "put", count)
    long = Clip("long", str(make_file("long.wav", seconds=120, rate=8_000)))
    short = Clip("short", str(make_file("short.wav", seconds=0.2)))
    listed = iter([long, *[short] * 100])
    cuts = decoders.cut(listed, RATES, 0.1)
    _, items = next(cuts)
    next(items)
    settle(lambda: put)
    assert put <= 2 * PREFETCH_ITEMS + 1
    assert len(list(items)) == 12
    settle(lambda: put)
    assert put <= 13 + 2 * PREFETCH_ITEMS
    assert 100 - len(list(listed)) <= 2 * PREFETCH_ITEMS
    cuts.close()  # type: ignore[attr-defined]  # a generator


def settle(number: Callable[[], int]) -> None:
    """Wait until the number has not grown for a while."""
    last, since = number(), time.monotonic()
    while time.monotonic() < since + 0.3:
        time.sleep(0.02)
        if number() != last:
            last, since = number(), time.monotonic()


class Impatient(IsolatedDecoder):
    """Waits long for its child and for any file, but not for the one that nobody writes."""

    def __init__(self, good: Clip) -> None:
        super().__init__()
        self.good = good

    def cut(self, clip: Clip, rates: Sequence[int], min_seconds: float) -> Iterator[Window | ClipReport]:
        self.deadline = DEADLINE_SECONDS
        self.probe(self.good)  # now the child is there
        self.deadline = 0.5 if clip.id == "stuck" else DEADLINE_SECONDS
        return super().cut(clip, rates, min_seconds)


@pytest.mark.slow
def test_a_child_that_hangs_costs_its_clip_alone(
    decoders: PrefetchingDecoder, make_file: Callable[..., Path], stuck: Clip
) -> None:
    good = Clip("good", str(make_file("good.wav")))
    decoders.decoders = [Impatient(good), Impatient(good)]
    found = [all_of(*pair) for pair in decoders.cut([good, stuck, good, good, stuck, good], RATES, 0.1)]
    errors = [items[-1] for name, items in found if name == "stuck"]
    assert [(error.code, str(error)) for error in errors] == [
        ("decode_timeout", "the decoder gave nothing for 0.5 s")
    ] * 2
    assert [len(items) for name, items in found if name == "good"] == [2] * 4


def has_open(decoder: IsolatedDecoder, path: str | None) -> bool:
    """Whether the decoder's child has the file open."""
    if decoder.process is None:
        return False
    return any(os.path.realpath(file) == path for file in Path(f"/proc/{decoder.process.pid}/fd").iterdir())


@pytest.mark.slow
def test_a_child_that_dies_costs_its_clip_alone(
    decoders: PrefetchingDecoder, make_file: Callable[..., Path], stuck: Clip
) -> None:
    good = Clip("good", str(make_file("good.wav")))

    def crash() -> None:
        with open(stuck.path, "wb"):  # opens as soon as the child does
            holders: list[IsolatedDecoder] = []
            while not holders:
                holders = [decoder for decoder in decoders.decoders if has_open(decoder, stuck.path)]
            holders[0].kill()

    killer = threading.Thread(target=crash)
    killer.start()
    found = [all_of(*pair) for pair in decoders.cut([stuck, good, good], RATES, 0.1)]
    killer.join()
    assert [getattr(items[-1], "code", None) for _, items in found] == ["decode_crashed", None, None]
    assert "-9" in str(found[0][1][-1])


@pytest.mark.slow
def test_it_ends_promptly_when_the_consumer_stops(
    make_file: Callable[..., Path], stuck: Clip, decoders: PrefetchingDecoder
) -> None:
    good, long = (
        Clip(name, str(make_file(f"{name}.wav", seconds=size))) for name, size in [("good", 1), ("long", 200)]
    )
    threads = threading.active_count()
    for listed in ([good, stuck, stuck], [stuck, stuck], [good, long, long, long], [good] * 50):
        cuts = decoders.cut(listed, RATES, 0.1)
        if listed[0] is good:
            assert all_of(*next(cuts))[0] == "good"
        else:
            next(cuts)
        began = time.monotonic()
        cuts.close()  # type: ignore[attr-defined]  # a generator
        assert time.monotonic() - began < DEADLINE_SECONDS / 2
        assert threading.active_count() == threads
    assert [len(all_of(*pair)[1]) for pair in decoders.cut([good, good], RATES, 0.1)] == [2, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("toy_encoder")
def test_a_stream_left_midway_leaves_nothing_running(make_file: Callable[..., Path], stuck: Clip) -> None:
    good, children = Clip("good", str(make_file("good.wav"))), children_of(os.getpid())
    with Predictor(toy_model(toy_member(0)), decoder=PrefetchingDecoder(2)) as predictor:
        stream = predictor.stream([good, stuck, good])
        assert next(stream).error is None
        began = time.monotonic()
        stream.close()  # type: ignore[attr-defined]  # a generator
        assert time.monotonic() - began < DEADLINE_SECONDS / 2
        assert predictor.score(good.path).error is None
    assert children_of(os.getpid()) == children


@pytest.mark.slow
def test_windows_left_do_not_reach_into_the_next_clip(
    decoders: PrefetchingDecoder, make_file: Callable[..., Path]
) -> None:
    clips = [Clip(name, str(make_file(f"{name}.wav", seconds=95, rate=8_000))) for name in "abcde"]
    for number, (clip, items) in enumerate(decoders.cut(clips, (8_000,), 0.1)):
        for window in [next(items) for _ in range(number)]:
            assert isinstance(window, Window)
        assert clip is clips[number]
        if number == 2:
            items.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.slow
def test_two_lists_at_once_do_not_mix(decoders: PrefetchingDecoder, make_file: Callable[..., Path]) -> None:
    ones, others = (
        [Clip(f"{rate}", str(make_file(f"{rate}-{i}.wav", rate=rate))) for i in range(6)] for rate in (8_000, 12_000)
    )
    for (one, its), (other, others_) in zip(
        decoders.cut(ones, RATES, 0.1), decoders.cut(others, RATES, 0.1), strict=True
    ):
        for clip, items in ((one, its), (other, others_)):
            *_, report = items
            assert str(report.info.sample_rate) == clip.id


@pytest.mark.slow
def test_list_error_follows_the_clips_before_it(decoders: PrefetchingDecoder, make_file: Callable[..., Path]) -> None:
    good = Clip("good", str(make_file("good.wav")))

    def listed() -> Iterator[Clip]:
        yield from [good] * 3
        raise ManifestError("line 4")

    cuts = decoders.cut(listed(), RATES, 0.1)
    assert [len(all_of(*next(cuts))[1]) for _ in range(3)] == [2] * 3
    with pytest.raises(ManifestError, match="line 4"):
        next(cuts)


def test_an_error_that_nobody_foresaw_is_raised_in_the_consumer(
    decoders: PrefetchingDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: IsolatedDecoder, *_: object) -> Iterator[Window]:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(IsolatedDecoder, "cut", fail)
    cuts = decoders.cut([Clip("a", "a.wav")] * 2, RATES, 0.1)
    _, items = next(cuts)
    with pytest.raises(RuntimeError, match="unforeseen"):
        next(items)
    cuts.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.slow
@pytest.mark.usefixtures("toy_encoder")
def test_clips_that_never_end_are_taken_as_they_are_needed(make_file: Callable[..., Path]) -> None:
    good = Clip("good", str(make_file("good.wav", seconds=0.3)))

    def endless() -> Iterator[Clip]:
        while True:
            yield good

    with Predictor(toy_model(toy_member(0)), decoder=PrefetchingDecoder(2)) as predictor:
        stream = predictor.stream(endless())
        assert len({next(stream).PQ for _ in range(20)}) == 1
        stream.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.slow
def test_scores_are_the_same_in_the_same_order(toy_encoder: ToyEncoder, tmp_path: Path) -> None:
    paths = []
    for number in range(30):
        paths.append(tmp_path / f"{number}.flac")
        soundfile.write(paths[-1], music(0.2 + 0.35 * (number % 7) ** 2, seed=number), 16_000)
    model = toy_model(toy_member(0))
    with Predictor(model) as one, Predictor(model, decoder=PrefetchingDecoder(3)) as other:
        alone = [scores.PQ for scores in one.score(paths)]
        assert [scores.PQ for scores in other.score(paths)] == alone
    assert len(set(alone)) > 20
    assert np.isfinite(alone).all()
