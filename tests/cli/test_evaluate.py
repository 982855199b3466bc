"""`mmmos evaluate` and `mmmos leaderboard` as a user meets them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmmos.cli.evaluate import write_report
from mmmos.evaluation import agreement as evaluate
from mmmos.evaluation import ceiling, leaderboard
from mmmos.scores import AXES, AXIS_NAMES
from tests.browser import data_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "BOOTSTRAP_SAMPLES", 10)
    monkeypatch.setattr(leaderboard, "INTERVAL_SAMPLES", 10)
    monkeypatch.setattr(ceiling, "DRAWS", 5)


@pytest.fixture
def run(run_mmmos: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`run("evaluate", "labels.csv")` in an empty folder gives exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return run_mmmos


@pytest.fixture
def labels(tmp_path: Path) -> np.ndarray:
    """`labels.csv` of 24 clips whose audio is not there, three systems; the labels [24, 4]."""
    values = np.random.default_rng(0).uniform(2, 8, (24, 4)).round(2)
    head = f"path,system,{','.join(AXES)}"
    lines = [f"clips/{i}.wav,s{i % 3},{','.join(map(str, row))}" for i, row in enumerate(values)]
    (tmp_path / "labels.csv").write_text("\n".join([head, *lines]))
    return values


def write(path: Path, values: np.ndarray, form: str = "clips/{}.wav", axes: tuple[str, ...] = AXES) -> Path:
    lines = [f"{form.format(i)},{','.join(map(str, row))}" for i, row in enumerate(values)]
    path.write_text("\n".join([f"id,{','.join(axes)}", *lines]))
    return path


def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stdout pass for a terminal."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


# --- evaluate


def test_scores_from_a_file_need_no_audio(run: Run, labels: np.ndarray, tmp_path: Path):
    write(tmp_path / "a.csv", labels + 0.5)
    status, out, err = run("evaluate", "labels.csv", "--scores", "a.csv")
    figures = json.loads(out)
    assert (status, err) == (0, "")
    assert (figures["model"], figures["scores"], figures["clips"], figures["unscored"]) == (None, "a.csv", 24, 0)
    assert len(figures["agreement"]) == 5 * 2
    for part in figures["agreement"]:
        assert (part["bias"], part["MSE"], part["SRCC"]) == pytest.approx((0.5, 0.25, 1))


def test_clips_without_a_row_and_rows_without_a_clip_are_counted(run: Run, labels: np.ndarray, tmp_path: Path):
    write(tmp_path / "a.csv", labels[:20])
    with open(tmp_path / "a.csv", "a") as file:
        file.write("\nelsewhere.wav,1,1,1,1")
    status, out, err = run("evaluate", "labels.csv", "--scores", "a.csv")
    assert status == 0
    assert json.loads(out)["unscored"] == 4
    assert "a.csv has no row of 4 of 24 clips: clips/20.wav, clips/21.wav, clips/22.wav ..." in err
    assert "1 of 21 rows of a.csv is of clips that are not listed" in err
    assert "4 of 24 clips have no score" in err


@pytest.mark.slow
def test_two_files_are_compared_on_the_same_clips(run: Run, labels: np.ndarray, tmp_path: Path):
    rng = np.random.default_rng(1)
    write(tmp_path / "a.csv", labels + 0.1 * rng.standard_normal(labels.shape))
    lines = [
        json.dumps({"path": f"other/{i}.wav"} | dict(zip(AXES, row, strict=True)))
        for i, row in enumerate(labels + 3 * rng.standard_normal(labels.shape))
    ]
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    status, out, _ = run("evaluate", "labels.csv", "--scores", "a.csv", "--against", "b.jsonl")
    figures = json.loads(out)
    assert (status, figures["against"]) == (0, "b.jsonl")
    found = {(x["axis"], x["level"], x["metric"]): x for x in figures["comparison"]}
    assert len(found) == 5 * 2 * 6
    one = found["PC", "utterance", "MSE"]
    assert one["difference"] == pytest.approx(one["first"] - one["second"], abs=1e-6)
    assert one["better"] == 1
    assert one["low"] < one["difference"] < one["high"] < 0


@pytest.mark.slow
def test_a_terminal_gets_both_tables(run: Run, labels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a.csv", labels)
    terminal(monkeypatch)
    _, out, _ = run("evaluate", "labels.csv", "--scores", "a.csv", "--against", "a.csv")
    assert "A  a.csv" in out
    assert "A better" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.slow
def test_a_model_against_a_file(run: Run, make_file: Callable[..., Path], tmp_path: Path):
    lines = [f"{make_file(f'{i}.wav', rate=8000 + 4000 * i).name},{i + 2}" for i in range(3)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,PQ", *lines, "gone.wav,5"]))
    (tmp_path / "b.csv").write_text("id,PQ\n0.wav,2\n1.wav,3\n2.wav,4\n")
    status, out, err = run("evaluate", "labels.csv", "--against", "b.csv", "--plot", "p.png", "-o", "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (status, out, figures["model"]) == (0, "", "lite")
    assert figures["clips"] == 3
    assert "1 listed clip is missing" in err
    assert {item["n"] for item in figures["comparison"]} == {3}
    assert next(item["second"] for item in figures["comparison"] if item["metric"] == "MSE") == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "no clip has a label of CE or CU or PC" in err


@pytest.mark.slow
def test_plot_has_no_mse_where_scales_differ(run: Run, tmp_path: Path):
    lines = [f"{i}.wav,{i * 10}" for i in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,PQ", *lines]))
    rows = [f"{i}.wav,{1 + i / 2},1-5" for i in range(8)]
    (tmp_path / "s.csv").write_text("\n".join(["path,PQ,scale", *rows]))
    for words in ((), ("--scale", "0", "100")):
        assert run("evaluate", "labels.csv", "--scores", "s.csv", "--plot", "p.svg", "--overwrite", *words)[0] == 0
        text = (tmp_path / "p.svg").read_text()
        assert ("MSE" in text, "SRCC" in text) == (False, True)


def test_an_axis_that_is_nowhere_is_said(run: Run, labels: np.ndarray, tmp_path: Path):
    write(tmp_path / "a.csv", labels[:, 2:], axes=AXES[2:])
    _, out, err = run("evaluate", "labels.csv", "--scores", "a.csv")
    assert {part["axis"] for part in json.loads(out)["agreement"]} == {"PC", "PQ"}
    assert "mmmos: a.csv: no clip has a score of CE or CU\n" in err
    assert "mmmos: a.csv: the composite is not evaluated: no clip has labels and scores of all four axes\n" in err
    assert "of PC" not in err
    _, out, err = run("evaluate", "labels.csv", "--scores", "a.csv", "--axis", "PC")
    assert {part["axis"] for part in json.loads(out)["agreement"]} == {"PC"}
    assert err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scores", "a.csv", "--model", "lite"), "in place of --model"),
        (("--scores", "gone.csv"), "gone.csv cannot be read"),
        (("--scores", "a.txt"), "a.txt: scores are read from"),
        (("--scores", "other.csv"), "none of its rows (24) is of a listed clip"),
        (("--scores", "twice.csv"), "2 rows have scores of clips/0.wav (labels.csv, line 2)"),
        (("--scores", "a.csv", "--axis", "PX"), "no axis is called 'PX'"),
        (("--scores", "a.csv", "-o", "no/such/f.json"), "there is no folder"),
        (("--scores", "a.csv", "--plot", "p.jpg"), "p.jpg: pictures are written as"),
        (("--scores", "a.csv", "--against", "no-such-model"), "none of its clips is there (24 clips listed)"),
    ],
)
def test_wrong_usage(run: Run, labels: np.ndarray, tmp_path: Path, words: tuple[str, ...], said: str):
    write(tmp_path / "a.csv", labels)
    write(tmp_path / "other.csv", labels, "x{}")
    write(tmp_path / "twice.csv", labels[:2], "clips/0.wav")
    (tmp_path / "a.txt").write_text("")
    status, out, err = run("evaluate", "labels.csv", *words)
    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("axis", ["CE", "composite"])
def test_an_axis_asked_for_must_have_labels(run: Run, tmp_path: Path, axis: str):
    (tmp_path / "labels.csv").write_text("path,PQ\na.wav,5\n")
    status, out, err = run("evaluate", "labels.csv", "--scores", "a.csv", "--axis", axis)
    assert (status, out) == (2, "")
    assert f"labels.csv: no row has a label of {axis}" in err


def test_a_bad_row_costs_one_row_and_strict_ends_the_run(run: Run, labels: np.ndarray, tmp_path: Path):
    write(tmp_path / "a.csv", labels + 0.5)
    for name, bad in (("labels.csv", "clips/x.wav,s,,,,\n"), ("a.csv", "clips/y.wav,nan,,,\n")):
        text = (tmp_path / name).read_text() + "\n"
        (tmp_path / name).write_text(text + bad)
    status, out, err = run("evaluate", "labels.csv", "--scores", "a.csv")
    lists = json.loads(out)["lists"]
    assert status == 0
    assert [(item["rows"], item["left_out"]) for item in lists.values()] == [(25, 1), (25, 1)]
    assert "labels.csv, line 26 has no label" in lists["labels"]["why"][0]
    assert "a.csv, line 26: CE is not a number: 'nan' (clips/y.wav)" in lists["scores"]["why"][0]
    assert "1 of 25 rows of labels.csv is left out" in err
    assert run("evaluate", "labels.csv", "--scores", "a.csv", "--strict")[0] == 2


def test_systems_of_the_test_set_come_from_its_ids(run: Run, tmp_path: Path):
    names = [f"audiomos2025-track2-sys{system}000A-utt{i:06}" for system in "abc" for i in range(4)]
    rows = [{"data_path": name, "Production_Quality": [i % 7, 5]} for i, name in enumerate(names)]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "s.csv").write_text("\n".join(["id,PQ", *(f"{name},{i % 5}" for i, name in enumerate(names))]))
    status, out, _ = run("evaluate", "l.jsonl", "--scores", "s.csv")
    parts = [(part["level"], part["n"]) for part in json.loads(out)["agreement"]]
    assert (status, parts) == (0, [("utterance", 12), ("system", 3)])
    assert json.loads(out)["raters"]["PQ"]["ratings"] == 24
    (tmp_path / "rows.csv").write_text("path,PQ,n_windows,model_sha256\na.wav,5,1,0\n")
    status, _, err = run("evaluate", "rows.csv", "--scores", "s.csv")
    assert (status, "rows.csv, line 2: these are scores of mmmos" in err) == (2, True)


@pytest.fixture
def linked(labels: np.ndarray, tmp_path: Path) -> dict[str, bytes]:
    """`labels.csv`, `a.csv`, `b.csv` and a clip in the current folder, with links to each; their contents."""
    write(tmp_path / "a.csv", labels + 0.5)
    write(tmp_path / "b.csv", labels - 0.5)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "0.wav").write_bytes(b"RIFF")
    for name in ("labels.csv", "a.csv", "b.csv", "clips/0.wav"):
        (tmp_path / f"soft-{Path(name).name}.svg").symlink_to(name)
        os.link(tmp_path / name, tmp_path / f"hard-{Path(name).name}.svg")
    return {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("option", ["-o", "--plot"])
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_evaluate_never_replaces_an_input(
    run: Run, linked: dict[str, bytes], tmp_path: Path, option: str, overwrite: tuple[str, ...]
):
    for name in linked:
        if option == "--plot" and not name.endswith(".svg"):
            continue
        path = "clips/0.wav" if name == "0.wav" else name
        words = ("labels.csv", "--scores", "a.csv", "--against", "b.csv", option, path, *overwrite)
        status, out, err = run("evaluate", *words)
        assert (status, out) == (2, ""), name
        assert "is an input" in err
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == linked


@pytest.mark.slow
def test_evaluate_replaces_a_file_only_with_overwrite(run: Run, labels: np.ndarray, tmp_path: Path):
    write(tmp_path / "a.csv", labels + 0.5)
    for option, name in (("-o", "old.json"), ("--plot", "old.svg")):
        (tmp_path / name).write_text("mine")
        words = ("evaluate", "labels.csv", "--scores", "a.csv", option, name)
        status, _, err = run(*words)
        assert (status, f"{name} exists; add --overwrite" in err, (tmp_path / name).read_text()) == (2, True, "mine")
        assert run(*words, "--overwrite")[0] == 0
        assert (tmp_path / name).read_text() != "mine"
    status, _, err = run("evaluate", "labels.csv", "--scores", "a.csv", "-o", "new.svg", "--plot", "./new.svg")
    assert (status, "cannot hold both" in err) == (2, True)


@pytest.mark.slow
@pytest.mark.usefixtures("raters")
def test_leaderboard_never_replaces_an_input(run: Run, tmp_path: Path):
    (tmp_path / "others.csv").write_text("team,axis,level,MSE,LCC,SRCC,KTAU\nX,PC,system,1,0.5,0.5,0.5\n")
    for name in ("p.csv", "others.csv", "raters.jsonl"):
        link = tmp_path / f"{name}.json"
        link.symlink_to(name)
        before = link.read_bytes()
        words = ("p.csv", "--labels", "raters.jsonl", "--others", "others.csv", "-o", link.name)
        status, out, err = run("leaderboard", *words, "--overwrite")
        assert (status, out, "is an input" in err, link.read_bytes()) == (2, "", True, before)
    (tmp_path / "l.md").write_text("mine")
    words = ("p.csv", "--labels", "raters.jsonl", "-o", "l.md")
    status, _, err = run("leaderboard", *words)
    assert (status, "l.md exists" in err, (tmp_path / "l.md").read_text()) == (2, True, "mine")
    assert run("leaderboard", *words, "--overwrite")[0] == 0
    assert (tmp_path / "l.md").read_text() != "mine"


# --- leaderboard


@pytest.fixture
def raters(tmp_path: Path) -> tuple[list[str], np.ndarray]:
    """`raters.jsonl` of five systems of six clips; ids and mean ratings [30, 4]."""
    rng = np.random.default_rng(0)
    true = rng.uniform(2, 8, (30, 4))
    ratings = np.clip(np.round(true[..., None] + rng.normal(0, 1, (30, 4, 10))), 0, 10)
    ids = [f"audiomos2025-track2-sys{i // 6:05d}-utt{i:06d}" for i in range(30)]
    names = [AXIS_NAMES[axis].replace(" ", "_") for axis in AXES]
    lines = [
        {"data_path": name} | dict(zip(names, rows.tolist(), strict=True))
        for name, rows in zip(ids, ratings, strict=True)
    ]
    (tmp_path / "raters.jsonl").write_text("\n".join(map(json.dumps, lines)))
    head = f"sample_id,{','.join(AXES)}"
    rows = [f"{name},{','.join(map(str, values))}" for name, values in zip(ids, true, strict=True)]
    (tmp_path / "p.csv").write_text("\n".join([head, *rows]))
    return ids, ratings.mean(axis=2)


@pytest.mark.slow
@pytest.mark.usefixtures("raters")
def test_leaderboard_command_writes_a_page(run: Run, tmp_path: Path):
    words = ("leaderboard", "p.csv", "--labels", "raters.jsonl", "--html", "l.html", "--name", "our <model>")
    status, _, err = run(*words)
    assert status == 0, err
    text = (tmp_path / "l.html").read_text()
    assert "our &lt;model&gt;" in text
    assert len(data_of(tmp_path / "l.html")[0]["strips"]) == 8
    assert data_of(tmp_path / "l.html")[0]["strips"][0]["interval"][0] is not None
    status, _, err = run(*words)
    assert status == 2
    assert "l.html exists" in err


@pytest.mark.slow
@pytest.mark.usefixtures("raters")
def test_a_leaderboard_in_a_pipe_is_json(run: Run):
    status, out, err = run("leaderboard", "p.csv", "--labels", "raters.jsonl")
    report = json.loads(out)
    assert status == 0
    assert (report["clips"], report["missing"]) == (30, [])
    assert {item["axis"] for item in report["results"]} == {*AXES, "composite", "mean_of_axes"}
    assert [item["of"] for item in report["places"]] == [12] * 8
    assert not {None} & {value for row in report["published"] for value in row.values()}
    assert report["notes"] == [line.removeprefix("mmmos: ") for line in err.splitlines()]


@pytest.mark.slow
@pytest.mark.usefixtures("raters")
def test_a_leaderboard_on_a_terminal_is_tables(run: Run, monkeypatch: pytest.MonkeyPatch):
    terminal(monkeypatch)
    _, out, _ = run("leaderboard", "p.csv", "--labels", "raters.jsonl")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if line.startswith(("PQ", "PC ", "CE", "CU", "composite", "mean"))][
        :6
    ] == [
        *("PQ", "PC", "CE", "CU", "composite", "mean_of_axes"),
    ]
    (baseline,) = [line for line in lines if line.startswith("B02")]
    assert baseline.split() == ["B02", "0.562", "0.905", "0.902", "0.723", "0.226", "0.963", "0.934", "0.800"]
    (paper,) = [line for line in lines if line.startswith("MMMOS")]
    assert paper.split() == ["MMMOS", "0.432", "0.942", "0.922", "0.752", "0.168", "0.991", "0.949", "0.838"]


@pytest.mark.slow
@pytest.mark.usefixtures("raters")
@pytest.mark.parametrize(("name", "start"), [("l.json", "{"), ("l.md", "## This model"), ("l.csv", "axis,level,n,MSE")])
def test_a_leaderboard_in_a_file(run: Run, tmp_path: Path, name: str, start: str):
    status, out, _ = run("leaderboard", "p.csv", "--labels", "raters.jsonl", "-o", name)
    assert (status, out) == (0, "")
    assert (tmp_path / name).read_text().startswith(start)


@pytest.mark.slow
def test_missing_predictions_are_refused_unless_it_is_said(run: Run, raters: tuple, tmp_path: Path):
    lines = (tmp_path / "p.csv").read_text().splitlines()
    (tmp_path / "p.csv").write_text("\n".join(lines[:-4]))
    status, out, err = run("leaderboard", "p.csv", "--labels", "raters.jsonl")
    assert (status, out) == (2, "")
    assert (
        f"p.csv: 4 of 30 clips have no score: {', '.join(raters[0][26:29])} ...; --partial evaluates the others" in err
    )
    status, out, err = run("leaderboard", "p.csv", "--labels", "raters.jsonl", "--partial")
    report = json.loads(out)
    assert status == 0
    assert (report["clips"], report["missing"]) == (26, raters[0][26:])
    assert report["results"][0]["n"] == 26
    assert "4 of 30 clips have no score and were left out" in err


@pytest.mark.slow
def test_a_bad_prediction_costs_one_row_of_the_leaderboard(run: Run, raters: tuple, tmp_path: Path):
    lines = (tmp_path / "p.csv").read_text().splitlines()
    fields = lines[-1].split(",")
    (tmp_path / "p.csv").write_text("\n".join([*lines[:-1], ",".join([fields[0], *["nan"] * (len(fields) - 1)])]))
    status, out, err = run("leaderboard", "p.csv", "--labels", "raters.jsonl")
    report = json.loads(out)
    assert (status, report["clips"], len(report["missing"])) == (0, 29, 1)
    assert (report["lists"]["scores"]["rows"], report["lists"]["scores"]["left_out"]) == (30, 1)
    assert "1 of 30 rows of p.csv is left out" in err
    assert run("leaderboard", "p.csv", "--labels", "raters.jsonl", "--strict")[0] == 2


@pytest.mark.slow
def test_more_than_the_ceiling_is_said(run: Run, raters: tuple, tmp_path: Path):
    ids, means = raters
    rows = [f"{name}.wav,{','.join(map(str, values))}" for name, values in zip(ids, means, strict=True)]
    (tmp_path / "seen.csv").write_text("\n".join([f"path,{','.join(AXES)}", *rows]))
    _, _, err = run("leaderboard", "seen.csv", "--labels", "raters.jsonl")
    assert "above what the raters' noise allows" in err
    _, _, err = run("leaderboard", "p.csv", "--labels", "raters.jsonl")
    assert "above" not in err


@pytest.mark.slow
@pytest.mark.usefixtures("raters")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("p.csv", "--labels", "gone.jsonl"), "gone.jsonl cannot be read"),
        (("p.csv", "--labels", "p.csv"), "p.csv"),
        (("raters.jsonl", "--labels", "raters.jsonl"), "raters.jsonl, line 1: CE is not a number"),
        (("x.csv", "--labels", "raters.jsonl"), "x.csv: no row is of the Track 2 test set"),
        (("p.csv", "--labels", "raters.jsonl", "-o", "l.txt"), "l.txt: figures are written as"),
        (
            ("p.csv", "--labels", "raters.jsonl", "--others", "x.csv"),
            "x.csv, line 1: no column is called team, axis or level",
        ),
        (("p.csv",), "audiomos2025_track2_human_annotations.jsonl"),
    ],
)
def test_wrong_usage_of_the_leaderboard(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
):
    monkeypatch.delenv("MMMOS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "x.csv").write_text("id,PQ\na,5\n")
    status, out, err = run("leaderboard", *words)
    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_figures_in_a_pipe_are_json_whatever_they_are(capsys: pytest.CaptureFixture[str]):
    write_report({"a": None}, "text", None)
    assert json.loads(capsys.readouterr().out) == {"a": None}
