"""The picture: what is on it, where it can be written, and that nothing lies over anything else."""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.errors import UsageError
from mmmos.metrics import srcc
from mmmos.report.plots import COLOURS, check_plot, plot, scatter
from mmmos.scores import AXES, Scores


def case(clips: int = 40, domains: int = 2, systems: int = 5) -> tuple[list[LabelledClip], list[Scores]]:
    rng = np.random.default_rng(0)
    labels = rng.uniform(2, 8, (clips, 4))
    rows = [
        LabelledClip(
            Clip(f"{i}.wav"),
            tuple(values),
            f"s{i % systems}" if systems else "",
            f"domain {i % (systems or clips) % domains}" if domains else "",
        )
        for i, values in enumerate(labels)
    ]
    predictions = labels + rng.standard_normal(labels.shape)
    return rows, [Scores(id=str(i)).with_axes(values) for i, values in enumerate(predictions)]


def panels(figure: Figure) -> dict[str, Any]:
    return {panel.get_title(loc="left"): panel for panel in figure.axes if panel.get_title(loc="left")}


def legend(figure: Figure) -> list[str]:
    found = [*figure.legends, *(panel.get_legend() for panel in figure.axes if panel.get_legend())]
    return [text.get_text() for one in found for text in one.get_texts()]


@pytest.mark.slow
def test_a_panel_an_axis_and_one_of_the_composite():
    figure = scatter(*case(), "a title")
    assert list(panels(figure)) == [
        *("Production Quality", "Production Complexity", "Content Enjoyment", "Content Usefulness", "Composite"),
    ]
    assert figure.get_suptitle() == "a title"


@pytest.mark.slow
def test_dots_are_clips_and_systems_and_the_line_is_equality():
    rows, scores = case()
    panel = panels(scatter(rows, scores, ""))["Production Quality"]
    clips, systems = panel.collections
    labels, values = np.array([row.labels[3] for row in rows]), np.array([item.PQ for item in scores])
    drawn = np.asarray(clips.get_offsets())
    assert drawn[np.argsort(drawn[:, 0])] == pytest.approx(np.column_stack([labels, values])[np.argsort(labels)])
    assert len(systems.get_offsets()) == 5
    assert np.asarray(systems.get_offsets())[0] == pytest.approx([labels[::5].mean(), values[::5].mean()])
    assert systems.get_sizes()[0] > 2 * clips.get_sizes()[0]
    (line,) = panel.lines
    assert list(line.get_xdata()) == list(line.get_ydata())
    assert panel.get_xlim() == panel.get_ylim()
    said = [text.get_text() for text in panel.texts]
    assert any(f"SRCC {srcc(values, labels):.2f}" in text and "(40 clips)" in text for text in said)
    assert any("(5 systems)" in text for text in said)


@pytest.mark.slow
def test_all_panels_have_one_scale_that_holds_every_dot():
    rows, scores = case()
    scores[0] = replace(scores[0], PC=14.2)
    found = panels(scatter(rows, scores, ""))
    assert len({panel.get_xlim() for panel in found.values()}) == 1
    low, high = found["Content Enjoyment"].get_xlim()
    assert low < 2
    assert high > 14.2


@pytest.mark.slow
def test_a_colour_is_a_domain_in_every_panel():
    rows, scores = case()
    figure = scatter(rows, scores, "")
    for panel in panels(figure).values():
        clips, systems = panel.collections
        assert len({tuple(colour[:3]) for colour in clips.get_facecolors()}) == 2
        assert len({tuple(colour[:3]) for colour in systems.get_facecolors()}) == 2
    assert legend(figure) == ["domain 0", "domain 1", "a clip", "a system, mean of its clips", "score = label"]


