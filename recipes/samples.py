"""Make the clips in ``samples/`` from freely licensed recordings that Debian packages carry.

``samples/README.md`` names the packages, authors and licences. To make the clips again, unpack the packages into one
folder and point this script at it::

    apt-get download unknown-horizons hyperrogue-music sonic-pi-samples pocketsphinx-testdata
    for package in *.deb; do dpkg -x "$package" unpacked; done
    python -m recipes.samples unpacked

The same inputs and library versions give the same bytes. Each damaged clip is made from the audio of its clean twin.
"""

import argparse
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr
from av import AudioStream

Audio = npt.NDArray[np.float32]  # (frames, channels)

SPEECH = "usr/share/unknown-horizons/content/audio/voice/en/0/new_world/3.ogg"
CHOPPING = "usr/share/unknown-horizons/content/audio/sounds/lumberjack_long.ogg"
MUSIC = "usr/share/hyperrogue/music/hr-savino-ivory.ogg"
TABLA = "usr/share/sonic-pi/samples/loop_tabla.flac"
AUDIOBOOK = "usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0920.wav"


def excerpt(path: Path, start: float = 0.0, seconds: float | None = None, fade: float = 0.02) -> tuple[Audio, int]:
    """Read part of a file, with short linear fades at both ends so that the cuts do not click."""
    rate = sf.info(path).samplerate
    frames = -1 if seconds is None else round(seconds * rate)
    audio, _ = sf.read(path, frames=frames, start=round(start * rate), dtype="float32", always_2d=True)
    ramp = np.linspace(0.0, 1.0, round(fade * rate), dtype=np.float32)[:, None]
    audio[: len(ramp)] *= ramp
    audio[-len(ramp) :] *= ramp[::-1]
    return audio, rate


def mono(audio: Audio) -> Audio:
    """Mean of the channels, kept two-dimensional."""
    return audio.mean(axis=1, keepdims=True)


def gain(audio: Audio, peak: float) -> Audio:
    """Scale so that the largest sample is ``peak``."""
    return audio * np.float32(peak / np.abs(audio).max())


def add_pink_noise(audio: Audio, snr_db: float, seed: int) -> Audio:
    """Add noise whose power falls by 3 dB an octave, ``snr_db`` below the clip's mean power."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(audio)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, len(audio))[:, None]
    noise *= np.sqrt(np.mean(audio**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return (audio + noise).astype(np.float32)


def quantise(audio: Audio, bits: int) -> Audio:
    """Round to ``bits`` bits a sample, without dither."""
    steps = 2 ** (bits - 1)
    return np.clip(np.round(audio * steps), -steps, steps - 1).astype(np.float32) / steps


def encode(path: Path, audio: Audio, rate: int, codec: str, bit_rate: int) -> None:
    """Write with one of FFmpeg's lossy encoders; the file's suffix picks the container."""
    layout = "mono" if audio.shape[1] == 1 else "stereo"
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=rate, layout=layout))
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio.T), format="fltp", layout=layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_speech(source: Path, out: Path) -> None:
    """A spoken sentence: as recorded, in noise, and over a GSM phone; and a sentence of an audiobook."""
    speech, rate = excerpt(source / SPEECH)
    speech = gain(mono(speech), 0.89)
    sf.write(out / "speech_clean.flac", speech, rate, subtype="PCM_16")

    noisy = add_pink_noise(soxr.resample(speech, rate, 22050), snr_db=5.0, seed=0)
    sf.write(out / "speech_noisy.wav", gain(noisy, 0.89), 22050, subtype="PCM_16")

    phone = soxr.resample(speech, rate, 8000)
    sf.write(out / "speech_phone.wav", gain(phone, 0.7), 8000, format="WAV", subtype="GSM610")

    audiobook, rate = excerpt(source / AUDIOBOOK)
    sf.write(out / "speech_audiobook.flac", audiobook, rate, subtype="PCM_16")


def make_music(source: Path, out: Path) -> None:
    """A full mix: as published and as a 24 kb/s MP3; and a drum played alone."""
    music, rate = excerpt(source / MUSIC, start=6.0, seconds=6.0)
    sf.write(out / "music_clean.flac", music, rate, subtype="PCM_16")
    encode(out / "music_lowrate.mp3", soxr.resample(music, rate, 22050), 22050, "libmp3lame", 24_000)

    tabla, rate = excerpt(source / TABLA, seconds=8.0)
    encode(out / "music_tabla.m4a", gain(mono(tabla), 0.7), rate, "aac", 128_000)


def make_sound(source: Path, out: Path) -> None:
    """An axe and a falling tree: nearly as published, and with 6 bits a sample at 11,025 Hz."""
    sound, rate = excerpt(source / CHOPPING, start=37.5, seconds=5.5)
    sound = mono(sound)
    encode(out / "sound_clean.opus", soxr.resample(sound, rate, 48000), 48000, "libopus", 128_000)

    crushed = quantise(soxr.resample(sound, rate, 11025), bits=6)
    sf.write(out / "sound_lowbit.wav", crushed, 11025, subtype="PCM_U8")


def main() -> None:
    """Read the command line and make every clip."""
    parser = argparse.ArgumentParser(description="Make the sample clips from unpacked Debian packages.")
    parser.add_argument("source", type=Path, help="the folder the packages were unpacked into (it holds usr/)")
    parser.add_argument("--out", type=Path, default=Path("samples"), help="where the clips go (default: samples)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for make in (make_speech, make_music, make_sound):
        make(args.source, args.out)


if __name__ == "__main__":
    main()
