"""The axes, a clip's row, and the scale that people rated on."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmmos.scores import AXES, AXIS_NAMES, LABEL_RANGE, ClipError, Provenance, Scale, Scores, parse_scale, scale_name

PROVENANCE = Provenance("lite", "ab" * 32, "0.1.0", "cpu", "float32", False, True)

labels = arrays(np.float64, st.tuples(st.integers(1, 20), st.just(4)), elements=st.floats(*LABEL_RANGE, width=32))


def test_axes_stand_in_their_one_order():
    assert AXES == ("CE", "CU", "PC", "PQ")
    assert tuple(AXIS_NAMES) == AXES


def test_a_score_is_read_by_its_axis_and_by_nothing_else():
    scores = Scores(CE=1, CU=2, PC=3, PQ=4)
    assert [scores[axis] for axis in AXES] == [1, 2, 3, 4]
    for word in ("PQ_std", "id", "pq", "MOS"):
        with pytest.raises(KeyError):
            scores[word]


@pytest.mark.parametrize(
    ("scores", "line"),
    [
        (Scores(1, 2, 3, 4.005, id="a.wav"), "a.wav: CE 1.00  CU 2.00  PC 3.00  PQ 4.00"),
        (Scores(PQ=-0.5, id="a.wav", scale="-3 to 3"), "a.wav: CE -  CU -  PC -  PQ -0.50 (-3 to 3)"),
        (Scores(PQ=4, id="a.wav", start_time=10.0, end_time=13.5), "a.wav 10-13.5 s: CE -  CU -  PC -  PQ 4.00"),
        (Scores(PQ=4, id="a.wav", start_time=10.0), "a.wav 10- s: CE -  CU -  PC -  PQ 4.00"),
        (Scores(id="a.wav", warnings=("silent",)), "a.wav: CE -  CU -  PC -  PQ - (silent)"),
        (Scores(id="a\nb\x1b[2J", error=ClipError("not_found", "gone")), r"a\nb\x1b[2J: not_found: gone"),
    ],
)
def test_print_and_repr_are_one_line(scores: Scores, line: str):
    assert (str(scores), repr(scores)) == (line, f"<Scores {line}>")


def test_html_is_a_table_that_shows_markup_as_text():
    root = ElementTree.fromstring(Scores(1, 2, 3, 4, id="<b>&", scale="1-5", warnings=("short",))._repr_html_())
    heads, cells = ([cell.text for cell in row] for row in root)
    assert dict(zip(heads, cells, strict=True)) == {
        **{"id": "<b>&", "CE": "1.00", "CU": "2.00", "PC": "3.00", "PQ": "4.00"},
        **{"scale": "1-5", "domain": None, "warnings": "short"},
    }
    assert "not_found: gone" in Scores(id="a", error=ClipError("not_found", "gone"))._repr_html_()


def test_with_axes_sets_the_scores_and_keeps_the_rest():
    scores = Scores(id="a", channels=2, warnings=("short",)).with_axes(np.arange(4.0), np.arange(4.0) / 10)
    assert scores == Scores(0, 1, 2, 3, 0, 0.1, 0.2, 0.3, id="a", channels=2, warnings=("short",))
    assert math.isnan(Scores().with_axes(np.zeros(4)).PQ_std)


@pytest.mark.parametrize("axes", [3, 5])
def test_with_axes_refuses_another_number_of_axes(axes):
    with pytest.raises(ValueError, match="argument"):
        Scores().with_axes(np.zeros(axes))


def test_scores_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Scores().PQ = 10


@pytest.mark.parametrize("label_range", [(0, 10), (1, 5), (0, 100), (-3, 3), (0.5, 1.25), (-10, -1), (0, 1e6)])
def test_name_of_a_scale_says_its_range(label_range):
    assert parse_scale(scale_name(label_range)) == label_range


@pytest.mark.parametrize("name", ["", "None", "stars", "5", "1-", "1-5-9", "..-..", "1.0"])
def test_other_words_name_no_scale(name):
    assert parse_scale(name) is None


def test_a_row_has_the_documented_columns_in_their_order():
    stds = [f"{axis}_std" for axis in AXES]
    where = ["id", "path", "start_time", "end_time", "sample_rate", "channels", "duration"]
    where += ["stream", "file_bytes", "file_mtime"]
    kind = ["scale", "domain", *(f"{axis}_basis" for axis in AXES)]
    what = ["n_windows", "warnings", "status", "error"]
    assert list(Scores().row()) == [*where, *AXES, *stds, *kind, *what]
    assert list(Scores(provenance=PROVENANCE).row()) == [
        *(*where, *AXES, *stds, *kind, *what),
        *(field.name for field in fields(Provenance)),
    ]


@pytest.mark.slow
@given(st.lists(st.floats(), min_size=11, max_size=11))
def test_a_row_is_json_whatever_the_numbers(numbers):
    *axes, start, end, duration = numbers
    scores = Scores(*axes, start_time=start, end_time=end, duration=duration, provenance=PROVENANCE)
    row = json.loads(json.dumps(scores.row(), allow_nan=False))
    for name, value in zip((*AXES, *(f"{axis}_std" for axis in AXES)), axes, strict=True):
        if math.isfinite(value):
            assert row[name] == pytest.approx(value, abs=1e-6)
        else:
            assert row[name] is None


def test_an_error_has_a_row_that_says_why():
    row = Scores(id="a", error=ClipError("not_found", "no such file")).row()
    assert (row["status"], row["error"]) == ("error", {"code": "not_found", "message": "no such file"})
    assert [row[axis] for axis in AXES] == [None] * 4


def test_silence_is_no_error():
    row = Scores(id="a", warnings=("silent",)).row()
    assert (row["status"], row["error"], row["warnings"], row["PQ"]) == ("ok", None, ["silent"], None)


@given(labels)
def test_a_scale_is_the_mean_and_deviation_of_the_labels(values):
    scale = Scale.fit(values)
    np.testing.assert_allclose(scale.mean, values.mean(axis=0))
    for deviation, column in zip(scale.std, values.T, strict=True):
        expected = np.std(column, ddof=1) if len(set(column)) > 1 else 1.0
        assert deviation == pytest.approx(expected or 1.0)


@given(labels)
def test_labels_come_back_from_z_units(values):
    scale = Scale.fit(values)
    np.testing.assert_allclose(scale.to_labels(scale.to_z(values)), values, atol=1e-9)


@pytest.mark.parametrize("label", [0.1, 3.3, 7.0])
def test_labels_that_are_all_alike_have_a_deviation_of_one(label):
    assert Scale.fit(np.full((3, 4), label)).std == (1.0,) * 4


def test_missing_labels_are_left_out_of_the_scale():
    column = np.array([2.0, np.nan, 6.0])
    scale = Scale.fit(np.stack([column, column, np.full(3, np.nan), [np.nan, 9.0, np.nan]], axis=1))
    assert scale.mean == (4.0, 4.0, 5.0, 9.0)
    assert scale.std == pytest.approx((8**0.5, 8**0.5, 1.0, 1.0))


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.0,) * 3, (1.0,) * 3), ((0.0,) * 4, (1.0, 1.0, 1.0, 0.0)), ((math.nan,) + (0.0,) * 3, (1.0,) * 4)],
)
def test_a_scale_that_cannot_be_inverted_is_refused(mean, std):
    with pytest.raises(ValueError, match="scale"):
        Scale(mean, std)
