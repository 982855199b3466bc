"""Commands, Python, links, names and tables of README and docs are true."""

from __future__ import annotations

import ast
import csv
import doctest
import inspect
import json
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import av
import pytest
import soundfile

import mmmos
from mmmos.evaluation import agreement
from mmmos.inference.predictor import Predictor
from mmmos.training.settings import PRESETS, Settings

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "mmmos"
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), ROOT / "samples" / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("dev/*.md")]
)
CURRENT = [path for path in DOCUMENTS if path.name not in ("LOG.md", "CHANGELOG.md")]
"""Documents of the present state; the others name files and modules of the past, too."""


def commands(path: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", path.read_text(), flags=re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def copy_start(source: Path, target: Path) -> None:
    """Copy the first half second of packets of a file that libsndfile does not write."""
    with av.open(str(source)) as file, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(file.streams.audio[0])
        for packet in file.demux(file.streams.audio[0]):
            if packet.dts is not None and packet.dts * packet.time_base < 0.5:
                packet.stream = stream
                out.mux(packet)


def commands_of(*names: str) -> list[str]:
    """The commands of pages, each once."""
    pages = [ROOT / name if name == "README.md" else ROOT / "docs" / name for name in names]
    return list(dict.fromkeys(command for page in pages for command in commands(page)))


@pytest.fixture(scope="module")
def short_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples, cut to half a second: their scores are tested elsewhere."""
    folder = tmp_path_factory.mktemp("short") / "samples"
    folder.mkdir()
    for path in (ROOT / "samples").iterdir():
        if path.suffix in (".flac", ".wav", ".mp3", ".opus"):
            form = soundfile.info(path)
            samples, rate = soundfile.read(path, frames=form.samplerate // 2)
            soundfile.write(folder / path.name, samples, rate, form.subtype, format=form.format)
        elif path.suffix == ".m4a":
            copy_start(path, folder / path.name)
        else:
            (folder / path.name).symlink_to(path)
    return folder


MOS = (
    *(("speech_noisy.wav", 1.2), ("sound_lowbit.wav", 1.6), ("music_lowrate.mp3", 1.8), ("sound_clean.opus", 2.0)),
    *(("speech_phone.wav", 2.2), ("music_tabla.m4a", 2.6), ("speech_audiobook.flac", 2.7), ("music_clean.flac", 2.8)),
    ("speech_clean.flac", 3.0),
)
"""Ratings of the samples from 1 to 5, made up."""
RATERS = (("anna", -0.1), ("ben", 0.1))
"""Raters, and what they add to those ratings."""


@pytest.fixture
def workplace(short_samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the README's reader has it: the samples, ratings of them, a list."""
    monkeypatch.setattr(agreement, "BOOTSTRAP_SAMPLES", 20)  # intervals are tested elsewhere
    (tmp_path / "samples").symlink_to(short_samples)
    clips = sorted(f"samples/{path.name}" for path in short_samples.iterdir() if path.suffix != ".md")
    rows = [(clip, 5 + i % 3, 4 + i % 4, Path(clip).stem) for i, clip in enumerate(clips)]
    for name, part in (("ratings.csv", rows[:6]), ("unseen.csv", rows[6:])):
        with open(tmp_path / name, "w", newline="") as file:
            csv.writer(file).writerows([("path", "PQ", "CE", "group"), *part])
    answers = [f"samples/{name},{rater},{mos + shift}" for name, mos in MOS for rater, shift in RATERS]
    (tmp_path / "answers.csv").write_text("\n".join(["path,rater,score", *answers]))
    stimuli = [f"{rater},s,{name},{20 * mos}" for name, mos in MOS for rater, _ in RATERS]
    (tmp_path / "mushra.csv").write_text("\n".join(["session_uuid,trial_id,rating_stimulus,rating_score", *stimuli]))
    lines = [json.dumps({"path": clip, "start_time": 0, "end_time": 0.5}) for clip in clips[:2]]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def results(workplace: Path) -> Path:
    """The same folder with scores of the rated clips, and two versions of two clips."""
    clips = [line.split(",")[0] for line in (workplace / "ratings.csv").read_text().splitlines()[1:]]
    for name, shift in (("rows.jsonl", 0.0), ("new.jsonl", 0.3), ("old.jsonl", 0.1)):
        rows = [{"path": clip, "PQ": 4 + i * 0.5 + shift, "CE": 5 - i * 0.1} for i, clip in enumerate(clips)]
        (workplace / name).write_text("\n".join(map(json.dumps, rows)))
    (workplace / "other.csv").write_text("\n".join(["path,PQ,CE", *(f"{clip},5,{i}" for i, clip in enumerate(clips))]))
    lines = [f"{codec}/{song}.wav,{song},{codec},{song + ord(codec) % 2}" for codec in "ab" for song in range(6)]
    (workplace / "rows.csv").write_text("\n".join(["path,song,codec,PQ", *lines]))
    for version, samples in (("v1", ("speech_noisy.wav", "sound_lowbit.wav")), ("v2", ("speech_phone.wav",) * 2)):
        (workplace / "outputs" / version).mkdir(parents=True)
        for i, sample in enumerate(samples):
            (workplace / "outputs" / version / f"{i}.wav").symlink_to((workplace / "samples" / sample).resolve())
    return workplace


@pytest.mark.slow
def test_generated_parts_are_current(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from scripts import docs  # imports what makes tables, which no other test of this file needs

    monkeypatch.chdir(ROOT)
    assert docs.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.slow
def test_commands_run(
    workplace: Path,
    run_mmmos: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
):
    """Commands of README, and those that QUICKSTART adds, run in this process, what is piped into them in a shell."""
    monkeypatch.chdir(workplace)
    found = commands_of("README.md", "QUICKSTART.md")
    assert len(found) > 16
    for command in found:
        source, _, command = command.rpartition(" | ")
        program, *words = shlex.split(command)
        assert program == "mmmos"
        with subprocess.Popen(source, shell=True, stdout=subprocess.PIPE, text=True) as piped:
            monkeypatch.setattr(sys, "stdin", piped.stdout)
            status, stdout, stderr = run_mmmos(*words)
        assert status == 0, f"{command}\n{stdout}{stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BULK.md", "RATINGS.md", "REPORT.md", "TIMELINE.md"])
