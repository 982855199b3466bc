"""The fitted parts of the bundled model, from made-up inputs, and the network that computes them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mmmos.encoders.base import EncoderSpec, Features
from mmmos.encoders.student import RATINGS, SCORES
from mmmos.model.system import Member
from mmmos.scores import AXES, Scale
from recipes.lite import versions
from recipes.lite.fit import (
    SPREAD,
    Examples,
    Parts,
    fit_parts,
    mean_columns,
    rating_columns,
    standardised,
)
from recipes.lite.heads import CE, DOMAINS, FREE, MUSIC, PC, PQ, Norms
from recipes.lite.held_out import domains_of_unseen_corpora, mean_over_domains, severity_of_unseen_scenes
from recipes.lite.member import make_member
from recipes.lite.mixes import Mix
from recipes.lite.settings import CHOSEN, DROPS
from recipes.lite.spoken import Spoken
from recipes.lite.support import FAMILIAR_SEVERITY
from tests.sounds import music

D, F = 12, 6 + RATINGS  # values per frame of an imaginary YAMNet, and of an imaginary student, which has three blocks
WIDTH = 2 * (D + F)
SPECS = (EncoderSpec("yamnet", (D,), "imaginary"), EncoderSpec("student", (2, 4, RATINGS), "imaginary"))
MOS = 2 * D + 6 + SCORES.index("mos")
MEANS, STDS = {"CE": 5.0, "CU": 5.0, "PC": 3.6, "PQ": 5.7}, {"CE": 1.0, "CU": 1.0, "PC": 0.9, "PQ": 1.0}
SOUND = Norms(MEANS, STDS, np.array([[1.0, 0.4, 0.1], [0.5, 0.8, 0.0]]))
SPEECH = Norms(MEANS | {"PC": 1.4}, STDS, np.array([[0.2, 0.6, 0.3], [0.1, 0.9, 0.1]]))
NORMS = {"speech": SPEECH, "sound": SOUND}
UNRATED = (math.nan,) * len(AXES)


def examples_of(rows: list[versions.Version], inputs: np.ndarray, **more: object) -> Examples:
    """With no mixes, and speech in pairs of which the worse has a lower MOS."""
    rng = np.random.default_rng(1)
    voices = [Spoken(f"{i // 2}", FREE, f"{i // 2}", "source", *[("clean", 0), ("hum", 2)][i % 2]) for i in range(100)]
    voice_inputs = rng.normal(0, 1, (len(voices), WIDTH))
    voice_inputs[:, MOS] = [-2.0 * voice.step + 0.2 * rng.normal() for voice in voices]
    return replace(Examples(rows, inputs, [], np.zeros((0, WIDTH)), voices, voice_inputs, SPECS), **more)


def made_up(count: int = 400) -> tuple[list[versions.Version], np.ndarray]:
    """Inputs: YAMNet's means 1 and 2 are the domain, 3 the songs' ratings, and the student's mean 0 is the severity."""
    rng = np.random.default_rng(0)
    rows, inputs = [], rng.normal(0, 1, (count, WIDTH))
    for i in range(count):
        domain, song = DOMAINS[i % 3], i % 6 == 1
        severity = 0.0 if rng.random() < 0.5 else float(rng.random())
        labels = tuple(6 + 0.5 * inputs[i, 3] for _ in AXES) if song else UNRATED
        scene = "phone" if severity else "clean"
        group = str(i)
        rows.append(versions.Version(group, domain, MUSIC if song else FREE, group, "source", scene, severity, labels))
        inputs[i, 2 * D] = severity + 0.02 * rng.normal()
        inputs[i, 1:3] = 3.0 * (domain == "speech"), 3.0 * (domain == "music")
    return rows, inputs


@pytest.fixture(scope="module")
def fitted() -> tuple[list[versions.Version], np.ndarray, Parts]:
    rows, inputs = made_up()
    return rows, inputs, fit_parts(examples_of(rows, inputs), NORMS)


def scores_of(member: Member, inputs: np.ndarray, domain: str | None = None) -> np.ndarray:
    """Points [N, A] of a model, which takes every clip for the domain if one is given."""
    model = member.model
    if domain is not None:
        assert model.heads.gate is not None
        model.heads.gate.weight.zero_()
        model.heads.gate.bias.copy_(torch.tensor([100.0 * (name == domain) for name in DOMAINS]))
    frames = torch.from_numpy(inputs).float()[:, None]
    reduced = Features(frames, torch.ones(frames.shape[:2], dtype=torch.bool), 0.0)
    return np.asarray(member.scale.to_labels(model.from_reduced(reduced).double().numpy()))


