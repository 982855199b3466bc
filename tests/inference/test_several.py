"""Several models on one decoding pass: each gives the scores that it gives alone, and rows hold all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from mmmos.audio.clip import Clip
from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.spectrum import Spectrum
from mmmos.encoders.table import ENCODERS
from mmmos.errors import UsageError
from mmmos.inference.predictor import Predictor
from mmmos.inference.resume import not_done
from mmmos.inference.rows import open_rows, table_row, table_schema
from mmmos.inference.several import Predictors
from mmmos.model.folder import save_model
from mmmos.model.fusion import FusionConfig
from mmmos.model.info import ModelInfo
from mmmos.model.quality import ModelConfig
from mmmos.scores import AXES, ClipError, Scores
from tests.recorded_progress import RecordedProgress
from tests.sounds import music
from tests.toys import CPU, SlowToy, ToyEncoder, toy_config, toy_member, toy_model

FUSION = FusionConfig("mean_std", "none")
SLOW = ModelConfig((EncoderSpec("slow", SlowToy.block_dims, SlowToy().fingerprint()),), fusion=FUSION)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Predictor]]:
    """Two models on the toy encoder at 16 kHz, and one on its slow variant at 8 kHz."""
    monkeypatch.setitem(ENCODERS, "toy", ToyEncoder)
    monkeypatch.setitem(ENCODERS, "slow", SlowToy)
    members = toy_member(0, toy_config(fusion=FUSION)), toy_member(1, SLOW), toy_member(2, toy_config(fusion=FUSION))
    found = [Predictor(replace(toy_model(member), sha256=str(i) * 64), CPU) for i, member in enumerate(members)]
    yield found
    for predictor in found:
        predictor.close()


def together(three: list[Predictor]) -> Predictors:
    return Predictors(three[0], {"slow": three[1], "third": three[2]})


def tone(seconds: float, hz: float, rate: int = 16_000) -> Clip:
    """A tone that fades in and out, so that it stays in its band."""
    count = round(seconds * rate)
    samples = 0.1 * np.hanning(count) * np.sin(2 * np.pi * hz * np.arange(count) / rate)
    return Clip(f"{hz:g} Hz, {seconds:g} s", samples=samples.astype(np.float32), sample_rate=rate)


def clips() -> list[Clip]:
    """Among them 7 kHz, which only the encoders at 16 kHz receive, and clips that fail."""
    song = Clip("song", samples=music(12.5), sample_rate=16_000)
    low = tone(12, 440).samples
    assert low is not None
    part = np.concatenate([tone(10, 7000).samples, low])  # type: ignore[list-item]
    half = Clip("half", samples=part, sample_rate=16_000)
    return [song, tone(3, 7000), tone(0.05, 440), half, tone(2, 440)]


def alone(scores: Scores) -> Scores:
    return replace(scores, others=())


@pytest.mark.slow
@pytest.mark.parametrize(("segments", "batch_size"), [(False, 1), (True, 3)])
def test_each_model_gives_the_scores_that_it_gives_alone(three, segments, batch_size):
    for predictor in three:
        predictor.batch_size = batch_size
    expected = [list(map(repr_of, predictor.stream(clips(), segments=segments))) for predictor in three]
    progress = RecordedProgress()
    found = list(together(three).stream(clips(), segments=segments, progress=progress))
    assert list(map(repr_of, map(alone, found))) == expected[0]
    for i, name in ((1, "slow"), (2, "third")):
        assert [repr_of(dict(scores.others)[name]) for scores in found] == expected[i]
    assert [list(dict(scores.others)) for scores in found] == [["slow", "third"]] * len(found)


def repr_of(scores: Scores) -> str:
    """Everything in a row; NaN equals NaN."""
    return json.dumps(scores.row())


def test_sound_above_the_band_of_one_model_is_silent_for_it(three):
    (scores,) = together(three).stream([tone(3, 7000)])
    assert "silent" not in scores.warnings
    assert "silent" in dict(scores.others)["slow"].warnings
    assert dict(scores.others)["slow"].row()["PQ"] is None


def test_models_with_the_same_encoder_encode_a_window_once(three, monkeypatch):
    frames, windows = ToyEncoder.frames, []
    monkeypatch.setattr(ToyEncoder, "frames", lambda self, waves: windows.append(self) or frames(self, waves))
    list(together(three).stream([tone(25, 440)]))
    assert len([encoder for encoder in windows if encoder.name == "toy"]) == 3
    assert three[0].encoders["toy"] is three[2].encoders["toy"]


def test_models_with_other_shortest_clips_are_refused(three):
    three[1].min_seconds = 1.5
    with pytest.raises(UsageError, match=r"from 0\.10 s and 1\.50 s on; score with each in a run of its own"):
        together(three)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_have_the_columns_of_every_model(three, tmp_path, kind):
    found = list(together(three).stream(clips()[:3]))
    with open_rows(tmp_path / f"a.{kind}", others=["slow", "third"]) as write:
        for scores in found:
            write(scores)
    if kind == "jsonl":
        rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
        assert rows == [scores.row() for scores in found]
        assert rows[0]["slow_PQ"] == round(dict(found[0].others)["slow"].PQ, 6)
        assert rows[2]["slow_error"]["code"] == rows[2]["error"]["code"] == "too_short"
    elif kind == "parquet":
        table = parquet.read_table(tmp_path / "a.parquet")
        assert table.schema == table_schema(["slow", "third"])
        assert table.to_pylist() == [table_row(scores) for scores in found]
        assert table.column("third_PQ").type == "double"
        assert table.column("third_error_code").to_pylist() == [None, None, "too_short"]
    else:
        header = (tmp_path / "a.csv").read_text().splitlines()[0].split(",")
        assert header == table_schema(["slow", "third"]).names
        assert len(set(header)) == len(header)


def test_clips_that_were_given_up_have_an_error_of_every_model(three):
    scores = together(three).failed(Clip("a", "a.wav"), ClipError("worker_crashed", "died"))
    row = table_row(scores)
    assert set(row) == set(table_schema(["slow", "third"]).names)
    assert row["error_code"] == row["slow_error_code"] == row["third_error_code"] == "worker_crashed"
    assert row["third_model_sha256"] == "2" * 64


def test_resuming_compares_every_model(three, tmp_path):
    both, found = together(three), clips()[:3]
    path = tmp_path / "a.jsonl"
    with open_rows(path, others=both.others) as write:
        for scores in both.stream(found):
            write(scores)
    first, others = both.first.provenance, both.provenance_of_others
    assert not_done(found, path, first, others) == found[2:]  # the one without a score
    changed = others | {"slow": replace(others["slow"], model_sha256="9" * 64)}
    for given, message in ((changed, "another model"), ({}, "another model"), ({"slow": others["slow"]}, "third_")):
        with pytest.raises(UsageError, match=message):
            not_done(found, path, first, given)
    with open_rows(path) as write:
        write(next(three[0].stream(found[:1])))
    with pytest.raises(UsageError, match=r"line 1 .*slow_model_sha256 None"):
        not_done(found, path, first, others)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two model folders that every process can load: random weights on the encoder without weights."""
    spec = EncoderSpec("spectrum", Spectrum.block_dims, Spectrum().fingerprint())
    for name, seed in (("a", 0), ("b", 1)):
        member = toy_member(seed, ModelConfig((spec,), fusion=FUSION))
        save_model(tmp_path / name, member, ModelInfo(calibrated=name == "a"), "")
    return [tmp_path / "a", tmp_path / "b"]


