"""Write the generated parts of README.md, docs/ and dev/, or report the documents that are out of date (--check).

A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. Parts that describe the package are rendered here;
tables of results by bench/tables.py and recipes/lite/tables.py.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import sys
import tokenize
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args, get_type_hints
from unittest import mock

if TYPE_CHECKING:
    from typer.core import TyperGroup

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.tables import PARTS as BENCH_PARTS  # noqa: E402
from recipes.lite.tables import PARTS as LITE_PARTS  # noqa: E402

PACKAGE = ROOT / "src" / "mmmos"
DOCUMENTS = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("dev/*.md")))
SCORE_TOLERANCE = 0.02
"""Points by which a score may differ from the one printed: processors round differently."""


@cache
def samples() -> str:
    """The sample clips' scores as a terminal shows them."""
    from rich.console import Console

    from mmmos.cli.score_table import score_table
    from mmmos.data.inputs import expand
    from mmmos.inference.predictor import from_pretrained

    out = io.StringIO()
    console = Console(file=out, width=100, highlight=False, markup=False, emoji=False)
    os.chdir(ROOT)
    clips = list(expand(["samples"]))
    wrong = []
    with from_pretrained("lite", device="cpu") as predictor:
        label_range = predictor.model.info.label_range
        with score_table(console, [clip.id for clip in clips], label_range) as write:
            for scores in predictor.stream(clips):
                write(scores)
                own = Path(scores.id).name.split("_")[0]  # a sample's name begins with its domain
                if scores.domain != own:
                    wrong.append(f"`{scores.id}` is {own}; lite takes it for {scores.domain}, so its scores are wrong.")
    return "\n\n".join([_fenced("\n".join(map(str.rstrip, out.getvalue().splitlines()))), *wrong])


def sample_row() -> str:
    """One of those scores, below the head of the table."""
    head, *rows = samples().splitlines()[1:]
    return _fenced("\n".join([head, *(row for row in rows if row.startswith("samples/speech_noisy.wav"))]))


def help_texts() -> str:
    """`--help` of every command, those of a group after it."""
    from typer.main import get_command

    from mmmos.cli import app

    program = cast("TyperGroup", get_command(app))
    names = ["", *(command.callback.__name__ for command in app.registered_commands if command.callback)]
    for group in app.registered_groups:
        commands = group.typer_instance.registered_commands if group.typer_instance else []
        names += [str(group.name), *(f"{group.name} {item.callback.__name__}" for item in commands if item.callback)]
    return "\n\n".join(_fenced(_help(program, name)) for name in names)


def _help(program: TyperGroup, command: str) -> str:
    shown = io.StringIO()
    with mock.patch.dict(os.environ, TERM="dumb", NO_COLOR="1"), redirect_stdout(shown):
        program.main([*command.split(), "--help"], "mmmos", standalone_mode=False, terminal_width=80)
    return "\n".join(line.rstrip() for line in shown.getvalue().strip().splitlines())


def modules() -> str:
    """Every module with the first sentence of its docstring, in the order of the layers."""
    from tests.test_layers import MODULES, ROWS

    lines = ["| row | package | what it is | its modules |", "|--:|---|---|---|"]
    for number, names in enumerate(ROWS, 1):
        for name in names:
            path = MODULES[name]
            summary = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
            inside = ", ".join(f"`{other.split('.')[1]}`" for other in MODULES if other.startswith(f"{name}."))
            lines.append(
                f"| {number} | `{path.relative_to(PACKAGE)}` | {summary} | {inside} |".replace("/__init__.py", "/")
            )
    return "\n".join(lines)


def warnings() -> str:
    """The meanings of the warnings."""
    from mmmos.audio.warnings import WARNINGS

    rows = [f"| `{name}` | {text} |" for name, text in WARNINGS.items()]
    return "\n".join(["| warning | meaning |", "|---|---|", *rows])


def experiment(name: str, tables: tuple[str, ...]) -> str:
    """SRCC by clip of an experiment's rows, as `recipes/paper/log.py` kept them."""
    data = json.loads((ROOT / "recipes" / "paper" / "results" / f"{name}.json").read_text())
    rows = [row for row in data["rows"] if row["table"] in tables]
    sets = list(rows[0]["sets"])
    lines = ["| | " + " | ".join(f"{kind}, composite | mean of axes" for kind in sets) + " |"]
    lines.append("|---|" + "--:|--:|" * len(sets))
    for row in rows:
        cells = []
        for kind in sets:
            for axis in ("composite", "mean_of_axes"):
                found = row["sets"][kind][axis]
                cells.append(f"{found['srcc']:.2f} ± {found['std']:.2f}")
        lines.append(f"| {row['row']} | {' | '.join(cells)} |")
    return "\n".join(
        [*lines, "", f"`experiments/{name}.toml` at commit {data['commit']}; SRCC over clips, three seeds."]
    )


def bases() -> str:
    """What a score may rest on."""
    from mmmos.scores import BASES

    rows = (f"| `{word}` | {meaning} |" for word, meaning in BASES.items())
    return "\n".join(["| basis | the score rests on |", "|---|---|", *rows])


