"""Free recordings with a known domain, cut from Debian packages, and degradations of known order.

Packages are fetched with `apt-get download` and unpacked, not installed; 1.6 GB. Two speech synthesisers are run if
they are installed (`espeak-ng`, `flite`) and left out with a note if not. Short files of one folder are joined to
3-5 s. An interrupted run resumes; the same packages give the same clips. There are no human ratings here: only the
order of degradations is known.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr

from recipes.lite.degradations import DEGRADATIONS, RATE, Job, Wave, level, limited

SHORTEST, LONGEST = 3.0, 4.5  # s
LIMITS = (
    "3400 before",
    "3400 after",
    "7000 before",
    "7000 after",
)  # Hz, and whether the filter comes before or after the degradation
LIMITED_FRACTION = 0.4
SUFFIXES = (".wav", ".ogg", ".opus", ".flac", ".g722")


@dataclass(frozen=True)
class Pick:
    """Files to take from a package."""

    domain: str
    package: str
    weight: int  # relative number of clips within the domain
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
    Pick("speech", "tuxpaint-stamps-default", 40, "GPL-2+", "_desc"),
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
    Pick("sound", "tuxpaint-stamps-default", 40, "GPL-2+", "/(animals|household|vehicles|naturalforces)/", "_desc"),
    Pick("sound", "wesnoth-1.16-data", 30, "GPL-2+", "/sounds/", "horn-|fanfare|drums|human|laugh|ugg|chat"),
    Pick("sound", "minetest-data", 22, "CC-BY-SA-3.0, CC-BY-3.0, CC0-1.0, MIT", "/sounds/"),
    Pick("sound", "simutrans-pak64", 12, "Artistic-1.0", "/sound/"),
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
    """Folder of the unpacked package, with the files inside its archives."""
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
        file, text = folder / f"{voice}-{i:03}.wav", " ".join(map(str, words))
        options = ["-v", str(voice), "-w", str(file), text]
        if program != "espeak-ng":
            options = ["-voice", str(voice), "-t", text, "-o", str(file)]
        subprocess.run([program, *options], check=True)


def seed(*words: object) -> int:
    """A number that depends only on the words."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, words)).encode()).digest()[:8], "big")


def read(path: Path) -> tuple[Wave, int]:
    """A mono segment of a file, starting in its first half if it is long, at RATE or less."""
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
    audible = np.flatnonzero(frames > 3e-3 * frames.max(initial=1e-9))  # 50 dB below the loudest moment
    return (samples[audible[0] : audible[-1] + 1] if len(audible) else samples[:0]), rate


def files_of(pick: Pick, root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Audio files of a package that a pick wants, in an order that depends only on their paths in it."""
    for path in sorted(root.rglob("*"), key=lambda path: seed(path.relative_to(root))):
        name = f"/{path.relative_to(root)}"
        usable = path.suffix.lower() in suffixes and path.is_file() and not path.is_symlink()
        if usable and re.search(pick.folder, name) and not re.search(pick.without, name):
            yield path


def runs(pick: Pick, root: Path) -> Iterator[tuple[str, Wave, int]]:
    """Clips of a package: one long file each, or short files of one folder in a row. Folders take turns."""
    folders: dict[Path, list[Path]] = {}
    for path in files_of(pick, root, SUFFIXES):
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
    """Write a clip at LEVEL_DB, atomically."""
    soundfile.write(path.with_suffix(".partial"), level(samples), rate, format="FLAC")
    path.with_suffix(".partial").rename(path)


def bandwidth(x: Wave, rate: int) -> int:
    """Hz, upper edge of the highest of 100 bands that is less than 70 dB below the strongest."""
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2
    bands = np.array([part.mean() for part in np.array_split(power, 100)])
    return int((np.flatnonzero(bands > 1e-7 * bands.max()).max() + 1) / 100 * rate / 2)


def cut_packages(work: Path, corpus: Path, clips: int) -> list[dict[str, Any]]:
    """Write about `clips` clips of each domain to the folder `corpus`. Returns a row for each.

    - path, domain (speech, music, sound), package, licence
    - source: the first file of the clip; a source's clips are one group
    - rate, and bandwidth (Hz), which is often less than half the rate
    """
    rows: list[dict[str, Any]] = []
    for pick in PICKS:
        total = sum(other.weight for other in PICKS if other.domain == pick.domain)
        count, found = max(1, round(clips * pick.weight / total)), 0
        for source, samples, rate in islice(runs(pick, unpack(pick.package, work)), count):
            name = f"{pick.domain}-{seed(pick.package, source):016x}"
            rows.append({"path": f"{name}.flac", "domain": pick.domain, "package": pick.package, "source": source})
            rows[-1] |= {"rate": rate, "bandwidth": bandwidth(samples, rate), "licence": pick.licence}
            write(corpus / f"{name}.flac", samples, rate)
            found += 1
        print(f"{pick.domain} {pick.package}: {found} of {count}", flush=True)
    return rows


def degrade(x: Wave, kind: str, severity: int, limit: str, job: Job) -> Wave:
    """A clip with that degradation and severity, low-pass filtered before or after it if there is a limit."""
    function, steps = DEGRADATIONS[kind]
    edge, when = limit.split() if limit else ("0", "")
    x = limited(x, job.rate, float(edge)) if when == "before" else x
    x = function(x, job, steps[severity - 1])
    return limited(x, job.rate, float(edge)) if when == "after" else x
