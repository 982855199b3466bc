"""Held-out figures of the bundled model, from made-up inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmmos.scores import AXES
from recipes.lite import evaluate, versions
from recipes.lite.chains import SCENES
from recipes.lite.heads import DOMAINS, FREE, MUSIC, PQ, REMIXED


def song(number: int, stem: str, quality: float) -> versions.Version:
    labels = tuple(quality for _ in AXES)
    return versions.Version(f"/songs/{number}__{stem}.flac", "music", MUSIC, str(number), "x", "clean", 0.0, labels)


@pytest.mark.slow
def test_songs_compares_with_other_songs_only():
    rows = [song(i, stem, i + 2.0 * (stem == "drums")) for i in range(6) for stem in ("drums", "vocals")]
    scores = np.array([row.labels for row in rows]) + 0.5
    found = evaluate.songs(rows, scores, np.full(len(AXES), 2.0))
    assert (found["clips"], found["songs"]) == (12, 6)
    assert found["PQ"]["srcc"] == pytest.approx(1)
    assert found["PQ"]["mae"] == pytest.approx(0.5)
    by_stem = [abs(i - np.mean([j for j in range(6) if j != i])) for i in range(6)]
    assert found["PQ"]["mae_stem"] == pytest.approx(np.mean(by_stem))
    assert found["PQ"]["mae_constant"] > found["PQ"]["mae_stem"]
    assert found["PQ"]["mae_natural"] == pytest.approx(np.mean([abs(row.labels[PQ] - 2) for row in rows]))
    assert found["PQ"]["worst"] == pytest.approx({"label": 0.0, "score": 0.5})


def test_degraded_compares_with_the_recording():
    clean = [song(i, "drums", 8.0) for i in range(4)]
    worse = [replace(row, scene=next(iter(SCENES)), severity=0.2 + 0.2 * i) for i, row in enumerate(clean)]
    scores = np.full((8, len(AXES)), 8.0)
    scores[4:, PQ] -= [5 * row.severity for row in worse]
    scores[7, PQ] = 9.0
    found = evaluate.degraded([*clean, *worse], scores, "music", labelled=True)
    assert found["below"] == pytest.approx(2 / 3)
    assert found["mae"] == pytest.approx((9.0 - 4.0) / 4)
    scores[7, PQ] = 4.0
    found = evaluate.degraded([*clean, *worse], scores, "music", labelled=True)
    assert (found["srcc"], found["srcc_label"], found["mae"]) == pytest.approx((1, 1, 0))


def test_domains_are_counted_by_kind_and_form():
    unrated = (np.nan,) * len(AXES)
    rows = [
        song(0, "vocals", 7.0),
        versions.Version("a", "sound", FREE, "a", "x", "clean", 0.0, unrated),
        versions.Version("a", "sound", FREE, "a", "x", "excerpt", 0.0, unrated),
        versions.Version("a", "sound", FREE, "a", "x", "phone", 0.5, unrated),
    ]
    forms = [replace(rows[0], scene=scene) for scene in ("excerpt", "phone")]
    detected = np.array([DOMAINS.index(name) for name in ("music", "sound", "music", "sound", "music", "speech")])
    found = evaluate.domains([*rows, *forms], detected)
    assert found["sound, free recordings"] == {"whole": 1.0, "excerpt": 0.0, "degraded": 1.0}
    assert found["music, solo vocals"] == {"whole": 1.0, "excerpt": 1.0, "degraded": 0.0}
    assert Path(rows[0].clip).stem.endswith("__vocals")


def test_separated_vocals_are_ranked_within_a_song_and_kind():
    rows = [
        versions.Version(song, "music", REMIXED, song, song, f"{kind} {step}", 0.0, (np.nan,) * len(AXES))
        for song in "ab"
        for kind, step in [("clean", 0), ("separated", 1), ("separated", 2), ("bleed", 1)]
    ]
    found = evaluate.separated(rows, np.array([9.0, 8.0, 7.0, 3.0, 0.0, 1.0, 2.0, -1.0]))
    assert (found["separated"]["srcc"], found["separated"]["songs"]) == (0.0, 2)  # one in order, one upside down
    assert found["separated"]["low"] == pytest.approx(-1)
    assert found["bleed"]["srcc"] == pytest.approx(1)
