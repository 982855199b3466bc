"""Free recordings with a known domain, and versions of them damaged in a known order.

    python scripts/lite_corpus.py [--work build/corpus] [--clips 250] [--damaged 145]

Writes WORK/corpus/*.flac and WORK/corpus/manifest.csv:

    path, domain (speech, music, sound), package, source (the first file of the clip; a source's clips are
    one group), kind ("clean" or of damage), severity (0 clean, then 1-4; only comparable within a source
    and kind), rate, bandwidth (Hz; what the recording holds, often less than half its rate), licence

Wants a Debian system: packages are fetched with `apt-get download` and unpacked, not installed; 1.3 GB. Two
speech synthesisers are run if they are installed (`espeak-ng`, `flite`) and left out with a note if not. Short
files of one folder are joined to 3-5 s. Broken off and called again, it goes on where it was; the same packages
give the same clips. Nothing here is a human rating: the order of damage is all that is known.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from damage import KINDS, RATE, Job, Wave, level

ROOT = Path(__file__).resolve().parent.parent
SHORTEST, LONGEST = 3.0, 4.5  # s
SUFFIXES = (".wav", ".ogg", ".opus", ".flac", ".g722")


@dataclass(frozen=True)
class Pick:
    """What is taken of a package."""

    domain: str
    package: str
    share: int  # of the domain's clips
    licence: str  # of the audio, as the package's copyright file gives it
    folder: str = ""  # regular expressions that the path must and must not match
    without: str = "^$"


PICKS = (
    Pick("speech", "asterisk-core-sounds-en-g722", 26, "CC-BY-SA-3.0", "en_US", "silence"),
    Pick("speech", "asterisk-core-sounds-es-wav", 24, "CC-BY-SA-3.0", "es_MX", "silence"),
    Pick("speech", "asterisk-core-sounds-fr-g722", 24, "CC-BY-SA-3.0", "fr_CA", "silence"),
    Pick("speech", "asterisk-core-sounds-it-wav", 20, "CC-BY-3.0", "it_IT", "silence"),
    Pick("speech", "asterisk-core-sounds-ru-g722", 24, "CC-BY-3.0", "ru_RU", "silence"),
    Pick("speech", "klettres-data", 24, "GPL-2+"),
    Pick("speech", "ktuberling-data", 28, "GPL-2+"),
    Pick("speech", "fillets-ng-data-cs", 30, "GPL-2", "/cs/"),
    Pick("speech", "hedgewars-data", 22, "GFDL-1.3", "/voices/", "Robot|Singer"),
    Pick("speech", "pocketsphinx-testdata", 8, "BSD-2-clause"),
    Pick("speech", "espeak-ng", 14, "GPL-3+ (program)"),
    Pick("speech", "flite", 14, "BSD-like (program)"),
    Pick("music", "wesnoth-1.16-music", 36, "GPL-2+"),
    Pick("music", "warzone2100-music", 28, "CC-BY-SA-3.0 or GPL-2+"),
    Pick("music", "colobot-common-sounds", 20, "GPL-3+", "/music/"),
    Pick("music", "drascula-music", 28, "Drascula-License (DFSG-free)", "/audio/"),
    Pick("music", "hedgewars-data", 24, "GPL-2", "/Music/"),
    Pick("music", "hyperrogue-music", 16, "CC-BY-SA-3.0", "/music/"),
    Pick("music", "singularity-music", 14, "CC-BY-SA-3.0"),
    Pick("music", "fretsonfire-songs-muldjord", 8, "CC-BY-SA-3.0"),
    Pick("music", "fretsonfire-songs-sectoid", 8, "MIT"),
    Pick("music", "extremetuxracer-data", 8, "GPL-2+", "/music/"),
    Pick("music", "xmoto-data", 7, "GPL-2+"),
    Pick("music", "lmms-common", 14, "GPL-2+", "beats|bassloops|latin|instruments|stringsnpads"),
    Pick("music", "sonic-pi-samples", 12, "CC0-1.0", "/(loop|guit|ambi)_"),
    Pick("music", "lomiri-sounds", 26, "CC-BY-SA-3.0, CC-BY-4.0, CC0-1.0", "/ringtones/"),
    Pick("sound", "ufoai-sound", 46, "CC-BY-SA-3.0, GPL-2+", "ambience|weapons|impact|doors|misc|ugv|foot|aliens"),
    Pick("sound", "openarena-data", 24, "GPL-2+", "/sound/", "sarge|announcer|feedback|mission|player/[^/]*$"),
    Pick("sound", "freeorion-data", 14, "CC-BY-SA-3.0", "/sound/"),
    Pick("sound", "endless-sky-data", 28, "public domain, CC-BY-SA-3.0", "/sounds/"),
    Pick("sound", "hedgewars-data", 24, "GFDL-1.3", "/Sounds/", "voices|/[0-9][A-G]|hog|hell|Kiss|Yoo|valky|count"),
    Pick("sound", "colobot-common-sounds", 26, "GPL-3+", "/sounds/"),
    Pick("sound", "lugaru-data", 16, "CC-BY-SA-3.0", "/Sounds/", "Music"),
    Pick("sound", "btanks-data", 14, "GPL-2+ with exceptions", "/sounds/"),
    Pick("sound", "scorched3d-data", 28, "GPL-2+", "/wav/"),
    Pick("sound", "hyperrogue-music", 20, "CC-BY-SA-4.0, CC-BY, CC0", "/sounds/", "prince|message|seen-cult|speak"),
    Pick("sound", "bzflag-data", 8, "LGPL-2.1 or MPL"),
)
SENTENCES = (
    ("The old teacher", "My youngest brother", "A quiet stranger", "Every second ship", "The girl next door"),
    ("carried seven boxes of fresh fish", "forgot the long way home", "would rather choose the blue jacket"),
    ("before the rain began.", "because nobody had asked.", "while the church bells were ringing."),
)
SPEAKERS = {
    "espeak-ng": ("en", "en-us", "en-gb-scotland", "en+f3", "en-us+f4", "en+m7"),
    "flite": ("kal", "kal16", "awb", "rms", "slt"),
}


def unpack(package: str, work: Path) -> Path:
    """The package's files in a folder of its own, those inside its archives too."""
    folder = work / "packages" / package
    if folder.is_dir():
        return folder
    if package in SPEAKERS and shutil.which(package) is None:
        print(f"{package} is not installed: its voices are left out")
        return folder
    partial = work / "packages" / f"{package}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if package in SPEAKERS:
        speak(package, partial)
    else:
        fetch = ["apt-get", "-o", "APT::Sandbox::User=root", "-qq", "download", package]
        subprocess.run(fetch, cwd=partial, check=True)
        for deb in partial.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", deb, partial], check=True)
            deb.unlink()
        for archive in sorted(partial.rglob("*.pk3")):
            with zipfile.ZipFile(archive) as file:
                file.extractall(archive.with_suffix(""), [n for n in file.namelist() if n.endswith(SUFFIXES)])
    return partial.rename(folder)


