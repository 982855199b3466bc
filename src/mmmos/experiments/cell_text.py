"""The text of result tables in every format: numbers, labels and legends.

Numbers have three decimals without the zero before the point, as the paper prints them.
"""

from __future__ import annotations

from mmmos.experiments.result_tables import COUNTED, Entry, Group, ResultTable
from mmmos.experiments.results import NEAR_CONSTANT
from mmmos.paper import ENSEMBLES

FLAT = "†"
"""Marks a row whose error is close to that of a constant, or larger."""


_FLAT = (
    f"{FLAT}: the MSE of a run is not {NEAR_CONSTANT:.0%} below that of the mean label of the set, so it did "
    "not converge, or is off by a constant (see bias)."
)


_WORDS = (
    "Arrows show which direction is better. Bias is the mean of prediction - label. Failed: no run finished. "
    f"Undefined: a run gave all clips the same score. {_FLAT}"
)


LEGEND = (
    "Mean over runs with different seeds ± sample standard deviation; in parentheses the paper's value, of one run. "
    f"**Bold**: best of its column; <u>underlined</u>: second. {_WORDS} Debiased MSE is the error without the bias."
)
"""The legend of the HTML page, as Markdown."""


NARROW_LEGEND = (
    "Means over runs with different seeds, SRCC ± its sample standard deviation. **Bold**: best of its column; "
    f"*italic*: second. {_WORDS} `tables.csv` and `tables.html` have every axis, metric and standard deviation."
)
"""The legend of the Markdown tables."""


PAPER_LEGEND = " Lines *paper* are the values that the paper prints, of one run."
"""The legend of the paper's numbers, if there are any."""


def mean_text(entry: Entry, metric: str) -> str:
    """The mean of a cell, with its sign for a bias, or the cell's status."""
    if entry.status != "ok":
        return entry.status
    sign = "+" if metric == "bias" and round(entry.mean, 3) > 0 else ""
    return sign + number_text(entry.mean)


def runs_text(entry: Entry) -> str:
    """The number of runs, for a row that has fewer runs than another."""
    return f"{entry.runs} of {entry.of} runs" if 0 < entry.runs < entry.of else ""


def number_text(value: float) -> str:
    r"""Three decimals without the zero before the point.

    >>> number_text(0.3384), number_text(-1.2), number_text(-0.0001)
    ('.338', '\u22121.200', '.000')
    """
    text = f"{abs(value):.3f}".removeprefix("0")
    return f"\u2212{text}" if round(value, 3) < 0 else text


def metric_label(metric: str) -> str:
    """The head of a column; the arrow shows which direction is better."""
    return metric.replace("debiased_MSE", "debiased MSE") + (
        "" if metric == "bias" else " ↓" if "MSE" in metric else " ↑"
    )


def row_label(table: ResultTable, name: str) -> str:
    """The label of a row; strategies have the paper's names."""
    return ENSEMBLES.get(name, name) if table.name == "IV" else name


def group_label(group: Group) -> str:
    """The label of a group: its set, and "systems" at system level."""
    return group.set if group.level == "utterance" else f"{group.set} systems"


def sizes_text(table: ResultTable) -> str:
    """The number of clips or systems in each group."""
    if not table.groups:
        return "Every run failed."
    return "; ".join(f"{group.set}: {size_text(group)}" for group in table.groups)


def size_text(group: Group) -> str:
    """The number of clips or systems in a group."""
    low, high = group.n
    return f"{low if low == high else f'{low} to {high}'} {COUNTED[group.level]}"
