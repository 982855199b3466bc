"""Notes out of a sound font, and single sounds out of packages."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.lite.single import FONT, HEADER, HUMAN, LEFT, LONGEST, MONO, NOTES, PICKS, cut_single, read_font

RIGHT = 2


def sound_font(path: Path, notes: list[tuple[str, np.ndarray, int, int]]) -> None:
    """Write names, samples in 16 bits [S], rates (Hz) and types as a SoundFont 2 file."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    start, headers = 0, b""
    for name, samples, rate, kind in notes:
        headers += HEADER.pack(name.encode(), start, start + len(samples), 0, 0, rate, 60, 0, 0, kind)
        start += len(samples)
    headers += HEADER.pack(b"EOS", *[0] * 9)
    info = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"odd"))
    data = chunk(b"LIST", b"sdta" + chunk(b"smpl", np.concatenate([note[1] for note in notes]).astype("<i2").tobytes()))
    path.write_bytes(chunk(b"RIFF", b"sfbk" + info + data + chunk(b"LIST", b"pdta" + chunk(b"shdr", headers))))


def tone(seconds: float, rate: int) -> np.ndarray:
    """16-bit samples [S]."""
    return (9000 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


def test_samples_of_a_sound_font_keep_their_names_and_rates(tmp_path: Path):
    first, second = tone(0.1, 22_050), tone(0.2, 44_100)
    sound_font(tmp_path / "a.sf2", [("Oboe C4", first, 22_050, MONO), ("Harp (L)", second, 44_100, LEFT)])
    found = list(read_font(tmp_path / "a.sf2"))
    assert [(name, rate) for name, _, rate in found] == [("Oboe C4", 22_050), ("Harp (L)", 44_100)]
    for (_, samples, _), written in zip(found, (first, second), strict=True):
        assert np.array_equal(samples * 32768, written)


def test_the_right_samples_of_stereo_are_left_out(tmp_path: Path):
    sound_font(tmp_path / "a.sf2", [("L", tone(0.1, 8000), 8000, LEFT), ("R", tone(0.1, 8000), 8000, RIGHT)])
    assert [name for name, _, _ in read_font(tmp_path / "a.sf2")] == ["L"]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder with the unpacked packages, in each of which two files are wanted."""
    wanted = {
        "scratch": ("Human/Laugh.wav", "Instruments/Horn.wav"),
        "hedgewars-data": ("voices/Default/Laugh.ogg", "voices/Pirate/PoisonCough.ogg"),
    }
    for package in {pick.package for _, pick in PICKS}:
        for name in (*wanted.get(package, ()), "Human/PartyNoise.wav", "else/Silence.wav"):
            path = tmp_path / "packages" / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(1.0, 16_000), 16_000)
    font = tmp_path / "packages" / FONT.package / "FluidR3_GM.sf2"
    font.parent.mkdir()
    long, short = tone(6.0, 22_050), tone(0.3, 22_050)
    names = ("Oboe C4", "Gun", "Ahh Choir C4")
    sound_font(font, [(name, long, 22_050, MONO) for name in names] + [("Piccolo C8", short, 22_050, MONO)])
    (tmp_path / "corpus").mkdir()
    return tmp_path


def test_notes_and_human_sounds_are_cut_and_others_are_not(work: Path):
    rows = cut_single(work, work / "corpus")
    assert {(row["set"], row["domain"], row["source"]) for row in rows} == {
        (HUMAN, "sound", "Human/Laugh.wav"),
        (HUMAN, "sound", "voices/Default/Laugh.ogg"),
        (HUMAN, "sound", "voices/Pirate/PoisonCough.ogg"),
        (NOTES, "music", "Instruments/Horn.wav"),
        (NOTES, "music", "Oboe C4"),
    }
    assert all(row["licence"] for row in rows)
    (note,) = (row for row in rows if row["source"] == "Oboe C4")
    assert soundfile.info(work / "corpus" / note["path"]).duration == pytest.approx(LONGEST)