def test_severity_and_gate_are_learned(fitted: tuple[list[versions.Version], np.ndarray, Parts]) -> None:
    rows, inputs, found = fitted
    x = standardised(inputs, found.center, found.factor, SPECS)
    music_rows = [i for i, row in enumerate(rows) if row.domain == "music"]
    severity = np.array([rows[i].severity for i in music_rows])
    assert np.corrcoef(found.severity(x)[music_rows], severity)[0, 1] > 0.8
    gate = found.gate.numpy()
    guessed = (x @ gate[:, :-1].T + gate[:, -1]).argmax(1)
    assert np.mean([DOMAINS[i] == row.domain for i, row in zip(guessed, rows, strict=True)]) > 0.95


def test_sound_falls_with_severity_on_the_scale_of_its_ratings(
    fitted: tuple[list[versions.Version], np.ndarray, Parts],
) -> None:
    rows, inputs, found = fitted
    sound = [i for i, row in enumerate(rows) if row.domain == "sound"]
    scores = found.scores["sound"](standardised(inputs, found.center, found.factor, SPECS)[sound])
    axis = AXES.index("PQ")
    assert scores[:, axis].mean() == pytest.approx(SOUND.mean["PQ"])
    assert scores[:, axis].std() == pytest.approx(SPREAD * SOUND.std["PQ"])
    assert np.corrcoef(scores[:, axis], [rows[i].severity for i in sound])[0, 1] < -0.8


def test_domain_of_an_unseen_corpus_does_not_depend_on_its_own_labels() -> None:
    rows, inputs = made_up()
    rows = [replace(row, source=f"package {i % 10}") for i, row in enumerate(rows)]
    found = domains_of_unseen_corpora(examples_of(rows, inputs))
    assert np.mean([DOMAINS[i] == row.domain for i, row in zip(found, rows, strict=True)]) > 0.95
    own = [i for i, row in enumerate(rows) if row.source == "package 3" and row.set == FREE]
    mislabelled = list(rows)
    for i in own:
        mislabelled[i] = replace(rows[i], domain="sound")
    assert np.array_equal(domains_of_unseen_corpora(examples_of(mislabelled, inputs))[own], found[own])


def test_severity_of_an_unseen_scene_does_not_depend_on_its_labels() -> None:
    rows, inputs = made_up()
    rows = [replace(row, scene="radio" if row.severity and i % 4 < 2 else row.scene) for i, row in enumerate(rows)]
    found = severity_of_unseen_scenes(examples_of(rows, inputs), "music")
    own = [i for i, row in enumerate(rows) if row.domain == "music" and row.severity]
    assert np.isfinite(found).nonzero()[0].tolist() == own
    assert np.corrcoef(found[own], [rows[i].severity for i in own])[0, 1] > 0.8
    other = [replace(row, severity=1 - row.severity) if row.scene == "radio" else row for row in rows]
    again = severity_of_unseen_scenes(examples_of(other, inputs), "music")
    radio = [i for i in own if rows[i].scene == "radio"]
    np.testing.assert_array_equal(again[radio], found[radio])


def test_quality_of_speech_follows_the_order_and_the_scale_of_ratings(
    fitted: tuple[list[versions.Version], np.ndarray, Parts],
) -> None:
    rows, inputs, found = fitted
    x = standardised(inputs, found.center, found.factor, SPECS)
    speech = found.scores["speech"](x)
    usual = [i for i, row in enumerate(rows) if row.domain == "speech" and row.severity < 0.5]
    assert np.corrcoef(speech[:, PQ], inputs[:, MOS])[0, 1] > 0.8
    assert speech[usual, PQ].mean() == pytest.approx(SPEECH.mean["PQ"])
    assert speech[usual, PQ].std() == pytest.approx(SPREAD * SPEECH.std["PQ"])
    np.testing.assert_allclose(speech[:, CE], 0.2 + 0.6 * speech[:, PQ] + 0.3 * speech[:, PC])


def test_mean_over_domains_fits_the_songs() -> None:
    rows, inputs = made_up()
    songs = [i for i, row in enumerate(rows) if row.set == MUSIC and row.scene == "clean"]
    inputs[songs, 1:3] *= 0.3  # so that the gate is not sure of them
    found = fit_parts(examples_of(rows, inputs), NORMS)
    x = standardised(inputs, found.center, found.factor, SPECS)[songs]
    probabilities, labels = found.probabilities(x), np.array([rows[i].labels for i in songs])
    by_domain = {name: line(x) for name, line in found.scores.items()}
    assert probabilities[:, DOMAINS.index("music")].mean() < 0.9
    assert abs((mean_over_domains(by_domain, probabilities) - labels)[:, [CE, PQ]].mean(axis=0)).max() < 0.02
    assert (by_domain["music"] - labels)[:, CE].mean() > 0.1  # other domains' CE is lower


