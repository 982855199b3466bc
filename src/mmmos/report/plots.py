"""Scatter plots of scores over labels, one panel per axis. Needs the extra `plot` (matplotlib)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmmos.data.manifest import LabelledClip
from mmmos.errors import UsageError
from mmmos.evaluation.agreement import EVALUATED_AXES, Sample, measure, samples
from mmmos.io.atomic import check_parent, replacing
from mmmos.scores import AXIS_NAMES, LABEL_RANGE, SHOWN, Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
"""The palette of Okabe and Ito, which suits colour-blind readers; further domains are grey."""

Limits = tuple[float, float]
"""The lowest and highest value of a plot axis."""

GREY, INK = "#8C8C8C", "#303030"
WIDTH = 10.0  # inches; 1600 pixels of a PNG
DPI = 160


def check_plot(path: Path) -> None:
    """Raise `UsageError` if no plot can be written to a path: unknown suffix, missing folder, no matplotlib."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: pictures are written as {', '.join(SUFFIXES)}")
    check_parent(path)
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError('pictures need matplotlib: pip install "mmmos[plot]"') from error


def plot(
    path: Path,
    rows: Sequence[LabelledClip],
    scores: Sequence[Scores],
    title: str,
    axes: Sequence[str] = EVALUATED_AXES,
    same_scale: bool = True,
) -> None:
    """Write the plot atomically, in the format of the suffix. Raises `UsageError`."""
    check_plot(path)
    save(path, scatter(rows, scores, title, axes, same_scale))


def save(path: Path, figure: Figure) -> None:
    """Write a figure atomically, in the format of the suffix; the same figure gives the same file."""
    import matplotlib

    kind = path.suffix.lower()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:  # the layout's last digits differ from call to call, and names in SVG depend on them
        axes.set_position(tuple(round(value, 6) for value in axes.get_position().bounds))
    # Dates would make the files of two runs differ.
    metadata: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with matplotlib.rc_context({"svg.hashsalt": "mmmos"}), replacing(path.resolve()) as partial:
        figure.savefig(partial, format=kind[1:], metadata=metadata.get(kind))


