"""Make src/mmmos/bundled/musicnn.safetensors and its golden activations from the published package.

Once, in a throw-away environment (Python 3.11; later TensorFlow no longer has the layers that the package is made of):

    pip download --no-deps musicnn==0.1.0
    pip install tensorflow-cpu==2.15.1
    python -m recipes.encoders.musicnn musicnn-0.1.0-py3-none-any.whl musicnn.npz tests/golden/musicnn.npz

That reads the checkpoint out of the wheel and runs the package's own network. Then, in the environment of this project:

    python -m recipes.encoders.musicnn --pack musicnn.npz src/mmmos/bundled/musicnn.safetensors

which gives the same bytes every time. Every variable of the checkpoint is used or named as dropped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np

from recipes.encoders.files import Array, check_wheel, pack

MODEL = "musicnn/MSD_musicnn/"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
EPSILON = 1e-3  # of every BatchNorm
DEAD = 1e-6  # largest weight of a channel that no sound can move; the smallest live channel has 1e-3
GOLDEN_FRAMES = [*range(8), 40, 93, 94, *range(-8, 0)]  # edges, where the zero padding shows, and the middle


def main() -> None:
    """Read the wheel, or pack what was read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", action="store_true", help="VARIABLES.npz OUT.safetensors; needs no TensorFlow")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="WHEEL VARIABLES.npz GOLDEN.npz")
    args = parser.parse_args()
    if len(args.paths) != (2 if args.pack else 3):
        parser.error("give WHEEL VARIABLES.npz GOLDEN.npz, or --pack VARIABLES.npz OUT.safetensors")
    if args.pack:
        variables, out = args.paths
        with np.load(variables) as stored:
            save(convert(dict(stored)), out)
    else:
        read(*args.paths)


def read(wheel: Path, variables: Path, golden: Path) -> None:
    """Read the checkpoint and record what the package's own network makes of it."""
    import tensorflow as tf

    check_wheel(wheel, WHEEL_SHA256)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(MODEL):
                archive.extract(name, folder)
        reader = tf.compat.v1.train.NewCheckpointReader(f"{folder}/{MODEL}")
        names = sorted(reader.get_variable_to_shape_map())
        # the optimiser's moments and step counters: nothing that the network computes with
        kept = [name for name in names if not name.endswith(("/Adam", "/Adam_1")) and "_power" not in name]
        values = {name: reader.get_tensor(name) for name in kept}
    np.savez(variables, **values)

    sys.path.insert(0, str(wheel))
    patches = {"whole": log_mel_patches(0, 2, 187), "tail": log_mel_patches(1, 1, 101)}
    arrays: dict[str, Array] = {"frame_index": np.array(GOLDEN_FRAMES)}
    for name, patch in patches.items():
        frames, penultimate, logits = published_network(round_kernels(values), patch)
        arrays |= {f"{name}_log_mel": patch.astype(np.float16), f"{name}_frames": frames[:, GOLDEN_FRAMES]}
        arrays |= {f"{name}_penultimate": penultimate, f"{name}_logits": logits}
        arrays[f"{name}_logits_float32"] = published_network(values, patch)[2]
        arrays[f"{name}_deviation"] = frames.std(1)  # over time: says which columns are constants
    arrays |= {"output_kernel": values["dense_1/kernel"], "output_bias": values["dense_1/bias"]}
    golden.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(golden, **cast(dict[str, Any], arrays))


def published_network(values: dict[str, Array], log_mel: Array) -> tuple[Array, Array, Array]:
    """Run the package's own graph on log-mel [N, T, 96]: frames [N, T, 753], penultimate [N, 200], logits [N, 50]."""
    import tensorflow as tf
    from musicnn import models

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None, None, log_mel.shape[2]])
        logits, *frames, _, _, penultimate = models.define_model(x, False, "MSD_musicnn", 50)
        # timbral and temporal come as [N, T, C], the three middle layers as [N, T, C, 1]
        joined = tf.concat([tf.reshape(part, [*tf.unstack(tf.shape(x)[:2]), part.shape[2]]) for part in frames], 2)
        graph = {variable.op.name: variable for variable in tf1.global_variables()}
        if graph.keys() != values.keys():
            raise SystemExit(f"graph and checkpoint differ: {sorted(graph.keys() ^ values.keys())}")
        for name, variable in graph.items():
            variable.load(values[name], session)
        result: tuple[Array, Array, Array] = tuple(session.run([joined, penultimate, logits], {x: log_mel}))
    return result


def log_mel_patches(seed: int, n: int, frames: int) -> Array:
    """Made-up log-mel patches [n, frames, 96] with tilt, notes and onsets, exact in float16."""
    rng = np.random.default_rng(seed)
    tilt = np.linspace(3.0, 1.0, 96)
    notes = rng.gamma(0.4, 1.0, (n, 12, 96)) * (rng.random((n, 12, 96)) < 0.2)
    onsets = np.maximum(0, rng.normal(size=(n, frames, 12)).cumsum(1) / 8 + 0.3)
    x = tilt + onsets @ notes - 0.5 * rng.random((n, frames, 1)) + 0.2 * rng.normal(size=(n, frames, 96))
    return x.clip(0, 6).astype(np.float16).astype(np.float32)


