"""What `mmmos score` was given, as clips: files, folders, patterns, lists, standard input."""

from __future__ import annotations

import glob
import logging
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import PurePath

from mmmos.audio.clip import Clip
from mmmos.data.manifest import stream_clips
from mmmos.errors import ManifestError, UsageError
from mmmos.io.lists import AUDIO_SUFFIXES, OnBadRow, is_json, list_kind, refuse
from mmmos.io.remote import filesystem, is_url, list_files, matching

logger = logging.getLogger(__name__)


def expand(
    inputs: Sequence[str],
    data_root: str | None = None,
    on_bad_row: OnBadRow = refuse,
) -> Iterator[Clip]:
    """The clips behind the words on a command line, in their order, folders in the order of names.

    - a file whose name says that it is a list (`lists.SUFFIXES`): its rows
    - a folder: every audio file below it, through links too; hidden files and `__MACOSX` are left out
    - `-`: one path a line on standard input, JSONL or a JSON array, or the bytes of one audio file
    - a pipe of this process, such as `<(command)`: the bytes of one audio file
    - a pattern with `*`, `?` or `[`, if no file has that very name: what it matches
    - anything else: one file, even if there is none, so that it gets its row

    Each of them may be an address (`s3://bucket/list.jsonl`). Clips come as they are found: memory grows with the
    files of a folder and with what a pattern matches, and not with the rows of a list. What is left out of a folder or
    a pattern is logged; a bad row of a list goes to `on_bad_row`. Raises `ManifestError`, and `MissingExtraError` for
    an address that no installed package can read.
    """
    schemes: set[str] = set()
    for clip in _expand(inputs, data_root, on_bad_row):
        if is_url(clip.path or "") and (scheme := str(clip.path).partition("://")[0]) not in schemes:
            filesystem(str(clip.path))  # once for all, rather than a million rows of one error
            schemes.add(scheme)
        yield clip


def _expand(words: Iterable[str], data_root: str | None, on_bad_row: OnBadRow) -> Iterator[Clip]:
    for word in words:
        if word == "-":
            yield from _standard_input(data_root, on_bad_row)
        elif os.path.isdir(word):
            yield from _files(_walk(word))
        elif list_kind(word):
            yield from stream_clips(word, data_root, on_bad_row)
        elif is_url(word):
            yield from _at_address(word, data_root, on_bad_row)
        elif not os.path.exists(word) and glob.has_magic(word):
            yield from _matched(sorted(glob.glob(word, recursive=True)), word, data_root, on_bad_row)
        elif _is_pipe(word):
            with open(word, "rb") as file:
                yield Clip(word, None, data=file.read())
        else:
            yield from _files([word])


_FIRST_BYTES = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM",
    b".snd",
    b"caff",
    b"wvpk",
    b"\x1aE\xdf\xa3",
)
"""What audio files begin with. A path may, too; bytes of a file have control characters soon after."""


def _standard_input(data_root: str | None, on_bad_row: OnBadRow) -> Iterator[Clip]:
    """The clips that are listed on standard input, or the one whose bytes come there. Raises `UsageError`."""
    if sys.stdin is None:
        raise UsageError("- means standard input, which is closed")
    lines = iter(sys.stdin.buffer)
    first = next(lines, b"")
    if _is_audio_data(first):
        yield Clip("-", None, data=b"".join([first, *lines]))
    elif is_json(first):
        text = (line.decode(errors="surrogateescape") for line in chain([first], lines))
        yield from stream_clips("standard input", data_root, on_bad_row, text)
    else:
        yield from _files(os.fsdecode(line.rstrip(b"\r\n")) for line in chain([first], lines) if line.strip())


def _is_audio_data(line: bytes) -> bool:
    mpeg = line[:1] == b"\xff" and line[1:2] >= b"\xe0"  # no text in UTF-8 has the first byte
    mp4 = line[:1] == b"\0"  # the size of the first box; no path has it
    return mpeg or mp4 or (line.startswith(_FIRST_BYTES) and any(byte < 9 for byte in line[:64]))


def _is_pipe(word: str) -> bool:
    """Whether it is `<(command)` or /dev/stdin: a descriptor of this process, which a decoder's process does not have.

    A named pipe is a path like others: its reader may wait forever, and the decoder's process has a deadline.
    """
    try:
        mode = os.stat(word).st_mode
    except (OSError, ValueError):
        return False
    return word.startswith(("/dev/stdin", "/dev/fd/", "/proc/self/fd/")) and not stat.S_ISCHR(mode)


def named_files(words: Iterable[str]) -> Iterator[str]:
    """The local files that the words on a command line name: what an output must not replace."""
    for word in words:
        if word == "-":
            yield "/dev/stdin"
        elif is_url(word):
            continue
        elif not os.path.exists(word) and glob.has_magic(word):
            yield from glob.iglob(word, recursive=True)
        else:
            yield word


def _at_address(url: str, data_root: str | None, on_bad_row: OnBadRow) -> Iterator[Clip]:
    if url.startswith(("http:", "https:")) or (_is_audio(url) and not glob.has_magic(url)):
        yield from _files([url])  # its row will say whether it is there; the web has no folders, and `?` is no pattern
    elif glob.has_magic(url):
        yield from _matched(matching(url), url, data_root, on_bad_row)
    else:
        try:
            yield from _files(name for name in list_files(url) if name == url or _is_audio(name))
        except FileNotFoundError:
            yield from _files([url])


def _matched(found: list[str], pattern: str, data_root: str | None, on_bad_row: OnBadRow) -> Iterator[Clip]:
    clips: dict[Clip, None] = {}  # `**` matches a folder and what is in it: no clip twice
    for name in found:
        try:
            clips |= dict.fromkeys(_expand([name], data_root, on_bad_row))
        except ManifestError as error:  # many a table is no list of clips
            if on_bad_row is refuse:
                raise
            logger.warning("%s matches a file that is not a list of clips, and is left out: %s", pattern, error)
    yield from clips if found else _files([pattern])


def _files(paths: Iterable[str]) -> Iterator[Clip]:
    return (Clip(path, path) for path in paths)


def _walk(folder: str) -> Iterator[str]:
    """The audio files below a folder, each folder once whatever links lead to it."""
    seen: set[tuple[int, int]] = set()
    others: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        logger.warning("%s is left out: %s", error.filename, error.strerror)

    for root, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        state = os.stat(root)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            logger.warning("%s is left out: a link to a folder that is read already", root)
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(name for name in files if not _is_hidden(name)):
            if _is_audio(name):
                yield os.path.join(root, name)
            else:
                others[PurePath(name).suffix.lower() or "without a suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5)) + ", ..." * (len(others) > 5)
        logger.warning("%s: %d files that are not called audio are left out (%s)", folder, others.total(), kinds)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_audio(name: str) -> bool:
    return PurePath(name).suffix.lower() in AUDIO_SUFFIXES
