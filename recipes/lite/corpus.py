"""Free recordings with a known domain, and versions of them with degradations in a known order.

    python -m recipes.lite.corpus [--work build/lite/corpus] [--songs DATA/musdb18_aes]

Writes WORK/corpus/*.flac and WORK/corpus/manifest.csv:

    path, domain (speech, music, sound), package, source (the first file of the clip; a source's clips are
    one group), kind ("clean", a degradation, or "sources"), severity (0 clean, then 1-4; only comparable within a
    source and kind; of "sources" the number of simultaneous sources), limit ("3400 before": low-pass filtered there
    before the degradation, or after), rate, bandwidth (Hz; often less than half the rate), licence

With --songs, also versions of those songs: vocals separated worse and worse, and sums of stems.

Needs a Debian system: packages are fetched with `apt-get download` and unpacked, not installed; 1.6 GB. Two
speech synthesisers are run if they are installed (`espeak-ng`, `flite`) and left out with a note if not. Short
files of one folder are joined to 3-5 s. An interrupted run resumes; the same packages give the same clips. There are no
human ratings here: only the order of degradations is known.
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
from itertools import islice, product
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr

from recipes.lite.degradations import DEGRADATIONS, RATE, Job, Wave, level, limited

ROOT = Path(__file__).resolve().parents[2]
SHORTEST, LONGEST = 3.0, 4.5  # s
SOURCES = "sources"  # kind of a clip with several simultaneous sources
LIMITS = (
    "3400 before",
    "3400 after",
    "7000 before",
    "7000 after",
)  # Hz, and whether the filter comes before or after the degradation
LIMITED_FRACTION = 0.4
SONGS_LICENCE = "MUSDB18, academic use"
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


def runs(pick: Pick, root: Path) -> Iterator[tuple[str, Wave, int]]:
    """Clips of a package: one long file each, or short files of one folder in a row. Folders take turns."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(root.rglob("*"), key=lambda path: seed(path.relative_to(root))):
        name = f"/{path.relative_to(root)}"
        is_audio = path.suffix in SUFFIXES and path.is_file() and not path.is_symlink()
        if is_audio and re.search(pick.folder, name) and not re.search(pick.without, name):
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


def make_corpus(work: Path, songs: Path | None, clips: int = 300, most: int = 145) -> Path:
    """Fetch, cut and degrade clips; existing ones are kept. Returns the folder of clips and manifest.

    - clips: approximate number of clean clips per domain
    - most: number of them that also get other versions
    """
    corpus = work / "corpus"
    if (corpus / "manifest.csv").is_file():
        return corpus
    corpus.mkdir(parents=True, exist_ok=True)
    clean = sorted(cut_packages(work, corpus, clips), key=lambda row: seed("order", row["path"]))
    rows = list(clean)
    for domain in ("speech", "music", "sound"):
        for row in [row for row in clean if row["domain"] == domain][:most]:
            rows += degraded_versions(row, corpus, clean) + combined_sources(row, corpus, clean)
    if songs:
        rows += [row for name, stems in read_songs(songs) for row in remixed(name, stems, corpus)]
    partial = corpus / "manifest.partial"
    with open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: seed("order", row["package"], row["source"])))
    print(f"{len(rows)} clips in {corpus}")
    return partial.rename(corpus / "manifest.csv").parent


def cut_packages(work: Path, corpus: Path, clips: int) -> list[dict[str, Any]]:
    """Clean clips of every package."""
    rows: list[dict[str, Any]] = []
    for pick in PICKS:
        total = sum(other.weight for other in PICKS if other.domain == pick.domain)
        count, found = max(1, round(clips * pick.weight / total)), 0
        for source, samples, rate in islice(runs(pick, unpack(pick.package, work)), count):
            name = f"{pick.domain}-{seed(pick.package, source):016x}"
            rows.append({"path": f"{name}.flac", "domain": pick.domain, "package": pick.package, "source": source})
            rows[-1] |= {"kind": "clean", "severity": 0, "limit": "", "rate": rate}
            rows[-1] |= {"bandwidth": bandwidth(samples, rate), "licence": pick.licence}
            write(corpus / f"{name}.flac", samples, rate)
            found += 1
        print(f"{pick.domain} {pick.package}: {found} of {count}", flush=True)
    return rows


