"""Whether a precision is good enough for a model: its effect on final scores, measured once and kept on disk.

A low precision changes each frame a little, and only the scores show what that comes to. So a compiled back end
computes in bfloat16 or int8 for a model only after `mmmos doctor --precision` has compared its scores of real clips
with those of torch in float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmmos.encoders.device import low_precision_instructions
from mmmos.encoders.network_cache import cache_folder
from mmmos.errors import PrecisionError
from mmmos.io.atomic import write_text
from mmmos.version import VERSION

if TYPE_CHECKING:
    from mmmos.hub.options import Precision
    from mmmos.model.system import ScoringModel

MIN_SRCC = 0.99
"""Least rank correlation of the scores with those in float32, on each axis."""

MAX_CHANGE = 0.05
"""Most mean change of a score on an axis, in points: tenths of the scale."""


@dataclass(frozen=True)
class PrecisionCheck:
    """The effect of a precision on a model's scores, in points: tenths of the scale. On another CPU it may differ."""

    model_sha256: str
    precision: str
    openvino: str
    clips: int
    srcc: Mapping[str, float | None]  # by rated axis, with the scores in float32; None where scores are all alike
    mean_change: Mapping[str, float]  # by rated axis
    max_change: float
    calibration: str = ""  # of the int8 networks
    instructions: str = ""  # `low_precision_instructions` of the CPU
    mmmos: str = VERSION

    @property
    def passed(self) -> bool:
        """Whether the precision may be used."""
        ranks = all(value is not None and value >= MIN_SRCC for value in self.srcc.values())
        return ranks and all(value <= MAX_CHANGE for value in self.mean_change.values())

    def __str__(self) -> str:
        """One line of figures.

        >>> str(PrecisionCheck("", "int8", "", 40, {"PQ": 0.9957}, {"PQ": 0.021}, 0.168))
        'SRCC to float32 at least 0.9957, mean change at most 0.021, largest change 0.17 points on 40 clips'
        """
        lowest = min(math.nan if value is None else value for value in self.srcc.values())
        return (
            f"SRCC to float32 at least {lowest:.4f}, mean change at most {max(self.mean_change.values()):.3f}, largest"
            f" change {self.max_change:.2f} points on {self.clips} clips"
        )


def require_check(model: ScoringModel, precision: Precision, openvino: str) -> str:
    """The calibration of a model's int8 networks, "" for other precisions.

    float32 needs no check. Raises `PrecisionError` for a precision that was not checked, or did not pass.
    """
    if precision == "float32":
        return ""
    check = find_check(model, precision, openvino)
    if check is None:
        raise PrecisionError(
            f"{precision} on openvino has not been checked for {model.name} on this kind of processor:"
            f" run `mmmos doctor --precision {model.name} CLIPS`, or use --dtype float32"
        )
    if not check.passed:
        raise PrecisionError(
            f"{precision} on openvino changes the scores of {model.name} too much: {check};"
            f" SRCC must be {MIN_SRCC} and the mean change {MAX_CHANGE}: use --dtype float32"
        )
    return check.calibration


def find_check(model: ScoringModel, precision: Precision, openvino: str) -> PrecisionCheck | None:
    """The check of this model by these versions on such a CPU; None if there is none, or it cannot be read."""
    try:
        check = PrecisionCheck(**json.loads(_file(model.sha256, precision).read_text()))
        wanted = model.sha256, precision, openvino, low_precision_instructions(), VERSION
        return check if _key(check) == wanted else None
    except (OSError, ValueError, TypeError):
        return None


def save_check(check: PrecisionCheck) -> None:
    """Keep a check for `find_check`, in place of an earlier one of the same model and precision."""
    write_text(_file(check.model_sha256, check.precision), json.dumps(asdict(check), indent=1) + "\n")


def _file(model_sha256: str, precision: str) -> Path:
    return cache_folder() / "precision" / f"{model_sha256[:16]}-{precision}.json"


def _key(check: PrecisionCheck) -> tuple[str, ...]:
    return check.model_sha256, check.precision, check.openvino, check.instructions, check.mmmos
