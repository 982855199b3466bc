"""Training on made-up teachers: it learns, it resumes exactly, and its weights load in the encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmmos.encoders.fullband import FullBand
from recipes.student.learner import TEACHER_FRAMES, Learner, Scaler, agreement, losses, start_weights
from recipes.student.network import Student, is_trained
from recipes.student.train import BATCH, Run, read_shards

SPECTRA = 16 * 2 * TEACHER_FRAMES


def write_shard(path: Path, seed: int) -> None:
    """Teachers whose outputs depend on a segment's loudness over mels."""
    rng, size = np.random.default_rng(seed), BATCH
    tilt = rng.uniform(-1, 1, (size, 1)).astype(np.float32)
    log_mel = tilt[:, :, None] * np.linspace(-3, 3, 96, dtype=np.float32) + rng.normal(-2, 0.1, (size, SPECTRA, 96))
    frames = np.repeat(tilt[:, :, None] * np.ones(384), TEACHER_FRAMES + 1, axis=1)
    scores = np.repeat(3 + tilt, 7, axis=1).astype(np.float32)
    scores[::3, 5] = np.nan
    domain = np.eye(3, dtype=np.float32)[(tilt[:, 0] > 0).astype(int)]
    np.savez(
        path,
        log_mel=log_mel.astype(np.float16),
        frames=frames.astype(np.float16),
        yamnet=(tilt * np.ones(1024)).astype(np.float16),
        scores=scores,
        domain=domain,
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student") / "shards"
    folder.mkdir()
    for name, seed in (("train-0000", 0), ("held-out-0000", 2)):
        write_shard(folder / f"{name}.npz", seed)
    return folder


def run_in(folder: Path, shards: Path, epochs: int, total: int) -> Run:
    folder.mkdir(exist_ok=True)
    if not (folder / "shards").exists():
        (folder / "shards").symlink_to(shards)
    run = Run(folder, total)
    while run.epoch < epochs:
        run.step()
    return run


@pytest.mark.slow
def test_training_learns_and_resumes_exactly(shards: Path, tmp_path: Path) -> None:
    whole = run_in(tmp_path / "whole", shards, 3, 3)
    run_in(tmp_path / "parts", shards, 1, 3)
    parts = run_in(tmp_path / "parts", shards, 3, 3)
    assert all(torch.equal(value, parts.average[key]) for key, value in whole.average.items())
    lines = [json.loads(line) for line in (tmp_path / "parts" / "curve.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert sum(lines[2]["train"].values()) < sum(lines[0]["train"].values())
    weights = load_file(tmp_path / "whole" / "student.safetensors")
    assert all(value.dtype == torch.float16 and is_trained(key) for key, value in weights.items())
    encoder = Student({key: value.float() for key, value in weights.items()})
    assert encoder.encode(torch.randn(1, 48_000)).frames.shape == (1, 6, encoder.dim)


def test_start_is_yamnet_s() -> None:
    start, fullband = start_weights(), FullBand().state_dict()
    assert all(torch.equal(start[key], value) for key, value in fullband.items())
    assert all(torch.equal(value, again) for value, again in zip(start.values(), start_weights().values(), strict=True))


def test_learner_trains_only_its_own_part(shards: Path) -> None:
    data, learner = read_shards([shards / "train-0000.npz"]), Learner()
    scaler = Scaler(data)
    batch = {name: values[:2] for name, values in data.items()}
    parts = losses(learner(batch["log_mel"].float()), scaler.targets(batch), scaler)
    assert set(parts) == {"frames", "mean", "yamnet", "scores", "domain"}
    sum(parts.values()).backward()
    for key, parameter in learner.named_parameters():
        trained = is_trained(key.removeprefix("student.")) or key.startswith("to_")
        assert (parameter.grad is not None and bool(parameter.grad.any())) == trained, key


def test_perfect_predictions_lose_nothing(shards: Path) -> None:
    data = read_shards([shards / "train-0000.npz"])
    scaler = Scaler(data)
    target = scaler.targets(data)
    known = target["scores"][~target["scores"].isnan()]
    assert known.mean().abs() < 1e-4
    assert known.std() == pytest.approx(1, abs=0.05)
    (frame_mean, frame_std), (mean, std) = scaler.stats["frames"], scaler.stats["mean"]
    perfect = target | {"mean": (target["mean"] * std + mean - frame_mean) / frame_std}
    parts = losses(perfect, target, scaler)
    assert all(parts[name] < 1e-6 for name in ("frames", "mean", "yamnet", "scores"))


def test_agreement_is_none_before_training(shards: Path) -> None:
    data = read_shards([shards / "held-out-0000.npz"])
    found = agreement(Learner(), data, Scaler(data))
    assert found["mean_r2"] < 0.2
    assert set(found) >= {"mos_srcc", "distillmos_srcc", "domain_right", "yamnet_r2"}


def test_run_without_shards_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no shards train-\*\.npz in .*recipes\.student\.teachers"):
        Run(tmp_path, 1)
