"""Make src/mmmos/bundled/dnsmos.safetensors and its golden activations from the published package.

    python -m recipes.encoders.dnsmos WHEEL src/mmmos/bundled/dnsmos.safetensors tests/golden/dnsmos.npz

Once, in a throw-away environment with what the package needs and this project does without (librosa, onnx,
onnxruntime, requests, safetensors); the wheel is that of `pip download --no-deps speechmos==0.0.1.1`.

Every tensor of the ONNX graph is used, or the script stops. Kernels and matrices are stored in float16, biases in
float32. The same wheel gives the same bytes.
"""

from __future__ import annotations

import sys
import zipfile
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from recipes.encoders.files import Array, in_half_precision, pack, parse_arguments

WHEEL_SHA256 = "31c4c9d3234f6ee10102edff74333014c50006a3f389daf7ecacae34e68ebbf7"
MODEL = "speechmos/dnsmos_models/model_v8.onnx"
SOURCE = {
    "package": "speechmos",
    "version": "0.0.1.1",
    "model": MODEL,
    "wheel_sha256": WHEEL_SHA256,
    "license": "MIT, Copyright (c) Microsoft Corporation",
}
RATE, SECONDS = 16_000, 9.01  # of the clips that the package reads


def main() -> None:
    """Convert the weights, and record what the package makes of made-up sounds."""
    import onnx

    args = parse_arguments(__doc__, WHEEL_SHA256)
    with zipfile.ZipFile(args.wheel) as archive:
        model = onnx.load_model_from_string(archive.read(MODEL))
    args.out.write_bytes(pack(convert(model), SOURCE))
    sys.path.insert(0, str(args.wheel))
    np.savez_compressed(args.golden, **cast(dict[str, Any], record(model)))


def convert(model: Any) -> dict[str, Array]:
    """The tensors of the graph as weights of `mmmos.encoders.dnsmos.DNSMOS`."""
    from onnx.numpy_helper import to_array

    graph = model.graph
    tensors = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    operations = [(node.op_type, [tensors.pop(name) for name in node.input if name in tensors]) for node in graph.node]
    convolutions = [found for kind, found in operations if kind == "Conv"]
    products = [found[0] for kind, found in operations if kind == "MatMul"]
    biases = [found[0] for kind, found in operations if kind == "Add"]
    used = 2 * len(convolutions) + len(products) + len(biases)
    if tensors or used != len(graph.initializer):
        raise SystemExit(f"tensors without a use: {sorted(tensors)} or {len(graph.initializer) - used} more")
    weights: dict[str, np.ndarray] = {}
    for i, (kernel, bias) in enumerate(convolutions):
        weights |= {f"convs.{i}.weight": kernel, f"convs.{i}.bias": bias}
    for i, (matrix, bias) in enumerate(zip(products, biases, strict=True)):
        weights |= {f"rating.{2 * i}.weight": matrix.T, f"rating.{2 * i}.bias": bias}
    return weights


def record(model: Any) -> dict[str, Array]:
    """A sound; the log-mel of 9.01 s of it, over and over; the network's score, by weights rounded as ours too.

    The package's own call would go on to the seconds after those, and average.
    """
    import onnxruntime
    from speechmos.dnsmos import DNSMOS

    wave = made_up_sound()
    samples = np.tile(wave, 4)[: int(SECONDS * RATE)].astype(np.float32) / 2**15
    log_mel = DNSMOS.audio_melspec(None, samples[:-160]).astype(np.float32)  # as in its __call__
    scores = [
        onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"input_1": log_mel[None]})[0][0, 0]
        for graph in (model, in_half_precision(model))
    ]
    return {"wave": wave, "log_mel": log_mel[::10], "published": scores[0], "rounded": scores[1]}


def made_up_sound() -> NDArray[np.int16]:
    """Three seconds of harmonics that rise and fall, and noise."""
    rng = np.random.default_rng(0)
    t = np.arange(3 * RATE) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / RATE
    voice = sum(np.sin(k * pitch) / k * (1 + np.sin(2 * np.pi * (0.9 + 0.3 * k) * t)) for k in range(1, 20))
    loud = np.clip(np.sin(2 * np.pi * 1.5 * t) + 0.5, 0, None)
    return np.asarray(1500 * (voice * loud + 0.1 * rng.normal(size=t.size)), dtype=np.int16)


if __name__ == "__main__":
    main()
