"""Names of the GPUs that a process may use, and what the CPU is fast in."""

from __future__ import annotations

import pytest
import torch

from mmmos.encoders.device import has_fast_bfloat16, low_precision_instructions, visible_gpus


@pytest.mark.parametrize(
    ("count", "variable", "expected"),
    [
        (0, None, []),
        (2, None, ["0", "1"]),
        (2, "GPU-a,GPU-b", ["GPU-a", "GPU-b"]),
        (1, "3,-1,5", ["3"]),  # CUDA ignores all names after a wrong one
        (0, "", []),
    ],
)
def test_visible_gpus_are_those_cuda_counts(
    count: int, variable: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_fast_bfloat16_needs_its_instructions(
    capabilities: dict[str, object], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_bfloat16() == expected


def test_low_precision_instructions_leave_out_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"avx512_vnni": True, "avx2": True, "amx_int8": False, "cpu_name": "EPYC"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert low_precision_instructions() == "avx512_vnni"


def test_bfloat16_is_not_fast_where_torch_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_fast_bfloat16()
