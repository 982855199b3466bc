"""How the heads of the bundled model are fitted, on numbers; and the damage that they learn order from."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import EncoderSpec
from mmmos.model.quality import ModelConfig
from recipes.lite import degradations as damage
from recipes.lite import heads
from tests.sounds import music

CONFIG = ModelConfig((EncoderSpec("distillmos", (200, 1), "none"),))
D = 402


def free(group: str, kind: str, severity: int, domain: str = "speech") -> LabelledClip:
    clip = LabelledClip(Clip(f"{group} {kind} {severity}"), (math.nan,) * 4)
    return replace(clip, system=f"{kind} {severity}", group=group, domain=domain, set=heads.FREE)


def song(number: int, label: float) -> LabelledClip:
    clip = Clip(f"song {number}")
    return LabelledClip(clip, (label,) * 4, system="mixture", domain="music", group=f"song {number}", set=heads.MUSIC)


def test_pairs_are_of_one_recording_and_one_kind():
    clips = [free("a", *told) for told in [("clean", 0), ("hum", 1), ("hum", 3), ("mp3", 2), ("sources", 2)]]
    clips += [free("b", "clean", 0), free("b", "hum", 4)]
    found = {
        (clips[i].system, clips[j].system) for i, j in zip(*heads.degradation_pairs(clips, [True] * 7), strict=True)
    }
    a = {("clean 0", "hum 1"), ("clean 0", "hum 3"), ("hum 1", "hum 3"), ("clean 0", "mp3 2")}
    assert found == a | {("clean 0", "hum 4")}
    assert heads.degradation_pairs(clips, [True] + [False] * 6) == ([], [])


def test_a_clean_recording_is_one_source():
    clips = [free("a", "sources", count) for count in (1, 2, 4)] + [free("a", "clean", 0), free("a", "hum", 3)]
    found = {(clips[i].system, clips[j].system) for i, j in zip(*heads.count_pairs(clips, [True] * 5), strict=True)}
    two, four = "sources 2", "sources 4"
    assert found == {("sources 1", two), ("sources 1", four), (two, four), ("clean 0", two), ("clean 0", four)}


@given(st.integers(1, 30), st.floats(0.1, 10), st.floats(0.1, 3))
def test_evidence_is_ridge_towards_a_prior(rows: int, decay: float, share: float):
    rng = np.random.default_rng(rows)
    a, y, prior = rng.standard_normal((rows, 5)), rng.standard_normal(rows), rng.standard_normal(5)
    found = heads.Evidence.of(a, y, share).solve(decay, prior)
    weight = np.sqrt(share * heads.TERMS / rows)
    grown = np.concatenate([weight * a, np.sqrt(decay) * np.eye(5)])
    expected = np.linalg.lstsq(grown, np.concatenate([weight * y, np.sqrt(decay) * prior]))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_evidence_of_two_sets_is_that_of_both():
    rng = np.random.default_rng(0)
    (a, y), (b, z) = [(rng.standard_normal((10, 4)), rng.standard_normal(10)) for _ in range(2)]
    both = heads.Evidence.of(np.concatenate([a, b]), np.concatenate([y, z]), 2.0)
    each = heads.Evidence.of(a, y, 1.0) + heads.Evidence.of(b, z, 1.0)
    np.testing.assert_allclose(each.solve(1.0, np.ones(4)), both.solve(1.0, np.ones(4)), atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("sources", [heads.RATINGS, heads.QUALITY["music"]])
def test_what_ratings_go_with_is_found_in_songs_never_heard(sources: heads.Sources):
    rng = np.random.default_rng(0)
    x, truth = rng.standard_normal((200, D)) / 20, rng.standard_normal(D)
    clips = [song(i, float(5 + x[i] @ truth)) for i in range(100)]
    direction = heads.fit_direction(x[:100], clips, heads.PQ, sources, CONFIG)
    assert np.corrcoef(x[100:] @ direction, x[100:] @ truth)[0, 1] > 0.3


@pytest.mark.parametrize("share", ["pairs", "levels"])
def test_the_order_of_damage_is_found_in_recordings_never_heard(share: str):
    rng = np.random.default_rng(0)
    fault = rng.standard_normal(D)
    clips = [free(f"r{i}", *told) for i in range(40) for told in [("clean", 0), ("hum", 1), ("hum", 3)]]
    level = np.array([int(row.system.split()[1]) for row in clips])
    x = rng.standard_normal((120, D)) / 10 + 0.02 * level[:, None] * fault
    sources = heads.Sources(decay=1.0, domains=("speech",), **{share: 1.0})
    direction = heads.fit_direction(x[:60], clips[:60], heads.PQ, sources, CONFIG)
    better, worse = heads.degradation_pairs(clips, [False] * 60 + [True] * 60)
    assert np.mean(x[better] @ direction > x[worse] @ direction) > 0.9


def test_with_nothing_learned_quality_is_the_score_of_distillmos():
    direction = heads.fit_direction(
        np.zeros((1, D)), [free("a", "clean", 0)], heads.PQ, heads.QUALITY["speech"], CONFIG
    )
    assert np.flatnonzero(direction).tolist() == [200]
    assert direction[200] > 0


def distance_from_clean(kind: str, step: int) -> float:
    """How far damage moves the spectra of 20 ms, in nepers."""
    x, other = music(3.0, 24_000).astype(np.float64), np.random.default_rng(1).standard_normal(72_000)
    function, steps = damage.DEGRADATIONS[kind]
    y = function(x, damage.Job(24_000, 12_000, np.random.default_rng(0), other, other), steps[step])
    assert np.isfinite(y).all()
    assert abs(len(y) - len(x)) < 2500  # codecs have delays
    size = min(len(x), len(y)) // 480 * 480
    before, after = (np.log(np.abs(np.fft.rfft(part[:size].reshape(-1, 480))) + 1e-3) for part in (x, y))
    return float(np.abs(before - after).mean())


@pytest.mark.slow
@pytest.mark.parametrize("kind", damage.DEGRADATIONS)
def test_the_least_damage_is_some(kind: str):
    assert distance_from_clean(kind, 0) > 0.01


# The others change what a spectrum does not tell, or draw what they do.
@pytest.mark.parametrize("kind", sorted({*damage.DEGRADATIONS} - {"phase", "wow", "vocoded", "chain"}))
def test_more_damage_is_farther_from_the_clean_recording(kind: str):
    assert distance_from_clean(kind, 0) < distance_from_clean(kind, 3)


def test_an_encoders_own_score_is_the_last_of_its_means():
    columns = {"spectrum": (64,), "distillmos": (200, 1), "musicnn": (212, 200), "dnsmos": (1,)}
    config = ModelConfig(tuple(EncoderSpec(name, widths, "none") for name, widths in columns.items()))
    assert heads.opinions(config) == {"distillmos": 128 + 200, "dnsmos": 128 + 402 + 824}