def round_kernels(values: dict[str, Array]) -> dict[str, Array]:
    """The kernels as float16 keeps them, but for the output layer, which we do not ship.

    Vectors stay float32: they are few, and a moving variance of 1e-36 would vanish.
    """
    kernels = [name for name in values if name.endswith("/kernel") and not name.startswith("dense_1/")]
    return values | {name: values[name].astype(np.float16).astype(np.float32) for name in kernels}


def convert(values: dict[str, Array]) -> dict[str, Array]:
    """Variables of the checkpoint -> weights of `mmmos.encoders.musicnn.MusiCNN`, dead channels folded away."""
    left = {name: array.astype(np.float64) for name, array in round_kernels(values).items()}
    for name in ("dense_1/kernel", "dense_1/bias"):  # the 50 tags: nobody asks
        del left[name]

    def layer(kind: str, number: int) -> tuple[Array, Array]:
        stem = f"{kind}_{number}" if number else kind
        return left.pop(f"{stem}/kernel"), left.pop(f"{stem}/bias")

    def norm(number: int) -> tuple[Array, Array]:
        stem = f"batch_normalization_{number}" if number else "batch_normalization"
        gamma, beta, mean, var = (left.pop(f"{stem}/{n}") for n in ("gamma", "beta", "moving_mean", "moving_variance"))
        scale = gamma / np.sqrt(var + EPSILON)
        return scale, beta - mean * scale

    weights: dict[str, Array] = {}

    def put(name: str, kernel: Array, bias: Array, scale: Array, shift: Array) -> None:
        weights.update({f"{name}.weight": kernel, f"{name}.bias": bias, f"{name}.scale": scale, f"{name}.shift": shift})

    weights["input.scale"], weights["input.shift"] = norm(0)
    lives, constants = [], []  # constants: what a channel gives when its kernel is nothing
    for i in range(5):
        (kernel, bias), (scale, shift) = layer("conv2d", i), norm(1 + i)
        live = abs(kernel).max((0, 1, 2)) > DEAD
        kernel = kernel.transpose(3, 2, 1, 0)  # frames, mels, 1, channels -> channels, 1, mels, frames
        put(f"front.{i}", kernel[live], bias[live], scale[live], shift[live])
        lives.append(live)
        constants.append(scale * bias.clip(min=0) + shift)
    live, front_constant = np.concatenate(lives), np.concatenate(constants)

    order = np.arange(64)  # of the middle channels: the live ones of the first convolution, then its constants
    columns = [np.flatnonzero(live)]
    for i in range(3):
        (kernel, bias), (scale, shift) = layer("conv2d", 5 + i), norm(6 + i)
        kernel = kernel[:, :, 0].transpose(2, 1, 0)  # frames, inputs, 1, channels -> channels, inputs, frames
        if i == 0:
            dead = abs(kernel).max((1, 2)) <= DEAD
            order = np.argsort(dead, kind="stable")
            constants.append(scale * bias.clip(min=0) + shift)
            columns.append(561 + order[: (~dead).sum()])
            # the first layer's constants end where the zero padding starts, so no bias can stand for them:
            # they must be too small to matter
            lost = abs(kernel[:, ~live] * front_constant[~live][None, :, None]).sum((1, 2)).max()
            if lost > 1e-6:
                raise SystemExit(f"dead channels of the first layer matter to the next: {lost}")
            kernel = kernel[:, live]
        else:
            kernel = kernel[:, order]
            columns.append(561 + 64 * i + order)
        put(f"middle.{i}", kernel[order], bias[order], scale[order], shift[order])
    kept = np.concatenate(columns)

    # rows of the dense layer and of the norm before it: column by column, maximum and mean
    scale, shift = (vector.reshape(753, 2) for vector in norm(9))
    kernel, bias = layer("dense", 0)
    kernel = kernel.reshape(753, 2, 200)
    gone = np.setdiff1d(np.arange(753), kept)
    constant = np.concatenate(constants)[gone, None]  # the last two convolutions have none that reaches here
    bias = bias + np.einsum("cp,cpo->o", scale[gone] * constant + shift[gone], kernel[gone])
    weights["pooled.scale"], weights["pooled.shift"] = scale[kept].T.ravel(), shift[kept].T.ravel()
    put("penultimate", kernel[kept].transpose(2, 1, 0).reshape(200, -1), bias, *norm(10))
    if left:
        raise SystemExit(f"variables without a use: {sorted(left)}")
    weights["columns"] = kept
    return weights


def save(weights: dict[str, Array], out: Path) -> None:
    """Write the weights; which of the published 753 columns they give, in their order, stands in the source."""
    source = {
        "package": "musicnn",
        "version": "0.1.0",
        "model": "MSD_musicnn",
        "wheel_sha256": WHEEL_SHA256,
        "license": "ISC, Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019",
        "columns": weights.pop("columns").tolist(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(pack(weights, source))


if __name__ == "__main__":
    main()