def speak(program: str, folder: Path) -> None:
    """Sentences read by a synthesiser, its voices in turn."""
    for i, (voice, *words) in list(enumerate(product(SPEAKERS[program], *SENTENCES)))[::3]:
        file, text = folder / f"{voice}-{i:03}.wav", " ".join(words)
        order = ["-v", voice, "-w", file, text] if program == "espeak-ng" else ["-voice", voice, "-t", text, "-o", file]
        subprocess.run([program, *order], check=True)


def seed(*words: object) -> int:
    """A number that depends on the words alone."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, words)).encode()).digest()[:8], "big")


def read(path: Path) -> tuple[Wave, int]:
    """A mono stretch of a file, from somewhere in its first half if it is long, at no more than RATE."""
    if path.suffix == ".g722":
        with av.open(str(path), format="g722") as file:
            samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)]) / 32768
        rate = 16_000
    else:
        info = soundfile.info(path)
        start = int(seed(path.name) % 1000 / 2000 * info.frames) if info.duration > 4 * LONGEST else 0
        samples, rate = soundfile.read(path, int(LONGEST * info.samplerate), start, always_2d=True)
        samples = samples.mean(1)
    if rate > RATE:
        samples, rate = soxr.resample(samples, rate, RATE, "VHQ"), RATE
    frames = np.sqrt(np.convolve(samples**2, np.ones(rate // 50) / (rate // 50), "same"))
    heard = np.flatnonzero(frames > 3e-3 * frames.max(initial=1e-9))  # 50 dB below the loudest moment
    return (samples[heard[0] : heard[-1] + 1] if len(heard) else samples[:0]), rate


def runs(pick: Pick, root: Path) -> Iterator[tuple[str, Wave, int]]:
    """Clips of a package: one long file each, or short files of one folder in a row. Folders take turns."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(root.rglob("*"), key=lambda path: seed(path.relative_to(root))):
        name = f"/{path.relative_to(root)}"
        wanted = path.suffix in SUFFIXES and path.is_file() and not path.is_symlink()
        if wanted and re.search(pick.folder, name) and not re.search(pick.without, name):
            folders.setdefault(path.parent, []).append(path)
    while folders:
        for folder, paths in list(folders.items()):
            parts: list[Wave] = []
            first, rate = paths[0], 0
            while paths and sum(map(len, parts)) < SHORTEST * max(rate, 1):
                try:
                    samples, own = read(paths.pop(0))
                except (soundfile.LibsndfileError, av.FFmpegError):
                    continue
                if np.sum(samples**2) <= 1e-6 * len(samples):
                    continue
                rate = rate or own
                samples = soxr.resample(samples, own, rate) if own != rate else samples.copy()
                fade = np.minimum(1, np.arange(len(samples)) / (0.01 * rate))
                parts += [samples * fade * fade[::-1], np.zeros(int(0.1 * rate))]
            if not paths:
                del folders[folder]
            if sum(map(len, parts)) >= SHORTEST * max(rate, 1):
                yield str(first.relative_to(root)), np.concatenate(parts)[: int(LONGEST * rate)], rate


