"""A module imports only from rows above its own, and the cheap ones import nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "mmmos"

ROWS = (
    (
        "io",
        "audio",
        "hub",
        "data",
        "features",
        "model",
        "evaluation",
        "inference",
        "report",
        "training",
        "experiments",
        "encoders",
    ),
    ("errors", "version", "hub.licenses", "encoders.torch_settings", "progress"),
    (
        "scores",
        "io.delimited",
        "paper",
        "io.atomic",
        "encoders.resample",
        "io.remote",
        "audio.containers",
        "audio.ffmpeg",
        "audio.libsndfile",
    ),
    ("audio.mpeg", "audio.pcm", "audio.flac"),
    ("audio.joined",),
    (
        "audio.decode",
        "audio.warnings",
        "audio.clip",
        "losses",
        "metrics",
        "report.text",
        "io.lists",
        "data.ratings",
        "audio.limits",
        "experiments.claims",
    ),
    ("audio.windows", "data.label_files", "data.manifest", "inference.rows", "evaluation.ceiling", "training.ridge"),
    ("data.labels",),
    (
        "audio.isolated",
        "data.inputs",
        "data.corpora",
        "experiments.results",
        "features.crops",
        "processes",
        "data.trainable",
        "data.splits",
    ),
    ("audio.prefetch", "experiments.summary", "encoders.base", "encoders.mel", "encoders.weights"),
    ("experiments.tables", "encoders.padded", "hub.published", "encoders.wavlm_checkpoint", "encoders.device"),
    (
        *("encoders.distillmos", "encoders.dnsmos", "encoders.musicnn", "encoders.spectrum"),
        *("encoders.wavlm", "encoders.muq", "encoders.m2d"),
    ),
    ("encoders.table", "ensemble"),
    ("features.cache", "model.fusion", "model.heads", "experiments.row_names"),
    ("model.aggregators",),
    ("model.quality", "evaluation.agreement", "evaluation.predictions"),
    ("evaluation.matching", "report.plots", "evaluation.leaderboard", "evaluation.rating_scales"),
    ("features.extractor", "model.folder"),
    ("training.checkpoint", "inference.differentiable", "model.audiobox", "inference.clip_scores"),
    ("training.loop",),
    ("training.settings", "training.closed_form", "training.summary"),
    ("model.load",),
    ("inference.predictor",),
    ("inference.selfcheck",),
    ("training.fit", "inference.doctor", "experiments.config", "bulk", "bulk.stores", "bulk.ray_cluster"),
    ("experiments.runs", "bulk.plan", "bulk.tasks"),
    ("bulk.workers", "bulk.verify", "bulk.failures"),
    ("bulk.driver", "bulk.ray_workers"),
    ("cli.options", "cli.console", "cli.help", "cli.score_table"),
    ("cli.run_folder",),
    ("cli.score", "cli.train", "cli.evaluate", "cli.about", "cli.data", "cli.bulk"),
    ("cli",),
    ("__init__", "__main__"),
)
ROW_OF = {module: row for row, modules in enumerate(ROWS) for module in modules}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Modules of the package that a file imports, those for type checkers left out."""
    found = set()
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mmmos":
            home = node.module.removeprefix("mmmos").lstrip(".")
            found |= {home} if home else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("mmmos.") for alias in node.names if alias.name.startswith("mmmos")}
    return found


def _without_type_checking(tree: ast.Module) -> ast.Module:
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
    ]
    return tree


def test_every_module_has_a_row():
    assert set(MODULES) == set(ROW_OF)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_rows_above_its_own(module: str):
    below = {other for other in imports_of(MODULES[module]) if ROW_OF[other] >= ROW_OF[module]}
    assert not below


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_stay_readable(module: str):
    text = MODULES[module].read_text()
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    longest = max((n.end_lineno - n.body[0].lineno + 1 for n in functions if n.end_lineno), default=0)
    assert text.count("\n") <= 340
    assert longest <= 60


@pytest.mark.parametrize("word", [r"\bprint\(", r"\bexcept Exception\b"])
def test_printing_and_catching_everything_are_for_the_surfaces(word: str):
    surfaces = {"cli", "audio.isolated", "inference.doctor", "processes", "report.text"}
    found = {name for name, path in MODULES.items() if re.search(word, path.read_text())}
    assert {"cli" if name.startswith("cli") else name for name in found} <= surfaces


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import mmmos",
        "import mmmos.cli",
        "import mmmos.data.corpora",
        "import mmmos.audio.isolated",
        "import mmmos.data.manifest",
    ],
)
def test_what_needs_no_torch_does_not_import_it(statement: str):
    assert not loaded_by(statement) & {
        "torch",
        "scipy",
        "pyarrow",
        "fsspec",
        "huggingface_hub",
        "matplotlib",
        "transformers",
    }


def test_a_scorer_imports_no_optional_dependency():
    assert not loaded_by("import mmmos.inference.predictor") & {
        "ray",
        "fastapi",
        "fsspec",
        "transformers",
        "librosa",
        "matplotlib",
        "pyarrow",
    }
