"""The choice between the two fits: in closed form or by gradient descent."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Literal

from mmmos.errors import UsageError
from mmmos.training.checkpoint import CHECKPOINT
from mmmos.training.settings import PRESETS, Settings
from mmmos.training.summary import Fit

CLOSED_FORM_CLIPS = 2000
"""With fewer rated clips and the settings of the preset `small`, `fit="auto"` means the closed form."""

CLOSED_FORM_READS = (
    "muq_sample_rate",
    "muq_via_16k",
    "pad_mask",
    "eval_crop",
    "pool",
    "embed_norm",
    "standardize",
    "clip_output",
)
"""The settings that the closed form reads. If another setting is changed, `fit="auto"` means the gradient fit."""


def choose_fit(
    fit: Literal["auto", "closed_form", "gradient"], settings: Settings, clips: int, folder: Path | None = None
) -> Fit:
    """Resolve "auto": the gradient fit if one was interrupted in `folder`, else by number of clips and settings.

    Raises `UsageError` where the closed form would ignore a setting.
    """
    small = PRESETS["small"]
    names = [item.name for item in fields(Settings) if item.name not in CLOSED_FORM_READS]
    ignored = [name for name in names if getattr(settings, name) != getattr(small, name)]
    if fit == "closed_form" and ignored:
        raise UsageError(
            f"the closed form does not read {', '.join(ignored)}: keep the values of the preset small, or choose"
            " --fit gradient"
        )
    if fit != "auto":
        return fit
    if folder is not None and (folder / CHECKPOINT).exists():
        return "gradient"
    return "closed_form" if clips < CLOSED_FORM_CLIPS and not ignored else "gradient"
