"""Sound that is silent, broken, odd, very short or very long."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mmmos.audio.decoder import SequentialDecoder
from mmmos.audio.windows import MIN_SECONDS, Window, cut
from mmmos.encoders.base import Encoder, Features, encode_windows
from mmmos.inference.predictor import Predictor
from tests.faults.conftest import TOLERANCE, Mmmos, WriteWave, axes
from tests.sounds import Wave, music, swelling_tones
from tests.toys import toy_member, toy_model

MakeFile = Callable[..., Path]


@pytest.mark.slow
def test_09_digital_silence(score_between: Mmmos, write_wave: WriteWave) -> None:
    run = score_between(write_wave("silence.wav", np.zeros(32_000), subtype="PCM_16"))
    assert run.rows[0]["warnings"] == ["silent"]
    assert axes(run.rows[0]) == [None] * 4
    assert run.status == 0


def broken_at(position: int, value: float, seconds: float = 1.0) -> Wave:
    samples = music(seconds)
    samples[position] = value
    return samples


@pytest.mark.slow
def test_10_one_nan_sample(score_between: Mmmos, write_wave: WriteWave) -> None:
    waves = broken_at(0, np.nan), broken_at(-1, np.nan)
    run = score_between(*(write_wave(f"{number}.wav", wave) for number, wave in enumerate(waves)))
    assert run.codes == ["non_finite_audio"] * 2
    assert run.status == 1


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3])
def test_10_one_nan_sample_after_windows_that_were_fine(
    mmmos: Mmmos, toy_folder: Path, write_wave: WriteWave, batch_size: int
) -> None:
    good, broken = write_wave("good.wav", music(1.0)), write_wave("broken.wav", broken_at(-1, np.nan, seconds=45.0))
    run = mmmos("score", good, broken, good, "--model", toy_folder, "--batch-size", batch_size)
    assert run.codes == [None, "non_finite_audio", None]
    assert axes(run.rows[0]) == pytest.approx(axes(run.rows[2]), abs=TOLERANCE)
    assert axes(run.rows[1]) == [None] * 4
    assert run.status == 1


@pytest.mark.slow
def test_11_one_inf_sample(score_between: Mmmos, write_wave: WriteWave) -> None:
    waves = broken_at(0, np.inf), broken_at(8_000, -np.inf)
    run = score_between(*(write_wave(f"{number}.wav", wave) for number, wave in enumerate(waves)))
    assert run.codes == ["non_finite_audio"] * 2
    assert run.status == 1


@pytest.mark.slow
def test_12_eight_channels(score_between: Mmmos, write_wave: WriteWave) -> None:
    channels = np.stack([(1 + number) / 8 * music(2.0, seed=number) for number in range(8)], axis=1)
    run = score_between(write_wave("surround.wav", channels), write_wave("mean.wav", channels.mean(axis=1)))
    surround, mean = run.rows
    assert (surround["channels"], mean["channels"]) == (8, 1)
    assert surround["warnings"] == ["downmixed"]
    assert axes(surround) == pytest.approx(axes(mean), abs=TOLERANCE)
    assert run.status == 0


@pytest.mark.slow
def test_13_antiphase_stereo(score_between: Mmmos, write_wave: WriteWave) -> None:
    sound = music(2.0)
    exact = write_wave("exact.wav", np.stack([sound, -sound], axis=1))
    nearly = write_wave("nearly.wav", np.stack([sound, -0.95 * sound], axis=1))
    stereo = write_wave("stereo.wav", np.stack([sound, 0.95 * sound], axis=1))
    run = score_between(exact, nearly, stereo)
    assert [row["warnings"] for row in run.rows] == [["phase_cancel", "silent"], ["phase_cancel"], []]
    assert axes(run.rows[0]) == [None] * 4
    assert run.status == 0


@pytest.mark.slow
def test_14_too_short(score_between: Mmmos, write_wave: WriteWave) -> None:
    rate = 44_100
    limit = round(MIN_SECONDS * rate)
    sizes = [1, rate // 100, rate // 40, limit - 1, limit]
    run = score_between(*(write_wave(f"{size}.wav", music(1.0, rate)[:size], rate) for size in sizes))
    assert run.codes == ["too_short"] * 4 + [None]
    assert all("at least 100 ms" in row["error"]["message"] for row in run.rows[:-1])
    assert run.rows[-1]["warnings"] == ["short"]
    assert run.status == 1


ODD_RATES = (44_101, 47_999, 22_051, 384_000)  # Hz


@pytest.mark.slow
def test_15_odd_rates_score_as_the_same_sound_at_16_khz(score_between: Mmmos, write_wave: WriteWave) -> None:
    paths = [write_wave(f"{rate}.wav", swelling_tones(3.0, rate), rate) for rate in (16_000, *ODD_RATES)]
    run = score_between(*paths)
    usual, *odd = run.rows
    for rate, row in zip(ODD_RATES, odd, strict=True):
        assert row["sample_rate"] == rate
        assert row["duration"] == pytest.approx(3.0, abs=1 / rate)
        assert axes(row) == pytest.approx(axes(usual), abs=0.02)
    assert run.status == 0


CUT_AND_PRINT_MEMORY = """
import sys
from mmmos.audio.clip import Clip
from mmmos.audio.windows import cut
def peak():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["VmHWM"].split()[0])
before = peak()
for path in sys.argv[1:]:
    for item in cut(Clip(path, path), [16_000], 0.1):
        pass
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the kernel's account of memory")
def test_15_odd_rates_take_little_memory(write_wave: WriteWave) -> None:
    paths = [write_wave(f"{rate}.wav", swelling_tones(3.0, rate), rate) for rate in ODD_RATES]
    words = [sys.executable, "-c", CUT_AND_PRINT_MEMORY, *paths]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 32 * 1024  # KiB


