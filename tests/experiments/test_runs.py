"""An experiment from end to end: encoded once, trained once, reported correctly, and resumed after an interruption."""

from __future__ import annotations

import csv
import json
import logging
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
from scipy import stats

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.spectrum import Spectrum
from mmmos.encoders.table import ENCODERS
from mmmos.errors import MmmosError, UsageError
from mmmos.experiments import runs
from mmmos.experiments.config import read_experiment
from mmmos.experiments.results import BIAS, Result, read_results, results_of, write_results
from mmmos.experiments.runs import Finished, run_experiment
from mmmos.experiments.sets import Sets, read_sets
from mmmos.experiments.single_run import Run
from mmmos.features.cache import file_digests
from mmmos.features.source import EncoderSource
from mmmos.inference.predictor import from_pretrained
from mmmos.metrics import METRICS
from mmmos.model.folder import load_folder
from mmmos.model.system import combine
from mmmos.scores import AXES, LABEL_RANGE
from tests.recorded_progress import RecordedProgress
from tests.sounds import music
from tests.toys import CPU, ToyEncoder

EXPERIMENT = """
seeds = [1, 2]
note = "Made up."

[encoders]
wavlm = "spectrum"
m2d = "musicnn"

[settings]
epochs = 2
lr = 0.01
batch_size = 4
blstm_hidden = 8

[data]
list = "r.csv"
parts = { train = 0.5, Dev = 0.2, PAM = 0.3 }

[ensembles]
strategies = ["all", "pam_top_1", "dev_top_8", "submitted"]

[[grid]]
table = "II"
row = "{encoders}"
encoders = [["wavlm"], ["wavlm", "m2d"]]

[[grid]]
table = "III"
row = "BiEnc {aggregator} {loss}"
encoders = ["wavlm", "m2d"]
aggregator = "mlp"
loss = ["ut", "ccc"]
clip_output = [false]

[[grid]]
table = "III"
row = "one {aggregator}"
encoders = ["wavlm"]
aggregator = "blstm_t"

[[grid]]
table = "III"
row = "lost"
encoders = ["wavlm"]
lr = 1e30
"""


ONE = """
[encoders]
wavlm = "spectrum"

[data]
list = "r.csv"
parts = { train = 0.5, Dev = 0.5 }

[[grid]]
table = "Mine"
row = "one"
epochs = 2
batch_size = 4
"""

FIGURES = (*METRICS, *BIAS)

Small = tuple[Path, Sets, Finished, list[str]]


def make_clips(folder: Path, seconds: Sequence[float]) -> list[LabelledClip]:
    """Clips that differ, of two systems, with labels on every axis."""
    rng = np.random.default_rng(0)
    rows = []
    for i, length in enumerate(seconds):
        path = folder / f"{i}.wav"
        soundfile.write(
            path, music(length, seed=i) * rng.uniform(0.1, 1) + rng.normal(0, 0.05, round(length * 16e3)), 16_000
        )
        labels = tuple(map(float, rng.uniform(2, 8, 4).round(1)))
        rows.append(LabelledClip(Clip(path.name, str(path)), labels, system="ab"[i % 2]))
    return rows


def run(folder: Path, text: str, sets: Sets, out: str = "out", **options: object) -> Finished:
    """The experiment of that text, in `folder/out` with its features in `folder/cache`."""
    (folder / "e.toml").write_text(text)
    experiment = read_experiment(folder / "e.toml")
    source = EncoderSource((), CPU)
    return run_experiment(experiment, sets, folder / out, folder / "cache", source, workers=2, **options)


