"""`mmmos train`, `mmmos experiment` and `mmmos extract` as a user types them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from mmmos.encoders.spectrum import Spectrum
from mmmos.experiments import runs
from mmmos.experiments.config import Experiment, bundled_experiments
from mmmos.experiments.runs import Finished
from mmmos.experiments.sets import Sets
from mmmos.training.settings import PRESETS
from mmmos.training.summary import Fitted
from tests.sounds import music

Run = Callable[..., tuple[int, str, str]]

EXPERIMENT = """
[encoders]
plain = "spectrum"

[data]
list = "ratings.csv"
columns = { group = "song" }
parts = { train = 0.6, Dev = 0.4 }

[settings]
epochs = 2
batch_size = 4

[[grid]]
table = "Mine"
row = "{pool} at {lr}"
encoders = ["plain"]
pool = ["mean", "mean_std"]
lr = [0.01, 1e30]
"""


@pytest.fixture
def run(run_mmmos: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`run("train", "ratings.csv")` in the folder of the clips gives exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    return run_mmmos


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Twelve clips, of which every other is longer than 10 s, and `ratings.csv` and `mine.toml` about them."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.wav" for i in range(12)]
    for i, path in enumerate(paths):
        soundfile.write(path, music(11.0 if i % 2 else 0.5, 8000, seed=i) + rng.normal(0, 0.01 * i + 1e-3), 8000)
    lines = [f"{path.name},{i / 2 + 2},{9 - i / 2},{i}" for i, path in enumerate(paths)]
    (tmp_path / "ratings.csv").write_text("\n".join(["path,PQ,CE,song", *lines]))
    (tmp_path / "mine.toml").write_text(EXPERIMENT)
    return paths


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "train",
            ["{manifest}", "--output", "--preset", "--set NAME=VALUE", "--encoders", "Change a setting, as"],
        ),
        (
            "experiment",
            [
                "{EXPERIMENT}",
                f"a bundled one: {', '.join(bundled_experiments())}.",
                "--output",
                "--workers",
                "--set NAME=VALUE",
                "1 some failed",
            ],
        ),
        (
            "extract",
            ["{inputs}...", "--cache", "--keep", "--crop ", "--crops", "and `experiment` find them there"],
        ),
    ],
)
def test_help_describes_arguments_and_options(run: Run, command: str, words: list[str]) -> None:
    status, out, _ = run(command, "--help")
    shown = re.sub(r"\s+", " ", out)
    assert status == 0
    assert all(word in shown for word in words), shown


def test_help_names_the_presets_that_there_are(run: Run) -> None:
    _, out, _ = run("train", "--help")
    assert all(name in out for name in PRESETS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "ratings.csv", "-o", "m", "--set", "speed=3"), "no setting is called speed; there are pool"),
        (("train", "ratings.csv", "-o", "m", "--set", "lr"), "a setting is NAME=VALUE, not 'lr'"),
        (
            ("train", "ratings.csv", "-o", "m", "--set", "loss=mse"),
            "loss cannot be 'mse'; it is ut or con or dcq or ccc",
        ),
        (("train", "ratings.csv", "-o", "m", "--set", "epochs=1.5"), "epochs cannot be 1.5; it is a whole number"),
        (("train", "ratings.csv", "-o", "m", "--preset", "huge"), "no preset is called 'huge'; there are paper"),
        (("train", "ratings.csv", "-o", "m", "--encoders", "ear"), "no encoder is called 'ear'; there are distillmos"),
        (("train", "ratings.csv", "-o", "m", "--stratify", "codec"), "ratings.csv, line 2 has no codec"),
        (
            ("train", "ratings.csv", "-o", "m", "--stratify", "song"),
            "--stratify divides held-out clips and the closed form has none: add --dev-share",
        ),
        (
            ("train", "ratings.csv", "-o", "m", "--dev", "ratings.csv", "--dev-share", 0.2),
            "--dev names the clips to hold out: leave out --dev-share and --stratify",
        ),
        (
            ("train", "ratings.csv", "-o", "m", "--dev-share", 0.2, "--stratify", "song"),
            "no value of song can be divided without cutting a group: 0 (1 clip, 1 group; not held out), 1 (1 clip",
        ),
        (("train", "ratings.csv"), "Missing option '-o' / '--output'"),
        (("train", "ratings.csv", "-o", "m", "--epochs", "3"), "No such option: --epochs"),
        (("experiment", "gone.toml", "-o", "m"), "gone.toml: not a file, and not a bundled experiment; those are"),
        (("experiment", "ratings.csv", "-o", "m"), "ratings.csv cannot be read"),
        (("experiment", "mine.toml", "-o", "m", "--set", "speed=3"), "mine.toml: no setting is called speed"),
        (("experiment", "mine.toml", "-o", "m", "--workers", "0"), "'--workers': Input should be greater"),
        (("extract", "0.wav"), "Missing option '--cache'"),
        (("extract", "0.wav", "--cache", "c", "--encoders", "ear"), "no encoder is called 'ear'"),
        (("extract", "0.wav", "--cache", "c", "--crop", "last"), "'last' is not one of 'windows', 'first', 'random'"),
        (("extract", "0.wav", "--cache", "c", "--set", "speed=3"), "no setting is called speed"),
        (("extract", "0.wav", "file:///a.wav", "--cache", "c"), "file:///a.wav is an address; extract reads files"),
        (
            ("extract", "0.wav", "file:///a.wav", "--cache", "c", "--encoders", "spectrum", "--workers", 1),
            "file:///a.wav is an address; extract reads files",
        ),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(
    run: Run, clips: list[Path], words: tuple[str, ...], message: str
) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not Path("m").exists()


@pytest.mark.usefixtures("clips")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,PQ\n0.wav,3\n", "1 clip has a label of PQ; at least 5 are needed"),
        ("path,PQ,group\n" + "".join(f"{i}.wav,{i},g\n" for i in range(8)), "are of 1 group (column `group`)"),
        ("path,MOS\n0.wav,3\n", "list.csv, line 1: no column holds labels, as CE, CU, PC, PQ"),
        ("path,PQ\n", "list.csv, line 1: there is no row below the header path, PQ"),
        (
            "path,PQ\n0.wav,\n1.wav,x\n",
            "list.csv: no row can be used (2 rows left out); the first: list.csv, line 2 has no label",
        ),
        ("path,PQ\n0.wav,3\n1.wav,\n", "1 of 2 rows of list.csv is left out"),
    ],
)
def test_lists_that_no_model_can_be_trained_on(run: Run, text: str, said: str) -> None:
    Path("list.csv").write_text(text)
    status, out, err = run("train", "list.csv", "-o", "m")
    assert (status, out) == (2, "")
    assert said in err
    assert not Path("m").exists()


@pytest.mark.slow
def test_train_prints_a_summary_and_saves_a_model(run: Run, clips: list[Path]) -> None:
    words = ("train", "ratings.csv", "-o", "model", "--encoders", "spectrum", "--set", "epochs=3", "--set", "loss=ccc")
    status, out, err = run(*words)
    result = json.loads(out)
    assert status == 0
    assert list(result) == [*(field.name for field in fields(Fitted)), "lists"]
    assert (result["fit"], result["scale"]) == ("gradient", "0-10")
    assert "labels lie between 2 and 9: their scale is taken to be 0-10 (else --scale)" in err
    assert "PQ on 3 development clips: SRCC " in err
    assert {path.name for path in Path("model").iterdir()} == {
        *("README.md", "config.json", "history.jsonl", "model.safetensors"),
    }
    assert Path("model-cache").is_dir()
    assert result["train_clips"] + result["dev_clips"] == 12
    assert (result["epochs"], result["left_out"]) == (3, [])
    settings = json.loads(Path("model/config.json").read_text())["about"]["training"]["settings"]
    assert (settings["loss"], settings["epochs"], settings["lr"], settings["pool"]) == ("ccc", 3, 1e-3, "mean_std")
    before = Path("model/model.safetensors").read_bytes()
    assert run(*words)[1] == out  # the same call is done with it
    assert Path("model/model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_train_stratifies_its_split_by_a_column(run: Run, clips: list[Path]) -> None:
    codecs = ["mp3"] * 5 + ["aac"] * 6 + ["opus"]
    lines = [f"{path.name},{i / 2 + 2},{codec}" for i, (path, codec) in enumerate(zip(clips, codecs, strict=True))]
    Path("coded.csv").write_text("\n".join(["path,PQ,codec", *lines]))
    words = ("coded.csv", "-o", "model", "--encoders", "spectrum", "--set", "epochs=1", "--set", "lr=1e-3")
    status, out, err = run("train", *words, "--fit", "gradient", "--dev-share", 0.4, "--stratify", "codec")
    assert status == 0
    result = json.loads(out)
    assert (result["train_clips"], result["dev_clips"]) == (8, 4)  # 2 of 5, 2 of 6, none of 1
    assert "1 of 3 values of codec is too small to be divided: opus (1 clip, 1 group; not held out)" in err


@pytest.mark.slow
def test_every_file_that_is_written_follows_the_umask(run: Run, clips: list[Path]) -> None:
    inputs = set(Path().rglob("*"))
    mask = 0o027  # neither the usual mask nor the mode of a private file
    before = os.umask(mask)
    try:
        words = ("-o", "model", "--encoders", "spectrum", "--set", "epochs=1", "--fit", "gradient")
        assert run("train", "ratings.csv", *words)[0] == 0
        assert run("train", "ratings.csv", "-o", "ridge", "--encoders", "spectrum")[0] == 0
        for suffix in ("jsonl", "csv", "parquet"):
            status, _, err = run("score", "0.wav", "--model", "model", "-o", f"rows.{suffix}")
            assert status == 0, err
        assert run("score", "0.wav", "1.wav", "--model", "model", "-o", "rows.jsonl", "--resume")[0] == 0
    finally:
        os.umask(before)
    written = set(Path().rglob("*")) - inputs
    assert {path.name for path in written} > {"model.safetensors", "config.json", "rows.csv", "rows.parquet"}
    assert any(path.name.endswith(".pooled.safetensors") for path in written)
    wrong = {str(path): oct(path.stat().st_mode & 0o777) for path in written if path.stat().st_mode & mask}
    narrow = [str(path) for path in written if path.is_file() and path.stat().st_mode & 0o777 != 0o666 & ~mask]
    assert (wrong, narrow) == ({}, [])


@pytest.mark.slow
def test_train_after_extract_encodes_nothing(run: Run, clips: list[Path]) -> None:
    status, out, err = run("extract", ".", "--cache", "c", "--encoders", "spectrum")
    assert (status, "2 files without an audio suffix are left out" in err) == (0, True)
    assert json.loads(out) == {"cache": "c", "clips": 12, "crops": 6 * 1 + 6 * 2, "left_out": []}
    found = sorted(Path("c").rglob("*.frames.safetensors"))
    assert len(found) == 18
    with mock.patch.object(Spectrum, "frames", autospec=True, side_effect=Spectrum.frames) as frames:
        words = ("train", "ratings.csv", "-o", "model", "--cache", "c", "--encoders", "spectrum", "--set", "epochs=2")
        assert run(*words)[0] == 0
    assert frames.call_count == 1  # the clip that a model is checked with
    assert sorted(Path("c").rglob("*.frames.safetensors")) == found
    assert not list(Path("c").rglob("*.pooled.safetensors"))


@pytest.mark.slow
def test_extract_keeps_what_was_requested_and_repeats_nothing(run: Run, clips: list[Path]) -> None:
    words = ("extract", "1.wav", "2.wav", "--cache", "c", "--encoders", "spectrum", "--keep", "pooled")
    status, out, _ = run(*words, "--crop", "random", "--crops", 3)
    assert (status, json.loads(out)["crops"]) == (0, 3 + 1)
    found = {path: path.stat().st_mtime_ns for path in Path("c").rglob("*.safetensors")}
    assert len(found) == 4
    assert all(path.name.endswith(".pooled.safetensors") for path in found)
    assert run(*words, "--crop", "random", "--crops", 3)[1] == out
    assert {path: path.stat().st_mtime_ns for path in Path("c").rglob("*.safetensors")} == found


@pytest.mark.slow
def test_extract_reports_left_out_clips_with_exit_status_1(run: Run, clips: list[Path]) -> None:
    Path("broken.wav").write_text("no audio")
    soundfile.write("silent.wav", np.zeros(8000), 8000)
    words = ("0.wav", "broken.wav", "silent.wav", "gone.wav")
    status, out, err = run("extract", *words, "--cache", "c", "--encoders", "spectrum")
    assert status == 1
    assert json.loads(out)["clips"] == 1
    assert sorted(json.loads(out)["left_out"]) == ["broken.wav", "gone.wav", "silent.wav"]
    assert "1 of 4 listed clips is missing: gone.wav" in err
    assert "broken.wav is left out: unsupported_format" in err
    assert "silent.wav is left out: silent" in err


@pytest.mark.slow
def test_extract_by_workers_fills_the_same_cache(run: Run, clips: list[Path]) -> None:
    Path("broken.wav").write_text("no audio")
    words = ("extract", ".", "gone.wav", "--encoders", "spectrum", "--crop", "random", "--crops", 2)
    assert run(*words, "--cache", "one")[0] == 1
    status, out, err = run(*words, "--cache", "many", "--workers", 2, "--shard-size", 4)
    assert (status, json.loads(out)) == (1, {"cache": "many", "run": "many/run", "clips": 12, "errors": 2})
    assert "4 of 4 shards, 14 of 14 clips, 12 ok, 2 errors" in err
    one, many = (
        {path.relative_to(cache): path.read_bytes() for path in Path(cache).rglob("*.safetensors")}
        for cache in ("one", "many")
    )
    assert one == many
    rows = pyarrow.parquet.read_table("many/run").to_pylist()
    assert [row["path"] for row in rows] == [*(f"./{path}" for path in sorted(Path().glob("*.wav"))), "gone.wav"]
    assert sum(row["crops"] for row in rows) == 6 * 1 + 6 * 2
    errors = {row["path"]: row["error_code"] for row in rows if row["status"] == "error"}
    assert errors == {"./broken.wav": "unsupported_format", "gone.wav": "not_found"}
    again = run(*words, "--cache", "many", "--workers", 1, "--shard-size", 4)
    assert again[:2] == (status, out)
    assert "clips/s" not in again[2]  # all was done already
    assert run("extract", ".", "--cache", "many", "-o", "x")[0] == 2


@pytest.mark.slow
def test_experiment_with_failed_runs_exits_1_with_tables(run: Run, clips: list[Path]) -> None:
    clips[3].unlink()
    status, out, err = run("experiment", "mine.toml", "-o", "out", "--workers", 1, "--set", "train_crop=first")
    result = json.loads(out)
    assert status == 1
    assert (result["folder"], result["runs"], len(result["failed"])) == ("out", 4, 2)
    assert [Path(name).name for name in result["left_out"]] == ["3.wav"]
    assert "mmmos: 4 runs, of which 0 are done" in err
    assert err.count(" failed: the loss is ") == 2
    for line in Path("out/tables.md").read_text().splitlines():
        if line.startswith("| mean"):
            assert ("failed" in line) == ("1e+30" in line)
    for name in ("tables.csv", "tables.html", "results.jsonl"):
        assert Path("out", name).is_file()
    assert Path("out-cache").is_dir()
    assert not [path for path in Path("out").rglob("*") if path.name in ("cache", "checkpoint.pt")]
    (model, _) = (path.parent for path in Path("out").rglob("result.json"))
    assert run("score", clips[0], "--model", model)[0] == 0


@pytest.mark.slow
def test_an_experiment_finds_its_data_below_the_data_root(
    run: Run, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkdir("elsewhere")
    os.rename("mine.toml", "elsewhere/mine.toml")
    status, _, err = run("experiment", "elsewhere/mine.toml", "-o", "out", "--set", "lr=0.01")
    assert (status, "ratings.csv cannot be read: there is no such file" in err) == (2, True)
    seen: list[int] = []

    def instead(asked: Experiment, sets: Sets, *_: object, **__: object) -> Finished:
        seen.append(len(sets.train))
        return Finished("out", 0, {}, [])

    monkeypatch.setattr(runs, "run_experiment", instead)
    assert run("experiment", "elsewhere/mine.toml", "-o", "out", "--data-root", ".")[0] == 0
    monkeypatch.setenv("MMMOS_DATA", str(Path.cwd()))
    assert run("experiment", "elsewhere/mine.toml", "-o", "out")[0] == 0
    assert seen == [7, 7]


def without_training(monkeypatch: pytest.MonkeyPatch) -> list[Sets]:
    """Let `mmmos experiment` stop before its runs; the list gets the sets of each call."""
    seen: list[Sets] = []

    def instead(asked: Experiment, sets: Sets, *_: object, **__: object) -> Finished:
        seen.append(sets)
        return Finished("out", 0, {}, [])

    monkeypatch.setattr(runs, "run_experiment", instead)
    return seen


@pytest.mark.slow
def test_experiment_leaves_out_bad_rows_unless_strict(
    run: Run, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Path("ratings.csv").read_text().splitlines()
    position = lines[0].split(",").index("PQ")
    bad = lines[3].split(",")
    bad[position] = "loud"
    Path("ratings.csv").write_text("\n".join([*lines[:3], ",".join(bad), *lines[4:]]))
    seen = without_training(monkeypatch)
    status, out, err = run("experiment", "mine.toml", "-o", "out")
    assert status == 0, err
    (report,) = json.loads(out)["lists"]
    assert (report["list"], report["rows"], report["left_out"]) == ("ratings.csv", len(lines) - 1, 1)
    assert f"1 of {len(lines) - 1} rows of ratings.csv is left out" in err
    (sets,) = seen
    assert len(set(map(id, sets.rows))) == len(lines) - 2
    status, out, err = run("experiment", "mine.toml", "-o", "out", "--strict")
    assert (status, out, len(seen)) == (2, "", 1)
    assert "ratings.csv, line 4" in err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mine.toml", "ratings.csv", "0.wav"])
def test_experiment_refuses_a_folder_with_an_input(
    run: Run, clips: list[Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen = without_training(monkeypatch)
    os.mkdir("out")
    os.rename(name, f"out/{name}")
    os.symlink(f"out/{name}", name)  # also through a link
    before = sorted(Path("out").rglob("*"))
    status, out, err = run("experiment", "mine.toml", "-o", "out")
    assert (status, out, seen) == (2, "", [])
    assert f"{name} is an input and lies in the output folder out" in err
    assert sorted(Path("out").rglob("*")) == before
    assert run("experiment", "mine.toml", "-o", "other")[0] == 0
    Path("file").touch()
    assert "file is a file; name a new folder" in run("experiment", "mine.toml", "-o", "file")[2]


@pytest.mark.slow
def test_experiment_takes_a_bundled_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of `musdb18` is looked for below the data root, else from the folder one is in."""
    monkeypatch.delenv("MMMOS_DATA", raising=False)
    status, _, err = run("experiment", "musdb18", "-o", "out")
    assert status == 2
    assert "musdb18_aes/manifest.csv" in err
    assert "bundled" not in err
    os.makedirs("musdb18_aes")
    lines = [f"{i}.wav,5,song{i // 2},stem{i % 2},0" for i in range(40)]
    Path("musdb18_aes/manifest.csv").write_text("\n".join(["path,PQ,song,stem,label_suspect", *lines]))
    seen: list[tuple[int, int]] = []

    def instead(asked: Experiment, sets: Sets, *_: object, **__: object) -> Finished:
        seen.append((len(asked.grid), sum(map(len, (sets.train, *sets.reports.values())))))
        return Finished("out", 0, {}, [])

    monkeypatch.setattr(runs, "run_experiment", instead)
    assert run("experiment", "musdb18", "-o", "out")[0] == 0
    assert seen == [(23, 40)]
