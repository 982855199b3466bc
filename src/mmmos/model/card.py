"""The card of a model on a hub: metadata that the hub indexes, then the text of the folder's README.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmmos.hub.terms import TERMS, allows_commercial_use
from mmmos.model.system import ScoringModel
from mmmos.scores import AXES, AXIS_NAMES

TAGS = ("audio", "audio-quality", "mos", "mmmos")

FIGURES = {"SRCC": "spearmanr", "LCC": "pearsonr", "MSE": "mse"}
"""Figures of a training run -> the hub's names of metrics."""


def hub_card(repository: str, model: ScoringModel, license_name: str, text: str) -> str:
    """The card; `text` is the README.md of the model's folder, whose own metadata is replaced."""
    from huggingface_hub import ModelCardData

    name = repository.rpartition("/")[2]
    results = list(_results(model.info.training))
    data = ModelCardData(
        license=license_name,
        license_name="non-commercial" if license_name == "other" else None,
        library_name="mmmos",
        pipeline_tag="audio-classification",
        tags=list(TAGS),
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name if results else None,
        eval_results=results or None,
        commercial_use=allows_commercial_use(license_name),
    )
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).strip()
    return f"---\n{data.to_yaml()}\n---\n\n{body}\n\n{_use(repository)}\n{_facts(model, license_name)}"


def _use(repository: str) -> str:
    return (
        "## Use\n\n```\npip install mmmos\n```\n\n```python\nimport mmmos\n\n"
        f'scorer = mmmos.from_pretrained("{repository}")\nscores = scorer.score("clip.wav")\n```\n\n'
        f"or `mmmos score clip.wav --model {repository}`.\n"
    )


def _facts(model: ScoringModel, license_name: str) -> str:
    info = model.info
    axes = ", ".join(f"{axis} ({AXIS_NAMES[axis]})" for axis in info.rated)
    encoders = ", ".join(
        f"{spec.name} ({TERMS[spec.name].source})" if spec.name in TERMS else spec.name for spec in model.encoders
    )
    use = "allows" if allows_commercial_use(license_name) else "forbids"
    return (
        f"## Facts\n\n- Scores: {axes}, on the scale {info.scale}.\n- Members: {len(model.members)}.\n"
        f"- Encoders, fetched or bundled, never part of this repository: {encoders}.\n"
        f"- Licence of the heads: {license_name}, which {use} commercial use. The encoders have their own:"
        " `mmmos licenses`.\n"
        f"- {'Checked' if info.calibrated else 'Not checked'} against raters outside the training data.\n"
    )


def _results(training: Mapping[str, Any]) -> Any:
    """Figures of held-out clips as the hub's results; those that are undefined are left out."""
    from huggingface_hub import EvalResult

    agreement, clips = training.get("agreement") or {}, training.get("result", {}).get("agreement_on")
    for axis in AXES:
        for figure, metric in FIGURES.items():
            value = agreement.get(axis, {}).get(figure)
            if value is not None:
                yield EvalResult(
                    task_type="audio-classification",
                    dataset_type="held-out",
                    dataset_name=f"the training data's own {clips or 'held-out clips'}",
                    metric_type=metric,
                    metric_name=f"{figure} of {axis}",
                    metric_value=round(float(value), 4),
                )
