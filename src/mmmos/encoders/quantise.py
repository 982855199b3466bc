"""int8 networks of an encoder's parts, by NNCF's post-training quantisation with a fallback per layer and per part.

Weights and activations are rounded to 8 bits, by ranges from calibration windows. Where the outputs of a part then
change too much, the layers that contribute most stay in bfloat16, and if that does not help, the whole part does.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmmos.encoders.compiled import Inputs, noise, recorded
from mmmos.encoders.network_cache import is_saved
from mmmos.encoders.openvino_networks import (
    Network,
    convert,
    first_line,
    load_openvino,
    network_key,
    quiet,
    save_network,
)
from mmmos.errors import BackendError, MissingExtraError

if TYPE_CHECKING:
    from mmmos.encoders.base import Encoder

MAX_NOISE = 0.07
"""Largest RMS error of an int8 part, as a fraction of the standard deviation of its outputs."""

MOST_LAYERS = 12
"""Layers up to which each is left out in turn, to find those that contribute most to the error."""

SECONDS = 3.0
"""Length of a calibration window: ranges of longer ones are the same, and take longer."""

OTHER_SECONDS = 5.1
"""Length of a clip that shows whether a network takes other lengths, too."""


def quantise_encoder(encoder: Encoder, waves: Iterable[Tensor], calibration: str) -> None:
    """Make the int8 networks of an encoder's parts, with ranges from waveforms [B, S] at its sample rate.

    Raises `BackendError`, `MissingExtraError`.
    """
    load_openvino()
    fingerprint, floats = encoder.fingerprint(), dict[str, Any]()
    parts, calls = recorded(encoder, (wave[:, : round(SECONDS * encoder.sample_rate)] for wave in waves))
    _, others = recorded(encoder, [noise(encoder, 1, OTHER_SECONDS)])
    for name in parts:
        key = network_key(encoder, fingerprint, name, "int8", calibration)
        if not is_saved(key):
            floats = floats or convert(encoder)
            save_network(_Quantiser(floats[name], calls[name], others[name]).best(), key)


class _Quantiser:
    """Quantises one model with the inputs of calls of its part, and tries it on `others`, of another length."""

    def __init__(self, model: Any, calls: Sequence[Inputs], others: Sequence[Inputs]) -> None:
        self.model, self.calls, self.others = model, calls, others
        exact = Network(model, "float32")
        self.expected = [exact(*inputs) for inputs in calls]
        self.shapes = [exact(*inputs).shape for inputs in others]
        with quiet():
            try:
                self.nncf = importlib.import_module("nncf")
            except ImportError as error:
                raise MissingExtraError("int8 needs NNCF: pip install 'mmmos[fast]'") from error
        logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function changes the level of all handlers, too

    def best(self) -> Any:
        """The model in int8, without the layers that contribute most to the error; itself if that does not do."""
        layers = [op.get_friendly_name() for op in self.model.get_ops() if op.get_type_name() in _LAYERS]
        quantised = self._quantised(())
        noise = self._noise(quantised)
        if MAX_NOISE < noise < math.inf and len(layers) <= MOST_LAYERS:
            gains = {layer: noise**2 - self._noise(self._quantised((layer,))) ** 2 for layer in layers}
            left_out: list[str] = []
            remaining = noise**2  # errors of layers are nearly independent: their squares add up
            for layer in sorted(gains, key=gains.__getitem__, reverse=True)[: len(layers) // 2]:
                left_out.append(layer)
                remaining -= gains[layer]
                if remaining <= MAX_NOISE**2:
                    break
            quantised = self._quantised(left_out)
            noise = self._noise(quantised)
        return quantised if noise <= MAX_NOISE else self.model

    def _quantised(self, left_out: Sequence[str]) -> Any:
        """The model in int8 with ranges from histograms, or from extremes where a tensor is nearly constant."""
        sets = self.nncf.quantization.range_estimator.RangeEstimatorParametersSet
        with quiet():
            try:
                return self._quantised_in(sets.HISTOGRAM, left_out)
            except (RuntimeError, TypeError, ValueError):
                pass
            try:
                return self._quantised_in(sets.MINMAX, left_out)
            except (RuntimeError, TypeError, ValueError) as error:
                raise BackendError(f"NNCF cannot quantise a network: {first_line(error)}") from error

    def _quantised_in(self, ranges: Any, left_out: Sequence[str]) -> Any:
        nncf = self.nncf
        arrays = [[tensor.numpy() for tensor in inputs] for inputs in self.calls]
        attention = any(op.get_type_name() == _ATTENTION for op in self.model.get_ops())
        # Axis 1 is time there, and NNCF takes it for that of the channels: its ranges would fit one length only.
        one_range = nncf.quantization.advanced_parameters.QuantizationParameters(per_channel=False)
        return nncf.quantize(
            self.model.clone(),
            nncf.Dataset([inputs if len(inputs) > 1 else inputs[0] for inputs in arrays]),
            subset_size=len(arrays),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if attention else None,
            ignored_scope=nncf.IgnoredScope(names=list(left_out)) if left_out else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=ranges,
                activations_quantization_params=one_range if attention else None,
            ),
        )

    def _noise(self, model: Any) -> float:
        """RMS change of the outputs, as a fraction of their standard deviation; infinite if another length fails."""
        near = Network(model, "int8")
        try:
            shapes = [near(*inputs).shape for inputs in self.others]
        except RuntimeError:  # of OpenVINO, where dimensions do not fit together
            return math.inf
        if shapes != self.shapes:
            return math.inf
        change = sum(
            float((near(*inputs) - expected).square().sum())
            for inputs, expected in zip(self.calls, self.expected, strict=True)
        )
        spread = sum(float((expected - expected.mean()).square().sum()) for expected in self.expected)
        return float((change / max(spread, 1e-12)) ** 0.5)


_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
_ATTENTION = "ScaledDotProductAttention"
"""Networks with it have outliers of single channels, which are moved to the weights: those have a range per channel."""
