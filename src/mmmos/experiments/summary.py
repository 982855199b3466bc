"""The summary of an experiment: the best runs, the runs that did not converge, and the paper's claims."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmmos.experiments.claims import CLAIMS, paper_srcc
from mmmos.experiments.result_tables import RequestedRows
from mmmos.experiments.results import AXIS_TITLES, Result, converged
from mmmos.paper import ENSEMBLES
from mmmos.wording import counted

Roles = Mapping[str, str]
"""Row of a table -> the corresponding row of the paper."""

Key = tuple[str, str, str, str, str]
"""Table, row, set, level, axis."""


@dataclass(frozen=True)
class Mean:
    """Metrics of one row, averaged over its seeds."""

    SRCC: float
    MSE: float
    constant_MSE: float  # noqa: N815 - the name in `Result`


def summary(results: Sequence[Result], requested: RequestedRows | None = None, roles: Roles | None = None) -> list[str]:
    """Blocks of Markdown: best runs and ensembles, runs that failed or did not converge, and the paper's claims."""
    means = _means(results)
    sets = list(dict.fromkeys(result.set for result in results))
    ran = {(result.table, result.row) for result in results}
    failed = [f"{table} {row}" for table, rows in (requested or {}).items() for row in rows if (table, row) not in ran]
    parts = ["## Summary"]
    if sets:
        parts += ["Best run by SRCC over clips on " + sets[0] + ", axis by axis, and its SRCC on the other sets:"]
        parts += [_best(means, sets, ensembles=False)]
    if sets and any(row in ENSEMBLES for _, row, *_ in means):
        parts += ["Best ensemble:", _best(means, sets, ensembles=True)]
    parts += [_trouble(results, sets, failed)]
    claims = _claims(means, roles or {})
    return [*parts, *claims]


def _means(results: Sequence[Result]) -> dict[Key, Mean]:
    found: dict[Key, list[Result]] = {}
    for one in results:
        found.setdefault((one.table, one.row, one.set, one.level, one.axis), []).append(one)
    return {
        key: Mean(*(float(np.mean([getattr(run, name) for run in runs])) for name in ("SRCC", "MSE", "constant_MSE")))
        for key, runs in found.items()
    }


def _best(means: Mapping[Key, Mean], sets: Sequence[str], ensembles: bool) -> str:
    """A table of the best row on each axis, among the ensembles or among the other rows."""
    head = ["axis", "best", *(f"SRCC {name}" for name in sets[:4]), f"MSE {sets[0]}", "constant's MSE"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "--:|" * (len(head) - 2)]
    for axis in AXIS_TITLES:
        rows = {
            key: mean
            for key, mean in means.items()
            if key[2:] == (sets[0], "utterance", axis) and (key[1] in ENSEMBLES) == ensembles and mean.SRCC == mean.SRCC
        }
        if not rows:
            continue
        best = max(rows, key=lambda key: round(rows[key].SRCC, 3))
        elsewhere = (means.get((*best[:2], name, "utterance", axis)) for name in sets[:4])
        cells = [_number(mean.SRCC if mean else math.nan) for mean in elsewhere]
        cells += [_number(rows[best].MSE), _number(rows[best].constant_MSE)]
        name = markdown(ENSEMBLES.get(best[1], best[1]))
        lines.append(f"| {axis.replace('_', ' ')} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else "None: no run has an SRCC."


def _trouble(results: Sequence[Result], sets: Sequence[str], failed: Sequence[str]) -> str:
    """Failed runs, and runs that are hardly better than a constant on an axis of the first set."""
    runs: dict[tuple[str, str], dict[str, set[int]]] = {}
    seeds: dict[tuple[str, str], set[int]] = {}
    for one in results:
        if (one.set, one.level) != (sets[0], "utterance") or one.row in ENSEMBLES or one.axis == "mean_of_axes":
            continue
        seeds.setdefault((one.table, one.row), set()).add(one.seed)
        if not converged(one.MSE, one.constant_MSE):
            runs.setdefault((one.table, one.row), {}).setdefault(one.axis, set()).add(one.seed)
    lines = [f"- failed: {markdown(name)}" for name in failed]
    for (table, row), axes in runs.items():
        found = (
            f"{axis} ({counted(len(which), 'run', of=len(seeds[table, row]))})"
            for axis, which in sorted(axes.items(), key=str)
        )
        lines.append(f"- {markdown(f'{table}, {row}')}: did not converge on {', '.join(found)}")
    if not lines:
        return "All runs finished and converged."
    where = f" Convergence is measured on {sets[0]}." if sets else ""
    return f"Failed or not converged: {counted(len(lines), 'row')}.{where}\n\n" + "\n".join(lines)


def _claims(means: Mapping[Key, Mean], roles: Roles) -> list[str]:
    """Whether the paper's claims hold here and in its own tables; empty if no claim can be checked."""
    ours = {
        (table, roles.get(row, row), name, level): mean.SRCC
        for (table, row, name, level, axis), mean in means.items()
        if axis == "composite" and not math.isnan(mean.SRCC)
    }

    def srcc(table: str, row: str, name: str) -> float:
        return ours[table, row, name, "system" if name == "Test" else "utterance"]

    words = {True: "yes", False: "no", None: "not run"}
    found = [(claim, claim.holds(srcc)) for claim in CLAIMS]
    if all(holds is None for _, holds in found):
        return []
    lines = ["| the paper's claim (SRCC of the composite) | here | its tables |", "|---|---|---|"]
    lines += [f"| {claim.text} | {words[holds]} | {words[claim.holds(paper_srcc)]} |" for claim, holds in found]
    return ["Where the paper's claims hold:", "\n".join(lines)]


def markdown(text: str) -> str:
    """Plain text as one line, with the special characters of Markdown and HTML escaped."""
    return re.sub(r"([\\`*_\[\]<>|~#&])", r"\\\1", " ".join(text.split()))


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
