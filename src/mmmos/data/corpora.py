"""The corpora of the paper: what a clip's path says of it, and where its file is found.

    label file ──► rows ──► source, system, domain, group ──► files below the data root
    (published)             (from the path in the list)       (yours to get: they are not ours to pass on)

AES (Tjandra et al., arXiv 2502.05139) rated clips of six corpora and of PAM; AudioMOS Challenge 2025 Track 2 split
the six and added a test set; MMMOS put the six and PAM together. All were rated in one way: the rows are one set.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from mmmos.audio.clip import Clip
from mmmos.audio.decode import probe
from mmmos.data.label_files import LABEL_FILES, find_label_file, label_file
from mmmos.data.labels import no_rows, read_labels
from mmmos.data.manifest import PLACEHOLDER, LabelledClip
from mmmos.errors import AudioError, ManifestError
from mmmos.io.delimited import not_found
from mmmos.io.lists import OnBadRow, refuse
from mmmos.scores import LABEL_RANGE, LabelRange

PamSystem = Literal["kind_folder", "folder"]
"""What names a system of PAM: `music/real`, or `real`, which is then one system of music and sounds."""


@dataclass(frozen=True)
class Source:
    """A corpus: how many of its clips the lists have, and where a user gets them."""

    train: int  # clips in combined_train
    dev: int  # clips in combined_dev
    test: int  # clips in track2_test
    domain: str  # "" where a clip's path does not tell it
    title: str
    home: str
    terms: str


@dataclass(frozen=True)
class ClipMetadata:
    """What the path of a clip says of it."""

    source: str  # key of SOURCES
    system: str = ""
    domain: str = ""
    group: str = ""  # what a split must not cut


@dataclass(frozen=True)
class CorpusStatus:
    """How much of a corpus is there."""

    source: str  # key of SOURCES
    expected: int  # clips
    found: int | None  # None while its label files are not here
    missing: tuple[str, ...] | None  # paths
    unreadable: tuple[str, ...] | None  # paths of files that no decoder opens; None where none was tried


def metadata_from_path(path: str, pam_system: PamSystem = "kind_folder") -> ClipMetadata | None:
    """What is known of a clip from its path below the data root; None if it is of none of the corpora.

    A group is a song, a speaker, a YouTube video (AudioSet, MusicCaps, and PAM's music is made from captions
    of such), or a prompt of PAM. Common Voice does not tell who speaks.

    >>> metadata_from_path("MUSDB18/test/AM Contra - Heart Peripheral/bass.wav")
    ClipMetadata(source='MUSDB18', system='', domain='music', group='MUSDB18/AM Contra - Heart Peripheral')
    >>> metadata_from_path("PAM/human_eval/music/real/-0vPFx-wRRI.wav")
    ClipMetadata(source='PAM', system='music/real', domain='music', group='youtube/-0vPFx-wRRI')
    """
    parts = PurePosixPath(path).parts or ("",)
    stem = os.path.splitext(parts[-1])[0]
    if test := _TEST_ID.fullmatch(stem):
        return ClipMetadata(TEST, test["system"])
    source = parts[0]
    if source not in SOURCES:
        return None
    system, domain, group = "", SOURCES[source].domain, ""
    match parts:
        case ("PAM", _, kind, folder, _):
            system = f"{kind}/{folder}" if pam_system == "kind_folder" else folder
            domain = "music" if kind == "music" else "sound"
            group = f"youtube/{stem}" if kind == "music" else f"PAM/{kind}/{stem}"
        case ("unbalanced_train_segments", *_, _):  # <id>_<start>_<end in ms>
            group = f"youtube/{stem.rsplit('_', 2)[0]}"
        case ("musiccaps", _):
            group = f"youtube/{stem}"
        case ("MUSDB18", _, song, _) | ("LibriTTS", _, song, *_) | ("EARS", song, _):
            group = f"{source}/{song}"
    return ClipMetadata(source, system, domain, group)


def is_suspect(row: LabelledClip) -> bool:
    """Whether a row's labels are likely those of other clips.

    Eleven songs of MUSDB18, all by Music Delta, have ratings as people give to speech: their full mixtures
    have a production complexity of 1.2 to 2.0, every other mixture one of 4.8 or more. Their stems do likewise.
    """
    return row.group in _SUSPECT_GROUPS


def read_corpus(
    name: str | Path,
    data_root: str | Path | None = None,
    labels: str | Path | None = None,
    *,
    drop_suspect: bool = False,
    pam_system: PamSystem = "kind_folder",
    test_audio: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    label_range: LabelRange | None = LABEL_RANGE,
    on_bad_row: OnBadRow = refuse,
    report: Callable[[str], None] = lambda line: None,
) -> list[LabelledClip]:
    """The rows of a label file (a key of `LABEL_FILES`, or a path), with what their paths say filled in.

    `labels` is the folder of label files, else `data_root`/labels. `find_file` finds the clips below `data_root`,
    else MMMOS_DATA; those of the test set in `test_audio`, else in the folder `TEST` there. What a row says
    itself stays. No row is left out because its clip is missing: `report` is told how many are, and of suspect
    labels; `manifest.split_present` tells which. `columns`, `where`, `label_range` and
    `on_bad_row` are those of `read_labels`.
    Raises `ManifestError`.
    """
    known = str(name) in LABEL_FILES
    if not known and not Path(name).exists():
        raise ManifestError(f"{not_found(Path(name))} (published label files: {', '.join(LABEL_FILES)})")
    path = label_file(str(name), labels or (data_root and Path(data_root, "labels"))) if known else name
    root = os.fspath(data_root or os.environ.get("MMMOS_DATA") or PLACEHOLDER)
    rows = [
        _completed(row, root, pam_system, test_audio)
        for row in read_labels(
            path, data_root, columns=columns, where=where, label_range=label_range, on_bad_row=on_bad_row
        )
    ]
    if not (rows or known or where):
        raise ManifestError(no_rows(path))
    if suspect := sum(map(is_suspect, rows)):
        report(f"{name}: {suspect} rows have suspect labels and are {'left out' if drop_suspect else 'kept'}")
    if drop_suspect:
        rows = [row for row in rows if not is_suspect(row)]
    missing = Counter(row.source or "other" for row in rows if not os.path.isfile(row.clip.path or ""))
    if missing:
        parts = ", ".join(f"{source} {count}" for source, count in missing.items())
        report(f"{name}: {missing.total()} of {len(rows)} clips are missing ({parts})")
    return rows


def _completed(row: LabelledClip, root: str, pam_system: PamSystem, test_audio: str | Path | None) -> LabelledClip:
    path = row.clip.path or ""
    said = metadata_from_path(path.removeprefix(os.path.join(root, "")), pam_system)
    if said is None:
        return row
    if said.source == TEST and not os.path.splitext(path)[1]:  # the list has ids, not paths
        path = os.path.join(test_audio or os.path.join(root, TEST), f"{os.path.basename(path)}.wav")
    return replace(
        row,
        clip=find_file(replace(row.clip, path=path)),
        source=said.source,
        system=row.system or said.system,
        domain=row.domain or said.domain,
        group=row.group or said.group,
    )


def find_file(clip: Clip) -> Clip:
    """The clip where its file is: as listed, with another of `SUFFIXES`, or as a stream of a `.stem.mp4`.

    The last is how MUSDB18 is handed out: `train/SONG/bass.wav` is then stream 2 of `train/SONG.stem.mp4`.
    Where there is no such file either, the clip stays as it is listed.
    """
    listed = clip.path or ""
    stem = os.path.splitext(listed)[0]
    for path in (listed, *(stem + suffix for suffix in SUFFIXES)):
        if os.path.isfile(path):
            return replace(clip, path=path)
    song, part = os.path.split(stem)
    if part in STEMS and os.path.isfile(f"{song}.stem.mp4"):
        return replace(clip, path=f"{song}.stem.mp4", stream=STEMS.index(part))
    return clip


def status(
    data_root: str | Path | None = None, labels: str | Path | None = None, open_files: bool = False
) -> list[CorpusStatus]:
    """How much of each corpus is there; with `open_files`, also what cannot be opened. Nothing is fetched."""
    lists = ("combined_train", "combined_dev", "track2_test")
    folder = labels or (data_root and Path(data_root, "labels"))
    rows = {name: read_corpus(name, data_root, labels) for name in lists if find_label_file(name, folder)}
    return [
        _status(source, [row.clip for part in rows.values() for row in part if row.source == source], open_files)
        if all(name in rows for name, count in zip(lists, (info.train, info.dev, info.test), strict=True) if count)
        else CorpusStatus(source, info.train + info.dev + info.test, None, None, None)
        for source, info in SOURCES.items()
    ]


def _status(source: str, clips: Sequence[Clip], open_files: bool) -> CorpusStatus:
    here = [clip for clip in clips if os.path.isfile(clip.path or "")]
    missing = tuple(clip.path or "" for clip in clips if not os.path.isfile(clip.path or ""))
    unreadable = tuple(clip.path or "" for clip in here if not _opens(clip)) if open_files else None
    return CorpusStatus(source, len(clips), len(here), missing, unreadable)


def _opens(clip: Clip) -> bool:
    try:
        probe(clip.path or "", clip.stream)
    except AudioError:
        return False
    return True


SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".opus", ".ogg")
"""Kinds of file that a listed clip may be kept as."""

STEMS = ("mixture", "drums", "bass", "other", "vocals")
"""The audio streams of MUSDB18's .stem.mp4, in their order."""

