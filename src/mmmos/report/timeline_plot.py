"""A timeline as a picture: waveform, spectrum, the four scores, and warnings. Needs the extra `plot` (matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmmos.report.curves import Timeline
from mmmos.report.plots import COLOURS, DPI, GREY, INK, WIDTH
from mmmos.report.sound import BANDS, RATE
from mmmos.report.summary import scale_of
from mmmos.report.text import printable
from mmmos.scores import AXIS_NAMES, SHOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 0.2  # inches, the height of a warning


def draw(timeline: Timeline) -> Figure:
    """Panels above each other over the same time axis: waveform, spectrum, scores with their spread, warnings."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    warnings = timeline.warnings()
    heights = [0.8, 1.1, 2.9, *([_LINE * len(warnings) + 0.05] if warnings else [])]
    size = WIDTH, sum(heights) + 1.0
    figure = Figure(size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.04, hspace=0))
    title = f"{printable(timeline.name)}: quality over time"
    figure.suptitle(title, fontsize=min(12.0, 1200 / max(len(title), 1)), color=INK, x=0.012, ha="left")
    panels = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0]
    _waveform(panels[0], timeline)
    _spectrum(panels[1], timeline)
    _scores(panels[2], timeline)
    if warnings:
        _warnings(panels[3], warnings)
    for panel in panels:
        panel.tick_params(labelsize=8, colors=INK, length=2)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
    figure.align_ylabels(panels[:3])
    panels[-1].set_xlim(timeline.sound.start, timeline.sound.end)
    panels[-1].xaxis.set_major_formatter(lambda seconds, _: clock(seconds))
    panels[-1].set_xlabel("time", fontsize=8, color=INK)
    handles, labels = panels[2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=5, frameon=False, fontsize=8, labelcolor=INK)
    return figure


def clock(seconds: float) -> str:
    """A time as minutes and seconds.

    >>> clock(65.0), clock(3725.0), clock(2.5)
    ('1:05', '1:02:05', '0:02.5')
    """
    whole = int(seconds)
    rest = f"{round(seconds - whole, 2):g}"[1:] if seconds != whole else ""
    minutes, hours = whole // 60 % 60, whole // 3600
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{whole % 60:02d}{rest}"


def _edges(timeline: Timeline) -> Any:
    sound = timeline.sound
    return np.linspace(sound.start, sound.end, len(sound.low) + 1)


def _waveform(panel: Axes, timeline: Timeline) -> None:
    edges, sound = _edges(timeline), timeline.sound
    middle = (edges[1:] + edges[:-1]) / 2
    panel.fill_between(middle, sound.low, sound.high, color=COLOURS[5], linewidth=0.4, edgecolor=COLOURS[0])
    most = max(0.01, float(np.abs([sound.low, sound.high]).max()))
    panel.set_ylim(-most, most)
    panel.set_yticks([])
    panel.set_ylabel("waveform", fontsize=8, color=INK)


def _spectrum(panel: Axes, timeline: Timeline) -> None:
    extent = (timeline.sound.start, timeline.sound.end, 0, BANDS)
    panel.imshow(
        timeline.sound.mel.T, origin="lower", aspect="auto", extent=extent, cmap="magma", interpolation="nearest"
    )
    panel.set_yticks([0, BANDS])
    panel.set_yticklabels(["0", f"{RATE // 2000} kHz"])
    panel.set_ylabel("mel bands", fontsize=8, color=INK)


def _scores(panel: Axes, timeline: Timeline) -> None:
    low, high = scale_of(timeline.windows)
    for axis, colour in zip(SHOWN, COLOURS, strict=False):
        times, values, spread = np.array(timeline.curve(axis)).T
        if np.isnan(values).all():
            continue
        panel.plot(times, values, color=colour, linewidth=1.6, label=f"{axis} {AXIS_NAMES[axis]}")
        panel.fill_between(times, values - spread, values + spread, color=colour, alpha=0.18, linewidth=0)
    for number, (start, end) in enumerate(timeline.silence()):
        panel.axvspan(start, end, color=GREY, alpha=0.25, linewidth=0, label="silence" if not number else None)
    panel.set_ylim(low, high)
    panel.set_ylabel(f"score ({low:g} to {high:g})", fontsize=8, color=INK)
    panel.grid(axis="y", color="#E4E4E4", linewidth=0.6)
    panel.set_axisbelow(True)


def _warnings(panel: Axes, warnings: dict[str, list[tuple[float, float]]]) -> None:
    for line, segments in enumerate(warnings.values()):
        spans = [(start, end - start) for start, end in segments]
        panel.broken_barh(spans, (line - 0.3, 0.6), facecolors="#C65146", linewidth=0)
    panel.set_ylim(len(warnings) - 0.5, -0.5)
    panel.set_yticks(range(len(warnings)))
    panel.set_yticklabels(warnings)