def test_model_computes_the_fitted_parts(fitted: tuple[list[versions.Version], np.ndarray, Parts]) -> None:
    _, inputs, found = fitted
    member = make_member(found, SPECS, Scale((5.0, 6.0, 4.0, 7.0), (1.0, 0.5, 2.0, 0.8)))
    x = standardised(inputs, found.center, found.factor, SPECS)
    expected = {name: line(x) for name, line in found.scores.items()}
    lost = CHOSEN.steepness * np.maximum(0, found.severity(x) - CHOSEN.threshold)[:, None]
    expected["music"] = expected["music"] - lost * [DROPS[axis] for axis in AXES]
    logits = x @ found.gate[:, :-1].numpy().T + found.gate[:, -1].numpy()
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    mean = sum(odds[:, [i]] * expected[name] for i, name in enumerate(DOMAINS)) / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores_of(member, inputs), mean, atol=1e-3)
    np.testing.assert_allclose(mean_over_domains(found.by_domain(x), found.probabilities(x)), mean)
    for name in DOMAINS:
        np.testing.assert_allclose(scores_of(member, inputs, name), expected[name], atol=1e-3)


def test_each_part_uses_the_means_of_its_encoder(fitted: tuple[list[versions.Version], np.ndarray, Parts]) -> None:
    found, columns = fitted[2], mean_columns(SPECS)
    ratings = rating_columns(SPECS)
    assert [int(of.sum()) for of in columns.values()] == [D, F]
    assert ratings.sum() == RATINGS
    assert np.array_equal(found.severity.weight != 0, columns["student"] & ~ratings)
    assert np.array_equal(found.nearby.columns, np.flatnonzero(columns["student"]))
    assert np.array_equal(found.gate[:, :-1].abs().sum(0).numpy() > 0, columns["yamnet"])
    own = (columns["yamnet"] | columns["student"]) & ~ratings
    assert np.array_equal(np.abs(found.scores["music"].weight).sum(1) > 0, own)


def test_novelty_of_the_model_is_the_distance_or_the_severity(
    fitted: tuple[list[versions.Version], np.ndarray, Parts],
) -> None:
    _, inputs, found = fitted
    model = make_member(found, SPECS, Scale((5.0,) * 4, (1.0,) * 4)).model
    x = standardised(inputs, found.center, found.factor, SPECS)
    severity = np.maximum(0, found.severity(x) - CHOSEN.threshold) / (FAMILIAR_SEVERITY - CHOSEN.threshold)
    expected = np.maximum(found.nearby.distance(x), severity)
    np.testing.assert_allclose(model.heads.novelty(torch.from_numpy(x).float()).numpy(), expected, rtol=1e-3, atol=1e-3)
    assert 0.05 < np.mean(expected > 1) < 0.95


def test_complexity_of_a_mix_lies_between_those_of_its_parts() -> None:
    rows, inputs = made_up()
    voices, songs = ([i for i, row in enumerate(rows) if row.domain == name] for name in ("speech", "music"))
    songs = [i for i in songs if rows[i].set == MUSIC and rows[i].scene == "clean"]
    pairs = [(voices[k], songs[k % len(songs)]) for k in range(60)]
    mixes = [Mix(rows[a], rows[b], 0.0) for a, b in pairs]
    mixed = np.stack([(inputs[a] + inputs[b]) / 2 for a, b in pairs])
    found = fit_parts(examples_of(rows, inputs, mixes=mixes, mix_inputs=mixed), NORMS)
    voice, mix, song = (
        found.scores["sound"](standardised(part, found.center, found.factor, SPECS))[:, PC].mean()
        for part in (inputs[voices], mixed, inputs[songs])
    )
    assert voice < mix < song


def test_parts_of_the_groups_are_left_out() -> None:
    rows, inputs = made_up()
    examples = examples_of(rows, inputs)
    whole, part = fit_parts(examples, NORMS), fit_parts(examples, NORMS, without=2)
    assert not np.allclose(whole.center, part.center)


def test_versions_of_a_recording_are_made_from_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(3.0, 16_000), 16_000)
    recording = versions.Version(str(tmp_path / "a.wav"), "music", MUSIC, "a", "a", "clean", 0.0, (7.0,) * 4)
    made = versions.versions_of(recording)
    assert [version.scene for version in made[:2]] == ["clean", "excerpt"]
    assert len({version.scene for version in made}) == 2 + versions.VERSIONS[MUSIC] + 1  # the generated one
    clean, excerpt, degraded = (versions.samples_of(version)[0] for version in made[:3])
    assert len(clean) == len(degraded) == 48_000
    assert 0.8 * 16_000 <= len(excerpt) <= 2 * 16_000
    assert not np.allclose(clean, degraded)
    assert np.array_equal(degraded, versions.samples_of(made[2])[0])
