"""The sentence and the notes of a comparison, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmmos.errors import UsageError
from mmmos.evaluation.verdict import compare_scores
from mmmos.scores import Provenance, Scores

MODEL = Provenance("lite", "ab" * 32, "0.1", "cpu", "float32", False, True)


def rows(shift: tuple[float, float, float, float], n: int = 40, seed: int = 0) -> list[Scores]:
    """The same clips with scores of CE, CU, PC and PQ that differ from 5 by `shift` and by noise."""
    noise = np.random.default_rng(seed).normal(0, 0.2, (n, 4))
    return [Scores(id=f"{i}.wav", scale="0-10", provenance=MODEL).with_axes(x) for i, x in enumerate(noise + 5 + shift)]


def test_sentence_begins_with_the_higher_system():
    found = compare_scores({"old": rows((0, 0, 0, 0)), "new": rows((0.5, 0, -0.7, 1.0), seed=1)})
    assert found.sentence.startswith("On 40 pairs of clips, new scores higher than old on PQ (+")
    assert " and CE (+" in found.sentence
    assert " and lower on PC (-0.7" in found.sentence
    assert found.sentence.endswith("; on CU no difference is found.")
    assert str(found) == found.sentence


def test_sentence_without_a_difference():
    found = compare_scores({"a": rows((0, 0, 0, 0)), "b": rows((0, 0, 0, 0), seed=2)})
    assert found.sentence == "On 40 pairs of clips, no difference is found between a and b on PQ, PC, CE and CU."
    assert not found.notes


def test_sentence_of_several_systems():
    systems = {"a": rows((0, 0, 0, 0)), "b": rows((1, 0, 0, 1), seed=3), "c": rows((0, 0, -1, 1), seed=4)}
    assert compare_scores(systems).sentence == (
        "None of the 3 systems scores higher than b and c on PQ, a and b on PC, b on CE; on CU no difference is found."
    )
    same = {name: rows((0, 0, 0, 0)) for name in "abc"}
    assert compare_scores(same).sentence == "No difference is found between the 3 systems on PQ, PC, CE and CU."


def test_notes_name_missing_and_repeated_rows():
    first = [*rows((0, 0, 0, 0)), Scores(id="silent.wav"), rows((0, 0, 0, 0))[0]]
    found = compare_scores({"a": first, "b": rows((0, 0, 0, 0), seed=1)})
    assert found.notes == (
        "a: 1 of 42 rows has no score",
        "a: 1 row of a clip that is listed before: not paired, and averaged where systems have no clips in common",
        "a and b: 39 pairs of 42 and 40 rows",
    )
    other = [replace(scores, id=f"x{scores.id}") for scores in rows((0, 0, 0, 0))]
    assert "different clips" in compare_scores({"a": rows((0, 0, 0, 0)), "b": other}).notes[0]


def test_notes_say_that_too_few_clips_can_show_no_difference():
    """Of n pairs, Wilcoxon's lowest p is 2 / 2**n, and there are four tests: eight pairs are enough, seven are not."""
    few, enough = ({"a": rows((0, 0, 0, 0), n), "b": rows((9, 9, 9, 9), n, seed=1)} for n in (7, 8))
    assert compare_scores(few).notes == ("a and b: too few pairs for any test to find a difference; score more",)
    assert not compare_scores(enough).notes
    assert "b scores higher than a on PQ (+8.98)" in compare_scores(enough).sentence
    others = [replace(scores, id=f"x{scores.id}") for scores in few["b"]]
    assert "too few clips" in compare_scores({"a": few["a"][:3], "b": others[:3]}).notes[1]


def test_compare_scores_refuses_other_models_and_scales():
    ours = rows((0, 0, 0, 0))
    theirs = [replace(s, provenance=replace(MODEL, model="mine", model_sha256="cd" * 32)) for s in ours]
    with pytest.raises(UsageError, match=r"a has scores of lite \(abababab\), b of mine \(cdcdcdcd\)"):
        compare_scores({"a": ours, "b": theirs})
    with pytest.raises(UsageError, match="scores of a are on the scale 0-10, those of b on 1-5"):
        compare_scores({"a": ours, "b": [replace(s, scale="1-5") for s in ours]})


def test_compare_scores_refuses_what_it_cannot_compare():
    ours = rows((0, 0, 0, 0))
    with pytest.raises(UsageError, match="at least two systems"):
        compare_scores({"a": ours})
    with pytest.raises(UsageError, match="above 0, not -1"):
        compare_scores({"a": ours, "b": ours}, detect=-1)
    with pytest.raises(UsageError, match="no axis with scores in common"):
        compare_scores({"a": [Scores(id="1", PQ=3.0)], "b": [Scores(id="1", CE=3.0)]})


def test_detect_is_a_fraction_of_the_scale():
    ours = [replace(s, scale="0-100") for s in rows((0, 0, 0, 0))]
    assert compare_scores({"a": ours, "b": ours}).detect == 2.0
    assert compare_scores({"a": ours, "b": ours}, detect=0.5).detect == 0.5
