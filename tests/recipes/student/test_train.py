"""Training on made-up teachers: it learns what is there, repeats itself, and its weights load in the encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmmos.encoders.fullband import FullBand
from mmmos.encoders.student import POOLED, SCORES, Student, over_time
from recipes.student.train import Batch, agreement, first, fit, main, rate_at, read_shards

COUNT = 192


def batch(seed: int) -> Batch:
    """Scores that depend on one input; DistillMOS's are unknown for a third."""
    torch.manual_seed(seed)
    pooled = torch.randn(COUNT, POOLED)
    scores = 3 + pooled[:, :1].repeat(1, len(SCORES))
    scores[::3, SCORES.index("distillmos")] = torch.nan
    return {"pooled": pooled, "scores": scores, "domain": torch.eye(3)[(pooled[:, 1] > 0).long()]}


@pytest.mark.slow
def test_fit_learns_and_repeats_itself() -> None:
    data = batch(0)
    data["pooled"][:, 2:] *= 0.01
    short, again = (fit(data, steps=3) for _ in range(2))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in short.state_dict().items())
    found = agreement(fit(data, steps=40), data)
    assert set(found) == {*SCORES, "domain"}
    assert min(found.values()) > 0.7


def test_unknown_scores_change_nothing() -> None:
    data = batch(1)
    network = fit(data, steps=2)
    unknown = data["scores"].isnan()
    assert unknown.any()
    for parameter in network.state_dict().values():
        assert parameter.isfinite().all()
    known = data["scores"][:, SCORES.index("distillmos")]
    torch.testing.assert_close(network.score_mean[SCORES.index("distillmos")], known.nanmean())


def test_rate_rises_and_falls() -> None:
    rates = [rate_at(step, 1000) for step in range(1000)]
    assert max(rates) <= 1
    assert np.argmax(rates) in range(40, 60)
    assert all(np.diff(rates[60:]) < 0)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def test_pooled_frames_are_fullband_s_and_are_kept(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    waves = 0.1 * torch.randn(2, 48_000, generator=torch.Generator().manual_seed(0))
    front = FullBand()
    np.savez(
        tmp_path / "shards" / "train-0000.npz",
        log_mel=front.log_mel(waves).numpy(),
        scores=np.full((2, 7), 3, np.float32),
        domain=np.eye(3, dtype=np.float32)[:2],
    )
    expected = over_time(front.encode(waves).frames)
    for _ in range(2):
        torch.testing.assert_close(read_shards(tmp_path, "train")["pooled"], expected, atol=1e-3, rtol=1e-3)
    kept = tmp_path / "pooled" / "train-0000.npy"
    np.save(kept, np.ones((2, POOLED), np.float32))
    assert read_shards(tmp_path, "train")["pooled"].eq(1).all()


@pytest.mark.slow
def test_main_writes_curve_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("shards", "pooled"):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate(("train-0000", "held-out-0000")):
        data = {key: values.numpy() for key, values in batch(seed).items()}
        np.savez(tmp_path / "shards" / f"{name}.npz", log_mel=0, scores=data["scores"], domain=data["domain"])
        np.save(tmp_path / "pooled" / f"{name}.npy", data["pooled"])
    monkeypatch.setattr("sys.argv", ["train", "--work", str(tmp_path), "--curve", "100", "9999", "--steps", "20"])
    main()
    lines = (tmp_path / "curve.jsonl").read_text().splitlines()
    assert ['"segments": 100' in lines[0], f'"segments": {COUNT}' in lines[1], len(lines)] == [True, True, 2]
    weights = load_file(tmp_path / "student.safetensors")
    encoder = Student({key: value.float() for key, value in weights.items()})
    assert encoder.encode(torch.randn(1, 48_000)).frames.shape == (1, 6, encoder.dim)


def test_first_keeps_the_order() -> None:
    data = batch(2)
    assert torch.equal(first(data, 5)["pooled"], data["pooled"][:5])


def test_read_without_shards_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no shards train-\*\.npz in .*recipes\.student\.teachers"):
        read_shards(tmp_path, "train")