def write(path: Path, samples: Wave, rate: int) -> None:
    """A clip at the usual level; whole or not there."""
    soundfile.write(path.with_suffix(".partial"), level(samples), rate, format="FLAC")
    path.with_suffix(".partial").rename(path)


def bandwidth(x: Wave, rate: int) -> int:
    """Hz below which everything lies that is less than 70 dB under the strongest band of 1/100 of the range."""
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2
    bands = np.array([part.mean() for part in np.array_split(power, 100)])
    return int((np.flatnonzero(bands > 1e-7 * bands.max()).max() + 1) / 100 * rate / 2)


def main() -> None:
    """Fetch, cut, damage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "corpus", help="folder of packages and clips")
    parser.add_argument("--clips", type=int, default=250, help="clean clips a domain, about")
    parser.add_argument("--damaged", type=int, default=145, help="how many of them also get four damaged versions")
    options = parser.parse_args()
    corpus = options.work.resolve() / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for pick in PICKS:
        total = sum(other.share for other in PICKS if other.domain == pick.domain)
        count = max(1, round(options.clips * pick.share / total))
        found = 0
        for source, samples, rate in runs(pick, unpack(pick.package, options.work.resolve())):
            name = f"{pick.domain}-{seed(pick.package, source):016x}"
            rows.append({"path": f"{name}.flac", "domain": pick.domain, "package": pick.package, "source": source})
            rows[-1] |= {"kind": "clean", "severity": 0, "rate": rate, "bandwidth": bandwidth(samples, rate)}
            rows[-1] |= {"licence": pick.licence}
            write(corpus / f"{name}.flac", samples, rate)
            found += 1
            if found == count:
                break
        print(f"{pick.domain} {pick.package}: {found} of {count}", flush=True)
    talk = sorted(row["path"] for row in rows if row["domain"] == "speech")
    clean = sorted(rows, key=lambda row: seed("order", row["path"]))
    for domain in ("speech", "music", "sound"):
        for row in [row for row in clean if row["domain"] == domain][: options.damaged]:
            rows += damaged(row, corpus, talk)
    with open(corpus / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: seed("order", row["package"], row["source"])))
    print(f"{len(rows)} clips in {corpus}")


def damaged(row: dict[str, Any], corpus: Path, talk: list[str]) -> list[dict[str, Any]]:
    """Two kinds of damage, each in two severities that are two or three steps apart."""
    rng = np.random.default_rng(seed("damage", row["path"]))
    x, rate = soundfile.read(corpus / row["path"])
    voices = [soundfile.read(corpus / other) for other in rng.choice(talk, 5, replace=False) if other != row["path"]]
    babble = sum(np.resize(soxr.resample(voice, own, rate), len(x)) for voice, own in voices[:4])
    rows = []
    for kind in rng.choice(list(KINDS), 2, replace=False):
        function, steps = KINDS[kind]
        for severity in [(1, 3), (2, 4), (1, 4)][rng.integers(3)]:
            path = f"{Path(row['path']).stem}-{kind.replace(' ', '')}-{severity}.flac"
            rows.append(row | {"path": path, "kind": str(kind), "severity": severity})
            if not (corpus / path).is_file():
                noise = np.random.default_rng(seed(row["path"], kind))  # the same noise in both severities
                samples = function(x, Job(rate, row["bandwidth"], noise, babble), steps[severity - 1])
                write(corpus / path, samples, rate)
    return rows


if __name__ == "__main__":
    main()
