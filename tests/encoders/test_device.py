"""Names of the GPUs that a process may use."""

from __future__ import annotations

import pytest
import torch

from mmmos.encoders.device import visible_gpus


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
