"""PQ of speech: a direction from ratings, known orders and a prior, on numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recipes.lite.heads import CODEC, FREE
from recipes.lite.settings import SpeechSettings
from recipes.lite.speech import fit_quality, ordered_pairs
from recipes.lite.spoken import Spoken

D = 40
NONE = np.zeros(D)


def free(group: str, kind: str = "clean", step: int = 0) -> Spoken:
    return Spoken(f"{group}.flac", FREE, group, "package", kind, step)


def codec(number: int, rating: float) -> Spoken:
    return Spoken(f"{number}.wav", CODEC, f"signal {number}", CODEC, "Lyra 3", rating=rating)


def test_pairs_are_of_one_recording_and_one_kind():
    clips = [free("a", *made) for made in [("clean", 0), ("hum", 1), ("hum", 3), ("mp3", 2)]]
    clips += [free("b"), free("b", "hum", 4), codec(0, 5.0)]
    found = {(i, j) for i, j in zip(*ordered_pairs(clips), strict=True)}
    assert found == {(0, 1), (0, 2), (1, 2), (0, 3), (4, 5)}


def test_direction_without_evidence_is_the_prior():
    prior = np.arange(D, dtype=float)
    np.testing.assert_allclose(fit_quality(np.zeros((0, D)), [], prior), prior)


def test_ratings_of_codecs_are_found_on_unseen_signals():
    rng = np.random.default_rng(0)
    x, truth = rng.standard_normal((200, D)) / 6, rng.standard_normal(D)
    clips = [codec(i, float(5 + x[i] @ truth)) for i in range(100)]
    direction = fit_quality(x[:100], clips, NONE)
    assert np.corrcoef(x[100:] @ direction, x[100:] @ truth)[0, 1] > 0.9


@pytest.mark.parametrize("only", ["pairs", "levels"])
def test_order_of_degradations_is_found_in_unseen_recordings(only: str):
    settings = replace(SpeechSettings(codecs=1e-9, pairs=1e-9, levels=1e-9, copies=1e-9), **{only: 1.0})
    rng = np.random.default_rng(0)
    fault = rng.standard_normal(D)
    clips = [free(f"r{i}", *made) for i in range(40) for made in [("clean", 0), ("hum", 1), ("hum", 3)]]
    level = np.array([clip.step for clip in clips])
    x = rng.standard_normal((120, D)) / 10 + 0.05 * level[:, None] * fault
    direction = fit_quality(x[:60], clips[:60], NONE, settings)
    better, worse = ordered_pairs(clips)
    unseen = [(i, j) for i, j in zip(better, worse, strict=True) if i >= 60]
    assert np.mean([x[i] @ direction > x[j] @ direction for i, j in unseen]) > 0.9


def test_what_the_prior_says_of_free_recordings_changes_less_with_more_weight():
    rng = np.random.default_rng(0)
    prior = rng.standard_normal(D)
    clips = [free(f"r{i}", *made) for i in range(10) for made in [("clean", 0), ("hum", 1), ("hum", 3)]]
    clips += [codec(i, float(rating)) for i, rating in enumerate(rng.uniform(0, 10, 60))]
    x = rng.standard_normal((len(clips), D))
    own = x[:30] - x[:30].mean(axis=0)
    changes = [
        float(np.abs(own @ (fit_quality(x, clips, prior, SpeechSettings(copies=weight)) - prior)).mean())
        for weight in (0.0, 1.0, 1e5)
    ]
    assert changes[0] > changes[1] > changes[2]
    assert changes[2] < 0.01 * changes[0]
