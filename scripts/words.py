"""The word list: terms that this project does not use, each with the standard one (CONTRIBUTING.md).

    python scripts/words.py [--counts] [PATH ...]

Checks names, comments and prose in CHECKED (CONTRIBUTING.md is not checked, as it quotes the words, nor are generated
parts of pages, which come from the sources). Prints file, line, term and replacement; exits with 1 if there are any.
`--counts` prints counts per folder instead and exits with 0.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKED = (
    *("src", "docs", "recipes", "contrib", "scripts", "bench", "samples", "tests"),
    *("README.md", "CHANGELOG.md", "Makefile"),
)
SUFFIXES = (".py", ".md", ".toml", "")
QUOTING = (Path(__file__).resolve(), ROOT / "tests" / "test_words.py")
"""Files that name the words on purpose: not checked."""

WORDS = {
    r"(?<!there )(is|are|was|were) no(?! (longer|more|less|different|better|worse|matter))": "is not a",
    r"tells?|told": "report, show; for domains: classify",
    r"(?<!raters )(?<!listeners )(?<!people )(hears|heard)": "extract, read, decode",
    r"beside": "next to, besides",
    r"anew": "again",
    r"goes on|gone on|going on with": "continue, resume",
    r"what came of|what became of": "result, summary",
    r"who works on": "worker",
    r"(one|row|line|file|path) a (clip|line|window|file|second|row)": "one per clip",
    r"crews?|crewed": "worker pool, workers",
    r"listener(?=\.|\()": "FeatureExtractor",
    r"judg(e|es|ed|ing)": "evaluate",
    r"(?<!time )(?<!time-)stretch(es)?": "segment",
    r"ahead": "prefetch, in advance",
    r"(a|an|the|its|their|this|that|what|which|equal|in|of) shares?": "fraction, probability",
    r"deaths": "failures (the folder _run/deaths keeps its name)",
    r"flying": "in_flight",
    r"mendable": "recoverable",
    r"spoil(s|ed|ing)?": "degrade",
}
"""Whole words, in any case; underscores and capitals in a name separate words."""

NAMES = {
    "StateSum": "WeightedLayerSum",
    "Crewed": "RunOptions",
    "LOST_TWICE": "MAX_ATTEMPTS",
    "LOST_IN_A_ROW": "MAX_CONSECUTIVE_FAILURES",
    "files_below": "list_files",
    "unlabelled": "nothing: the extractor takes clips",
    "DEV_SHARE": "DEV_FRACTION",
    "shares": "fractions, domain_probabilities",
}
"""Names in code, exactly."""

ALLOWED = (
    "_run/deaths",  # a folder of a run's format
    "beside_paper",  # a key of experiment files
    "go ahead",
    ".tell()",  # the method of files
    "def tell(",
    "READ_AHEAD",  # the usual word of file systems
)
"""Text that is ignored where it stands."""

GENERATED = re.compile(r"<!-- begin (\w+) -->.*?<!-- end \1 -->", re.DOTALL)

_BOUNDARY = r"(?<![A-Za-z]){}(?![A-Za-z])"
PATTERNS = [(re.compile(_BOUNDARY.format(f"(?:{word})"), re.IGNORECASE), use) for word, use in WORDS.items()]
PATTERNS += [(re.compile(_BOUNDARY.format(name)), use) for name, use in NAMES.items()]
ANY = re.compile(_BOUNDARY.format("(?:" + "|".join([*WORDS, *map(str.lower, NAMES)]) + ")"))
"""Matches in lower case wherever one of them does: most lines are searched once. Ignoring case would take longer."""


def files(paths: list[Path]) -> Iterator[Path]:
    """Text files at or below the paths, except those that name the words."""
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (
            file
            for file in found
            if file.is_file()
            and file.suffix in SUFFIXES
            and file not in QUOTING
            and not any(part.endswith((".egg-info", "__pycache__")) for part in file.parts)
        )


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, the words as written, and what to use, for each forbidden term."""
    text = GENERATED.sub(lambda match: "\n" * match[0].count("\n"), text)
    for number, line in enumerate(text.splitlines(), 1):
        for allowed in ALLOWED:
            line = line.replace(allowed, "")
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", line) if re.search(r"[a-z][A-Z]", line) else line
        if not (ANY.search(line.lower()) or (words != line and ANY.search(words.lower()))):
            continue
        for pattern, use in PATTERNS:
            match = pattern.search(line) or pattern.search(words)
            if match:
                yield number, match[0], use


def folder(path: Path) -> str:
    """The package of a file of src/mmmos, else its top folder or its name."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:3] if parts[0] == "src" else parts[:1])


def main(words: list[str] | None = None) -> int:
    """Print what was found; 1 if there is anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="files and folders to check")
    parser.add_argument("--counts", action="store_true", help="print counts per folder")
    options = parser.parse_args(words)
    paths = [path.resolve() for path in options.paths] or [ROOT / name for name in CHECKED if (ROOT / name).exists()]
    found = [(path, *hit) for path in files(paths) for hit in findings(path.read_text(encoding="utf-8"))]
    if options.counts:
        for name, count in sorted(Counter(folder(path) for path, *_ in found).items()):
            print(f"{count:5} {name}")
        return 0
    for path, number, term, use in found:
        print(f"{path.relative_to(ROOT)}:{number}: {term}: use {use}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