TEST = "audiomos2025_track2_test"
"""The test set's key in `SOURCES`, and its folder."""

SOURCES = {
    "unbalanced_train_segments": Source(
        *(900, 100, 0, "sound", "AudioSet", "https://research.google.com/audioset/"),
        "list CC BY 4.0; the sound is on YouTube, each video with terms of its own, and some are gone",
    ),
    "musiccaps": Source(
        *(496, 53, 0, "music", "MusicCaps", "https://www.kaggle.com/datasets/googleai/musiccaps"),
        "list CC BY-SA 4.0; the music is on YouTube, each video with terms of its own, and some are gone",
    ),
    "MUSDB18": Source(
        *(404, 47, 0, "music", "MUSDB18", "https://sigsep.github.io/datasets/musdb.html"),
        "academic use only; MUSDB18-HQ has the listed .wav files, MUSDB18 a .stem.mp4 a song",
    ),
    "EARS": Source(141, 9, 0, "speech", "EARS", "https://github.com/facebookresearch/ears_dataset", "CC BY-NC 4.0"),
    "LibriTTS": Source(283, 17, 0, "speech", "LibriTTS", "https://www.openslr.org/60/", "CC BY 4.0"),
    "cv-corpus-13.0-2023-03-09": Source(
        *(476, 24, 0, "speech", "Common Voice 13.0, English", "https://commonvoice.mozilla.org/en/datasets", "CC0")
    ),
    "PAM": Source(800, 200, 0, "", "PAM", "https://zenodo.org/records/10737388", "on the terms of that record"),
    TEST: Source(
        *(0, 0, 3060, "", "AudioMOS Challenge 2025 Track 2, test set"),
        "https://sites.google.com/view/voicemos-challenge/audiomos-challenge-2025",
        "from the organisers of the challenge",
    ),
}
"""By the folder below the data root."""

SUSPECT_SONGS = (
    *("80s Rock", "Beatles", "Britpop", "Country1", "Country2", "Grunge", "Hendrix", "Punk", "Reggae", "Rock"),
    "Rockabilly",
)
"""Of the thirteen songs of Music Delta; Disco and Gospel have labels like anybody's."""

_SUSPECT_GROUPS = frozenset(f"MUSDB18/Music Delta - {song}" for song in SUSPECT_SONGS)
_TEST_ID = re.compile(r"audiomos2025-track2-sys(?P<system>[A-Za-z0-9]{5})-utt[A-Za-z0-9]{6}")
