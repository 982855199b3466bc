"""Free recordings as full-band clips of up to ten seconds, with domain, package and licence; no labels.

    python -m recipes.student.clips [--work build/student] [--count 100]

Writes WORK/clips/*.flac (mono, the file's own rate, 48 kHz at most) and WORK/clips/manifest.csv: path, domain (speech,
music, sound), package, source (the file that the clip is cut from), rate (Hz), seconds, licence. A manifest line is
added when a package is complete, so that clips can be used while others are still cut; an interrupted run resumes.

Packages are those of `recipes.lite.corpus` and the larger ones below, fetched with `apt-get download` and unpacked, not
installed. MIDI files are played if `fluidsynth` and one of the sound fonts in `FONTS` are installed, and sentences are
spoken if `espeak-ng` or `flite` is; else they are left out.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from recipes.lite.corpus import PICKS, Pick, files_of, seed, unpack
from recipes.lite.degradations import Wave
from recipes.student.files import duration, playable, read

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 10.0  # of a clip, at most
SHORTEST = 3.0  # s; shorter files of one folder are joined
PER_FILE = 4  # clips of one file, at most
QUIETEST = 1e-6  # power of a clip
FIELDS = ("path", "domain", "package", "source", "rate", "seconds", "licence")
SUFFIXES = (".wav", ".ogg", ".oga", ".opus", ".flac", ".g722", ".mp3", ".aiff", ".aif", ".au", ".mid", ".midi")
ARCHIVES = (".pk3", ".zip", ".h2drumkit", ".pk4", ".wz")

MORE = (
    Pick("music", "warzone2100-music", 0, "CC0-1.0, CC-BY-SA-3.0 or GPL-2+"),
    Pick("music", "ufoai-music", 0, "CC-BY-SA-3.0, CC-BY-3.0, public domain"),
    Pick("music", "supertuxkart-data", 0, "CC-BY-SA-3.0, CC-BY-3.0, public domain", "/music/"),
    Pick("sound", "supertuxkart-data", 0, "CC-BY-SA-3.0, CC-BY-3.0, public domain", "/sfx/"),
    Pick("music", "supertux-data", 0, "GPL-2+, CC-BY-SA-3.0", "/music/"),
    Pick("sound", "supertux-data", 0, "GPL-2+, CC-BY-SA-3.0", "/sounds/"),
    Pick("music", "nexuiz-music", 0, "GPL-2+"),
    Pick("sound", "nexuiz-data", 0, "GPL-2+", "/sound/", "announcer|player|music"),
    Pick("speech", "nexuiz-data", 0, "GPL-2+", "/announcer/"),
    Pick("music", "widelands-data", 0, "GPL-2+, CC-BY-SA-3.0", "/music/"),
    Pick("sound", "widelands-data", 0, "GPL-2+, CC-BY-SA-3.0", "/sound/"),
    Pick("music", "naev-data", 0, "CC-BY-SA-3.0, CC-BY-3.0, CC0-1.0", "/(snd/)?music/"),
    Pick("sound", "naev-data", 0, "CC-BY-SA-3.0, CC-BY-3.0, CC0-1.0", "/sounds?/"),
    Pick("music", "megaglest-data", 0, "CC-BY-SA-3.0", "/music"),
    Pick("sound", "megaglest-data", 0, "CC-BY-SA-3.0", "/sounds/"),
    Pick("music", "fillets-ng-data", 0, "GPL-2", "/music/"),
    Pick("speech", "fillets-ng-data-nl", 0, "GPL-2", "/nl/"),
    Pick("music", "asc-music", 0, "GPL-2+"),
    Pick("music", "frozen-bubble-data", 0, "GPL-2"),
    Pick("music", "zaz-data", 0, "CC-BY-SA-3.0", "/music/|\\.ogg$"),
    Pick("music", "planetblupi-music-ogg", 0, "GPL-3+"),
    Pick("music", "planetblupi-music-midi", 0, "GPL-3+"),
    Pick("music", "pathological", 0, "GPL-2+", "/music/"),
    Pick("music", "openttd-openmsx", 0, "GPL-2"),
    Pick("sound", "openttd-opensfx", 0, "CC-BY-SA-3.0"),
    Pick("music", "freedink-data", 0, "GPL-3+, public domain", "mid$|music"),
    Pick("music", "lincity-ng-data", 0, "GPL-2+", "/music/"),
    Pick("sound", "lincity-ng-data", 0, "GPL-2+", "/sounds/"),
    Pick("music", "unknown-horizons", 0, "CC-BY-SA-3.0, GPL-2+", "/music/"),
    Pick("sound", "unknown-horizons", 0, "CC-BY-SA-3.0, GPL-2+", "/sounds/"),
    Pick("speech", "unknown-horizons", 0, "CC-BY-SA-3.0, GPL-2+", "/voice/"),
    Pick("music", "hydrogen-drumkits", 0, "GPL-2+, CC-BY-SA-3.0"),
    Pick("sound", "hydrogen-drumkits-effects", 0, "GPL-2+"),
    Pick("speech", "pysiogame", 0, "GPL-3+", "/(voices?|sounds?|res)/"),
    Pick("speech", "tuxtype-data", 0, "GPL-2+", "/words|/sounds/"),
    Pick("sound", "warmux-data", 0, "GPL-2+", "/sound/", "music"),
    Pick("music", "warmux-data", 0, "GPL-2+", "/music/"),
    Pick("music", "ardentryst", 0, "GPL-3+", "/Music/|/music/"),
    Pick("sound", "trigger-rally-data", 0, "GPL-2+", "/sounds/"),
    Pick("sound", "torcs-data", 0, "GPL-2+", "\\.wav$"),
    Pick("sound", "gnome-audio", 0, "GPL-2+"),
    Pick("sound", "oxygen-sounds", 0, "LGPL-3+"),
    Pick("sound", "openarena-088-data", 0, "GPL-2+", "/sound/", "announcer|feedback"),
    Pick("music", "berusky2-data", 0, "GPL-2+", "ogg$|/music/"),
    Pick("sound", "redeclipse-data", 0, "CC-BY-SA-4.0, CC0-1.0", "/sounds/", "announcer|voice"),
    Pick("music", "redeclipse-data", 0, "CC-BY-SA-4.0, CC0-1.0", "/music/|/themes?/"),
    Pick("music", "0ad-data", 0, "CC-BY-SA-3.0", "/music/"),
    Pick("sound", "0ad-data", 0, "CC-BY-SA-3.0", "/audio/(ambient|actor|attack|resource|interface)/"),
    Pick("speech", "0ad-data", 0, "CC-BY-SA-3.0", "/audio/voice/"),
    Pick("sound", "flightgear-data-base", 0, "GPL-2+", "/[Ss]ounds?/", "atc|voice|/ATC/"),
)


def more_archives(folder: Path) -> None:
    """Unpack the audio inside the archives of a package, next to them."""
    for archive in sorted(path for path in folder.rglob("*") if path.suffix in ARCHIVES and path.is_file()):
        target = archive.with_suffix(archive.suffix + ".files")
        if archive.suffix == ".pk3" or target.exists():
            continue
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                file.extractall(target, [name for name in file.namelist() if name.lower().endswith(SUFFIXES)])
        elif archive.suffix == ".h2drumkit":
            target.mkdir()
            subprocess.run(["tar", "-xf", archive, "-C", target], check=True)


def cut(pick: Pick, root: Path, count: int) -> Iterator[tuple[str, Wave, int]]:
    """Clips of a package: parts of long files, and short files of one folder in a row; folders take turns."""
    folders: dict[Path, list[Path]] = {}
    for path in files_of(pick, root, SUFFIXES):
        folders.setdefault(path.parent, []).append(path)
    files = sum(map(len, folders.values()))
    per_file = int(np.clip(round(count / max(files, 1)), 1, PER_FILE))
    while folders:
        for folder, paths in list(folders.items()):
            yield from take(paths, root, per_file)
            if not paths:
                del folders[folder]


def take(paths: list[Path], root: Path, per_file: int) -> Iterator[tuple[str, Wave, int]]:
    """Clips of the first file of a list, or of the first ones in a row if they are short. Removes them from it."""
    parts: list[Wave] = []
    first, rate = "", 0
    while paths and sum(map(len, parts)) < SHORTEST * max(rate, 1):
        with playable(paths[0]) as file:
            seconds = duration(file) if file else 0.0
            is_long = seconds > 2 * SHORTEST
            if is_long and parts:
                break
            name = str(paths.pop(0).relative_to(root))
            if file and is_long:
                yield from long_clips(file, seconds, f"{name}@", per_file)
                return
            samples, own = read(file, 0, SECONDS) if file and seconds else (np.zeros(0), 1)
        if not len(samples) or np.mean(samples**2) <= QUIETEST:
            continue
        first, rate = first or name, rate or own
        samples = soxr.resample(samples, own, rate) if own != rate else samples.copy()
        fade = np.minimum(1, np.arange(len(samples)) / (0.01 * rate))
        parts += [samples * fade * fade[::-1], np.zeros(int(0.1 * rate))]
    if rate and sum(map(len, parts)) >= SHORTEST * rate:
        yield first, np.concatenate(parts)[: int(SECONDS * rate)], rate


def long_clips(file: Path, seconds: float, name: str, count: int) -> Iterator[tuple[str, Wave, int]]:
    """Clips at `count` places of a file, fewer if it is short."""
    for i in range(min(count, int(seconds // SECONDS) or 1)):
        start = max(seconds - SECONDS, 0) * (i + seed(file.name) % 1000 / 1000) / count
        samples, rate = read(file, start, SECONDS)
        if len(samples) >= SHORTEST * rate and np.mean(samples**2) > QUIETEST:
            yield f"{name}{start:.0f}", samples, rate


def fetch(package: str, work: Path) -> Path:
    """Folder of a package with all its audio files; other files are removed."""
    folder = unpack(package, work)
    more_archives(folder)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix.lower() not in SUFFIXES:
            path.unlink()
    return folder


def cut_all(work: Path, count: int) -> None:
    """Clips of every package, `count` of each pick at most."""
    clips, table = work / "clips", work / "clips" / "manifest.csv"
    clips.mkdir(parents=True, exist_ok=True)
    done = set()
    if table.is_file():
        with open(table, newline="") as file:
            done = {(row["domain"], row["package"]) for row in csv.DictReader(file)}
    else:
        table.write_text(",".join(FIELDS) + "\n")
    for pick in sorted({(pick.domain, pick.package): pick for pick in (*PICKS, *MORE)}.values(), key=_order):
        if (pick.domain, pick.package) in done:
            continue
        try:
            rows = list(cut_package(pick, fetch(pick.package, work), clips, count))
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{pick.package} is left out: {error}", flush=True)
            continue
        with open(table, "a", newline="") as file:
            csv.DictWriter(file, FIELDS).writerows(rows)
        done.add((pick.domain, pick.package))
        print(f"{pick.domain} {pick.package}: {len(rows)}", flush=True)


def _order(pick: Pick) -> int:
    """Domains and packages in turn, so that an interrupted run has some of each."""
    return seed(pick.domain, pick.package)


def cut_package(pick: Pick, root: Path, clips: Path, count: int) -> Iterator[dict[str, Any]]:
    """Write the clips of a package and yield their rows."""
    for i, (source, samples, rate) in enumerate(cut(pick, root, count)):
        if i == count:
            return
        path = clips / f"{pick.domain}-{seed(pick.package, source):016x}.flac"
        soundfile.write(path.with_suffix(".partial"), np.clip(samples, -1, 1), rate, format="FLAC")
        path.with_suffix(".partial").rename(path)
        yield dict(
            zip(
                FIELDS,
                (path.name, pick.domain, pick.package, source, rate, f"{len(samples) / rate:.2f}", pick.licence),
                strict=True,
            )
        )


def main() -> None:
    """Fetch and cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "student", help="output folder")
    parser.add_argument("--count", type=int, default=100, help="clips of a package and domain, at most")
    options = parser.parse_args()
    cut_all(options.work.resolve(), options.count)


if __name__ == "__main__":
    main()
