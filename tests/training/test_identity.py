"""Hashes of runs: those of commit 577577c come out again, and a setting counts only where it is used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, make_dataclass, replace

import pytest
import torch

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import EncoderSpec
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.model.quality import ModelConfig
from mmmos.training.config import TrainConfig, run_id
from mmmos.training.dataset import Sequences, TrainingSet
from mmmos.training.identity import FIRST_FIELDS, stable_dict, stable_hash, stable_repr
from mmmos.training.settings import PAPER, PRESETS, Settings

SPECS = (
    EncoderSpec("wavlm", (4, 4), "a" * 64, {"layers": "all"}),
    EncoderSpec("m2d", (6,), "b" * 64, {}, "/w/m2d.pt"),
)
ROWS = (LabelledClip(Clip("a.wav", "/x/a.wav"), (1.0, 2.0, 3.0, 4.0), set="s"),)
DATA = TrainingSet(ROWS, Sequences(torch.zeros(1, 2), (0, 1), 0.0), (((0, 1.0),),), torch.zeros(1, 4), "content")

AT_577577C = {
    "paper": ("f241a0a97cc6b404", "df81408299e100a7", "61ed521ff8f63322"),
    "official_code": ("ec83d4dde5c4ed64", "16b35ce67520580a", "727b1d1d9382e635"),
    "best": ("b99d98f0f3aa05a9", "cf97c0f90400490e", "5c289b33b8a20e46"),
    "small": ("de851e8889f6ab54", "8ece86543c56b9b3", "474109f0002ab558"),
}
"""Of a preset with `SPECS`: the hash of an experiment's run and of its training set, and that of a checkpoint's run.

Computed by the code of that commit: `runs._digest` and `train._run_id`.
"""


@pytest.mark.parametrize("name", PRESETS)
def test_hashes_are_those_of_577577c(name: str) -> None:
    settings = PRESETS[name]
    config = settings.model(SPECS)
    used = [("a", (1.0, float("nan")), "s")]
    run = stable_hash(settings, config, 42, {"train": "k"}, ["c"])
    data = stable_hash(("train", "random", 3), used, config.encoders, config.aggregator, config.fusion)
    how = TrainConfig(settings, 7, "s")
    checkpoint = hashlib.sha256(run_id(config, DATA, DATA, how.stable_dict()).encode()).hexdigest()
    assert (run[:16], data[:16], checkpoint[:16]) == AT_577577C[name]


def test_stable_hash_counts_every_setting_that_is_used() -> None:
    changed = [replace(PAPER, muq_via_16k=True), replace(PAPER, lr=1.0), replace(PAPER, wavlm_output="weighted_shared")]
    assert len({stable_hash(settings) for settings in (PAPER, *changed)}) == 4
    assert "muq_via_16k" not in stable_dict(PAPER)
    later = TrainConfig(changed[0]).stable_dict()
    assert later == TrainConfig(PAPER).stable_dict() | {"muq_via_16k": True}
    assert stable_dict(changed[0]) == stable_dict(PAPER) | {"muq_via_16k": True}


def test_stable_repr_ignores_new_fields_at_their_default() -> None:
    first = HeadConfig(head_layers=2, domains=("a",))
    of_577577c = "HeadConfig(layers=2, hidden=None, dropout=0.0, layer_norm=False, domains=('a',))"
    later = make_dataclass("HeadConfig", [("depth", int, 3)], bases=(HeadConfig,), frozen=True)
    assert stable_repr(later(head_layers=2, domains=("a",))) == stable_repr(first) == of_577577c
    assert stable_repr(later(head_layers=2, domains=("a",), depth=4)) == of_577577c[:-1] + ", depth=4)"


def test_stable_repr_refuses_unknown_classes() -> None:
    @dataclass(frozen=True)
    class Other:
        x: int = 0

    with pytest.raises(KeyError, match="Other"):
        stable_repr(Other())


@pytest.mark.parametrize("kind", [Settings, FusionConfig, HeadConfig, ModelConfig, EncoderSpec])
def test_first_fields_still_exist(kind: type) -> None:
    assert set(FIRST_FIELDS[kind.__name__]) <= {item.name for item in fields(kind)}
