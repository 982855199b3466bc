"""Labelled clips with the metadata in their paths and their files below the data root.

    list ──► rows ──► source, system, domain, group ──► files below the data root
                      (`sources`, from the path)        (`find_file`; the user obtains them)

`read_list` reads any list, `read_corpus` the paper's published label files.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmmos.audio.clip import Clip
from mmmos.audio.decode import probe
from mmmos.data.label_files import LABEL_FILES, find_label_file, label_file
from mmmos.data.labels import no_rows, read_labels
from mmmos.data.manifest import PLACEHOLDER, LabelledClip
from mmmos.data.sources import SOURCES, TEST, PamSystem, is_suspect, metadata_from_path
from mmmos.errors import AudioError, ManifestError
from mmmos.io.bad_rows import BadRows
from mmmos.io.delimited import not_found
from mmmos.io.lists import OnBadRow, refuse
from mmmos.scores import LABEL_RANGE, LabelRange
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusStatus:
    """The number of clips of a corpus whose files exist."""

    source: str  # key of SOURCES
    expected: int  # clips
    found: int | None  # None without its label files
    missing: tuple[str, ...] | None  # paths
    unreadable: tuple[str, ...] | None  # paths of files that no decoder can open; None if not tried


def read_list(
    name: str | Path,
    data_root: str | Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    label_range: LabelRange | None = LABEL_RANGE,
    on_bad_row: OnBadRow = refuse,
) -> list[LabelledClip]:
    """The labelled clips of a list: a path, or a key of `LABEL_FILES`. Its keywords are those of `read_labels`.

    Clips with the path or id of a known corpus get the corpus metadata that the list does not give. Raises
    `ManifestError`, also for a list without rows.
    """
    path = _list_path(name, data_root, None)
    rows = read_labels(path, data_root, columns=columns, where=where, label_range=label_range, on_bad_row=on_bad_row)
    if not (rows or where or str(name) in LABEL_FILES):
        raise ManifestError(no_rows(path))
    return [_with_metadata(row, _root(data_root)) for row in rows]


def read_reported(
    name: str | Path,
    strict: bool,
    data_root: str | Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    label_range: LabelRange | None = None,
) -> tuple[list[LabelledClip], dict[str, Any]]:
    """`read_list`, by default of labels on any scale, and a report: bad rows are left out, or refused if `strict`."""
    bad = BadRows(name, strict)
    rows = read_list(name, data_root, columns=columns, where=where, label_range=label_range, on_bad_row=bad)
    return rows, bad.report(sum(row.list_rows for row in rows))


def read_corpus(
    name: str | Path,
    data_root: str | Path | None = None,
    labels: str | Path | None = None,
    *,
    drop_suspect: bool = False,
    pam_system: PamSystem = "kind_folder",
    test_audio: str | Path | None = None,
    on_bad_row: OnBadRow = refuse,
) -> list[LabelledClip]:
    """The rows of a published label file (a key of `LABEL_FILES`), or of a list in its place, with metadata.

    `labels` is the folder of label files, by default `data_root`/labels. `find_file` finds the clips below `data_root`,
    by default MMMOS_DATA, and the clips of the test set in `test_audio`, by default in the folder `TEST` below the data
    root. Metadata in the row take precedence. Rows of missing clips stay (`splits.split_present` separates them); a
    warning gives their number, another one that of suspect labels. `on_bad_row` is as in `read_list`. Raises
    `ManifestError`.
    """
    path, root = _list_path(name, data_root, labels), _root(data_root)
    listed = read_labels(path, data_root, on_bad_row=on_bad_row)
    rows = [_with_metadata(row, root, pam_system, test_audio) for row in listed]
    if not (rows or str(name) in LABEL_FILES):
        raise ManifestError(no_rows(path))
    if suspect := sum(map(is_suspect, rows)):
        count, have, are = counted(suspect, "row"), agree(suspect, "has"), agree(suspect, "is")
        fate = "left out" if drop_suspect else "kept"
        logger.warning("%s: %s %s suspect labels and %s %s", name, count, have, are, fate)
    if drop_suspect:
        rows = [row for row in rows if not is_suspect(row)]
    missing = Counter(row.source or "other" for row in rows if not os.path.isfile(row.clip.path or ""))
    if missing:
        parts = ", ".join(f"{source} {count}" for source, count in missing.items())
        clips, are = counted(missing.total(), "clip", of=len(rows)), agree(missing.total(), "is")
        logger.warning("%s: %s %s missing (%s)", name, clips, are, parts)
    return rows


def _list_path(name: str | Path, data_root: str | Path | None, labels: str | Path | None) -> str | Path:
    if str(name) in LABEL_FILES:
        return label_file(str(name), labels or (data_root and Path(data_root, "labels")))
    if not Path(name).exists():
        raise ManifestError(f"{not_found(Path(name))} (published label files: {', '.join(LABEL_FILES)})")
    return name


def _root(data_root: str | Path | None) -> str:
    return os.fspath(data_root or os.environ.get("MMMOS_DATA") or PLACEHOLDER)


def _with_metadata(
    row: LabelledClip, root: str, pam_system: PamSystem = "kind_folder", test_audio: str | Path | None = None
) -> LabelledClip:
    path = row.clip.path or ""
    found = metadata_from_path(path.removeprefix(os.path.join(root, "")), pam_system)
    if found is None:
        return row
    if found.source == TEST and not os.path.splitext(path)[1]:  # the list has ids, not paths
        path = os.path.join(test_audio or os.path.join(root, TEST), f"{os.path.basename(path)}.wav")
    return replace(
        row,
        clip=find_file(replace(row.clip, path=path)),
        source=found.source,
        system=row.system or found.system,
        domain=row.domain or found.domain,
        group=row.group or found.group,
    )


def find_file(clip: Clip) -> Clip:
    """The clip with the path of its file: as listed, with another of `SUFFIXES`, or as a stream of a `.stem.mp4`.

    MUSDB18 is distributed in this form: `train/SONG/bass.wav` is stream 2 of `train/SONG.stem.mp4`.
    If no such file exists, the clip is returned as listed.
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
    """Count the clips of each corpus whose files exist; `open_files` also finds unreadable files. Fetches nothing."""
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
    present = [clip for clip in clips if os.path.isfile(clip.path or "")]
    missing = tuple(clip.path or "" for clip in clips if not os.path.isfile(clip.path or ""))
    unreadable = tuple(clip.path or "" for clip in present if not _opens(clip)) if open_files else None
    return CorpusStatus(source, len(clips), len(present), missing, unreadable)


def _opens(clip: Clip) -> bool:
    try:
        probe(clip.path or "", clip.stream)
    except AudioError:
        return False
    return True


SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".opus", ".ogg")
"""Suffixes tried for the file of a listed clip."""

STEMS = ("mixture", "drums", "bass", "other", "vocals")
"""The audio streams of MUSDB18's .stem.mp4, in their order."""
