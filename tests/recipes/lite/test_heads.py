"""The gate of the bundled model and the norms of ratings, on numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmmos.scores import AXES
from recipes.lite import heads
from recipes.lite.heads import CE, CU, DOMAINS, PC, PQ


def test_gate_learns_domains_and_mixes():
    rng = np.random.default_rng(0)
    domain = rng.integers(0, 3, 300)
    x = np.eye(3)[domain] + 0.2 * rng.standard_normal((300, 3))
    half = (x[domain == 0][:40] + x[domain == 1][:40]) / 2
    targets = np.concatenate([np.eye(3)[domain], np.tile([0.5, 0.5, 0.0], (40, 1))])
    clips = [(DOMAINS[i], "set") for i in domain] + [("speech", "mixes")] * 40
    gate = heads.fit_gate(np.concatenate([x, half]), clips, targets).numpy()
    logits = x @ gate[:, :-1].T + gate[:, -1]
    assert np.mean(logits.argmax(1) == domain) > 0.97
    mixed = half @ gate[:, :-1].T + gate[:, -1]
    assert abs(np.mean(mixed[:, 0] - mixed[:, 1])) < 1.0


def test_parts_are_balanced_and_the_same_every_time():
    parts = [heads.part_of(f"song {i}") for i in range(500)]
    assert set(parts) == set(range(heads.PARTS))
    assert min(np.bincount(parts)) > 70
    assert parts == [heads.part_of(f"song {i}") for i in range(500)]


def test_norms_are_moments_and_slopes_of_the_ratings(tmp_path: Path):
    rng = np.random.default_rng(0)
    means = rng.uniform(2, 4, (50, len(AXES)))
    means[:, CE] = 1 + 0.5 * means[:, PQ] + 0.2 * means[:, PC]
    means[:, CU] = 2 * means[:, PQ] - means[:, PC]
    names = ("Content_Enjoyment", "Content_Usefulness", "Production_Complexity", "Production_Quality")
    lines = [
        {"data_path": f"{i}.wav"} | {name: [x] * 2 for name, x in zip(names, row, strict=True)}
        for i, row in enumerate(means.tolist())
    ]
    for name in heads.AES.values():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = heads.read_norms(tmp_path)["speech"]
    assert found.mean["PQ"] == pytest.approx(means[:, PQ].mean())
    assert found.std["PC"] == pytest.approx(means[:, PC].std())
    np.testing.assert_allclose(found.slopes, [[1, 0.5, 0.2], [0, 2, -1]], atol=1e-6)
