"""Heads on YAMNet and FullBand: what they learn from made-up inputs, and the model that they are added to."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mmmos.encoders.base import EncoderSpec, Features
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.model.quality import ModelConfig, build_model
from mmmos.model.system import Member
from mmmos.scores import AXES, Scale
from recipes.lite import wide
from recipes.lite.heads import CE, DOMAINS, FREE, MUSIC, PC, PQ, Norms
from recipes.lite.mixes import Mix
from recipes.lite.support import FAMILIAR_SEVERITY
from recipes.lite.wide_heads import (
    DROPS,
    SPEECH_SPREAD,
    STEEPNESS,
    THRESHOLD,
    Examples,
    Wide,
    drops,
    fit_wide,
    mean_columns,
    standardised,
    widened,
)
from tests.sounds import music

D, F = 12, 6  # values per frame of an imaginary YAMNet and of an imaginary FullBand, which has two blocks
SPECS = (EncoderSpec("yamnet", (D,), "imaginary"), EncoderSpec("fullband", (2, F - 2), "imaginary"))
MEANS, STDS = {"CE": 5.0, "CU": 5.0, "PC": 3.6, "PQ": 5.7}, {"CE": 1.0, "CU": 1.0, "PC": 0.9, "PQ": 1.0}
SOUND = Norms(MEANS, STDS, np.array([[1.0, 0.4, 0.1], [0.5, 0.8, 0.0]]))
SPEECH = Norms(MEANS | {"PC": 1.4}, STDS, np.array([[0.2, 0.6, 0.3], [0.1, 0.9, 0.1]]))
NORMS = {"speech": SPEECH, "sound": SOUND}
UNRATED = (math.nan,) * len(AXES)


def made_up(count: int = 400) -> tuple[list[wide.Version], np.ndarray]:
    """Inputs: YAMNet's means 1 and 2 are the domain, 3 the songs' ratings, and FullBand's mean 0 is the severity."""
    rng = np.random.default_rng(0)
    rows, inputs = [], rng.normal(0, 1, (count, 2 * (D + F)))
    for i in range(count):
        domain, song = DOMAINS[i % 3], i % 6 == 1
        severity = 0.0 if rng.random() < 0.5 else float(rng.random())
        labels = tuple(6 + 0.5 * inputs[i, 3] for _ in AXES) if song else UNRATED
        scene = "phone" if severity else "clean"
        group = str(i)
        rows.append(wide.Version(group, domain, MUSIC if song else FREE, group, "source", scene, severity, labels))
        inputs[i, 2 * D] = severity + 0.02 * rng.normal()
        inputs[i, 1:3] = 3.0 * (domain == "speech"), 3.0 * (domain == "music")
    return rows, inputs


@pytest.fixture(scope="module")
def fitted() -> tuple[list[wide.Version], np.ndarray, Wide]:
    rows, inputs = made_up()
    return rows, inputs, fit_wide(Examples(rows, inputs, [], np.zeros((0, inputs.shape[1])), SPECS), NORMS)


def base() -> Member:
    """A model with domains and another encoder."""
    torch.manual_seed(0)
    heads = HeadConfig(domains=DOMAINS)
    fusion = FusionConfig(pool="mean_std", embed_norm="none", standardize=True)
    model = build_model(ModelConfig((EncoderSpec("spectrum", (3,), "imaginary"),), "mlp", fusion, heads))
    return Member(model.eval().requires_grad_(False), Scale((5.0, 6.0, 4.0, 7.0), (1.0, 0.5, 2.0, 0.8)))


def scores_of(member: Member, other: np.ndarray, inputs: np.ndarray, domain: str) -> np.ndarray:
    """Points [N, A] of a model that takes every clip for one domain."""
    model = member.model
    assert model.heads.gate is not None
    model.heads.gate.weight.zero_()
    model.heads.gate.bias.copy_(torch.tensor([100.0 * (name == domain) for name in DOMAINS]))
    frames = torch.from_numpy(np.concatenate([other, inputs], axis=1)).float()[:, None]
    frames = frames[..., : model.aggregator.input_dim]
    reduced = Features(frames, torch.ones(frames.shape[:2], dtype=torch.bool), 0.0)
    return np.asarray(member.scale.to_labels(model.from_reduced(reduced).double().numpy()))


def test_severity_and_gate_are_learned(fitted: tuple[list[wide.Version], np.ndarray, Wide]) -> None:
    rows, inputs, found = fitted
    x = standardised(inputs, found.center, found.factor, SPECS)
    music_rows = [i for i, row in enumerate(rows) if row.domain == "music"]
    severity = np.array([rows[i].severity for i in music_rows])
    assert np.corrcoef(found.severity["music"](x)[music_rows], severity)[0, 1] > 0.8
    gate = found.gate.numpy()
    guessed = (x @ gate[:, :-1].T + gate[:, -1]).argmax(1)
    assert np.mean([DOMAINS[i] == row.domain for i, row in zip(guessed, rows, strict=True)]) > 0.95


def test_sound_falls_with_severity_on_the_scale_of_its_ratings(
    fitted: tuple[list[wide.Version], np.ndarray, Wide],
) -> None:
    rows, inputs, found = fitted
    sound = [i for i, row in enumerate(rows) if row.domain == "sound"]
    scores = found.sound(standardised(inputs, found.center, found.factor, SPECS)[sound])
    axis = AXES.index("PQ")
    assert scores[:, axis].mean() == pytest.approx(SOUND.mean["PQ"])
    assert scores[:, axis].std() == pytest.approx(0.8 * SOUND.std["PQ"])
    assert np.corrcoef(scores[:, axis], [rows[i].severity for i in sound])[0, 1] < -0.8


