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
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmmos.ensemble.paper import CHECK_MARKS, STRATEGIES
from mmmos.errors import UsageError
from mmmos.experiments.row_names import LABELS, PAPER_ENCODERS, encoder_words, is_papers
from mmmos.experiments.sets import check_keys
from mmmos.training.settings import Settings, preset


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
        check_keys("an experiment", asked, {"encoders", "data", "grid"}, others)
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


def _seeds(asked: Sequence[int]) -> tuple[int, ...]:
    seeds = tuple(map(int, asked))
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"`seeds` are different numbers, one at the least, not {list(asked)}")
    return seeds
