"""Reads recordings of the formats in Debian's packages: all of libsndfile and FFmpeg, G.722, and MIDI, played."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from recipes.lite.corpus import seed
from recipes.lite.degradations import Wave

RATE = 48_000  # Hz, at most
G722_RATE = 16_000  # Hz
MIDI = (".mid", ".midi")
FONTS = (Path("/usr/share/sounds/sf2/TimGM6mb.sf2"), Path("/usr/share/sounds/sf2/opl3_soundfont.sf2"))
PLAYER_SECONDS = 120  # for one MIDI file


@contextmanager
def playable(path: Path) -> Iterator[Path | None]:
    """The file itself, or a WAV file of a MIDI file played with one of `FONTS`; None if it cannot be played."""
    fonts = [font for font in FONTS if font.is_file()]
    if path.suffix.lower() not in MIDI:
        yield path
    elif not fonts or shutil.which("fluidsynth") is None:
        yield None
    else:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / f"{path.stem}.wav"
            font = fonts[seed(path.name) % len(fonts)]
            command = ["fluidsynth", "-ni", "-q", "-r", "44100", "-T", "wav", "-F", *map(str, (made, font, path))]
            try:
                subprocess.run(command, check=True, timeout=PLAYER_SECONDS, capture_output=True)
            except subprocess.SubprocessError:
                yield None
                return
            yield made


def duration(path: Path) -> float:
    """Seconds of audio in a file; 0 if it cannot be read."""
    try:
        return float(soundfile.info(path).duration)
    except soundfile.LibsndfileError:
        samples, rate = decoded(path)
        return len(samples) / rate


def read(path: Path, start: float, seconds: float) -> tuple[Wave, int]:
    """Mono samples of a part of a file and their rate, RATE at most; fewer where the file ends early."""
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            file.seek(min(int(start * rate), file.frames))
            samples = file.read(int(seconds * rate), always_2d=True).mean(1)
    except soundfile.LibsndfileError:
        samples, rate = decoded(path)
        samples = samples[int(start * rate) :][: int(seconds * rate)]
    if rate > RATE:
        samples, rate = soxr.resample(samples, rate, RATE, "VHQ"), RATE
    return np.asarray(samples, float), rate


def decoded(path: Path) -> tuple[Wave, int]:
    """All mono samples that FFmpeg decodes, and their rate; none from a file that it cannot read."""
    try:
        with av.open(str(path), format="g722" if path.suffix == ".g722" else None) as file:
            frames = list(file.decode(audio=0))
            rate = G722_RATE if path.suffix == ".g722" else frames[0].sample_rate
            mono = av.AudioResampler("fltp", "mono", rate)
            for frame in frames:
                frame.sample_rate = rate
            parts = [part.to_ndarray()[0] for frame in (*frames, None) for part in mono.resample(frame)]
    except (av.FFmpegError, IndexError):
        return np.zeros(0), RATE
    return np.concatenate(parts).astype(float), rate
