"""What the student learns: its predictions of its teachers' outputs, their scale, the losses, and the agreement."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from mmmos.encoders import yamnet
from mmmos.encoders.fullband import BLOCKS, MELS, STRIDE, FullBand
from recipes.student.network import DOMAINS, HIDDEN, SCORES, WIDTH, Student, is_trained, over_time

TEACHER_FRAMES, TEACHER_WIDTH = 15, 384  # whole frames of mn04 in a segment, and its values
EVALUATED = 16  # segments at a time
SURE = 0.8  # fraction of a segment's power from one domain, for the accuracy
Batch = dict[str, Tensor]


class Learner(nn.Module):
    """The student, and linear maps from its frames to its teachers' embeddings, which are for training only."""

    def __init__(self) -> None:
        super().__init__()
        state = {key: value for key, value in start_weights().items() if is_trained(key)}
        self.student = Student(state)
        for key, parameter in self.student.named_parameters():
            parameter.requires_grad = is_trained(key)
        self.to_frames = nn.Linear(WIDTH, TEACHER_WIDTH)
        self.to_yamnet = nn.Linear(2 * WIDTH, yamnet.DIM)

    def forward(self, log_mel: Tensor) -> dict[str, Tensor]:
        """Spectra [B, L, 96] -> predictions, standardized but for the domains."""
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                middle = self.student.start(log_mel)
            frames = self.student.values(middle).float()
        ratings = self.student.rate(frames)
        pairs = frames[:, : 2 * TEACHER_FRAMES].unflatten(1, (-1, 2)).mean(2)
        return {
            "frames": self.to_frames(pairs),
            "mean": self.to_frames(frames.mean(1)),
            "yamnet": self.to_yamnet(over_time(frames)),
            "scores": ratings[:, : len(SCORES)],
            "domain": ratings[:, len(SCORES) :],
        }


class Scaler:
    """Brings the teachers' values to mean 0 and deviation 1 over the training segments."""

    def __init__(self, data: Batch) -> None:
        frames = data["frames"][:, :TEACHER_FRAMES].float()
        known = {"frames": frames.flatten(0, 1), "mean": frames.mean(1), "yamnet": data["yamnet"].float()}
        self.stats = {name: (values.mean(0), values.std(0).clamp(min=0.02)) for name, values in known.items()}
        scores = data["scores"]
        mean = scores.nanmean(0)
        self.stats["scores"] = (mean, ((scores - mean) ** 2).nanmean(0).sqrt().clamp(min=0.1))

    def targets(self, batch: Batch) -> Batch:
        """The batch's targets by the names of `Learner`'s predictions."""
        frames = batch["frames"][:, :TEACHER_FRAMES].float()
        raw = {"frames": frames, "mean": frames.mean(1), "yamnet": batch["yamnet"].float(), "scores": batch["scores"]}
        scaled = {name: (values - self.stats[name][0]) / self.stats[name][1] for name, values in raw.items()}
        return scaled | {"domain": batch["domain"]}


def losses(predicted: Batch, target: Batch, scaler: Scaler) -> dict[str, Tensor]:
    """Mean squared errors of standardized values; of the domains the cross-entropy."""
    known = ~target["scores"].isnan()
    # A mean over time varies less than a frame: `to_frames` predicts both on the frames' scale.
    (frame_mean, frame_std), (mean, std) = scaler.stats["frames"], scaler.stats["mean"]
    clip = (predicted["mean"] * frame_std + frame_mean - mean) / std
    return {
        "frames": F.mse_loss(predicted["frames"], target["frames"]),
        "mean": F.mse_loss(clip, target["mean"]),
        "yamnet": F.mse_loss(predicted["yamnet"], target["yamnet"]),
        "scores": F.smooth_l1_loss(predicted["scores"][known], target["scores"][known]),
        "domain": F.cross_entropy(predicted["domain"], target["domain"]),
    }


@torch.no_grad()
def agreement(learner: Learner, data: Batch, scaler: Scaler) -> dict[str, Any]:
    """Fraction of variance explained, rank correlations of scores (of all and of speech), fraction of domains right."""
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(data["scores"]), EVALUATED):
        batch = {name: values[start : start + EVALUATED] for name, values in data.items()}
        for name, values in learner(batch["log_mel"].float()).items():
            found.setdefault(name, []).append(values)
    predicted, target = {name: torch.cat(values) for name, values in found.items()}, scaler.targets(data)
    (frame_mean, frame_std), (mean, std) = scaler.stats["frames"], scaler.stats["mean"]
    predicted["mean"] = (predicted["mean"] * frame_std + frame_mean - mean) / std
    result: dict[str, Any] = {}
    for name in ("frames", "mean", "yamnet"):
        width = target[name].shape[-1]
        y, z = target[name].reshape(-1, width), predicted[name].reshape(-1, width)
        explained = 1 - (y - z).square().sum() / (y - y.mean(0)).square().sum()
        result[f"{name}_r2"] = round(explained.item(), 4)
    sure = target["domain"].amax(1) > SURE
    speech = target["domain"][:, DOMAINS.index("speech")] > SURE
    for i, name in enumerate(SCORES):
        known = ~target["scores"][:, i].isnan()
        for kind, rows in (("srcc", known), ("speech_srcc", known & speech)):
            rank = spearmanr(predicted["scores"][rows, i], target["scores"][rows, i]).statistic
            result[f"{name}_{kind}"] = round(float(rank), 4)
    right = predicted["domain"].argmax(1) == target["domain"].argmax(1)
    result["domain_right"] = round(right[sure].float().mean().item(), 4)
    return result


def start_weights() -> dict[str, Tensor]:
    """YAMNet's blocks, and random weights after them."""
    torch.manual_seed(0)
    channels, ratings = yamnet.BLOCKS[BLOCKS - 1][0], len(SCORES) + len(DOMAINS)
    layers = {"project": nn.Linear(channels, WIDTH), "rating.0": nn.Linear(2 * WIDTH, HIDDEN)}
    layers |= {"rating.2": nn.Linear(HIDDEN, ratings)}
    state = {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()}
    state["mels"] = torch.full((channels, MELS // STRIDE), STRIDE / MELS)
    return FullBand().state_dict() | state