@contextmanager
def logged() -> Iterator[list[str]]:
    """What users are shown while the block runs; `caplog` is for one test alone."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("mmmos")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
    logger.setLevel(before)


def results(folder: Path) -> list[Result]:
    return read_results(folder / "out" / "results.jsonl")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When the files of a folder were written, and what is in them."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sets, Finished, list[str]]:
    """Ten runs on 20 clips: the folder, the clips, the result, and the log."""
    folder = tmp_path_factory.mktemp("small")
    rows = make_clips(folder, [0.4] * 20)
    sets = Sets(rows[:10], rows[10:14], {"Dev": rows[10:14], "PAM": rows[14:]})
    with logged() as messages:
        return folder, sets, run(folder, EXPERIMENT, sets), messages


def done(folder: Path) -> dict[str, Path]:
    """Folders of the runs that came to an end, by configuration and seed."""
    return {path.parent.name.rsplit("-", 1)[0]: path.parent for path in sorted(folder.glob("runs/*/result.json"))}


@pytest.mark.slow
def test_every_configuration_runs_with_every_seed(small: Small) -> None:
    folder, _, finished, messages = small
    assert finished.runs == 2 * 5  # of six rows, two are the same
    assert messages[0] == "10 runs, of which 0 are done"
    ones = ("spectrum+musicnn-mlp-ut", "spectrum+musicnn-mlp-ccc", "spectrum-blstm_t-ut", "spectrum-mlp-ut")
    assert set(done(folder / "out")) == {f"{one}-{seed}" for one in ones for seed in (1, 2)}
    found = results(folder)
    twins = [
        [replace(result, table="", row="") for result in found if (result.table, result.row) == place]
        for place in (("II", "Spectrum+musicnn"), ("III", "BiEnc MLP UT"))
    ]
    assert twins[0] == twins[1]
    assert len(twins[0]) == 2 * 2 * 2 * 6  # seeds, sets, levels, axes with the composite and their mean


@pytest.mark.slow
def test_a_failed_run_is_reported_and_affects_no_other(small: Small) -> None:
    folder, _, finished, messages = small
    assert len(finished.failed) == 2
    for name, reason in finished.failed.items():
        assert name.startswith("spectrum-mlp-ut-")
        assert reason.startswith("the loss is")
        assert f"{name} failed: {reason}" in messages
    lines = (folder / "out" / "tables.md").read_text().splitlines()
    assert next(line.count("failed") for line in lines if line.startswith("| lost |")) == 4
    assert "- failed: III lost" in lines
    cells = list(csv.DictReader((folder / "out" / "tables.csv").read_text().splitlines()))
    assert {cell["status"] for cell in cells if cell["row"] == "lost"} == {"failed"}
    assert {cell["status"] for cell in cells if cell["row"] in ("Spectrum", "one BLSTM(t)")} <= {"ok", "undefined"}


@pytest.mark.slow
def test_a_run_is_a_model_whose_scores_are_its_predictions(small: Small) -> None:
    folder, sets, _, _ = small
    for name, path in done(folder / "out").items():
        (member,) = load_folder(name, path).members
        assert member.model.config.aggregator == name.split("-")[1]
        if not name.endswith("-1"):
            continue
        predictions = np.load(path / "predictions.npz")
        assert predictions["Dev"].shape == (4, 4)
        assert predictions["PAM"].shape == (6, 4)
        with from_pretrained(path, device="cpu") as scorer:
            scores = scorer.score([row.clip.path for row in sets.reports["Dev"][:2]])
        ours = np.array([[score[axis] for axis in AXES] for score in scores])
        np.testing.assert_allclose(ours, predictions["Dev"][:2], atol=2e-3 if "blstm_t" in name else 1e-4)


@pytest.mark.slow
def test_called_again_it_trains_and_encodes_nothing(small: Small, caplog: pytest.LogCaptureFixture) -> None:
    folder, sets, _, _ = small
    assert "*paper*" not in (folder / "out" / "tables.md").read_text()  # spectrum is not WavLM
    before = contents(folder)
    text = "beside_paper = false\n" + EXPERIMENT[: EXPERIMENT.rindex("[[grid]]")]  # without the one that fails
    with mock.patch.object(Spectrum, "frames", autospec=True, side_effect=Spectrum.frames) as frames:
        finished = run(folder, text.replace('"pam_top_1", "dev_top_8", "submitted"', ""), sets)
    assert (finished.runs, finished.failed) == (8, {})
    assert frames.call_count == 1  # of the ensemble's check clip
    assert caplog.messages == ["8 runs, of which 8 are done"]
    after = contents(folder)
    assert {name: after[name] for name in before if name.startswith(("out/runs", "cache"))} == {
        name: found for name, found in before.items() if name.startswith(("out/runs", "cache"))
    }
    table = (folder / "out" / "tables.md").read_text()
    assert "Made up." in table
    assert "*paper*" not in table
    assert "lost" not in table
    assert (folder / "out" / "tables.html").is_file()


@pytest.mark.slow
def test_an_ensemble_is_the_weighted_mean_of_its_runs(small: Small) -> None:
    folder, sets, _, _ = small
    ensembles = {path.name: load_folder(path.name, path) for path in (folder / "out" / "ensembles").iterdir()}
    sizes = {
        "all": 3,
        "pam_top_1": 1,
        "dev_top_8": 3,
        "submitted": 1,
    }  # of the paper's eight one is here
    assert {name: len(model.members) for name, model in ensembles.items()} == sizes
    members = ensembles["all"].info.training["members"]
    assert [name.rsplit("-", 1)[0] for name in members if "musicnn" not in name] == ["spectrum-blstm_t-ut-1"]
    rows = sets.reports["PAM"]
    stacked = np.stack([np.load(folder / "out" / "runs" / name / "predictions.npz")["PAM"] for name in members])
    expected, _ = combine(stacked, ensembles["all"].weights)
    with from_pretrained(folder / "out" / "ensembles" / "all", device="cpu") as scorer:
        scores = scorer.score([row.clip.path for row in rows])
    np.testing.assert_allclose([[score[axis] for axis in AXES] for score in scores], expected, atol=2e-3)
    reported = {(r.set, r.level, r.axis): r for r in results(folder) if (r.table, r.row, r.seed) == ("IV", "all", 1)}
    for result in results_of(expected, rows, "PAM", "IV", "all", 1):
        ours = reported["PAM", result.level, result.axis]
        assert [getattr(ours, name) for name in FIGURES] == pytest.approx([getattr(result, name) for name in FIGURES])


def test_results_are_scipys_figures_of_clips_and_of_systems() -> None:
    rng = np.random.default_rng(0)
    labels = rng.uniform(1, 9, (30, 4)).round(1)
    labels[rng.random((30, 4)) < 0.2] = math.nan
    scores = labels.mean(axis=1, keepdims=True) + rng.normal(1, 0.5, (30, 4))
    scores[np.isnan(scores)] = 5.0
    systems = rng.choice(["a", "b", "c", "d", ""], 30)
    rows = [
        LabelledClip(Clip(str(i)), tuple(map(float, own)), system=str(name))
        for i, (own, name) in enumerate(zip(labels, systems, strict=True))
    ]
    found = {(r.level, r.axis): r for r in results_of(scores, rows, "Test", "III", "x", 7)}
    assert len(found) == 2 * 6
    subjects = {axis: (scores[:, i], labels[:, i]) for i, axis in enumerate(AXES)}
    subjects["composite"] = scores.mean(axis=1), labels.mean(axis=1)
    for axis, (p, t) in subjects.items():
        known = ~np.isnan(t)
        check(found["utterance", axis], p[known], t[known])
        names = [name for name in "abcd" if (known & (systems == name)).any()]
        means = [[x[known & (systems == name)].mean() for name in names] for x in (p, t)]
        check(found["system", axis], *map(np.array, means))
    for level in ("utterance", "system"):
        for name in FIGURES:
            mean = np.mean([getattr(found[level, axis], name) for axis in AXES])
            assert getattr(found[level, "mean_of_axes"], name) == pytest.approx(mean)
    assert {(r.table, r.row, r.seed, r.set) for r in found.values()} == {("III", "x", 7, "Test")}


def check(result: Result, p: np.ndarray, t: np.ndarray) -> None:
    expected = [
        np.mean((p - t) ** 2),
        stats.pearsonr(p, t).statistic,
        stats.spearmanr(p, t).statistic,
        stats.kendalltau(p, t).statistic,
        np.mean(p - t),
        np.var(p - t),
    ]
    assert result.n == len(p)
    assert [getattr(result, name) for name in FIGURES] == pytest.approx(expected)


def test_clips_of_one_system_or_none_have_no_system_level() -> None:
    rows = [LabelledClip(Clip(str(i)), (5.0, float(i), 3.0, float(-i % 3)), system=name) for i, name in enumerate("aa")]
    scores = np.arange(8.0).reshape(2, 4)
    assert {r.level for r in results_of(scores, rows, "Dev", "", "", 1)} == {"utterance"}
    rows = [replace(row, system="") for row in rows]
    assert {r.level for r in results_of(scores, rows, "Dev", "", "", 1)} == {"utterance"}


def test_an_axis_that_nobody_rated_is_undefined_and_no_error(tmp_path: Path) -> None:
    rows = [LabelledClip(Clip(str(i)), (math.nan, math.nan, math.nan, float(i)), system="ab"[i % 2]) for i in range(6)]
    found = {(r.level, r.axis): r for r in results_of(np.random.default_rng(0).random((6, 4)), rows, "Dev", "", "", 1)}
    assert (found["utterance", "PQ"].n, found["system", "PQ"].n, found["utterance", "CE"].n) == (6, 2, 0)
    assert math.isfinite(found["utterance", "PQ"].SRCC)
    assert all(math.isnan(found["utterance", axis].MSE) for axis in ("CE", "composite", "mean_of_axes"))
    write_results(found.values(), tmp_path / "r.jsonl")


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch, shared_decoder: None) -> list[Run]:
    """Runs are trained in this process, and clips decoded in that of other tests; the fixture is which runs."""
    begun: list[Run] = []

    def run_here(
        function: Callable[..., None], jobs: Sequence[Run], shared: object, workers: int
    ) -> Iterator[tuple[Run, str | None]]:
        for job in jobs:
            begun.append(job)
            try:
                function(job, shared)
            except MmmosError as error:
                yield job, str(error)
            else:
                yield job, None

    monkeypatch.setattr(runs, "run_in_processes", run_here)
    return begun


@pytest.mark.slow
def test_every_crop_is_encoded_once_for_the_whole_grid(
    inline: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = """
    seeds = [1, 2]
    encoders = { a = "toy", b = "other" }
    data = {}
    [settings]
    epochs = 3
    batch_size = 4
    blstm_hidden = 2
    early_stop_patience = "none"
    [[grid]]
    table = "Mine"
    row = "{encoders} {aggregator}"
    encoders = [["a"], ["b"], ["a", "b"]]
    aggregator = ["mlp", "blstm_t"]
    [[grid]]
    table = "Other"
    row = "shorter"
    epochs = 2
    """

    class OtherToy(ToyEncoder):
        name = "other"

    for encoder in (ToyEncoder, OtherToy):
        monkeypatch.setitem(ENCODERS, encoder.name, encoder)
    rows = make_clips(tmp_path, [0.2] * 8 + [12.0] + [0.2] * 4 + [12.0])
    sets = Sets(rows[:9], rows[9:], {"Dev": rows[9:], "PAM": rows[9:11]})
    events = RecordedProgress()
    with mock.patch.object(ToyEncoder, "frames", autospec=True, side_effect=ToyEncoder.frames) as frames:
        finished = run(tmp_path, grid, sets, progress=events)
    encoded = Counter((call.args[0].name, call.args[1].shape[-1] / 16_000) for call in frames.call_args_list)
    # Of the long clips, training encodes one crop per epoch and evaluation every window.
    once = {0.2: 8 + 4, 10.0: 3 + 1, 2.0: 1}
    assert encoded == {(name, seconds): count for name in ("toy", "other") for seconds, count in once.items()}
    assert finished.runs == len(inline) == 2 * (6 + 1)
    assert finished.failed == {}
    assert events.stages[0] == ("encoding", 9, "clips", 0)
    assert events.stages[-1] == ("training", 100, "%", 0)


@pytest.mark.slow
def test_the_longest_runs_begin_first(inline: list[Run], tmp_path: Path) -> None:
    rows = make_clips(tmp_path, [0.3] * 12)
    text = ONE.replace('"one"', '"{aggregator} {epochs}"') + 'aggregator = ["mlp", "blstm_t"]\nblstm_hidden = 2\n'
    events = RecordedProgress()
    run(
        tmp_path,
        text.replace("epochs = 2", "epochs = [1, 3]"),
        Sets(rows[:8], rows[8:], {"Dev": rows[8:]}),
        progress=events,
    )
    assert [(one.settings.aggregator, one.settings.epochs) for one in inline] == [
        *(("blstm_t", 3), ("mlp", 3), ("blstm_t", 1), ("mlp", 1))
    ]
    encoded = sum(total for _, total, unit, _ in events.stages if unit == "clips")
    assert events.total_clips - encoded == pytest.approx(100)


@pytest.mark.slow
def test_a_clip_that_turns_up_later_is_learned_from(inline: list[Run], tmp_path: Path) -> None:
    rows = make_clips(tmp_path, [0.3] * 12)
    sets = Sets(rows[:8], rows[8:], {"Dev": rows[8:]})
    away = [str(tmp_path / name) for name in ("0.wav", "11.wav")]
    for path in away:
        Path(path).rename(f"{path}.away")
    assert run(tmp_path, ONE, sets).left_out == away
    assert {result.n for result in results(tmp_path)} == {2, 3}
    for path in away:
        Path(f"{path}.away").rename(path)
    assert run(tmp_path, ONE, sets).left_out == []
    assert {result.n for result in results(tmp_path)} == {2, 4}
    assert len(inline) == 2


@pytest.mark.slow
def test_scores_are_brought_into_the_range_of_labels_if_asked(inline: list[Run], tmp_path: Path) -> None:
    rows = make_clips(tmp_path, [0.3] * 12)
    rows = [replace(row, labels=(*row.labels[:3], 10.0 * (i % 2))) for i, row in enumerate(rows)]
    text = ONE.replace('"one"', '"{clip_output}"') + "clip_output = [true, false]\nlr = 3.0\nepochs = 5\n"
    run(tmp_path, text.replace("epochs = 2\n", ""), Sets(rows[:8], rows[8:], {"Dev": rows[8:]}))
    by_clip = {one.settings.clip_output: np.load(one.folder / "predictions.npz")["Dev"] for one in inline}
    assert not ((by_clip[False] >= LABEL_RANGE[0]) & (by_clip[False] <= LABEL_RANGE[1])).all()
    np.testing.assert_array_equal(by_clip[True], by_clip[False].clip(*LABEL_RANGE))


@pytest.mark.slow
def test_when_all_runs_fail_the_tables_say_so(inline: list[Run], tmp_path: Path) -> None:
    rows = make_clips(tmp_path, [0.3] * 12)
    finished = run(tmp_path, ONE + "lr = 1e30", Sets(rows[:8], rows[8:], {"Dev": rows[8:]}))
    assert [reason.startswith("the loss is") for reason in finished.failed.values()] == [True]
    assert "Every run failed." in (tmp_path / "out" / "tables.md").read_text()


PAIR = """
[encoders]
wavlm = "spectrum"

