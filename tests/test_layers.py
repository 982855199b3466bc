"""A package imports only from rows above its own, modules have no import cycle, and light ones stay light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.sounds import SAMPLES

PACKAGE = Path(__file__).parent.parent / "src" / "mmmos"

ROWS = (
    ("errors", "scores", "losses", "paper", "version", "progress", "lazy", "wording"),
    ("metrics", "processes", "io"),
    ("ensemble", "audio", "hub"),
    ("encoders", "data"),
    ("features", "model", "evaluation"),
    ("inference", "report"),
    ("training", "serve", "integrations"),
    ("experiments", "bulk"),
    ("cli",),
)
"""Packages and single modules, each row on those above. docs/ARCHITECTURE.md shows this table."""

ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names} | dict.fromkeys(
    ("__init__", "__main__"), len(ROWS)
)
WITHOUT_TORCH = ("audio", "io", "hub", "data")
MAX_LINES, MAX_FUNCTION_LINES = 250, 50


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Modules of the package that a file imports, except those for type checkers."""
    found = set()
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mmmos":
            home = node.module.removeprefix("mmmos").lstrip(".")
            names = {f"{home}.{alias.name}".lstrip(".") for alias in node.names}
            found |= (names & set(MODULES)) or {home}
    return found


def _without_type_checking(tree: ast.Module) -> ast.Module:
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
    ]
    return tree


def test_every_package_has_a_row():
    assert {module.split(".")[0] for module in MODULES} == set(ROW_OF)


@pytest.mark.slow
def test_imports_come_from_rows_above():
    pairs = {(module.split(".")[0], other.split(".")[0]) for module in MODULES for other in imports_of(MODULES[module])}
    assert not {(own, other) for own, other in pairs if own != other and ROW_OF[other] >= ROW_OF[own]}


@pytest.mark.slow
def test_imports_have_no_cycle():
    graph = {module: imports_of(path) - {module} for module, path in MODULES.items()}
    assert tuple(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.slow
def test_modules_and_functions_stay_readable():
    texts = {module: path.read_text() for module, path in MODULES.items()}
    assert not {module for module, text in texts.items() if text.count("\n") > MAX_LINES}
    assert not [
        (module, node.name)
        for module, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.body[0].lineno >= MAX_FUNCTION_LINES
    ]


@pytest.mark.parametrize("word", [r"\bprint\(", r"\bexcept Exception\b"])
def test_printing_and_catching_everything_are_for_the_surfaces(word: str):
    surfaces = {"cli", "audio.isolated", "inference.doctor", "processes", "report.text", "serve.scoring"}
    found = {name for name, path in MODULES.items() if re.search(word, path.read_text())}
    assert {"cli" if name.startswith("cli") else name for name in found} <= surfaces


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


FIRST_SCORE = """
import sys
import mmmos.cli
before_torch = []

def note(event, details):
    if event == "subprocess.Popen" and "mmmos.audio.isolated" in str(details):  # builds of torch with CUDA run ldconfig
        before_torch.append("torch" not in sys.modules)

sys.addaudithook(note)
sys.argv[:] = "mmmos", "score", sys.argv[1]
try:
    mmmos.cli.main()
except SystemExit as end:
    print(end.code, before_torch, *sys.modules, file=sys.stderr)
"""


HEAVY = {"torch", "scipy", "pyarrow", "fsspec", "huggingface_hub", "matplotlib", "transformers"}


@pytest.mark.slow
def test_packages_before_the_encoders_do_not_import_torch():
    modules = [module for module in MODULES if module.split(".")[0] in WITHOUT_TORCH]
    assert "torch" not in loaded_by("; ".join(f"import mmmos.{module}" for module in modules))


@pytest.mark.slow
@pytest.mark.parametrize("statement", ["import mmmos", "import mmmos.cli", "import mmmos.audio.isolated"])
def test_light_imports_load_nothing_heavy(statement: str):
    assert not loaded_by(statement) & HEAVY


@pytest.mark.slow
def test_predictor_imports_no_optional_dependency():
    optional = {"ray", "fastapi", "fsspec", "transformers", "librosa", "matplotlib", "pyarrow"}
    assert not loaded_by("import mmmos.inference.predictor") & optional


@pytest.mark.slow
def test_commands_start_without_numpy():
    assert "numpy" not in loaded_by("import mmmos.cli")


@pytest.mark.slow
def test_first_score_loads_only_what_it_needs():
    words = [sys.executable, "-c", FIRST_SCORE, str(SAMPLES / "speech_noisy.wav")]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=300)
    status, decoders, *loaded = done.stderr.splitlines()[-1].split()
    assert done.stdout.count('"status": "ok"') == 1
    assert status == "0"
    assert decoders == "[True]"  # one child, which loads its libraries while torch is imported
    assert not set(loaded) & (HEAVY - {"torch"})
    packages = {name.split(".")[1] for name in loaded if name.startswith("mmmos.")}
    assert not packages & {"bulk", "evaluation", "experiments", "integrations", "serve", "training"}
    assert {name for name in loaded if name.startswith("mmmos.report.")} <= {"mmmos.report.text"}
    assert "torch._dynamo" not in loaded
