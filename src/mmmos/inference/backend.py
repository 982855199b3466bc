"""What runs a model's encoders: torch, or a compiled back end in a precision that was checked on the model's scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mmmos.encoders.base import Encoder
from mmmos.encoders.openvino_networks import compile_encoder, load_openvino
from mmmos.errors import BackendError, MissingExtraError, PrecisionError
from mmmos.hub.options import LoadOptions, Precision
from mmmos.inference.precision import require_check
from mmmos.model.system import ScoringModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """Encoders as they run, and what the rows report of them."""

    encoders: Mapping[str, Encoder]
    backend: str = "torch"
    precision: Precision = "float32"

    @property
    def arithmetic(self) -> torch.dtype:
        """The dtype that torch computes in; next to a compiled back end, it computes in float32."""
        half = self.backend == "torch" and self.precision == "bfloat16"
        return torch.bfloat16 if half else torch.float32


def choose_backend(
    model: ScoringModel, encoders: Mapping[str, Encoder], options: LoadOptions, device: torch.device
) -> Running:
    """The encoders in the precision and on the back end of the options.

    Where the back end was not requested by name and cannot be used, they run in torch in float32, and a warning says
    why. Raises `PrecisionError` for a precision that the model was not checked in, or whose check it failed; for a back
    end that was requested by name, `BackendError` and `MissingExtraError`.
    """
    if options.running_backend == "torch":
        return Running(encoders, precision=options.precision)
    try:
        if device.type != "cpu":
            raise BackendError(f"the openvino back end is for the CPU, not for {device}: use --device cpu")
        version = str(load_openvino().__version__)
        calibration = require_check(model, options.precision, version)
        compiled = {
            name: compile_encoder(encoder, options.precision, calibration) for name, encoder in encoders.items()
        }
    except PrecisionError:
        raise
    except (BackendError, MissingExtraError) as error:
        if options.backend == "openvino":
            raise
        logger.warning("%s; scoring with torch in float32", error)
        return Running(encoders)
    return Running(compiled, "openvino", options.precision)