def test_commands_of_page_run(
    name: str, workplace: Path, run_mmmos: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(workplace)
    found = [command for command in commands(ROOT / "docs" / name) if "--ray" not in command]
    assert len(found) > 1
    for command in found:
        status, stdout, stderr = run_mmmos(*shlex.split(command)[1:])
        assert status == 0, f"{command}\n{stdout}{stderr}"


@pytest.mark.slow
def test_commands_of_evaluation_run(
    results: Path, run_mmmos: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    """But for those that run above, and those that need the raters' file (tests/evaluation/test_leaderboard.py)."""
    monkeypatch.chdir(results)
    above = commands_of("README.md", "QUICKSTART.md")
    found = [line for line in commands_of("EVALUATION.md") if line not in above and "leaderboard" not in line]
    assert len(found) == 5
    for command in found:
        status, stdout, stderr = run_mmmos(*shlex.split(command)[1:])
        assert status == 0, f"{command}\n{stdout}{stderr}"


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_python_of_page_calls_what_exists(document: Path):
    """Names of mmmos in code that no doctest runs, and the arguments that they are called with."""
    for block in re.findall(r"```python\n(.*?)```", document.read_text(), flags=re.DOTALL):
        if ">>>" in block:
            continue
        tree = ast.parse(block)
        known: dict[str, Any] = {"mmmos": mmmos, "scorer": Predictor}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("mmmos"):
                known |= {name.name: pkgutil.resolve_name(f"{node.module}:{name.name}") for name in node.names}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called = resolved(call.func, known)
            if called is not None and not any(isinstance(given, ast.Starred) for given in call.args):
                is_method = isinstance(call.func, ast.Attribute) and resolved(call.func.value, known) is Predictor
                this = [None] if is_method else []
                inspect.signature(called).bind(*this, *call.args, **{one.arg: one.value for one in call.keywords})


def resolved(node: ast.expr, known: dict[str, Any]) -> Any:
    """What `name` or `name.attribute` stands for; None if it is not of mmmos. Raises AttributeError."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = resolved(node.value, known)
    return None if owner is None else getattr(owner, node.attr)


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "docs/METRIC.md", "docs/REWARD.md"])
def test_python_of_page_prints_its_output(document: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(str(ROOT / document), module_relative=False)
    assert tried > 4
    assert not failed


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_have_targets(document: Path):
    for target, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)\s]*)\)", document.read_text()):
        page = document.parent / target if target else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", CURRENT, ids=lambda path: path.name)
def test_modules_and_names_exist(document: Path):
    text = re.sub(r"<!-- begin help -->.*?<!-- end help -->", "", document.read_text(), flags=re.DOTALL)
    files = {name for name in re.findall(r"\b(?:[a-z_0-9]+/)+[a-z_0-9]+\.py\b", text) if "encoders/NAME" not in name}
    assert not [name for name in files if not (ROOT / name).is_file() and not (PACKAGE / name).is_file()]
    for name in re.findall(r"`(mmmos(?:\.\w+)+)", text):
        assert pkgutil.resolve_name(name) is not None


def test_settings_page_has_every_setting_and_preset():
    text = (ROOT / "docs" / "SETTINGS.md").read_text()
    rows = {cells[1].strip("` "): cells for line in text.splitlines() if len(cells := line.split("|")) > 7}
    named = [name for name in rows if not name.startswith(("setting", "-", "*"))]
    assert sorted(named) == sorted(field.name for field in fields(Settings))
    assert all(rows[field.name][-2].strip() for field in fields(Settings))
    assert [cell.strip() for cell in rows["setting"][3:-2]] == list(PRESETS)


def test_toml_of_docs_parses():
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "EXPERIMENTING.md").read_text(), flags=re.DOTALL)
    assert len(blocks) > 2
    assert all("data" in tomllib.loads(block) for block in blocks)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_exist(document: str):
    targets = re.findall(r"^make (\w+)", (ROOT / document).read_text(), flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_samples_are_credited():
    credits_text = (ROOT / "samples" / "README.md").read_text()
    files = [path.name for path in (ROOT / "samples").iterdir() if path.suffix != ".md"]
    assert 6 <= len(files) <= 9
    assert all(f"`{name}`" in credits_text for name in files)
    assert sum((ROOT / "samples" / name).stat().st_size for name in files) <= 2_000_000


@pytest.mark.parametrize("place", ["Makefile", "README.md", "samples/README.md"])
def test_samples_of_a_wrong_domain_have_a_remark(place: str):
    rows = re.findall(r"^samples/(([a-z]+)_\S+) .*?  ([a-z]+)[^ ]*(?:, .*)?$", (ROOT / "README.md").read_text(), re.M)
    assert len(rows) == len(list((ROOT / "samples").glob("*_*.*")))
    remarked = re.findall(r"(\w+\.\w+)`? is \w+[^;\n]*; lite takes it for", (ROOT / place).read_text())
    assert remarked == [name for name, domain, found in rows if found != domain]
