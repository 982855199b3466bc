"""A TOML table of configurations: which models an experiment trains, on which clips, and what it reports.

| key | |
|---|---|
| `base` | another experiment, of which what follows is changed |
| `note` | what stands over the tables |
| `beside_paper` | false leaves out the paper's numbers, which are about other data; so do other encoders |
| `preset`, `[settings]` | where every configuration begins (`mmmos.training.settings`), and what is changed in all |
| `seeds` | each configuration is run with each |
| `[encoders]` | name in the grid -> encoder, or "encoder=PATH" |
| `[data]` | label files, or one list and the shares that it is split in (`read_sets`) |
| `[ensembles]` | strategies of Table IV, and on which sets they choose (`Ensembles`) |
| `[[grid]]` | `table`, `row`, `encoders`, `preset` and settings; what is given as a list is tried one by one |
"""

from __future__ import annotations

import itertools
import logging
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmmos.data.corpora import read_corpus, read_list
from mmmos.data.label_files import LABEL_FILES
from mmmos.data.manifest import LabelledClip
from mmmos.data.splits import check_disjoint, split_groups, split_stratified, stratum_columns
from mmmos.ensemble.paper import CHECK_MARKS, STRATEGIES
from mmmos.errors import UsageError
from mmmos.experiments.row_names import LABELS, PAPER_ENCODERS, encoder_words, is_papers
from mmmos.training.settings import Settings, preset

logger = logging.getLogger(__name__)

CHOICES = {
    "select_on": ("combined", "natural"),
    "report_dev": ("natural", "combined"),
    "pam_system": ("kind_folder", "folder"),
}
"""Key of `[data]` -> what it may be, the default first."""


@dataclass(frozen=True)
class Configuration:
    """One row of a table."""

    table: str
    row: str
    encoders: tuple[str, ...]  # keys of the experiment's encoders
    settings: Settings
    paper_row: str = ""  # the paper's row whose place it has, whatever its encoders are


@dataclass(frozen=True)
class Ensembles:
    """Which ensembles are made of the configurations of a table."""

    of: str = "III"
    table: str = "IV"
    strategies: tuple[str, ...] = tuple(STRATEGIES)
    rule: str = CHECK_MARKS  # of `submitted`
    dev: str = "Dev"  # the set that most strategies choose on
    pam: str = "PAM"  # the one that the `pam_` strategies choose on; Dev where there is none


@dataclass(frozen=True)
class Experiment:
    """What a TOML file asks for."""

    note: str
    compare_to_paper: bool
    seeds: tuple[int, ...]
    encoders: dict[str, str]  # name in the grid -> as `EncoderSource.names`
    data: dict[str, Any]
    grid: tuple[Configuration, ...]
    ensembles: Ensembles | None

    @property
    def has_paper_encoders(self) -> bool:
        """Whether every row's encoders are the paper's, with the published weights."""
        return all(is_papers(name, self.encoders[name]) for row in self.grid for name in row.encoders)


@dataclass(frozen=True)
class Sets:
    """The clips of an experiment. Those that are reported may be among those that training stops on."""

    train: list[LabelledClip]
    dev: list[LabelledClip]  # to stop on
    reports: dict[str, list[LabelledClip]]