def degraded_versions(row: dict[str, Any], corpus: Path, clean: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Three kinds of degradation, each in two severities that are two or three steps apart."""
    rng = np.random.default_rng(seed("damage", row["path"]))
    rate, x = load(row, corpus)
    babble = sum(others(row, corpus, clean, "speech", 4, rng), np.zeros_like(x))
    (backing,) = others(row, corpus, clean, "sound" if row["domain"] == "sound" else "music", 1, rng)
    rows = []
    for kind in map(str, rng.choice(list(DEGRADATIONS), 3, replace=False)):
        limit = str(
            rng.choice(["", *LIMITS], p=[1 - LIMITED_FRACTION, *[LIMITED_FRACTION / len(LIMITS)] * len(LIMITS)])
        )
        for severity in [(1, 3), (2, 4), (1, 4)][rng.integers(3)]:
            path = f"{Path(row['path']).stem}-{kind.replace(' ', '')}-{severity}.flac"
            rows.append(row | {"path": path, "kind": kind, "severity": severity, "limit": limit})
            if not (corpus / path).is_file():
                noise = np.random.default_rng(seed(row["path"], kind))  # the same noise in both severities
                write(
                    corpus / path,
                    degrade(x, kind, severity, limit, Job(rate, row["bandwidth"], noise, babble, backing)),
                    rate,
                )
    return rows


def degrade(x: Wave, kind: str, severity: int, limit: str, job: Job) -> Wave:
    """A clip with that degradation and severity, low-pass filtered before or after it if there is a limit."""
    function, steps = DEGRADATIONS[kind]
    edge, when = limit.split() if limit else ("0", "")
    x = limited(x, job.rate, float(edge)) if when == "before" else x
    x = function(x, job, steps[severity - 1])
    return limited(x, job.rate, float(edge)) if when == "after" else x


def combined_sources(row: dict[str, Any], corpus: Path, clean: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mixtures of two and four recordings of the domain, all equally loud."""
    rate, x = load(row, corpus)
    more = others(row, corpus, clean, row["domain"], 3, np.random.default_rng(seed("sources", row["path"])))
    rows = []
    for count in (2, 4):
        path = f"{Path(row['path']).stem}-sources-{count}.flac"
        rows.append(row | {"path": path, "kind": SOURCES, "severity": count})
        if not (corpus / path).is_file():
            write(corpus / path, sum(more[: count - 1], start=x), rate)
    return rows


def others(
    row: dict[str, Any], corpus: Path, clean: list[dict[str, Any]], domain: str, count: int, rng: np.random.Generator
) -> list[Wave]:
    """Clean clips of that domain from other sources, at the rate, length and level of a row's clip."""
    rate, x = load(row, corpus)
    names = [other for other in clean if other["domain"] == domain and other["path"] != row["path"]]
    found = [load(names[i], corpus) for i in rng.choice(len(names), count, replace=False)]
    level = np.sqrt(np.mean(x**2))
    waves = [np.resize(soxr.resample(wave, own, rate), len(x)) for own, wave in found]
    return [wave * level / max(np.sqrt(np.mean(wave**2)), 1e-9) for wave in waves]


def load(row: dict[str, Any], corpus: Path) -> tuple[int, Wave]:
    """Rate and samples of a row's clip."""
    samples, rate = soundfile.read(corpus / row["path"])
    return rate, samples


def read_songs(folder: Path) -> Iterator[tuple[str, dict[str, Wave]]]:
    """Songs that have all five stems, each stem by its name."""
    songs: dict[str, dict[str, Wave]] = {}
    with open(folder / "manifest.csv", newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            samples, rate = soundfile.read(folder / row["path"])
            songs.setdefault(row["song"], {})[row["stem"]] = soxr.resample(samples, rate, RATE)
    yield from ((song, stems) for song, stems in songs.items() if len(stems) == 5)


def remixed_waves(song: str, stems: dict[str, Wave]) -> dict[tuple[str, int], Wave]:
    """By kind and severity: vocals separated from their mixture, sums of one, two and four stems. All are at RATE."""
    vocals, backing = stems["vocals"], stems["mixture"] - stems["vocals"]
    order = np.random.default_rng(seed("stems", song)).permutation(["bass", "drums", "other", "vocals"])
    made = {(SOURCES, n): sum((stems[str(name)] for name in order[:n]), np.zeros_like(vocals)) for n in (1, 2, 4)}
    if np.mean(vocals**2) > 0.01 * np.mean(stems["mixture"] ** 2):  # the excerpt has vocals
        made["clean", 0] = vocals
        for kind, severity in product(("bleed", "separated"), (1, 2, 3, 4)):
            noise = np.random.default_rng(seed(song, kind))
            made[kind, severity] = degrade(vocals, kind, severity, "", Job(RATE, RATE // 2, noise, backing, backing))
    return made


def remixed(song: str, stems: dict[str, Wave], corpus: Path) -> list[dict[str, Any]]:
    """Rows of `remixed_waves`, whose files are written."""
    made = remixed_waves(song, stems)
    row = {"domain": "music", "package": song, "source": song, "limit": "", "rate": RATE, "bandwidth": RATE // 2}
    rows = []
    for (kind, severity), samples in made.items():
        path = f"song-{seed(song):016x}-{kind}-{severity}.flac"
        rows.append(row | {"path": path, "kind": kind, "severity": severity, "licence": SONGS_LICENCE})
        if not (corpus / path).is_file():
            write(corpus / path, samples, RATE)
    return rows


def main() -> None:
    """Make only the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite" / "corpus", help="output folder")
    parser.add_argument("--songs", type=Path, help="folder of musdb18_aes, for its stems")
    options = parser.parse_args()
    make_corpus(options.work.resolve(), options.songs)


if __name__ == "__main__":
    main()
