"""Build the bundled model `lite`, from the published packages and human ratings to the files in the wheel.

    OMP_NUM_THREADS=1 python -m recipes.lite.build --data DIR [--work build/lite]

DIR holds `musdb18_aes/` and `codec_mushra/`, each a `manifest.csv` with its audio, and `labels/`, the AES ratings.
Steps whose results are in the work folder already are skipped, so an interrupted build resumes; the same data,
versions and number of threads give the same model.

    1  corpus     free recordings, fetched and cut (corpus.py)
    2  features   recordings, versions, mixes (versions.py, separated.py, mixes.py, spoken.py), each encoded once
    3  heads      solved in closed form, each member without a fifth of the groups (fit.py, speech.py, member.py)
    4  lite       the ensemble, saved with its card

The encoders are the bundled ones: `recipes/encoders` converted YAMNet, `recipes/student` trained the student.
"""

from __future__ import annotations

import argparse
import logging
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
from recipes.lite.held_out import held_out, residual_std
from recipes.lite.member import make_member
from recipes.lite.mixes import inputs_of, make_mixes

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "src" / "mmmos" / "bundled"
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
    labels = dict.fromkeys(AXES, len(versions.songs_of(examples.rows)))
    labels["PQ"] += sum(voice.set == CODEC for voice in examples.voices)
    return {"clips": dict(sorted(clips.items())), "labels": labels}


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes, codec_mushra and labels")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    parser.add_argument("--out", type=Path, default=BUNDLED / "lite", help="folder of the model")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    norms = read_norms(options.data / "labels")
    examples = read_examples(options.data.resolve(), options.work.resolve())
    parts = [fit_parts(examples, norms, part) for part in range(PARTS)]
    scale = Scale.fit(np.array([examples.rows[i].labels for i in versions.songs_of(examples.rows)]))
    members = [make_member(own, examples.specs, scale) for own in parts]
    residual = residual_std(examples.rows, held_out(examples, parts), norms)
    info = replace(ModelInfo.of_training(training_of(examples), basis=BASIS), residual_std=residual)
    weights = equal_weights(range(len(members)), len(members), len(AXES)).astype(np.float64)
    card = "The model `lite`: what it rests on and what it must not be used for stands in docs/MODEL_CARD.md.\n"
    save_ensemble(options.out, members, weights, info, card)
    checked = replace(info, check=check_scores(load_model(options.out)))
    save_ensemble(options.out, members, weights, checked, card)
    print(f"{options.out}: {load_model(options.out).sha256}")


if __name__ == "__main__":
    main()
