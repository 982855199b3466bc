"""One model of the ensemble: the fitted parts as weights of the network that the package runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import nn

from mmmos.encoders.base import EncoderSpec
from mmmos.model.heads import HeadConfig
from mmmos.model.quality import QualityModel, build_model
from mmmos.model.system import Member
from mmmos.scores import AXES, Scale
from mmmos.training.settings import PRESETS
from recipes.lite.fit import Parts
from recipes.lite.heads import DOMAINS
from recipes.lite.settings import CHOSEN
from recipes.lite.support import FAMILIAR_SEVERITY

MUSIC = DOMAINS.index("music")


def make_member(parts: Parts, specs: Sequence[EncoderSpec], scale: Scale) -> Member:
    """The model that computes `parts`; its heads have the given scale."""
    support, inputs = parts.nearby.directions.shape
    heads = HeadConfig(domains=DOMAINS, severity=True, support=support, support_inputs=inputs)
    model = build_model(replace(PRESETS["small"].model(specs), heads=heads))
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.zero_()
        standardizer = model.aggregator.standardizer
        assert standardizer is not None
        standardizer.mean.copy_(torch.from_numpy(parts.center))
        standardizer.scale.copy_(torch.from_numpy(parts.factor))
        _set_scores(model, parts, scale)
        _set_severity(model, parts, scale)
        _set_gate(model, parts)
        _set_support(model, parts)
    return Member(model.eval().requires_grad_(False), scale)


def _set_scores(model: QualityModel, parts: Parts, scale: Scale) -> None:
    for i, axis in enumerate(AXES):
        layer = cast(nn.Linear, cast(nn.Sequential, model.heads.axes[axis])[-1])
        for name, line in parts.scores.items():
            at = DOMAINS.index(name)
            layer.weight[at] = torch.from_numpy(line.weight[:, i] / scale.std[i]).float()
            layer.bias[at] = float((line.bias[i] - scale.mean[i]) / scale.std[i])


def _set_severity(model: QualityModel, parts: Parts, scale: Scale) -> None:
    part = model.heads.severity
    assert part is not None
    part.estimate.weight[MUSIC] = torch.from_numpy(parts.severity.weight).float()
    part.estimate.bias[MUSIC] = float(parts.severity.bias) - CHOSEN.threshold
    part.drop[:, MUSIC] = torch.from_numpy(CHOSEN.drop_rates / np.array(scale.std)).float()


def _set_gate(model: QualityModel, parts: Parts) -> None:
    gate = model.heads.gate
    assert gate is not None
    gate.weight.copy_(parts.gate[:, :-1].float())
    gate.bias.copy_(parts.gate[:, -1])


def _set_support(model: QualityModel, parts: Parts) -> None:
    """The distance from the rated songs."""
    support, nearby = model.heads.support, parts.nearby
    assert support is not None
    support.columns.copy_(torch.from_numpy(nearby.columns))
    for name in ("center", "directions", "precision"):
        getattr(support, name).copy_(torch.from_numpy(getattr(nearby, name)))
    support.rest.fill_(nearby.rest)
    support.severity[MUSIC] = 1 / (FAMILIAR_SEVERITY - CHOSEN.threshold)
