"""The notebook runs from top to bottom, and its outputs are kept."""

from __future__ import annotations

import ast
import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
CELLS = json.loads((ROOT / "docs" / "tour.ipynb").read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def outputs(cell: dict[str, Any]) -> set[str]:
    """The kinds of output that a cell keeps: "text", "value", "picture"."""
    kinds = {"stream": "text", "execute_result": "value", "display_data": "picture"}
    return {kinds[output["output_type"]] for output in cell["outputs"]}


def test_every_cell_was_run_in_order():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert all(map(outputs, CODE))  # KeyError for an error that was kept


@pytest.mark.slow
def test_cells_run_and_have_the_outputs_that_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.chdir(ROOT / "docs")  # where Jupyter runs it
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(plt, "show", lambda: None)
    names: dict[str, Any] = {"__name__": "tour"}
    for cell in CODE:
        value = run("".join(cell["source"]), names)
        found = {"text"} if capsys.readouterr().out else set()
        found |= {"value"} if value is not None else set()
        found |= {"picture"} if plt.get_fignums() else set()
        plt.close("all")
        assert found == outputs(cell), cell["source"]
    assert names["comparison"].sentence.startswith("On 12 pairs of clips, clean scores higher than noisy on PQ")
    assert names["mine"].model.info.label_range == (1, 5)
    assert list(tmp_path.iterdir())  # it writes there, not to the repository


def run(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line, if that is an expression without an output of its own."""
    *lines, last = ast.parse(source).body
    exec(compile(ast.Module(lines, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    exec(compile(ast.Module([last], []), "cell", "exec"), names)
    return None