def test_widened_model_keeps_pq_of_speech_and_scores_music_by_its_own_parts(
    fitted: tuple[list[wide.Version], np.ndarray, Wide],
) -> None:
    _, inputs, found = fitted
    member, other = base(), np.random.default_rng(1).normal(0, 1, (len(inputs), 6))
    grown = widened(member, SPECS, found, SPEECH)
    before, after = (scores_of(m, other, inputs, "speech") for m in (member, grown))
    x = standardised(inputs, found.center, found.factor, SPECS)
    voice = np.maximum(0, found.severity["speech"](x) - THRESHOLD)[:, None] * drops(SPEECH)["speech"]
    own = SPEECH_SPREAD * before[:, PQ] + (1 - SPEECH_SPREAD) * SPEECH.mean["PQ"]
    np.testing.assert_allclose(after[:, PQ], own - voice[:, PQ], atol=1e-3)
    np.testing.assert_allclose(after[:, PC], found.pc(x), atol=1e-3)
    np.testing.assert_allclose(after[:, CE], 0.2 + 0.6 * after[:, PQ] + 0.3 * after[:, PC], atol=1e-3)
    lost = STEEPNESS * np.maximum(0, found.severity["music"](x) - THRESHOLD)[:, None] * [DROPS[axis] for axis in AXES]
    expected = found.music(x) - lost
    np.testing.assert_allclose(scores_of(grown, other, inputs, "music"), expected, atol=1e-3)


def test_each_part_uses_the_means_of_its_encoder(fitted: tuple[list[wide.Version], np.ndarray, Wide]) -> None:
    found, columns = fitted[2], mean_columns(SPECS)
    assert [int(of.sum()) for of in columns.values()] == [D, F]
    assert all(np.array_equal(line.weight != 0, columns["fullband"]) for line in found.severity.values())
    assert np.array_equal(found.nearby.columns, np.flatnonzero(columns["fullband"]))
    assert np.array_equal(found.gate[:, :-1].abs().sum(0).numpy() > 0, columns["yamnet"])
    assert np.array_equal(np.abs(found.music.weight).sum(1) > 0, columns["yamnet"] | columns["fullband"])


def test_novelty_of_the_model_is_the_distance_or_the_severity(
    fitted: tuple[list[wide.Version], np.ndarray, Wide],
) -> None:
    _, inputs, found = fitted
    grown, start = widened(base(), SPECS, found, SPEECH).model, 6
    x = standardised(inputs, found.center, found.factor, SPECS)
    vectors = torch.from_numpy(np.concatenate([np.zeros((len(x), start)), x], axis=1)).float()
    severity = np.maximum(0, found.severity["music"](x) - THRESHOLD) / (FAMILIAR_SEVERITY - THRESHOLD)
    expected = np.maximum(found.nearby.distance(x), severity)
    np.testing.assert_allclose(grown.heads.novelty(vectors).numpy(), expected, rtol=1e-3, atol=1e-3)
    assert 0.05 < np.mean(expected > 1) < 0.95


def test_complexity_of_a_mix_lies_between_those_of_its_parts() -> None:
    rows, inputs = made_up()
    voices, songs = ([i for i, row in enumerate(rows) if row.domain == name] for name in ("speech", "music"))
    songs = [i for i in songs if rows[i].set == MUSIC and rows[i].scene == "clean"]
    pairs = [(voices[k], songs[k % len(songs)]) for k in range(60)]
    mixes = [Mix(rows[a], rows[b], 0.0) for a, b in pairs]
    mixed = np.stack([(inputs[a] + inputs[b]) / 2 for a, b in pairs])
    found = fit_wide(Examples(rows, inputs, mixes, mixed, SPECS), NORMS)
    voice, mix, song = (
        found.pc(standardised(part, found.center, found.factor, SPECS)).mean()
        for part in (inputs[voices], mixed, inputs[songs])
    )
    assert voice < mix < song


def test_parts_of_the_groups_are_left_out() -> None:
    rows, inputs = made_up()
    examples = Examples(rows, inputs, [], np.zeros((0, inputs.shape[1])), SPECS)
    whole, part = fit_wide(examples, NORMS), fit_wide(examples, NORMS, without=2)
    assert not np.allclose(whole.center, part.center)


def test_versions_of_a_recording_are_made_from_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(3.0, 16_000), 16_000)
    recording = wide.Version(str(tmp_path / "a.wav"), "music", MUSIC, "a", "a", "clean", 0.0, (7.0,) * 4)
    versions = wide.versions_of(recording)
    assert [version.scene for version in versions[:2]] == ["clean", "excerpt"]
    assert len({version.scene for version in versions}) == 2 + wide.VERSIONS[MUSIC]
    clean, excerpt, degraded = (wide.samples_of(version)[0] for version in versions[:3])
    assert len(clean) == len(degraded) == 48_000
    assert 0.8 * 16_000 <= len(excerpt) <= 2 * 16_000
    assert not np.allclose(clean, degraded)
    assert np.array_equal(degraded, wide.samples_of(versions[2])[0])
