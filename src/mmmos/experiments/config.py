"""A TOML table of configurations: which models an experiment trains, on which clips, and what it reports.

| key | |
|---|---|
| `base` | another experiment, whose values this file overrides |
| `note` | the text above the tables |
| `beside_paper` | false omits the paper's numbers, as for other data; other encoders omit them, too |
| `preset`, `[settings]` | defaults of every configuration (`mmmos.training.settings`), and settings changed in all |
| `seeds` | each configuration is run with every seed |
| `[encoders]` | name in the grid -> encoder, or "encoder=PATH" |
| `[data]` | label files, or one list and the fractions to split it into (`read_sets`) |
| `[ensembles]` | strategies of Table IV, and the sets on which they select models (`Ensembles`) |
| `[[grid]]` | `table`, `row`, `encoders`, `preset` and settings; every value of a list is tried |
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmmos.encoders.device import has_fast_bfloat16
from mmmos.ensemble.paper import CHECK_MARKS, STRATEGIES
from mmmos.errors import UsageError
from mmmos.experiments.row_names import LABELS, PAPER_ENCODERS, encoder_words, is_papers
from mmmos.experiments.sets import check_keys
from mmmos.training.settings import Settings, get_preset


@dataclass(frozen=True)
class Configuration:
    """One row of a table."""

    table: str
    row: str
    encoders: tuple[str, ...]  # keys of the experiment's encoders
    settings: Settings
    paper_row: str = ""  # the corresponding row of the paper, regardless of the encoders


@dataclass(frozen=True)
class Ensembles:
    """The ensembles of the configurations of a table."""

    of: str = "III"
    table: str = "IV"
    strategies: tuple[str, ...] = tuple(STRATEGIES)
    rule: str = CHECK_MARKS  # of `submitted`
    dev: str = "Dev"  # the set on which most strategies select models
    pam: str = "PAM"  # the set of the `pam_` strategies; Dev if it does not exist


@dataclass(frozen=True)
class Experiment:
    """The contents of a TOML file."""

    note: str
    compare_to_paper: bool
    seeds: tuple[int, ...]
    encoders: dict[str, str]  # name in the grid -> as in `EncoderSource.names`
    data: dict[str, Any]
    grid: tuple[Configuration, ...]
    ensembles: Ensembles | None

    @property
    def has_paper_encoders(self) -> bool:
        """Whether all rows use only the paper's encoders with the published weights."""
        return all(is_papers(name, self.encoders[name]) for row in self.grid for name in row.encoders)


def bundled_experiments() -> dict[str, Path]:
    """The experiments in the package, by name."""
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
    """Read an experiment; `changes` overrides settings in every configuration. Raises `UsageError`."""
    payload = _read_toml(path)
    others = {"note", "beside_paper", "preset", "seeds", "settings", "ensembles"}
    try:
        check_keys("an experiment", payload, {"encoders", "data", "grid"}, others)
        name, common = str(payload.get("preset", "paper")), payload.get("settings", {})
        encoders = {str(name): str(source) for name, source in payload["encoders"].items()}
        _check_one_name_each(encoders)
        grid = [row for entry in payload["grid"] for row in _combinations(entry, name, common, encoders, changes or {})]
        ensembles, tables = payload.get("ensembles", {}), {row.table: None for row in grid}
        return Experiment(
            note=payload.get("note", ""),
            compare_to_paper=payload.get("beside_paper", True),
            seeds=_seeds(payload.get("seeds", [42])),
            encoders=encoders,
            data=payload["data"],
            grid=tuple(_unique_rows(grid)),
            ensembles=_ensembles(ensembles, tables) if ensembles or "III" in tables else None,
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is not a valid experiment: {type(error).__name__}: {error}") from error


def _read_toml(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in above:
        raise UsageError(f"{path} is its own base")
    try:
        payload = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if "base" not in payload:
        return payload
    base = _read_toml(path.parent / str(payload.pop("base")), (*above, path.resolve()))
    for key, value in payload.items():
        # `[data]` is replaced as a whole: keys of two data sets do not fit together.
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

    Settings come from the preset (the entry's, else `name`), then from `common`, the entry and `changes`.
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
        preset = get_preset(str(picked.pop("preset", name)))
        settings = preset.replace(_with_precision({"aggregator": preset.aggregator, **common, **picked, **changes}))
        found.append(Configuration(str(entry["table"]), row, tuple(subset), settings, paper_row))
    return found


def _with_precision(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the precision that "auto" stands for: runs record it, and are named after it.

    bfloat16 halves the time of an LSTM on frames where the processor has it; small products are not faster in it.
    """
    if settings.get("precision") != "auto":
        return dict(settings)
    half = settings["aggregator"] == "blstm_t" and has_fast_bfloat16()
    return {**settings, "precision": "bfloat16" if half else "float32"}


def _check_one_name_each(encoders: Mapping[str, str]) -> None:
    """Raise `UsageError` if two names stand for one encoder: it is loaded once, with one checkpoint."""
    names: dict[str, str] = {}
    for name, source in encoders.items():
        encoder = source.partition("=")[0]
        if names.setdefault(encoder, name) != name:
            raise UsageError(f"{encoder} stands for both {names[encoder]} and {name}")


def _unique_rows(grid: Sequence[Configuration]) -> Sequence[Configuration]:
    seen: dict[tuple[str, str], Configuration] = {}
    for row in grid:
        if (row.table, row.row) in seen:
            raise UsageError(
                f"two configurations of table {row.table} are called {row.row!r}; give `row` more in braces"
            )
        seen[row.table, row.row] = row
    return grid


def _ensembles(payload: Mapping[str, Any], tables: Iterable[str]) -> Ensembles:
    renamed = {"rule" if key == "reading" else key: value for key, value in payload.items()}
    made = Ensembles(**{**renamed, "strategies": tuple(payload.get("strategies", STRATEGIES))})
    if unknown := set(made.strategies) - set(STRATEGIES):
        raise UsageError(f"no ensembles are called {', '.join(sorted(unknown))}; there are {', '.join(STRATEGIES)}")
    if made.strategies and made.of not in tables:
        raise UsageError(f"ensembles are made of table {made.of}; the grid has {', '.join(tables)}")
    return made


def _seeds(payload: Sequence[int]) -> tuple[int, ...]:
    seeds = tuple(map(int, payload))
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"`seeds` must be different numbers, at least one, not {list(payload)}")
    return seeds
