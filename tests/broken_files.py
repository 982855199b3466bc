"""More than forty kinds of files that are broken, each with what is to come of it.

for name, kind in KINDS.items():
    kind.write(folder / f"{number}{kind.suffix}", sounds, rng)      # sounds: what `write_sounds` gave
    ... the row's error code is then in kind.codes, where None is a score
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.random import Generator

from tests.sounds import chord

RATE = 16_000
CONTAINERS = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG", "opus": "OGG", "aiff": "AIFF", "m4a": "ipod"}

Sounds = Mapping[str, bytes]
"""Suffix -> a whole file of that kind."""
Code = str | None
Change = Callable[[bytearray, Generator], object]


@dataclass(frozen=True)
class Kind:
    """One way to be broken."""

    suffix: str
    write: Callable[[Path, Sounds, Generator], object]
    codes: tuple[Code, ...]  # what its row may have; None for a score


def write_sounds(seconds: float = 0.4, seed: int = 0) -> dict[str, bytes]:
    """The same short sound in every container, whole."""
    return {name: encode(chord(seconds, seed), name) for name in CONTAINERS}


def encode(samples: np.ndarray, name: str) -> bytes:
    """Samples [S] at 16 kHz as a file with that suffix."""
    file = BytesIO()
    if name != "m4a":
        soundfile.write(file, samples, RATE, format=CONTAINERS[name], subtype="OPUS" if name == "opus" else None)
        return file.getvalue()
    with av.open(file, "w", format=CONTAINERS[name]) as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def wav(data: bytes, channels: int = 1, rate: int = RATE, bits: int = 16, tag: int = 1, claimed: int | None = None):
    """A WAV file whose header holds the values given."""
    block = channels * bits // 8
    fields = tag, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, *fields)
    size = len(data) if claimed is None else claimed
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + head + b"data" + struct.pack("<I", size) + data


def silence(samples: int) -> bytes:
    return bytes(2 * samples)


def noise(samples: int) -> bytes:
    return np.random.default_rng(0).integers(-3000, 3000, samples).astype("<i2").tobytes()


def bomb(m4a: bytes, count: int = 170_000_000) -> bytes:
    """An M4A of a few kilobytes whose table of samples says `count`: FFmpeg makes 24 bytes of each."""
    content = bytearray(m4a)
    for name, at, values in (("stsz", 8, (1, count)), ("stsc", 8, (1, 1, count, 1)), ("stts", 12, (count, 1024))):
        start = content.index(name.encode()) + at
        content[start : start + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    return bytes(content)


def album(flac: bytes, pictures: int) -> tuple[list[tuple[int, bytes]], int]:
    """A FLAC file with pictures of 16 MB: (place, bytes) of what is not zero in it, and its size.

    Its comments are damaged, so libsndfile leaves it to FFmpeg, which holds all pictures at once.
    """
    size = (1 << 24) - 1
    picture = struct.pack(">II", 3, 10) + b"image/jpeg" + struct.pack(">IIIIII", 0, 1, 1, 24, 0, size - 42)
    parts, place = [(0, flac[:4] + b"\x00" + flac[5:42])], 42
    for _ in range(pictures):
        parts.append((place, b"\x06" + size.to_bytes(3, "big") + picture))
        place += 4 + size
    rest, last = 4, False
    while not last:
        last = bool(flac[rest] & 0x80)
        rest += 4 + int.from_bytes(flac[rest + 1 : rest + 4], "big")
    parts.append((place, b"\x84\x00\x00\x01\x00" + flac[rest:]))
    return parts, place + 5 + len(flac) - rest


def sparse(path: Path, parts: list[tuple[int, bytes]], size: int) -> None:
    """A file that takes little room on the disk, zeros between its parts."""
    with open(path, "wb") as file:
        for place, part in parts:
            file.seek(place)
            file.write(part)
        file.truncate(size)


def content(make: Callable[[Sounds], bytes]) -> Callable[[Path, Sounds, Generator], object]:
    return lambda path, sounds, rng: path.write_bytes(make(sounds))


def cut_to(name: str, share: float) -> Callable[[Path, Sounds, Generator], object]:
    """The beginning of a file; how much of it varies by a few bytes."""

    def write(path: Path, sounds: Sounds, rng: Generator) -> None:
        whole = sounds[name]
        path.write_bytes(whole[: round(len(whole) * share) + int(rng.integers(8))])

    return write


def first(name: str, size: int) -> Callable[[Path, Sounds, Generator], object]:
    return content(lambda sounds: sounds[name][:size])


def changed(name: str, change: Change) -> Callable[[Path, Sounds, Generator], object]:
    """A file with its bytes changed in place."""

    def write(path: Path, sounds: Sounds, rng: Generator) -> None:
        whole = bytearray(sounds[name])
        change(whole, rng)
        path.write_bytes(whole)

    return write


def flip(whole: bytearray, rng: Generator) -> None:
    """Forty bits past the header."""
    for place in rng.integers(len(whole) // 4, len(whole), 40):
        whole[place] ^= 1 << int(rng.integers(8))


def scramble(whole: bytearray, rng: Generator) -> None:
    whole[40:] = rng.bytes(len(whole) - 40)


def zipped(sounds: Sounds) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sound.wav", sounds["wav"])
    return file.getvalue()


def floats(value: float) -> Callable[[Sounds], bytes]:
    def make(sounds: Sounds) -> bytes:
        samples = chord(0.4)
        samples[100] = value
        return wav(samples.astype("<f4").tobytes(), bits=32, tag=3)

    return make


def video(sounds: Sounds) -> bytes:
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for packet in (*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def loop(path: Path, sounds: Sounds, rng: Generator) -> None:
    path.symlink_to(path.name)


def dangling(path: Path, sounds: Sounds, rng: Generator) -> None:
    path.symlink_to("nowhere.wav")


JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xdb" + bytes(range(256)) * 8
HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n" * 5
TEXT = b"Not a sound file. " * 100
NO_FILE, NO_AUDIO, NO_FORMAT, FAILED = ("not_found",), ("no_samples",), ("unsupported_format",), ("decode_failed",)
SCORED: tuple[Code, ...] = (None,)
ANY: tuple[Code, ...] = (
    *(None, "decode_failed", "no_samples", "too_short", "unsupported_format"),
    *("not_normalized", "bad_sample_rate"),
)
"""Which of them depends on the bits that are hit."""

KINDS = {
    "no byte": Kind(".wav", lambda path, sounds, rng: path.touch(), ("empty_file",)),
    "one byte": Kind(".wav", content(lambda sounds: b"R"), NO_FORMAT),
    "no such file": Kind(".wav", lambda path, sounds, rng: None, NO_FILE),
    "a folder": Kind(".wav", lambda path, sounds, rng: path.mkdir(), NO_FILE),
    "a dangling link": Kind(".wav", dangling, NO_FILE),
    "a link to itself": Kind(".wav", loop, NO_FILE),
    "text": Kind(".wav", content(lambda sounds: TEXT), NO_FORMAT),
    "text as mp3": Kind(".mp3", content(lambda sounds: TEXT), NO_FORMAT),
    "html": Kind(".flac", content(lambda sounds: HTML), NO_FORMAT),
    "jpeg": Kind(".ogg", content(lambda sounds: JPEG), NO_FORMAT),
    "zip": Kind(".wav", content(zipped), NO_FORMAT),
    "a list of files": Kind(".wav", content(lambda sounds: b"ffconcat version 1.0\nfile other.wav\n"), NO_FORMAT),
    "video alone": Kind(".mp4", content(video), NO_FORMAT),
    "gigabytes of zeros": Kind(".wav", lambda path, sounds, rng: sparse(path, [], 1 << 36), NO_FORMAT),
    "wav header": Kind(".wav", content(lambda sounds: wav(b"")), NO_AUDIO),
    "wav cut in its header": Kind(".wav", first("wav", 30), NO_FORMAT),
    "wav cut": Kind(".wav", cut_to("wav", 0.6), SCORED),
    "wav that claims more": Kind(".wav", content(lambda sounds: wav(noise(6400), claimed=10**9)), SCORED),
    "wav that claims all": Kind(".wav", content(lambda sounds: wav(noise(6400), claimed=2**32 - 1)), SCORED),
    "wav of no channel": Kind(".wav", content(lambda sounds: wav(noise(6400), channels=0)), NO_FORMAT),
    "wav of 65535 channels": Kind(".wav", content(lambda sounds: wav(noise(6400), channels=65535)), NO_FORMAT),
    "wav of 1024 channels": Kind(".wav", content(lambda sounds: wav(noise(6400), channels=1024)), ("too_short",)),
    "wav of no rate": Kind(".wav", content(lambda sounds: wav(noise(6400), rate=0)), NO_FORMAT),
    "wav of 2 GHz": Kind(".wav", content(lambda sounds: wav(noise(6400), rate=2 * 10**9)), ("bad_sample_rate",)),
    "wav of odd bits": Kind(".wav", content(lambda sounds: wav(noise(6400), bits=5)), SCORED),
    "wav of an unknown codec": Kind(".wav", content(lambda sounds: wav(noise(6400), tag=0x7777)), NO_FORMAT),
    "not a number": Kind(".wav", content(floats(np.nan)), ("non_finite_audio",)),
    "infinite": Kind(".wav", content(floats(np.inf)), ("non_finite_audio",)),
    "silent": Kind(".wav", content(lambda sounds: wav(silence(6400))), SCORED),
    "one sample": Kind(".wav", content(lambda sounds: wav(noise(1))), ("too_short",)),
    "25 ms": Kind(".flac", content(lambda sounds: encode(chord(0.025), "flac")), ("too_short",)),
    "aiff cut": Kind(".aiff", cut_to("aiff", 0.6), SCORED),
    "flac named wav": Kind(".wav", content(lambda sounds: sounds["flac"]), SCORED),
    "mp3 named flac": Kind(".flac", content(lambda sounds: sounds["mp3"]), SCORED),
    "m4a named mp3": Kind(".mp3", content(lambda sounds: sounds["m4a"]), SCORED),
    "flac header": Kind(".flac", first("flac", 100), FAILED),
    "flac cut": Kind(".flac", cut_to("flac", 0.7), (None, "decode_failed")),
    "flac rotten": Kind(".flac", changed("flac", flip), ANY),
    "mp3 header": Kind(".mp3", first("mp3", 40), NO_FORMAT),
    "mp3 cut": Kind(".mp3", cut_to("mp3", 0.6), (None, "too_short")),
    "mp3 rotten": Kind(".mp3", changed("mp3", flip), ANY),
    "mp3 scrambled": Kind(".mp3", changed("mp3", scramble), NO_FORMAT),
    "ogg header": Kind(".ogg", first("ogg", 60), NO_FORMAT),
    "ogg cut": Kind(".ogg", cut_to("ogg", 0.8), NO_AUDIO),
    "ogg rotten": Kind(".ogg", changed("ogg", flip), ANY),
    "opus header": Kind(".opus", first("opus", 60), NO_FORMAT),
    "opus cut": Kind(".opus", cut_to("opus", 0.6), NO_FORMAT),
    "m4a cut": Kind(".m4a", cut_to("m4a", 0.6), NO_FORMAT),
    "m4a rotten": Kind(".m4a", changed("m4a", flip), ANY),
    "m4a of 170 million samples": Kind(".m4a", content(lambda sounds: bomb(sounds["m4a"])), FAILED),
}
"""Name -> kind. A FIFO and a file without permission are apart: the one waits for its deadline, the other is none
to the superuser."""