@pytest.mark.slow
def test_a_system_of_several_domains_is_grey():
    rows, scores = case()
    rows = [replace(row, domain=f"domain {i // 20}") for i, row in enumerate(rows)]
    figure = scatter(rows, scores, "")
    systems = panels(figure)["Composite"].collections[1]
    (grey,) = {tuple(colour[:3]) for colour in systems.get_facecolors()}
    assert len(set(grey)) == 1
    assert "other" in legend(figure)


def test_what_is_not_there_is_not_explained():
    figure = scatter(*case(domains=0, systems=0), "", axes=("PQ",))
    assert list(panels(figure)) == ["Production Quality"]
    assert legend(figure) == ["score = label"]
    assert len(panels(figure)["Production Quality"].collections) == 1


@pytest.mark.slow
def test_an_axis_without_labels_has_no_panel_and_no_clip_none():
    rows, scores = case()
    rows = [replace(row, labels=(math.nan, *row.labels[1:])) for row in rows]
    assert list(panels(scatter(rows, scores, ""))) == [
        *("Production Quality", "Production Complexity", "Content Usefulness"),
    ]
    assert panels(scatter([], [], "")) == {}


@pytest.mark.slow
@pytest.mark.parametrize("axes", [AXES, ("PQ",), ("PQ", "PC"), (*AXES, "composite")], ids=len)
@pytest.mark.parametrize("systems", [0, 36])
def test_no_words_lie_over_others(axes: tuple[str, ...], systems: int):
    figure = scatter(*case(200, 3, systems), "a model against a list, 200 clips", axes=axes)
    figure.draw_without_rendering()
    texts = [figure._suptitle] if figure._suptitle else []  # type: ignore[attr-defined]
    for panel in figure.axes:
        texts += [*panel.texts, panel._left_title, panel.xaxis.label, panel.yaxis.label]  # type: ignore[attr-defined]
    texts += [text for one in figure.legends for text in one.get_texts()]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    width, height = figure.get_size_inches() * figure.dpi
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.SVG", b"<?xml")])
def test_the_suffix_is_the_kind_and_two_runs_are_one_file(tmp_path: Path, name: str, start: bytes):
    rows, scores = case()
    plot(tmp_path / name, rows, scores, "t", ("PQ",))
    first = (tmp_path / name).read_bytes()
    assert first.startswith(start)
    plot(tmp_path / name, rows, scores, "t", ("PQ",))
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("name", ["a.jpg", "a", "no/such/folder/a.png"])
def test_where_no_picture_can_be_written(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match=r"written as|no folder"):
        check_plot(tmp_path / name)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r'pip install "mmmos\[plot\]"'):
        check_plot(tmp_path / "a.png")


@pytest.mark.slow
def test_more_domains_than_colours_are_grey_and_no_error():
    rows, scores = case(80, len(COLOURS) + 2, 0)
    clips = panels(scatter(rows, scores, ""))["Composite"].collections[0]
    assert len({tuple(colour[:3]) for colour in clips.get_facecolors()}) == len(COLOURS) + 1


@pytest.mark.slow
def test_different_scales_have_no_mse_and_no_line_of_equality():
    rows, scores = case()
    wide = [replace(item).with_axes(np.array([10 * item[axis] for axis in AXES])) for item in scores]
    figure = scatter(rows, wide, "", same_scale=False)
    words = [log.get_text() for panel in panels(figure).values() for log in panel.texts]
    assert words
    assert not any("MSE" in text for text in words)
    assert all("SRCC" in text for text in words)
    assert "score = label" not in legend(figure)
    for panel in panels(figure).values():
        assert not panel.lines
        (low, high), (bottom, top) = panel.get_xlim(), panel.get_ylim()
        assert high <= 11
        assert top > 50
        for dots in panel.collections:
            across, up = dots.get_offsets().T
            assert low <= across.min() < across.max() <= high
            assert bottom <= up.min() < up.max() <= top
        assert 2 <= len(panel.get_yticks()) <= 10
    assert any("MSE" in log.get_text() for panel in panels(scatter(rows, scores, "")).values() for log in panel.texts)
