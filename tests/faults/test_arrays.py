"""Samples in memory, and what a clip's neighbours and padding may not do to its score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mmmos.errors import SampleRateError
from mmmos.inference.predictor import Predictor
from mmmos.scores import AXES, Scores
from tests.faults.conftest import TOLERANCE, Mmmos, WriteWave, axes
from tests.sounds import music

RATE = 16_000
MakeFile = Callable[..., Path]


def values(scores: Scores) -> list[float]:
    return [scores[axis] for axis in AXES]


@pytest.mark.slow
def test_21_every_form_of_one_clip_has_one_score(scorer: Predictor, write_wave: WriteWave) -> None:
    whole = np.round(music(1.2) * 2**15).astype(np.int16)
    sound = (whole / 2**15).astype(np.float32)
    path = write_wave("sound.wav", sound)
    expected = values(scorer.score(str(path)))
    assert values(scorer.score(path)) == expected
    forms = {
        "1-D": sound,
        "[1, S]": sound[None],
        "[2, S]": np.stack([sound, sound]),
        "float64": sound.astype(np.float64),
        "int16": whole,
        "int32": whole.astype(np.int32) * 2**16,
        "tensor": torch.from_numpy(sound),
        "tensor that needs a gradient": torch.from_numpy(sound)[None].requires_grad_(),
        "strided": np.repeat(sound, 2)[::2],
    }
    for name, form in forms.items():
        assert values(scorer.score(form, sample_rate=RATE)) == pytest.approx(expected, abs=TOLERANCE), name
    several = scorer.score([forms["1-D"], forms["int16"]], sample_rate=RATE)
    assert [values(scores) for scores in several] == [pytest.approx(expected, abs=TOLERANCE)] * 2


@pytest.mark.parametrize(
    "thing",
    [
        np.zeros((1, 2, RATE)),
        np.float32(0),
        np.zeros(RATE, dtype=complex),
        np.zeros(RATE, dtype=bool),
        {"array": np.zeros(RATE)},
        3,
        None,
    ],
)
def test_21_anything_else_is_a_type_error_that_names_the_layout(scorer: Predictor, thing: object) -> None:
    with pytest.raises(TypeError, match=r"\[S\] or \[C, S\]|floating point in \[-1, 1\]|a path, an array or a tensor"):
        scorer.score(thing, sample_rate=RATE)


def test_21_samples_without_their_rate_are_refused(scorer: Predictor) -> None:
    with pytest.raises(SampleRateError, match="sample_rate="):
        scorer.score(music(1.0))


@pytest.mark.slow
def test_22_time_by_channels_is_refused_unless_said(scorer: Predictor) -> None:
    left, right = music(1.2, seed=0), 0.5 * music(1.2, seed=1)
    by_time = np.stack([left, right], axis=1)
    with pytest.raises(TypeError, match=r"\[C, S\].*layout='channels_last'"):
        scorer.score(by_time, sample_rate=RATE)
    said = scorer.score(by_time, sample_rate=RATE, layout="channels_last")
    assert said.channels == 2
    assert values(said) == values(scorer.score(by_time.T, sample_rate=RATE))


@pytest.mark.slow
def test_24_batch_composition(score_between: Mmmos, scorer: Predictor, make_file: MakeFile, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    paths = [
        make_file(f"{number}.wav", seconds=seconds, rate=rate)
        for number, (seconds, rate) in enumerate([(0.3, 16_000), (2.0, 22_050), (1.0, 44_100), (1.0, 16_000)])
    ]
    alone = {str(path): values(scorer.score(path)) for path in paths}
    for order in (paths, paths[::-1]):
        run = score_between(*order[:2], tmp_path / "bad.wav", *order[2:], "--batch-size", 4)
        assert run.codes == [None, None, "unsupported_format", None, None]
        assert run.status == 1
        for row in run.rows[:2] + run.rows[3:]:
            assert axes(row) == pytest.approx(alone[row["path"]], abs=TOLERANCE)


@pytest.mark.slow
def test_25_trailing_padding_changes_no_score(scorer: Predictor) -> None:
    rate = scorer.module.sample_rate
    short, long = torch.from_numpy(music(1.0, rate)), torch.from_numpy(music(2.5, rate, seed=1))
    alone = [scorer.module(wave[None])[0].tolist() for wave in (short, long)]
    waves = torch.nn.utils.rnn.pad_sequence([short, long], batch_first=True)
    loud = waves.clone()
    loud[0, len(short) :] = 0.5
    for padded in (waves, loud):
        with torch.no_grad():
            scores = scorer.module(padded, torch.tensor([len(short), len(long)]))
        for row, expected in zip(scores.tolist(), alone, strict=True):
            assert row == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.slow
def test_25_appended_silence_is_content(score_between: Mmmos, write_wave: WriteWave) -> None:
    sound = music(1.5)
    plain = write_wave("plain.wav", sound)
    longer = write_wave("longer.wav", np.pad(sound, (0, 4 * RATE)))
    run = score_between(plain, longer)
    assert [row["end_time"] for row in run.rows] == [1.5, 5.5]
    assert [row["n_windows"] for row in run.rows] == [1, 1]
    assert np.abs(np.subtract(*map(axes, run.rows))).max() > 10 * TOLERANCE
    assert run.status == 0


@pytest.mark.slow
def test_25_silent_windows_have_no_weight(mmmos: Mmmos, toy_folder: Path, write_wave: WriteWave) -> None:
    sound = music(10.0)
    plain, longer = write_wave("plain.wav", sound), write_wave("longer.wav", np.pad(sound, (0, 15 * RATE)))
    run = mmmos("score", plain, longer, "--model", toy_folder)
    plain, longer = run.rows
    assert longer["warnings"] == ["partly_silent"]
    assert longer["n_windows"] == 3
    assert axes(longer) == pytest.approx(axes(plain), abs=TOLERANCE)
    assert run.status == 0