def bundled_experiments() -> dict[str, Path]:
    """The experiments that come with the package, by name."""
    folder = Path(str(files("mmmos") / "bundled" / "experiments"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_experiment(name: str) -> Path:
    """The file of an experiment: a path, or the name of a bundled one. Raises `UsageError` that lists the names."""
    if Path(name).is_file():
        return Path(name)
    bundled = bundled_experiments()
    if name in bundled:
        return bundled[name]
    raise UsageError(f"{name}: not a file, and not a bundled experiment; those are {', '.join(bundled)}")


def read_experiment(path: Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """An experiment from its file, with some settings changed in every configuration. Raises `UsageError`."""
    asked = _read_toml(path)
    others = {"note", "beside_paper", "preset", "seeds", "settings", "ensembles"}
    try:
        _check_keys("an experiment", asked, {"encoders", "data", "grid"}, others)
        name, common = str(asked.get("preset", "paper")), asked.get("settings", {})
        encoders = {str(name): str(source) for name, source in asked["encoders"].items()}
        _check_one_name_each(encoders)
        grid = [row for entry in asked["grid"] for row in _combinations(entry, name, common, encoders, changes or {})]
        ensembles, tables = asked.get("ensembles", {}), {row.table: None for row in grid}
        return Experiment(
            note=asked.get("note", ""),
            compare_to_paper=asked.get("beside_paper", True),
            seeds=_seeds(asked.get("seeds", [42])),
            encoders=encoders,
            data=asked["data"],
            grid=tuple(_no_row_twice(grid)),
            ensembles=_ensembles(ensembles, tables) if ensembles or "III" in tables else None,
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is no experiment: {type(error).__name__}: {error}") from error


def read_sets(
    data: Mapping[str, Any],
    folder: Path,
    data_root: str | Path | None = None,
    labels: str | Path | None = None,
) -> Sets:
    """The clips that an experiment's `[data]` asks for.

    | of label files | |
    |---|---|
    | `train`, `dev`, `test` | a published label file, or a list of one's own |
    | `select_on` | combined (default) or natural: the clips of `dev` that training stops on |
    | `report_dev` | natural (default) or combined: those reported as Dev; its clips of PAM are reported as PAM |
    | `pam_system` | kind_folder (default) or folder: what counts as one system |
    | `drop_suspect` | whether rows with suspect labels are left out |

    | of one list | |
    |---|---|
    | `list` | its path, from the data root or the folder of the experiment's file |
    | `columns`, `where` | our name of a column -> its name there; column -> the value that rows must have |
    | `parts`, `parts_seed` | train, Dev and any others -> their shares; no group of rows is split |
    | `stratify` | a column, such as that of the system: each of its values is divided by these shares |

    Raises `ManifestError` for a clip in two parts, `UsageError` for an unknown or missing key.
    """
    words, tables = ("list", "train", "dev", "test", "stratify"), ("columns", "where", "parts")
    kinds = {key: str for key in words} | {key: dict for key in tables}
    if wrong := [key for key, kind in kinds.items() if key in data and not isinstance(data[key], kind)]:
        raise UsageError(f"[data]: {', '.join(wrong)} cannot be {', '.join(repr(data[key]) for key in wrong)}")
    if "list" in data:
        _check_keys("[data]", data, {"list", "parts"}, {"columns", "where", "parts_seed", "stratify"})
        stratify = data.get("stratify", "")
        columns = data.get("columns", {}) | (stratum_columns(stratify) if stratify else {})
        rows = read_list(_find(data["list"], folder, data_root), columns=columns, where=data.get("where"))
        return _split(rows, data["parts"], data.get("parts_seed", 0), stratify)
    _check_keys("[data]", data, {"train", "dev"}, {"test", "drop_suspect", *CHOICES})
    for key, choices in CHOICES.items():
        if data.get(key, choices[0]) not in choices:
            raise UsageError(f"[data] {key} cannot be {data[key]!r}; it is {' or '.join(choices)}")
    lists = {}
    for part in ("train", "dev", "test"):
        if part in data:
            name = data[part] if data[part] in LABEL_FILES else _find(data[part], folder, data_root)
            options = {
                "pam_system": data.get("pam_system", "kind_folder"),
                "drop_suspect": data.get("drop_suspect", False),
            }
            lists[part] = read_corpus(name, data_root, labels, report=logger.warning, **options)
    natural = [row for row in lists["dev"] if row.source != "PAM"]
    pam = [row for row in lists["dev"] if row.source == "PAM"]
    wanted = {"natural": natural, "combined": lists["dev"]}
    check_disjoint(lists["train"], lists["dev"] + lists.get("test", []))
    reports = {"Dev": wanted[data.get("report_dev", "natural")], "PAM": pam, "Test": lists.get("test", [])}
    return Sets(
        lists["train"],
        wanted[data.get("select_on", "combined")],
        {name: rows for name, rows in reports.items() if rows},
    )


def _read_toml(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in above:
        raise UsageError(f"{path} is its own base")
    try:
        asked = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if "base" not in asked:
        return asked
    base = _read_toml(path.parent / str(asked.pop("base")), (*above, path.resolve()))
    for key, value in asked.items():
        # `[data]` stands or falls as a whole: half of it makes no sense beside another half.
        merge = isinstance(value, dict) and isinstance(base.get(key), dict) and key != "data"
        base[key] = {**base[key], **value} if merge else value
    return base


def _combinations(
    entry: Mapping[str, Any],
    name: str,
    common: Mapping[str, Any],
    encoders: Mapping[str, str],
    changes: Mapping[str, Any],
) -> list[Configuration]:
    """The configurations of one `[[grid]]`: every list in it is a dimension.

    Settings are those of the preset (the entry's own, else that of `name`), then `common`, the entry's, `changes`.
    """
    chosen = {name: value for name, value in entry.items() if name not in ("table", "row", "encoders")}
    subsets = entry.get("encoders", list(encoders))
    subsets = subsets if subsets and isinstance(subsets[0], list) else [subsets]
    choices = [value if isinstance(value, list) else [value] for value in chosen.values()]
    found = []
    for subset, *values in itertools.product(subsets, *choices):
        if not subset:
            raise UsageError("the grid has a configuration without encoders")
        if unknown := set(subset) - set(encoders):
            raise UsageError(f"the grid names {', '.join(sorted(unknown))}; the encoders are {', '.join(encoders)}")
        picked = dict(zip(chosen, values, strict=True))
        words = {name: LABELS.get(value, str(value)) for name, value in picked.items() if isinstance(value, str)}
        words |= {name: f"{value:g}" for name, value in picked.items() if isinstance(value, int | float)}
        words |= {name: str(value).lower() for name, value in picked.items() if isinstance(value, bool)}
        row = str(entry["row"]).format(**encoder_words(subset, encoders), **words)
        paper_row = str(entry["row"]).format(**encoder_words(subset, dict.fromkeys(PAPER_ENCODERS, "")), **words)
        begin = preset(str(picked.pop("preset", name))).changed(common)
        found.append(
            Configuration(str(entry["table"]), row, tuple(subset), begin.changed({**picked, **changes}), paper_row)
        )
    return found


def _check_one_name_each(encoders: Mapping[str, str]) -> None:
    """An encoder is loaded once, so two names in the grid cannot stand for it, nor for two checkpoints of it."""
    names: dict[str, str] = {}
    for name, source in encoders.items():
        encoder = source.partition("=")[0]
        if names.setdefault(encoder, name) != name:
            raise UsageError(f"{encoder} stands for both {names[encoder]} and {name}")


def _no_row_twice(grid: Sequence[Configuration]) -> Sequence[Configuration]:
    seen: dict[tuple[str, str], Configuration] = {}
    for row in grid:
        if (row.table, row.row) in seen:
            raise UsageError(
                f"two configurations of table {row.table} are called {row.row!r}; give `row` more in braces"
            )
        seen[row.table, row.row] = row
    return grid


def _ensembles(asked: Mapping[str, Any], tables: Iterable[str]) -> Ensembles:
    renamed = {"rule" if key == "reading" else key: value for key, value in asked.items()}
    made = Ensembles(**{**renamed, "strategies": tuple(asked.get("strategies", STRATEGIES))})
    if unknown := set(made.strategies) - set(STRATEGIES):
        raise UsageError(f"no ensembles are called {', '.join(sorted(unknown))}; there are {', '.join(STRATEGIES)}")
    if made.strategies and made.of not in tables:
        raise UsageError(f"ensembles are made of table {made.of}; the grid has {', '.join(tables)}")
    return made


def _split(rows: Sequence[LabelledClip], shares: Any, seed: int, stratify: str) -> Sets:
    """Rows in named parts. Each is split off what the ones before it have left."""
    are_shares = isinstance(shares, dict) and all(type(x) in (int, float) and x > 0 for x in shares.values())
    if not are_shares or not {"train", "Dev"} <= set(shares) or abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError("`parts` are shares of train, Dev and any others, and sum to 1")
    left, parts, rest = list(rows), {}, 1.0
    for name in reversed([name for name in shares if name != "train"]):
        if stratify:
            left, parts[name] = split_stratified(left, shares[name] / rest, seed, stratify)
        else:
            left, parts[name] = split_groups(left, shares[name] / rest, seed)
        rest -= shares[name]
    order = [name for name in shares if name != "train"]
    return Sets(left, parts["Dev"], {name: parts[name] for name in order})


def _find(name: str, folder: Path, data_root: str | Path | None) -> Path:
    places = [Path(root) / name for root in (data_root, folder) if root is not None]
    return next((place for place in places if place.is_file()), places[-1])


def _seeds(asked: Sequence[int]) -> tuple[int, ...]:
    seeds = tuple(map(int, asked))
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"`seeds` are different numbers, one at the least, not {list(asked)}")
    return seeds


def _check_keys(what: str, given: Mapping[str, Any], needed: set[str], others: set[str]) -> None:
    if missing := needed - set(given):
        raise UsageError(f"{what} needs {', '.join(sorted(missing))}")
    if unknown := set(given) - needed - others:
        raise UsageError(f"{what} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(needed | others))}")
