"""The benchmark of a GPU, on a CPU with toy networks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import gpu
from mmmos.encoders.table import ENCODERS


@pytest.mark.slow
def test_small_gpu_bench_measures_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--small", "-o", str(tmp_path / "gpu.json")])
    gpu.main()
    found = json.loads((tmp_path / "gpu.json").read_text())
    parity = {(row["encoder"], row["dtype"]): row for row in found["parity"]}
    assert {name for name, _ in parity} == set(ENCODERS)
    for (_, dtype), row in parity.items():
        assert row["mean_cosine"] > 0.9  # of random weights; those of full size are nearer
        assert row["max_relative"] < 1e-4 or dtype == "bfloat16"
    assert any(row["max_relative"] > 1e-4 for row in parity.values())  # bfloat16 is on
    assert {row["kind"] for row in found["encoders"]} == {"as it is", "compiled"}
    assert {(row["batch"], row["lengths"]) for row in found["systems"]} == {
        (size, lengths) for size in (1, 2) for lengths in ("equal", "mixed")
    }
    for row in found["encoders"] + found["systems"]:
        assert row["clips_per_s"] > 0
    assert found["files"].keys() == {"decoding", "files", "samples"}
    assert found["command"]["devices"] == ["cpu"]
    assert found["command"]["max_change"] < 1e-4