[data]
list = "r.csv"
parts = { train = 0.5, Dev = 0.5 }

[settings]
epochs = 2
batch_size = 4

[ensembles]
of = "Mine"
strategies = ["all", "dev_top_8"]

[[grid]]
table = "Mine"
row = "{loss}"
loss = ["ut", "ccc"]
"""


@pytest.mark.slow
def test_ensemble_scores_only_rated_axes(inline: list[Run], tmp_path: Path) -> None:
    """Trained on PQ, tested on clips with labels of every axis."""
    rows = make_clips(tmp_path, [0.3] * 12)
    train = [replace(row, labels=(math.nan, math.nan, math.nan, row.labels[3])) for row in rows[:8]]
    finished = run(tmp_path, PAIR, Sets(train, train[4:], {"Dev": rows[8:]}))
    assert (finished.failed, len(inline)) == ({}, 2)
    folders = [*(tmp_path / "out" / "runs").iterdir(), *(tmp_path / "out" / "ensembles").iterdir()]
    members = list((tmp_path / "out" / "ensembles" / "all").glob("member-*"))
    assert (len(folders), len(members)) == (4, 2)
    clips = [soundfile.read(row.clip.path, dtype="float32")[0] for row in rows[:2]]
    for folder in (*folders, *members):
        with from_pretrained(folder, device="cpu") as scorer:
            scores = scorer.score(clips, sample_rate=16_000)
            assert scorer.model.info.rated == ("PQ",)
        assert all(math.isfinite(score.PQ) for score in scores)
        assert all(math.isnan(score[axis]) for score in scores for axis in ("CE", "CU", "PC"))
    for folder in folders:
        assert "CE, CU, PC: not rated in training" in (folder / "README.md").read_text()
    for one in inline:
        predictions = np.load(one.folder / "predictions.npz")["Dev"]
        assert np.isfinite(predictions).tolist() == [[False, False, False, True]] * 4
    found = {(result.row, result.axis): result for result in results(tmp_path) if result.level == "utterance"}
    for row in ("UT", "CCC", "all", "dev_top_8"):
        assert math.isfinite(found[row, "PQ"].MSE)
        assert all(math.isnan(found[row, axis].MSE) for axis in ("CE", "CU", "PC", "composite"))


@pytest.mark.slow
def test_ensemble_about_is_that_of_its_members(inline: list[Run], tmp_path: Path) -> None:
    rows = make_clips(tmp_path, [0.3] * 12)
    run(tmp_path, PAIR + "clip_output = true\n", Sets(rows[:6], rows[6:9], {"Dev": rows[9:]}))
    own = [load_folder(one.folder.name, one.folder).info for one in inline]
    info = load_folder("all", tmp_path / "out" / "ensembles" / "all").info
    assert (info.rated, info.clip_output, info.label_range) == (AXES, True, LABEL_RANGE)
    seen = file_digests(row.clip for row in rows[:9])
    assert len(seen) == 9
    assert info.trained_on == own[0].trained_on == own[1].trained_on == seen


@pytest.mark.slow
def test_ensemble_of_unlike_members_is_not_saved(
    inline: list[Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = make_clips(tmp_path, [0.3] * 12)
    text = PAIR.replace('"{loss}"', '"{clip_output}"').replace('loss = ["ut", "ccc"]', "clip_output = [true, false]")
    run(tmp_path, text, Sets(rows[:8], rows[4:8], {"Dev": rows[8:]}))
    reason = "members of an ensemble differ in clip_output: False and True; combine like ones"
    assert f"all is not saved: {reason}" in caplog.messages
    assert {result.row for result in results(tmp_path)} >= {"all", "dev_top_8"}


@pytest.mark.slow
def test_finished_run_has_ids_and_no_checkpoint(inline: list[Run], tmp_path: Path) -> None:
    rows = make_clips(tmp_path, [0.3] * 12)
    run(tmp_path, ONE, Sets(rows[:8], rows[4:8], {"Dev": rows[8:], "PAM": rows[10:]}))
    (one,) = inline
    assert {path.name for path in one.folder.iterdir()} == {
        *("README.md", "config.json", "history.jsonl", "model.safetensors", "predictions.npz", "result.json"),
    }
    with np.load(one.folder / "predictions.npz", allow_pickle=False) as file:
        assert set(file.files) == {"Dev", "Dev/ids", "PAM", "PAM/ids"}
        assert file["Dev/ids"].tolist() == [row.clip.id for row in rows[8:]]
        assert file["PAM/ids"].tolist() == [row.clip.id for row in rows[10:]]


@pytest.mark.slow
def test_ensembles_that_cannot_be_chosen_are_logged(
    inline: list[Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = make_clips(tmp_path, [0.3] * 12)
    sets = Sets(rows[:8], rows[8:], {"Radio": rows[8:]})
    with pytest.raises(UsageError, match="ensembles select models on 'Dev', but the reported sets are Radio"):
        run(tmp_path, ONE + '[ensembles]\nof = "Mine"\n', sets)
    text = ONE + '[ensembles]\nof = "Mine"\ndev = "Radio"\nstrategies = ["submitted"]\n'
    run(tmp_path, text, sets)
    assert caplog.messages[-1] == "submitted with seed 42: none of one is a configuration that the paper submitted"
    assert not (tmp_path / "out" / "ensembles").exists()


def is_alive(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_and_called_again_it_ends_as_if_undisturbed(
    inline: list[Run], tmp_path: Path, run_mmmos: Callable[..., tuple[int, str, str]]
) -> None:
    rows = make_clips(tmp_path, [0.3] * 16)
    lines = [f"{row.clip.id},{','.join(map(str, row.labels))}" for row in rows]
    (tmp_path / "r.csv").write_text("\n".join(["path,CE,CU,PC,PQ", *lines]))
    text = "seeds = [1, 2, 3]\n" + ONE.replace("epochs = 2", 'epochs = 12\nearly_stop_patience = "none"\ndropout = 0.5')
    (tmp_path / "e.toml").write_text(text)
    words = ["experiment", tmp_path / "e.toml", "-o", tmp_path / "out", "--cache", tmp_path / "cache", "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "mmmos", *map(str, words)], stderr=subprocess.DEVNULL)
    while not done(tmp_path / "out"):
        assert process.poll() is None
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.kill()
    process.wait()
    until = time.monotonic() + 120
    while any(map(is_alive, children)):  # they go with it: nobody writes into the folder any more
        assert time.monotonic() < until
        time.sleep(0.01)
    assert 0 < len(done(tmp_path / "out")) < 3
    assert not (tmp_path / "out" / "results.jsonl").exists()
    status, out, err = run_mmmos(*words)
    assert status == 0, err
    result = json.loads(out)
    (report,) = result.pop("lists")
    assert (report["rows"], report["left_out"]) == (16, 0)
    assert result == {"folder": str(tmp_path / "out"), "runs": 3, "failed": {}, "left_out": []}
    run(tmp_path, text, read_sets(read_experiment(tmp_path / "e.toml").data, tmp_path), "undisturbed")
    ours, expected = done(tmp_path / "out"), done(tmp_path / "undisturbed")
    assert ours.keys() == expected.keys()
    for name, folder in expected.items():
        for file in ("model.safetensors", "predictions.npz", "config.json", "result.json"):
            assert (ours[name] / file).read_bytes() == (folder / file).read_bytes()
    assert (tmp_path / "out" / "tables.csv").read_text() == (tmp_path / "undisturbed" / "tables.csv").read_text()
