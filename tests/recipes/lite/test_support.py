"""The region of the rated songs, mixes of two domains, and what is known of the errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmmos.scores import AXES
from recipes.lite import versions
from recipes.lite.heads import DOMAINS, FREE, MUSIC, PQ, Norms, part_of
from recipes.lite.held_out import Held, constructed_labels, residual_std
from recipes.lite.mixes import COUNTS, SCALE_DB, Mix, make_mixes
from recipes.lite.support import INSIDE, fit_nearby
from tests.sounds import music

UNRATED = (np.nan,) * len(AXES)


def test_nearby_songs_are_inside_and_far_ones_are_not():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(4, 12))
    columns = np.arange(12) < 10
    seen, unseen = (rng.normal(size=(300, 4)) @ shape + 0.1 * rng.normal(size=(300, 12)) for _ in range(2))
    found = fit_nearby(seen, [str(i) for i in range(300)], columns)
    assert np.mean(found.distance(unseen) < 1) == pytest.approx(INSIDE, abs=0.03)
    assert (found.distance(unseen + 3 * columns * rng.normal(size=12)) > 1).all()
    np.testing.assert_allclose(found.distance(unseen + 100 * ~columns), found.distance(unseen))


def test_distance_is_that_of_mahalanobis_when_all_directions_count():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6))
    found = fit_nearby(x, [str(i) for i in range(500)], np.ones(6, dtype=bool))
    half = len(found.precision)
    moved = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(moved.T, bias=True))
    first, last = values.argsort()[::-1][:half], values.argsort()[::-1][half:]
    along = ((moved @ vectors[:, first]) ** 2 / values[first]).mean(axis=1)
    expected = along + ((moved @ vectors[:, last]) ** 2).sum(axis=1) / values[last].sum()
    assert np.corrcoef(expected, found.distance(x))[0, 1] == pytest.approx(1)


def recordings(folder: Path) -> list[versions.Version]:
    found = []
    for i in range(40):
        path = folder / f"{i}.wav"
        soundfile.write(path, music(0.2, 16_000), 16_000)
        domain = DOMAINS[i % 3]
        found.append(versions.Version(str(path), domain, FREE, path.name, "package", "clean", 0.0, UNRATED))
    return found


def test_mixes_pair_domains_within_a_part(tmp_path: Path):
    found = make_mixes(recordings(tmp_path))
    assert len(found) == sum(COUNTS.values())
    assert all(part_of(mix.first.group) == part_of(mix.second.group) for mix in found)
    mix = replace(found[0], level_db=0.0)
    assert mix.probabilities == [0.5, 0.5, 0.0]
    assert replace(mix, level_db=3 * SCALE_DB).probabilities[0] > 0.9
    x, rate = mix.samples()
    assert (len(x), rate) == (3_200, 16_000)
    assert np.abs(x).max() == pytest.approx(0.9)


def test_level_of_a_mix_is_that_of_its_parts(tmp_path: Path):
    one, other, *_ = recordings(tmp_path)
    loud, soft = (Mix(one, other, db).samples()[0] for db in (60.0, -60.0))
    alone = music(0.2, 16_000)
    for mixed in (loud, soft):
        assert np.corrcoef(mixed, alone)[0, 1] > 0.999


def test_residual_std_covers_unseen_songs():
    rng = np.random.default_rng(0)
    labels = rng.normal(7, 1, (200, len(AXES)))
    rows = [
        versions.Version(f"{i}", "music", MUSIC, f"{i}", "x", "clean", 0.0, tuple(row)) for i, row in enumerate(labels)
    ]
    rows += [replace(row, scene="phone", severity=0.5) for row in rows]
    scores = constructed_labels(rows) + rng.normal(0, [[0.3]] * 200 + [[0.9]] * 200, (400, len(AXES)))
    by_domain = {name: scores if name == "music" else 0 * scores for name in DOMAINS}
    music = np.tile([name == "music" for name in DOMAINS], (400, 1)).astype(float)
    held = Held(by_domain, music, np.arange(400) >= 200, np.zeros(0))
    norms = {"speech": Norms(dict.fromkeys(AXES, 5.0), dict.fromkeys(AXES, 1.1), np.zeros((2, 3)))}
    found = residual_std(rows, held, norms)
    assert found["music"]["PQ"] == pytest.approx(0.3, abs=0.07)
    assert found["music, novel"]["PQ"] == pytest.approx(0.9, abs=0.2)
    assert found["speech"]["CE"] == 1.1
    inside = np.abs(scores - constructed_labels(rows))[:200, PQ] <= 2 * found["music"]["PQ"]
    assert inside.mean() == pytest.approx(0.95, abs=0.01)
