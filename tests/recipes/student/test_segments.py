"""Segments are reproducible, at one level, and never of a group that is held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.student.segments import (
    DOMAINS,
    HELD_OUT,
    SIZE,
    TURNS,
    WAYS,
    Segments,
    Source,
    blend,
    one_of,
    pink,
    read,
    read_sources,
)
from tests.sounds import noise

LEVEL = 10 ** (-24 / 20)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for i, domain in enumerate(DOMAINS * 2):
        path = folder / f"{i}.flac"
        soundfile.write(path, 0.2 * noise(2 + i, 16_000, seed=i), 16_000)
        found.append(Source(path, domain, f"group {i}", f"package {i}"))
    return found


@pytest.mark.slow
def test_make_is_reproducible(sources: list[Source]) -> None:
    for number in range(6):
        x, fractions, source = Segments(sources).make(number)
        again, _, _ = Segments(sources[::-1]).make(number)
        assert np.array_equal(x, again)
        assert x.shape == (SIZE,)
        assert np.sqrt(np.mean(x**2)) == pytest.approx(LEVEL, rel=1e-3)
        assert fractions.sum() == pytest.approx(1)
        assert source.domain == TURNS[number]
        assert DOMAINS[fractions.argmax()] == TURNS[number] or fractions.max() < 0.9


def test_ways_are_probabilities_and_half_of_the_turns_are_speech() -> None:
    assert all(sum(ways.values()) == pytest.approx(1) for ways in WAYS.values())
    assert set(WAYS) == set(TURNS) == set(DOMAINS)
    assert 2 * TURNS.count("speech") == len(TURNS)


def test_one_of_takes_slow_faults_rarely() -> None:
    faults = {name: lambda x, rate, rng: x for name in ("webrtc", "deepfilter")}
    names = {id(fault): name for name, fault in faults.items()}
    rng = np.random.default_rng(0)
    taken = [names[id(one_of(faults, rng))] for _ in range(400)]
    assert 10 < taken.count("deepfilter") < 80


def test_noisy_adds_noise_below_the_signal(sources: list[Source]) -> None:
    segments, x = Segments(sources), LEVEL * np.random.default_rng(0).standard_normal(SIZE)
    added = [np.std(segments.noisy(x, np.random.default_rng(seed)) - x) / LEVEL for seed in range(8)]
    assert all(level < 1.001 for level in added)
    assert max(added) > 0.05


def test_pink_noise_falls_with_frequency() -> None:
    levels = np.abs(np.fft.rfft(pink(np.random.default_rng(3)))) ** 2
    assert levels[500:5_000].mean() > levels[50_000:].mean()


def test_read_repeats_a_short_file(sources: list[Source]) -> None:
    x = read(sources[0].path, np.random.default_rng(0))
    assert x.shape == (SIZE,)
    np.testing.assert_allclose(x[: SIZE // 5], x[2 * SIZE // 5 : 3 * SIZE // 5], atol=1e-9)


def test_blend_gives_the_fractions_of_the_power() -> None:
    x, y = LEVEL * np.random.default_rng(0).standard_normal((2, SIZE))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mixed, fractions = blend(x, y, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), rng)
        power = np.array([np.dot(mixed, part) ** 2 / np.dot(part, part) ** 2 for part in (x, y)])
        assert fractions.sum() == pytest.approx(1)
        assert (fractions[0] > 0.5) == (power[0] > power[1]) or abs(fractions[0] - 0.5) < 0.1


def test_held_out_groups_are_a_fixed_part() -> None:
    groups = [Source(Path("x"), "music", f"group {i}", "package") for i in range(600)]
    held = [source.group for source in groups if source.held_out]
    assert 0.6 < len(held) * HELD_OUT / 600 < 1.4
    assert held == [source.group for source in groups if source.held_out]


def test_rated_recordings_are_grouped_by_song(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "path,domain,package,source,rate,seconds,licence\na.flac,sound,p,s,1,1,CC0\n"
    )
    for folder, key in (("musdb18_aes", "song"), ("codec_mushra", "signal")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "manifest.csv").write_text(f"path,{key}\naudio/b.flac,S\naudio/c.flac,S\naudio/d.flac,T\n")
    codecs = "path,signal,system\na.wav,S,Reference\nb.wav,S,AudioDec\nc.wav,T,Reference\n"
    (tmp_path / "codec_mushra" / "manifest.csv").write_text(codecs)
    sources = read_sources(tmp_path, tmp_path)
    assert [source.group for source in sources] == ["p", *["musdb18_aes S"] * 2, "musdb18_aes T"] + [
        f"codec_mushra {name}" for name in "ST"
    ]
    assert sources[1].path == tmp_path / "musdb18_aes" / "audio_44k" / "b.flac"
    assert [source.domain for source in sources] == ["sound"] + ["music"] * 3 + ["speech"] * 2
    assert read_sources(tmp_path, None) == sources[:1]