def peak_memory(work: Callable[[], object]) -> int:
    """Bytes that Python and NumPy held at the most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.usefixtures("toy_encoder")
def test_16_memory_does_not_grow_with_a_long_file(tmp_path: Path) -> None:
    decoder = SequentialDecoder()
    decoder.isolated.cut = cut  # in this process, where its memory is seen
    predictor = Predictor(toy_model(toy_member(0)), decoder=decoder)
    rate, minute = 4_000, np.tile(music(10.0, 4_000), 6)
    peaks, n_windows = [], []
    for minutes in (1, 2, 8):  # the first is for what is allocated once
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", rate, 1, "PCM_U8") as file:
            for _ in range(minutes):
                file.write(minute)
        peaks.append(peak_memory(lambda path=path: n_windows.append(predictor.score(path).n_windows)))
    assert n_windows == [6, 12, 48]
    assert peaks[1] > 10 * 16_000 * 4  # bytes: a window's samples are seen
    assert peaks[2] < 1.1 * peaks[1]


@pytest.mark.slow
def test_17_batches_count_windows_and_not_files(
    mmmos: Mmmos, make_file: MakeFile, toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def spy(encoders: dict[str, Encoder], windows: Sequence[Window], dtype: torch.dtype) -> dict[str, Features]:
        sizes.append(len(windows))
        return encode_windows(encoders, windows, dtype)

    monkeypatch.setattr("mmmos.inference.stream.encode_windows", spy)
    lengths = (0.5, 90.5, 0.5, 11.0, 180.0, 0.5)  # s
    paths = [make_file(f"{number}.wav", seconds=seconds) for number, seconds in enumerate(lengths)]
    run = mmmos("score", *paths, "--model", toy_folder, "--batch-size", 4)
    assert [row["n_windows"] for row in run.rows] == [1, 10, 1, 2, 18, 1]
    assert sizes == [4] * 8 + [1]
    assert run.status == 0


@pytest.mark.slow
def test_18_samples_scaled_like_integers(score_between: Mmmos, write_wave: WriteWave) -> None:
    sound = music(1.5)
    scales = (2.0**15, 2.0**23, 2.0**31, 1e20)
    run = score_between(*(write_wave(f"{scale:g}.wav", scale * sound) for scale in scales))
    assert run.codes == ["not_normalized"] * 4
    for row, divisor in zip(run.rows, ("32768", "8388608", "2147483648", "[0-9.]*e.19"), strict=True):
        assert re.search(rf"samples reach .*: divide them by {divisor},", row["error"]["message"])
    assert run.status == 1


@pytest.mark.slow
def test_15_rates_that_no_audio_has(score_between: Mmmos, write_wave: WriteWave) -> None:
    rates = (1, 100, 2_000, 3_999, 768_001)
    run = score_between(*(write_wave(f"{rate}.wav", np.zeros(20_000), rate) for rate in rates))
    assert run.codes == ["bad_sample_rate"] * 5
    assert all(f"{rate} Hz" in row["error"]["message"] for rate, row in zip(rates, run.rows, strict=True))
    assert run.status == 1


@pytest.mark.slow
def test_18_clipped_and_offset(score_between: Mmmos, write_wave: WriteWave) -> None:
    sound = music(2.0)
    clipped = write_wave("clipped.wav", np.clip(100 * sound, -1, 1), subtype="PCM_16")
    beyond = write_wave("beyond.wav", 3.9 * sound / np.abs(sound).max())
    offset = write_wave("offset.wav", 0.9 + 0.2 * sound)
    run = score_between(clipped, beyond, offset)
    assert [row["warnings"] for row in run.rows] == [["clipped"], ["clipped"], ["dc_offset"]]
    assert run.status == 0
