"""The labelled clips of an experiment: its training, stopping and reported sets, from the `[data]` of its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from mmmos.data.corpora import read_corpus, read_reported
from mmmos.data.label_files import LABEL_FILES
from mmmos.data.manifest import LabelledClip
from mmmos.data.splits import check_disjoint, split_groups, split_stratified, stratum_columns
from mmmos.errors import UsageError
from mmmos.io.bad_rows import BadRows
from mmmos.scores import LABEL_RANGE

CHOICES = {
    "select_on": ("combined", "natural"),
    "report_dev": ("natural", "combined"),
    "pam_system": ("kind_folder", "folder"),
}
"""Key of `[data]` -> its valid values, the default first."""


@dataclass(frozen=True)
class Sets:
    """The clips of an experiment. Reported clips may also be used for early stopping."""

    train: list[LabelledClip]
    dev: list[LabelledClip]  # for early stopping
    reports: dict[str, list[LabelledClip]]
    lists: tuple[dict[str, Any], ...] = ()  # rows that each list leaves out

    @property
    def rows(self) -> Iterator[LabelledClip]:
        """All clips; a clip of several sets comes several times."""
        return chain(self.train, self.dev, *self.reports.values())

    @property
    def files(self) -> list[str]:
        """The user's lists, without published label files."""
        return [report["list"] for report in self.lists if report["list"] not in LABEL_FILES]


def read_sets(
    data: Mapping[str, Any],
    folder: Path,
    data_root: str | Path | None = None,
    labels: str | Path | None = None,
    *,
    strict: bool = True,
) -> Sets:
    """Read the clips that the `[data]` of an experiment describes.

    | of label files | |
    |---|---|
    | `train`, `dev`, `test` | a published label file, or a custom list |
    | `select_on` | combined (default) or natural: the clips of `dev` for early stopping |
    | `report_dev` | natural (default) or combined: the clips reported as Dev; PAM clips are also reported as PAM |
    | `pam_system` | kind_folder (default) or folder: how PAM systems are named |
    | `drop_suspect` | whether to leave out rows with suspect labels |

    | of one list | |
    |---|---|
    | `list` | its path, relative to the data root or the folder of the experiment's file |
    | `columns`, `where` | our column name -> name in the list; column -> the value that rows must have |
    | `parts`, `parts_seed` | train, Dev and any others -> their fractions; no group of rows is split |
    | `stratify` | a column, such as the system: each of its values is divided in these fractions |

    A bad row of a list is refused if `strict`, else left out, logged and counted. Raises `ManifestError` for a clip in
    two parts, `UsageError` for an unknown or missing key.
    """
    words, tables = ("list", "train", "dev", "test", "stratify"), ("columns", "where", "parts")
    kinds = {key: str for key in words} | {key: dict for key in tables}
    if wrong := [key for key, kind in kinds.items() if key in data and not isinstance(data[key], kind)]:
        raise UsageError(f"[data]: {', '.join(wrong)} cannot be {', '.join(repr(data[key]) for key in wrong)}")
    if "list" in data:
        return _sets_of_list(data, folder, data_root, strict)
    return _sets_of_label_files(data, folder, data_root, labels, strict)


def _sets_of_list(data: Mapping[str, Any], folder: Path, data_root: str | Path | None, strict: bool) -> Sets:
    """The parts of one list."""
    check_keys("[data]", data, {"list", "parts"}, {"columns", "where", "parts_seed", "stratify"})
    stratify = data.get("stratify", "")
    columns = data.get("columns", {}) | (stratum_columns(stratify) if stratify else {})
    path = _find(data["list"], folder, data_root)
    rows, report = read_reported(path, strict, columns=columns, where=data.get("where"), label_range=LABEL_RANGE)
    return replace(_split(rows, data["parts"], data.get("parts_seed", 0), stratify), lists=(report,))


def _sets_of_label_files(
    data: Mapping[str, Any],
    folder: Path,
    data_root: str | Path | None,
    labels: str | Path | None,
    strict: bool,
) -> Sets:
    """The clips of published label files, or of lists in their place."""
    check_keys("[data]", data, {"train", "dev"}, {"test", "drop_suspect", *CHOICES})
    for key, choices in CHOICES.items():
        if data.get(key, choices[0]) not in choices:
            raise UsageError(f"[data] {key} cannot be {data[key]!r}; it is {' or '.join(choices)}")
    lists, reports = {}, []
    for part in (part for part in ("train", "dev", "test") if part in data):
        name = data[part] if data[part] in LABEL_FILES else _find(data[part], folder, data_root)
        bad = BadRows(name, strict)
        lists[part] = read_corpus(
            name,
            data_root,
            labels,
            pam_system=data.get("pam_system", "kind_folder"),
            drop_suspect=data.get("drop_suspect", False),
            on_bad_row=bad,
        )
        reports.append(bad.report(sum(row.list_rows for row in lists[part])))
    natural = [row for row in lists["dev"] if row.source != "PAM"]
    pam = [row for row in lists["dev"] if row.source == "PAM"]
    choices_of_dev = {"natural": natural, "combined": lists["dev"]}
    check_disjoint(lists["train"], lists["dev"] + lists.get("test", []))
    reported = {"Dev": choices_of_dev[data.get("report_dev", "natural")], "PAM": pam, "Test": lists.get("test", [])}
    return Sets(
        lists["train"],
        choices_of_dev[data.get("select_on", "combined")],
        {name: rows for name, rows in reported.items() if rows},
        tuple(reports),
    )


def _split(rows: Sequence[LabelledClip], fractions: Any, seed: int, stratify: str) -> Sets:
    """Split rows into named parts. Each part is split off the rows that earlier parts left over."""
    are_fractions = isinstance(fractions, dict) and all(type(x) in (int, float) and x > 0 for x in fractions.values())
    if not are_fractions or not {"train", "Dev"} <= set(fractions) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise UsageError("`parts` are fractions of train, Dev and any others, and sum to 1")
    left, parts, rest = list(rows), {}, 1.0
    for name in reversed([name for name in fractions if name != "train"]):
        if stratify:
            left, parts[name] = split_stratified(left, fractions[name] / rest, seed, stratify)
        else:
            left, parts[name] = split_groups(left, fractions[name] / rest, seed)
        rest -= fractions[name]
    order = [name for name in fractions if name != "train"]
    return Sets(left, parts["Dev"], {name: parts[name] for name in order})


def _find(name: str, folder: Path, data_root: str | Path | None) -> Path:
    paths = [Path(root) / name for root in (data_root, folder) if root is not None]
    return next((path for path in paths if path.is_file()), paths[-1])


def check_keys(what: str, given: Mapping[str, Any], needed: set[str], others: set[str]) -> None:
    """Raise `UsageError` for a missing or an unknown key of a table in a TOML file."""
    if missing := needed - set(given):
        raise UsageError(f"{what} needs {', '.join(sorted(missing))}")
    if unknown := set(given) - needed - others:
        raise UsageError(f"{what} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(needed | others))}")
