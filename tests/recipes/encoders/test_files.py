"""Conversions write files that do not change from run to run, and read no other wheel than theirs."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from recipes.encoders.build import BUNDLED, WHEELS
from recipes.encoders.files import check_wheel, pack


def test_pack_stores_kernels_in_half_precision_and_vectors_as_they_are():
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "b.weight": rng.normal(size=(3, 2)),
        "b.bias": rng.normal(size=3).astype(np.float32),
    }
    packed = pack(weights, {"package": "p", "version": "1"})
    assert packed == pack(dict(reversed(weights.items())), {"version": "1", "package": "p"})
    assert len({pack(weights, {}, a="1", b="2", c="ü") for _ in range(20)}) == 1
    tensors = load(packed)
    assert {name: array.dtype for name, array in tensors.items()} == {"b.weight": np.float16, "b.bias": np.float32}
    np.testing.assert_array_equal(tensors["b.bias"], weights["b.bias"])
    np.testing.assert_array_equal(tensors["b.weight"], weights["b.weight"].astype(np.float16))


def test_check_wheel_refuses_another_file(tmp_path: Path):
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"a")
    check_wheel(wheel, hashlib.sha256(b"a").hexdigest())
    with pytest.raises(SystemExit, match=r"a\.whl is not the wheel"):
        check_wheel(wheel, hashlib.sha256(b"b").hexdigest())


@pytest.mark.parametrize("name", WHEELS)
def test_each_bundled_encoder_names_the_wheel_that_is_converted(name: str):
    data = (BUNDLED / f"{name}.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["source"])["wheel_sha256"] == WHEELS[name][1]
    assert importlib.import_module(f"recipes.encoders.{name}").main
