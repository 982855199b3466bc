"""The back end OpenVINO: parts of encoders as networks, converted once, kept on disk, run on the CPU.

The form "float" of a network serves float32 and bfloat16, which is chosen when it is compiled for the processor; "int8"
has quantised weights and activations, whose ranges are those of the calibration windows.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import Tensor, nn

from mmmos.encoders.compiled import SECONDS, Part, dynamic_shapes, noise, recorded, with_parts
from mmmos.encoders.device import low_precision_instructions
from mmmos.encoders.network_cache import FILES, Form, NetworkKey, is_saved, saving
from mmmos.errors import BackendError, MissingExtraError

if TYPE_CHECKING:
    from mmmos.encoders.base import Encoder
    from mmmos.hub.options import Precision

OLDEST = (2025, 0)
"""Oldest version of OpenVINO that is used."""

TOLERANCE = 1e-4
"""Largest difference of a float32 network from torch; where outputs are above 1, as a fraction of the largest."""


@cache
def load_openvino() -> Any:
    """The module `openvino`. Raises `MissingExtraError` if it is not installed, `BackendError` if it is too old."""
    try:
        module = importlib.import_module("openvino")
    except ImportError as error:
        raise MissingExtraError("the openvino back end needs OpenVINO: pip install 'mmmos[fast]'") from error
    version = str(module.__version__)
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < OLDEST:
        raise BackendError(f"OpenVINO {version} is too old: pip install --upgrade 'mmmos[fast]'")
    return module


def compile_encoder(encoder: Encoder, precision: Precision, calibration: str = "") -> Encoder:
    """A copy of an encoder whose parts OpenVINO runs; in int8, as `quantise_encoder` made them for a calibration.

    The first call converts the parts, which takes seconds. Raises `MissingExtraError`, and `BackendError` if a part
    cannot be converted or compiled, differs from torch in float32, or has not been quantised.
    """
    load_openvino()
    fingerprint, converted = encoder.fingerprint(), dict[str, Any]()

    def compiled(name: str, part: Part) -> Part:
        key = network_key(encoder, fingerprint, name, "int8" if precision == "int8" else "float", calibration)
        if not is_saved(key):
            if precision == "int8":
                raise BackendError(f"no int8 network of {encoder.name} ({name}); run `mmmos doctor --precision` again")
            if not converted:
                converted.update(convert(encoder))
            save_network(converted[name], key)
        return Network(load_openvino().Core().read_model(key.folder / FILES[0]), precision)

    return with_parts(encoder, compiled)


def network_key(encoder: Encoder, fingerprint: str, part: str, form: Form, calibration: str) -> NetworkKey:
    """The key of a network of the installed version."""
    version = str(load_openvino().__version__)
    if form == "float":
        return NetworkKey(encoder.name, fingerprint, part, form, "", version)
    return NetworkKey(encoder.name, fingerprint, part, form, calibration, version, low_precision_instructions())


def save_network(model: Any, key: NetworkKey) -> None:
    """Keep a model of OpenVINO on disk."""
    with saving(key) as folder:
        load_openvino().save_model(model, folder / FILES[0], compress_to_fp16=False)


class _Traced(nn.Module):
    """A part as a module, which tracing needs."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part, self.encoder = part, getattr(part, "__self__", None)

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.part(*tensors)


def convert(encoder: Encoder) -> dict[str, Any]:
    """Each part as a model of OpenVINO, checked on a clip of another length than it was traced with."""
    openvino = load_openvino()
    failures: tuple[type[Exception], ...] = (RuntimeError, TypeError, ValueError, *_failures(openvino))
    parts, calls = recorded(encoder, (noise(encoder, *sizes) for sizes in SECONDS))
    _, others = recorded(encoder, [noise(encoder, 1, 5.1)])
    models = {}
    for name, part in parts.items():
        shapes = [openvino.PartialShape(shape) for shape in dynamic_shapes(calls[name])]
        try:
            with quiet(), torch.no_grad():
                models[name] = openvino.convert_model(_Traced(part), example_input=calls[name][0], input=shapes)
        except failures as error:
            raise BackendError(f"OpenVINO cannot convert {encoder.name} ({name}): {first_line(error)}") from error
        network = Network(models[name], "float32")
        for inputs in others[name]:
            with torch.no_grad():
                expected = part(*inputs)
            change = float((network(*inputs) - expected).abs().max() / expected.abs().max().clamp(min=1))
            if not change <= TOLERANCE:
                raise BackendError(f"OpenVINO's {encoder.name} ({name}) differs from torch by {change:.1e}")
    return models


def _failures(openvino: Any) -> tuple[type[Exception], ...]:
    """Errors of OpenVINO's front end, which have no base class of their own."""
    names = ("GeneralFailure", "InitializationFailure", "NotImplementedFailure", "OpConversionFailure")
    return tuple(getattr(openvino.frontend, name) for name in (*names, "OpValidationFailure"))


class Network:
    """A model, compiled for this processor: float32 tensors in, one out. Not for several threads at a time."""

    def __init__(self, model: Any, precision: Precision) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "float32" else "bf16",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # processes next to each other would be pinned to the same cores
        }
        try:
            self._compiled = load_openvino().Core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot compile a network: {first_line(error)}") from error

    def __call__(self, *tensors: Tensor) -> Tensor:
        """The output of the part for its inputs."""
        arrays = [tensor.detach().float().contiguous().numpy() for tensor in tensors]
        found = self._compiled(arrays if len(arrays) > 1 else arrays[0], share_inputs=True)
        return torch.from_numpy(found[0])


@contextmanager
def quiet() -> Iterator[None]:
    """For conversions: no usage statistics to the makers of OpenVINO, no warnings of tracing, no progress bars.

    A conversion that fails leaves the root logger as OpenVINO has set it up; this restores it.
    """
    off, root = {"CI": "true", "NNCF_CI": "1"}, logging.getLogger()
    level, handlers, filters = root.level, root.handlers[:], root.filters[:]
    try:
        with mock.patch.dict(os.environ, off), redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.handlers[:], root.filters[:] = handlers, filters


def first_line(error: Exception) -> str:
    """The first line of a message, which may have a hundred."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