@pytest.mark.slow
def test_score_writes_both_models_to_files_and_folders(
    folders: list[Path], make_file: Callable[..., Path], run_mmmos: Callable[..., tuple[int, str, str]], tmp_path: Path
):
    clips = [make_file("1.wav"), make_file("2.wav", 12.0), tmp_path / "gone.wav"]
    (tmp_path / "list.txt").write_text("\n".join(map(str, clips)))
    models = ("--model", folders[0], "--model", f"new={folders[1]}")
    status, out, err = run_mmmos("score", tmp_path / "list.txt", *models)
    rows = [json.loads(line) for line in out.splitlines()]
    assert (status, len(rows), err.count("not calibrated")) == (1, 3, 1)
    for folder, start in ((folders[0], ""), (folders[1], "new_")):
        single = [json.loads(line) for line in run_mmmos("score", *clips, "--model", folder)[1].splitlines()]
        assert [[row[f"{start}{axis}"] for axis in AXES] for row in rows] == [[r[a] for a in AXES] for r in single]
    run = ("score", tmp_path / "list.txt", *models, "-o", f"{tmp_path}/run/", "--workers", 1, "--shard-size", 2)
    assert run_mmmos(*run)[0] == 1
    assert run_mmmos("verify", tmp_path / "run")[0] == 0
    assert run_mmmos("merge", tmp_path / "run", "-o", tmp_path / "merged.jsonl")[0] == 0
    merged = [json.loads(line) for line in (tmp_path / "merged.jsonl").read_text().splitlines()]
    assert merged == rows
    status, _, err = run_mmmos("score", tmp_path / "list.txt", "--model", folders[0], "-o", f"{tmp_path}/run/")
    assert status == 2
    assert "is a run with others" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "lite", "--model", "lite", "--model", "x/lite"), "give NAME=MODEL"),
        (("--model", "lite", "--model", "audiobox", "--format", "audiobox"), "takes one model"),
        (("--model", "lite", "--model", "b", "--segments", "--plot", "a.png"), "takes one model"),
    ],
)
def test_options_that_take_one_model_refuse_several(run_mmmos, make_file, words, message):
    status, _, err = run_mmmos("score", make_file("a.wav"), *words)
    assert status == 2
    assert message in err
