"""Plots of a metric's results. Needs the extra `plot` (matplotlib)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmmos.errors import MissingExtraError
from mmmos.report.plots import COLOURS, INK
from mmmos.scores import SHOWN, LabelRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result = Mapping[str, Any]
"""The result of `Metric.compute`."""


def plot_results(results: Sequence[Result], axes: Axes | None, label_range: LabelRange) -> tuple[Any, Axes]:
    """One result as points with bars of one standard deviation, by domain; several as curves of the means.

    Without `axes` in a new figure. Raises `MissingExtraError` without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Metric.plot needs matplotlib: pip install 'mmmos[plot]'") from error
    panel: Axes = axes if axes is not None else Figure((6.4, 4.0), dpi=160, layout="constrained").subplots()
    if len(results) == 1:
        _draw_points(panel, results[0])
    else:
        _draw_curves(panel, results)
    panel.set_ylim(*label_range)
    panel.set_ylabel("score, points", color=INK)
    panel.grid(axis="y", alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    if names := panel.get_legend_handles_labels()[1]:
        # above the data
        panel.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, fontsize="small", ncols=len(names))
    return panel.figure, panel


def _draw_points(panel: Axes, result: Result) -> None:
    groups = ["", *dict.fromkeys(name.split("/")[0] + "/" for name in result if "/" in name)]
    shown = [group for group in groups if any(result[f"{group}{axis}_count"] for axis in SHOWN)]
    step = 0.7 / max(len(shown), 1)
    for i, group in enumerate(shown):
        places = [place + (i - (len(shown) - 1) / 2) * step for place in range(len(SHOWN))]
        means, spreads = ([_number(result[f"{group}{axis}_{part}"]) for axis in SHOWN] for part in ("mean", "std"))
        label = f"{group.rstrip('/') or 'all'} ({max(int(result[f'{group}{axis}_count']) for axis in SHOWN)})"
        bars = [0.0 if math.isnan(spread) else spread for spread in spreads]
        colour = INK if not group else COLOURS[(i - 1) % len(COLOURS)]
        panel.errorbar(places, means, bars, fmt="o", capsize=3, label=label, color=colour)
    panel.set_xticks(range(len(SHOWN)), SHOWN)


def _draw_curves(panel: Axes, results: Sequence[Result]) -> None:
    from matplotlib.ticker import MaxNLocator

    steps = range(1, len(results) + 1)
    for axis, colour in zip(SHOWN, COLOURS, strict=False):
        means = [_number(result[f"{axis}_mean"]) for result in results]
        panel.plot(steps, means, marker="o", markersize=3, label=axis, color=colour)
    panel.set_xlabel("step", color=INK)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _number(value: Any) -> float:
    return float(value)
