"""docs/SERVICE.md and the Dockerfile agree with the service."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

from mmmos.cli import app as cli
from mmmos.serve.app import create_app
from mmmos.serve.limits import Limits
from tests.serve.conftest import WAIT, GatedPredictor, served
from tests.test_docs import ROOT, commands

PAGE = (ROOT / "docs" / "SERVICE.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OPTIONS = {name: option for option in get_command(cli).commands["serve"].params for name in option.opts}  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_commands_of_the_page_work(toy: GatedPredictor):
    found = commands(ROOT / "docs" / "SERVICE.md")
    assert len(found) == 6
    answers = {}
    with served(create_app(toy, decoders=2)) as client:
        for command in found:
            words = shlex.split(command.replace("http://127.0.0.1:8000", str(client.base_url)))
            done = subprocess.run([*words, "--fail"], cwd=ROOT, capture_output=True, text=True, timeout=WAIT)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            answers[urlsplit(words[2]).path] = done.stdout
    rows = json.loads(answers["/v1/score"])["rows"]
    assert [row["id"] for row in rows] == ["music_tabla.m4a", "speech_noisy.wav"]
    assert all(row["segments"] for row in rows)
    assert json.loads(answers["/readyz"]) == {"status": "ok"}


def test_defaults_of_the_page_are_those_of_the_command():
    rows = re.findall(r"^\| `(--[\w-]+)` \| (\d+) ", PAGE, re.MULTILINE)
    assert {name: float(value) for name, value in rows} == {name: OPTIONS[name].default for name, _ in rows}
    assert len(rows) == 4
    limits = Limits()
    defaults = (limits.queue, limits.deadline, limits.body_bytes / 1e6, limits.seconds)
    assert [float(value) for _, value in rows] == list(defaults)


def test_statuses_of_the_page_are_those_of_the_document(toy: GatedPredictor):
    described = set(re.findall(r"\b[245]\d\d\b", " ".join(re.findall(r"^\| (\d[\d, ]+) \|", PAGE, re.MULTILINE))))
    document = create_app(toy).openapi()
    assert described == set(document["paths"]["/v1/score"]["post"]["responses"])


def test_dockerfile_uses_options_and_routes_that_exist(toy: GatedPredictor):
    program, command, *words = json.loads(re.search(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[1])
    assert (program, command) == ("mmmos", "serve")
    assert set(words[::2]) <= set(OPTIONS)
    probe = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", DOCKERFILE)
    assert int(probe[1]) == OPTIONS["--port"].default
    assert probe[2] in create_app(toy).openapi()["paths"]


def test_image_has_no_root_and_no_other_weights():
    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE.split("FROM")[-1], re.MULTILINE)
    assert "--accept-license" not in DOCKERFILE
    copied = re.findall(r"^COPY (.*)$", DOCKERFILE.split("FROM")[-1], re.MULTILINE)
    assert copied == ["--from=build /venv /venv"]
    assert Path(ROOT / ".dockerignore").read_text().split()[0] == ".git"
