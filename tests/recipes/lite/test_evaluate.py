"""The figures of the bundled model's card, on tables small enough to work out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import EncoderSpec
from mmmos.model.quality import ModelConfig
from mmmos.training.dataset import Sequences, TrainingSet
from recipes.lite import evaluate as study
from recipes.lite.heads import FREE, MUSIC, REMIXED

CONFIG = ModelConfig(
    tuple(EncoderSpec(name, columns, "none") for name, columns in [("distillmos", (200, 1)), ("spectrum", (64,))])
)
NAN = float("nan")


def free(group: str, kind: str, severity: int, set_: str = FREE) -> LabelledClip:
    clip = Clip(f"{group}-{kind}-{severity}", f"{group}-{kind}-{severity}.flac")
    row = LabelledClip(clip, (math.nan,) * 4, domain="speech")
    return replace(row, group=group, system=f"{kind} {severity}", set=set_, source=f"package of {group}")


def rated(song: str, stem: str, label: float) -> LabelledClip:
    return LabelledClip(Clip(f"{song} {stem}"), (NAN, NAN, NAN, label), stem, "music", group=song, set=MUSIC)


def evaluation(
    *rows: LabelledClip, limits: dict[str, str] | None = None, config: ModelConfig = CONFIG, heard: float = 0.0
) -> study.Evaluation:
    width = 2 * sum(sum(spec.block_dims) for spec in config.encoders)
    inputs = Sequences(heard * torch.arange(len(rows) * width).reshape(len(rows), -1), tuple(range(len(rows) + 1)), 1.0)
    crops = tuple(((i, 1.0),) for i in range(len(rows)))
    table = TrainingSet(tuple(rows), inputs, crops, torch.zeros(len(rows), 4))
    return study.Evaluation(table, config, {}, limits or {})


def test_the_columns_of_an_encoder_are_its_means_and_deviations():
    assert study.columns_of(CONFIG, ["distillmos", "spectrum"]).tolist() == [1.0] * 530
    assert study.columns_of(CONFIG, ["spectrum"]).tolist() == [0.0] * 402 + [1.0] * 128


def test_folds_hold_out_whole_packages_and_songs():
    song = replace(free("song", "separated", 2, REMIXED), source="song")
    found = evaluation(free("a", "clean", 0), free("a", "hum", 2), rated("song", "bass", 5), song)
    a, b, c, d = (found.fold_of(row) for row in found.rows)
    assert a == b
    assert c == d


def test_order_counts_pairs_of_a_recording_by_domain_and_kind():
    rows = [free("a", "clean", 0), free("a", "hum", 1), free("a", "hum", 3), free("b", "clean", 0), free("b", "mp3", 2)]
    told = evaluation(*rows, limits={"b-mp3-2.flac": "3400 after"}).order(np.array([3.0, 2.0, 2.5, 1.0, 0.0]))
    hum = [pytest.approx(2 / 3, abs=0.01), 3]
    assert told == {
        "speech": [0.75, 4],
        "speech, hum": hum,
        "speech, mp3": [1.0, 1],
        "speech, band limited": [1.0, 1],
    }


def test_sources_are_counted_apart_from_damage():
    rows = [free("a", "clean", 0), free("a", "sources", 2), free("a", "sources", 4), free("a", "hum", 4)]
    assert evaluation(*rows).counts(np.array([1.0, 2.0, 1.5, 0.0])) == {"speech": [0.67, 3]}


def test_separated_vocals_are_ranked_within_a_song_and_kind():
    rows = [free(song, "clean", 0, REMIXED) for song in "ab"]
    rows += [free(song, "separated", level, REMIXED) for song in "ab" for level in (1, 2)]
    told = evaluation(*rows).separated(np.array([9.0, 0.0, 8.0, 7.0, 1.0, 2.0]))
    assert told["srcc"] == 0.0  # one song in order, one upside down
    assert told["low"] < 0 < told["high"]


def test_the_mean_of_a_stem_knows_nothing_of_the_clips_own_song():
    rows = [
        rated("a", "bass", 4),
        rated("b", "bass", 6),
        rated("c", "bass", 8),
        rated("a", "drums", 1),
        rated("b", "drums", 3),
    ]
    assert evaluation(*rows).stem_means()[:, study.PQ].tolist() == [7, 6, 5, 3, 1]


def test_encoders_with_a_score_of_their_own_stand_beside():
    config = ModelConfig((*CONFIG.encoders, EncoderSpec("dnsmos", (1,), "none")))
    found = evaluation(rated("a", "bass", 4), rated("b", "bass", 6), config=config, heard=1.0)
    width = 402 + 128 + 2
    assert {name: told.tolist() for name, told in found.others.items()} == {
        "DistillMOS": [200, width + 200],
        "DNSMOS": [530, width + 530],
    }