def scatter(
    rows: Sequence[LabelledClip],
    scores: Sequence[Scores],
    title: str,
    axes: Sequence[str] = EVALUATED_AXES,
    same_scale: bool = True,
) -> Figure:
    """One panel per axis with labels and scores: clips as small dots, systems as large dots.

    Colours are domains; score and label are equal on the dashed line. Without `same_scale`, scores and labels are on
    different rating scales: the line and the MSE are omitted, and scores and labels have separate limits.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    found = [sample for sample in samples(rows, [scores], axes) if sample.part == "all"]
    shown = [axis for axis in (*SHOWN, "composite") if any(sample.axis == axis for sample in found)]
    columns = min(max(len(shown), 1), 3)
    lines = math.ceil(max(len(shown), 1) / columns)
    side = WIDTH / 3
    seen = {domain for sample in found for domain in sample.domains}
    named = {name: colour for name, colour in _colours(rows).items() if name in seen and len(seen) > 1}
    below = math.ceil((len(named) + 3) / columns) if len(shown) == lines * columns else 0  # lines of the legend
    size = columns * side, lines * (side + 0.45) + 0.6 + 0.22 * below
    figure = Figure(size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    figure.suptitle(title, fontsize=min(12.0, 120 * size[0] / max(len(title), 1)), color=INK, x=0.012, ha="left")
    grid = figure.subplots(lines, columns, squeeze=False)
    colours = _colours(rows)
    targets, predicted = [sample.target for sample in found], [x for sample in found for x in sample.predictions]
    limits = (_limits([*targets, *predicted]),) * 2 if same_scale else (_limits(targets), _limits(predicted))
    for axis, panel in zip(shown, grid.flat, strict=False):
        of_axis = {sample.level: sample for sample in found if sample.axis == axis}
        _draw(panel, axis, of_axis["utterance"], of_axis.get("system"), colours, limits, same_scale)
    spare = list(grid.flat)[len(shown) :]
    for panel in spare:
        panel.set_axis_off()
    systems = any(sample.level == "system" for sample in found)
    _legend(figure, spare[-1] if spare else None, named, systems, same_scale)
    return figure


def _draw(
    panel: Axes,
    axis: str,
    clips: Sample,
    systems: Sample | None,
    colours: dict[str, str],
    limits: tuple[Limits, Limits],
    same_scale: bool,
) -> None:
    few = min(1.0, 300 / len(clips.target))  # more dots are smaller and more transparent
    shades = [colours[domain] for domain in clips.domains]
    order = np.random.default_rng(0).permutation(len(shades))  # so that no domain covers the others
    if same_scale:
        panel.plot(*limits, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    panel.scatter(
        clips.target[order],
        clips.predictions[0][order],
        s=4 + 12 * few,
        c=[shades[i] for i in order],
        alpha=0.25 + 0.45 * few,
        linewidths=0,
        zorder=2,
        rasterized=len(shades) > 1000,  # a PDF of ten thousand dots opens slowly
    )
    lines = [_figures(clips, "clips", same_scale)]
    if systems:
        shades = [colours[domain] for domain in systems.domains]
        panel.scatter(
            systems.target, systems.predictions[0], s=46, c=shades, edgecolors="white", linewidths=0.9, zorder=3
        )
        lines.append(_figures(systems, "systems", same_scale))
    panel.set_title(
        f"{AXIS_NAMES.get(axis, 'Composite')}", fontsize=10.5, color=INK, loc="left", pad=8 + 11 * len(lines)
    )
    for i, line in enumerate(reversed(lines)):
        panel.annotate(
            line,
            (0, 1),
            (0, 5 + 11 * i),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=7.6,
            color="#5A5A5A",
        )
    _style(panel, limits)


def _style(panel: Axes, limits: tuple[Limits, Limits]) -> None:
    panel.set(xlim=limits[0], ylim=limits[1], box_aspect=1)
    panel.set_xlabel("label", fontsize=8.5, color=INK)
    panel.set_ylabel("score", fontsize=8.5, color=INK)
    panel.set_xticks(_ticks(*limits[0]))
    panel.set_yticks(_ticks(*limits[1]))
    panel.tick_params(labelsize=8, colors="#5A5A5A", length=0)
    panel.grid(color="#ECECEC", linewidth=0.7)
    panel.set_axisbelow(True)
    for side in panel.spines.values():
        side.set_visible(False)


def _legend(figure: Figure, spare: Axes | None, colours: dict[str, str], systems: bool, same_scale: bool) -> None:
    """Draw the legend of colours and sizes in a spare panel, or below the panels."""
    from matplotlib.lines import Line2D

    def dot(label: str, colour: str, size: float) -> Line2D:
        return Line2D([], [], linestyle="", marker="o", markersize=size, color=colour, markeredgewidth=0, label=label)

    handles = [dot(name or "other", colour, 6) for name, colour in colours.items()]
    if systems:
        handles += [dot("a clip", INK, 3), dot("a system, mean of its clips", INK, 7)]
    if same_scale:
        handles.append(Line2D([], [], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), label="score = label"))
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "labelcolor": INK, "handletextpad": 0.6}
    if spare is not None:
        spare.legend(handles=handles, loc="center left", labelspacing=0.8, **style)
    else:
        columns = round(figure.get_figwidth() * 3 / WIDTH)
        figure.legend(handles=handles, loc="outside lower left", ncols=columns, **style)


def _figures(sample: Sample, what: str, same_scale: bool) -> str:
    found = measure(sample.predictions[0], sample.target)
    shown = {name: found.metrics[name] for name in ("SRCC", "LCC", *(["MSE"] if same_scale else []))}
    text = "   ".join(f"{name} {'-' if math.isnan(value) else f'{value:.2f}'}" for name, value in shown.items())
    return f"{text}   ({found.n:,} {what})"


def _ticks(low: float, high: float) -> list[int]:
    """Whole numbers in steps of 1, 2, 5, 10, ...

    >>> _ticks(0.5, 4.0), _ticks(-0.5, 10.5), _ticks(0.0, 100.0)
    ([1, 2, 3, 4], [0, 2, 4, 6, 8, 10], [0, 20, 40, 60, 80, 100])
    """
    step = next((n for n in (1, 2, 5, 10, 20, 50, 100) if high - low < 7 * n), 1000)
    return [x for x in range(math.ceil(low), math.floor(high) + 1) if x % step == 0]


def _limits(found: Sequence[NDArray[np.float64]]) -> Limits:
    """The range of the values and a margin: the same in all panels, so that they can be compared."""
    if not found:
        return LABEL_RANGE
    values: NDArray[np.float64] = np.concatenate(found)
    return math.floor(2 * values.min() - 0.4) / 2, math.ceil(2 * values.max() + 0.4) / 2


def _colours(rows: Sequence[LabelledClip]) -> dict[str, str]:
    """A colour per domain; grey for systems of several domains and, if any clip has a domain, for clips without one."""
    names = sorted({row.domain for row in rows if row.domain})
    colours = {name: COLOURS[i] if i < len(COLOURS) else GREY for i, name in enumerate(names)}
    return colours | {"": GREY if names else COLOURS[0]}