def errors() -> str:
    """The error codes and what they mean."""
    from mmmos.errors import AUDIO_ERROR_CODES

    rows = (f"| `{code}` | {meaning} |" for code, meaning in AUDIO_ERROR_CODES.items())
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def corpora() -> str:
    """The corpora, how many clips the lists have of each, and where they come from."""
    from mmmos.data.sources import SOURCES

    lines = ["| folder | corpus | training | development | test | terms |", "|---|---|--:|--:|--:|---|"]
    for folder, info in SOURCES.items():
        counts = f"{info.train or ''} | {info.dev or ''} | {info.test or ''}"
        lines.append(f"| `{folder}` | [{info.title}]({info.home}) | {counts} | {info.terms} |")
    return "\n".join(lines)


def label_files() -> str:
    """The label files and their public homes."""
    from mmmos.data.label_files import LABEL_FILES

    lines = ["| name | file | clips |", "|---|---|--:|"]
    lines += [f"| `{name}` | [{item.file_name}]({item.url}) | {item.rows} |" for name, item in LABEL_FILES.items()]
    return "\n".join(lines)


def settings() -> str:
    """Every setting, by the headings and with the comments that stand in the source of `Settings`."""
    from mmmos.training.settings import LOSS_OPTIONS, PRESETS

    others = [name for name in PRESETS if name != "paper"]
    lines = [f"| setting | values | paper | {' | '.join(others)} | |", f"|---|---|---|{'---|' * len(others)}---|"]
    for name, comment in _settings_source():
        if not name:
            lines.append(f"| **{comment}** | | | {'| ' * len(others)}|")
            continue
        losses = [loss for loss, options in LOSS_OPTIONS.items() if name in options]
        info = "; ".join(filter(None, [comment, f"of {' and '.join(losses)}" if losses else ""]))
        paper, *rest = [_plain(getattr(PRESETS[preset], name)) for preset in ("paper", *others)]
        cells = [paper, *("" if value == paper else value for value in rest)]
        lines.append(f"| `{name}` | {_values(name)} | {' | '.join(cells)} | {info} |")
    return "\n".join(lines)


def _settings_source() -> list[tuple[str, str]]:
    """Name and comment of each field of `Settings`, in order; headings have no name."""
    own = _fields_source(PACKAGE / "training" / "settings.py", "Settings")
    fusion = [item for item in _fields_source(PACKAGE / "model" / "fusion.py", "FusionConfig") if item[0]]
    heads = _fields_source(PACKAGE / "model" / "heads.py", "HeadSettings")
    after = 1 + next(i for i, (name, _) in enumerate(own) if name == "aggregator")
    return [*own[:after], *fusion, *heads, *own[after:]]


def _fields_source(path: Path, name: str) -> list[tuple[str, str]]:
    """Name and comment of each field that a class declares itself, in order; headings have no name."""
    source = path.read_text()
    body = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name).body
    names = {n.lineno: n.target.id for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    lines = sorted({*names, *(line for line in comments if body[0].lineno < line < max(names))})
    return [(names.get(line, ""), comments.get(line, "")) for line in lines]


def _values(name: str) -> str:
    """What a setting may be, in words."""
    from mmmos.training.settings import Settings

    words = {int: "whole number", float: "number", bool: "true, false", type(None): "none"}
    kind = get_type_hints(Settings)[name]
    return ", ".join(words[part] if isinstance(part, type) else f"{part}" for part in get_args(kind) or (kind,))


def _plain(value: object) -> str:
    """A value as a TOML file has it, words without quotes."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"


def experiment_toml() -> str:
    """An experiment, as it is."""
    return f"```toml\n{(PACKAGE / 'bundled' / 'experiments' / 'musdb18.toml').read_text().rstrip()}\n```"


def _fenced(text: str) -> str:
    return f"```\n{text.rstrip()}\n```"


PARTS: dict[str, Callable[[], str]] = {
    "samples": samples,
    "sample_row": sample_row,
    "help": help_texts,
    "modules": modules,
    "warnings": warnings,
    "bases": bases,
    "errors": errors,
    "corpora": corpora,
    "label_files": label_files,
    "settings": settings,
    "experiment_toml": experiment_toml,
    "experiment_musdb18": lambda: experiment("musdb18", ("II", "III", "IV")),
    "experiment_random": lambda: experiment("random", ("II", "III", "IV")),
    "experiment_presets": lambda: experiment("presets", ("Presets",)),
    "experiment_best_but": lambda: experiment("presets", ("Best but",)),
    **BENCH_PARTS,
    **LITE_PARTS,
}


def rewritten(text: str) -> str:
    """A document with its parts rendered again."""

    def part(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- begin {name} -->\n{PARTS[name]()}\n<!-- end {name} -->"

    return re.sub(r"<!-- begin (\w+) -->\n.*?<!-- end \1 -->", part, text, flags=re.DOTALL)


def same(old: str, new: str) -> bool:
    """Equal but for scores within the tolerance."""
    number = r"-?\d+\.\d\d\b"
    if re.sub(number, "#", old) != re.sub(number, "#", new):
        return False
    pairs = zip(re.findall(number, old), re.findall(number, new), strict=True)
    return all(abs(float(a) - float(b)) <= SCORE_TOLERANCE for a, b in pairs)


def main(words: list[str] | None = None) -> int:
    """Write or check every document; 1 if one is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a part is stale")
    options = parser.parse_args(words)
    stale = []
    for path in DOCUMENTS:
        old, new = path.read_text(), rewritten(path.read_text())
        if not same(old, new):
            stale.append(str(path.relative_to(ROOT)))
        if not options.check and old != new:
            path.write_text(new)
    if options.check and stale:
        print(f"stale, run `make docs`: {', '.join(stale)}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
