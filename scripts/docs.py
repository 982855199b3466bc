"""Write the generated parts of README.md and docs/ anew, or with --check say which of them are stale.

A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "mmmos"
DOCUMENTS = (
    "README.md",
    *(f"docs/{name}.md" for name in ("ARCHITECTURE", "COMMANDS", "DATA", "EXPERIMENTS", "MODEL_CARD", "ROWS")),
)
SCORE_TOLERANCE = 0.02
"""Points by which a score may differ from the one printed: processors round differently."""


def samples() -> str:
    """The sample clips' scores as a terminal shows them."""
    from mmmos.inputs import expand
    from mmmos.predictor import from_pretrained
    from mmmos.terminal import score_table

    out = io.StringIO()
    write = score_table(out, columns=76)
    os.chdir(ROOT)
    predictor = from_pretrained("lite", device="cpu")
    for scores in predictor.stream(expand(["samples"])):
        write(scores)
    predictor.close()
    return _fenced(out.getvalue())


def lite() -> str:
    """The first figures of the card: unseen songs and signals."""
    return _figures(lambda name: name.endswith(("unseen songs", "unseen signals", "unseen codec families")))


def lite_all() -> str:
    """All of them."""
    return _figures(lambda name: True)


def _figures(chosen: Callable[[str], bool]) -> str:
    data = json.loads((ROOT / "docs" / "lite.json").read_text())
    lines = ["| clips that training never saw | axis | SRCC | 95 % | n |", "|---|---|---|---|---|"]
    for item in data["figures"]:
        if chosen(item["figure"]):
            interval = f"{item['low']:.2f} to {item['high']:.2f}"
            lines.append(f"| {item['figure']} | {item['axis']} | {item['srcc']:.2f} | {interval} | {item['n']} |")
    return "\n".join(lines)


def bench() -> str:
    """What bench/score.py measured last."""
    data = json.loads((ROOT / "docs" / "bench.json").read_text())
    lines = ["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in data["figures"].items())]
    return "\n".join([*lines, "", f"`bench/score.py` at commit {data['commit']} on {data['machine']}."])


def bench_encoders() -> str:
    """What bench/encoders.py measured last."""
    data = json.loads((ROOT / "docs" / "bench_encoders.json").read_text())
    lines = [
        "| system | precision | s | ratio to the peer | share of peak | memory, GiB | change of scores, mean / max |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in data["rows"]:
        change = f"{row['score_mean']:.4f} / {row['score_max']:.4f}" if "score_max" in row else ""
        figures = f"{row['seconds']:.2f} | {row['ratio_to_peer']:.2f} | {row['share_of_peak']:.0%}"
        memory = f"{row['held_gib']:.1f}, peak {row['peak_gib']:.1f}"
        lines.append(f"| {row['system']} | {row['dtype']} | {figures} | {memory} | {change} |")
    peak = ", ".join(f"{dtype} {max(kinds.values())}" for dtype, kinds in data["peak_gflops"].items())
    how = f"threads: {data['threads']}, medians of {data['rounds']} rounds, peak in GFLOP/s: {peak}"
    lines += ["", f"`bench/encoders.py` at commit {data['commit']} on {data['machine']}; {how}."]
    return "\n".join(lines)


def help_texts() -> str:
    """`--help` of every command, those of a group after it."""
    from mmmos.cli import app

    names = ["", *(command.callback.__name__ for command in app.registered_commands if command.callback)]
    for group in app.registered_groups:
        commands = group.typer_instance.registered_commands if group.typer_instance else []
        names += [str(group.name), *(f"{group.name} {item.callback.__name__}" for item in commands if item.callback)]
    return "\n\n".join(_fenced(_help(name)) for name in names)


def _help(command: str) -> str:
    words = [sys.executable, "-m", "mmmos", *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    text = subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout
    return "\n".join(line.rstrip() for line in text.strip().replace("python -m mmmos", "mmmos").splitlines())


def modules() -> str:
    """Every module with the first sentence of its docstring, in the order of the layers."""
    sys.path.insert(0, str(ROOT / "tests"))
    from test_layers import MODULES, ROWS

    lines = ["| row | module | what it is |", "|--:|---|---|"]
    for number, row in enumerate(ROWS):
        for name in row:
            path = MODULES[name]
            summary = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
            lines.append(f"| {number} | `{path.relative_to(PACKAGE)}` | {summary} |")
    return "\n".join(lines)


def warnings() -> str:
    """The table in the docstring of `mmmos.checks`."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / "checks.py").read_text())) or ""
    return docstring[docstring.index("| warning") :].strip()


def errors() -> str:
    """The error codes and what they mean."""
    from mmmos.errors import AUDIO_ERROR_CODES

    rows = (f"| `{code}` | {meaning} |" for code, meaning in AUDIO_ERROR_CODES.items())
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def corpora() -> str:
    """The corpora, how many clips the lists have of each, and where they come from."""
    from mmmos.corpora import SOURCES

    lines = ["| folder | corpus | training | development | test | terms |", "|---|---|--:|--:|--:|---|"]
    for folder, about in SOURCES.items():
        counts = f"{about.train or ''} | {about.dev or ''} | {about.test or ''}"
        lines.append(f"| `{folder}` | [{about.title}]({about.home}) | {counts} | {about.terms} |")
    return "\n".join(lines)


def label_files() -> str:
    """The label files and their public homes."""
    from mmmos.label_files import LABEL_FILES

    lines = ["| name | file | clips |", "|---|---|--:|"]
    lines += [f"| `{name}` | [{item.file_name}]({item.url}) | {item.rows} |" for name, item in LABEL_FILES.items()]
    return "\n".join(lines)


def _fenced(text: str) -> str:
    return f"```\n{text.rstrip()}\n```"


PARTS: dict[str, Callable[[], str]] = {
    "samples": samples,
    "lite": lite,
    "lite_all": lite_all,
    "bench": bench,
    "bench_encoders": bench_encoders,
    "corpora": corpora,
    "help": help_texts,
    "label_files": label_files,
    "modules": modules,
    "warnings": warnings,
    "errors": errors,
}


def rewritten(text: str) -> str:
    """A document with its parts made anew."""

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
    for name in DOCUMENTS:
        path = ROOT / name
        old, new = path.read_text(), rewritten(path.read_text())
        if not same(old, new):
            stale.append(name)
        if not options.check and old != new:
            path.write_text(new)
    if options.check and stale:
        print(f"stale, run `make docs`: {', '.join(stale)}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
