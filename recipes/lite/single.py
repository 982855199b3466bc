"""Single sounds that a gate which only knows whole recordings puts into the wrong domain.

Notes of instruments, of which it takes one in three for speech or sound, are cut from a sound font and from a package
of single files; so are coughs, laughs and screams, which are human and no speech.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from recipes.lite.chains import Wave
from recipes.lite.corpus import Pick, files_of, read, seed, unpack, write

NOTES, HUMAN = "notes", "human"  # sets
PICKS = (
    (NOTES, Pick("music", "scratch", 30, "CC-BY-SA-3.0", "/(Instruments|Percussion)/")),
    (HUMAN, Pick("sound", "scratch", 30, "CC-BY-SA-3.0", "/Human/", "PartyNoise|Foot|Snap")),
    (HUMAN, Pick("sound", "hedgewars-data", 30, "GFDL-1.3", "/voices/.*/(Laugh|PoisonCough|PoisonMoan)")),
    (HUMAN, Pick("sound", "ufoai-sound", 20, "CC-BY-SA-3.0, GPL-2+", "/(civilians|soldiers)/.*(scream|death|hurt)")),
    (HUMAN, Pick("sound", "openarena-data", 20, "GPL-2+", "/sarge/(death|drown|gasp|pain)")),
    (HUMAN, Pick("sound", "wesnoth-1.16-data", 20, "GPL-2+", "/sounds/(human-(die|hit)|groan|.*laugh)")),
    (HUMAN, Pick("sound", "scorched3d-data", 20, "GPL-2+", "/misc/scream")),
    (HUMAN, Pick("sound", "ktuberling-data", 20, "GPL-2+", "/(tux-laugh|snor)\\.")),
    (HUMAN, Pick("sound", "btanks-data", 20, "GPL-2+ with exceptions", "/sounds/(laugh|kamikaze-scream)")),
    (HUMAN, Pick("sound", "lmms-common", 20, "GPL-2+", "/misc/breath")),
    (HUMAN, Pick("sound", "sonic-pi-samples", 20, "CC0-1.0", "/misc_burp")),
)
"""Sets and what to take from packages: as many files as the weight says, at most."""
SUFFIXES = (".wav", ".mp3", ".ogg", ".flac")
FONT = Pick("music", "fluid-soundfont-gm", 150, "MIT", "FluidR3_GM\\.sf2$", "^(Gun|Clap)|Choir|Voices|[Vv]ox|SynthV")
"""The sound font, and samples to leave out: those of voices are too similar to sustained vowels."""
SHORTEST, LONGEST = 0.8, 4.0  # s, of a note
HEADER = struct.Struct("<20s5I2B2H")  # of a sample: name, start, end, loop, rate, pitch and correction, link, type
MONO, LEFT = 1, 4  # types


def cut_single(work: Path, corpus: Path) -> list[dict[str, Any]]:
    """Write the sounds to the folder `corpus`. Returns rows with path, domain, set, package, source and licence."""
    rows: list[dict[str, Any]] = []

    def add(kind: str, pick: Pick, source: str, x: Wave, rate: int) -> None:
        name = f"{kind}-{seed(pick.package, source):016x}.flac"
        write(corpus / name, x, rate)
        rows.append({"path": name, "domain": pick.domain, "set": kind, "package": pick.package, "source": source})
        rows[-1]["licence"] = pick.licence

    for kind, pick in PICKS:
        root = unpack(pick.package, work)
        for path in islice(files_of(pick, root, SUFFIXES), pick.weight):
            x, rate = read(path)
            if len(x) and np.mean(x**2) > 1e-6:
                add(kind, pick, str(path.relative_to(root)), x, rate)
    (font,) = (path for path in sorted(unpack(FONT.package, work).rglob("*.sf2")) if re.search(FONT.folder, str(path)))
    notes = [(name, x, rate) for name, x, rate in read_font(font) if not re.search(FONT.without, name)]
    long = [note for note in notes if len(note[1]) >= SHORTEST * note[2]]
    for name, x, rate in sorted(long, key=lambda note: seed(note[0]))[: FONT.weight]:
        add(NOTES, FONT, name, x[: int(LONGEST * rate)], rate)
    return rows


def read_font(path: Path) -> Iterator[tuple[str, Wave, int]]:
    """Names, samples [S] and rates (Hz) of a SoundFont 2 file; of stereo samples the left one."""
    chunks = dict(_chunks(path.read_bytes()))
    samples = np.frombuffer(chunks[b"smpl"], "<i2")
    *headers, _ = HEADER.iter_unpack(chunks[b"shdr"])  # the last one marks the end
    for name, start, end, _, _, rate, _, _, _, kind in headers:
        if kind in (MONO, LEFT):
            yield name.split(b"\0")[0].decode("latin-1"), samples[start:end] / 32768, rate


def _chunks(riff: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the chunks in the lists of a RIFF file."""
    at = 12
    while at + 8 <= len(riff):
        name, size = struct.unpack_from("<4sI", riff, at)
        body = riff[at + 8 : at + 8 + size]
        if name == b"LIST":
            yield from _chunks(b"\0" * 8 + body)
        else:
            yield name, body
        at += 8 + size + size % 2
