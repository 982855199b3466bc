"""The inputs of `mmmos score` as clips: files, folders, patterns, lists, standard input."""

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
from mmmos.data.shards import shard_clips
from mmmos.errors import ManifestError, UsageError
from mmmos.io.lists import AUDIO_SUFFIXES, OnBadRow, is_json, list_kind, refuse
from mmmos.io.remote import filesystem, glob_urls, is_url, list_files
from mmmos.io.shards import is_shard
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)


def expand(
    inputs: Sequence[str],
    data_root: str | None = None,
    on_bad_row: OnBadRow = refuse,
) -> Iterator[Clip]:
    """The clips that the words on a command line name, in order; the files of a folder come sorted by name.

    - a file with the suffix of a list (`lists.SUFFIXES`): its rows
    - a tar archive (`.tar`, as the shards of WebDataset): the audio files in it
    - a folder: every audio file below it, also through links; hidden files and `__MACOSX` are left out
    - `-`: standard input, which has one path per line, JSONL, a JSON array, or the bytes of one audio file
    - a pipe of this process, such as `<(command)`: the bytes of one audio file
    - a pattern with `*`, `?` or `[`, if no file has exactly that name: the files that it matches
    - anything else: one file, even if it does not exist, so that it gets its row

    Each of them may be a URL (`s3://bucket/list.jsonl`). Clips are yielded as they are found: memory grows with the
    number of files in a folder and of matches of a pattern, not with the rows of a list. Files left out of a folder or
    a pattern are logged; a bad row of a list goes to `on_bad_row`. Raises `ManifestError`, and `MissingExtraError` for
    a URL that no installed package can read.
    """
    schemes: set[str] = set()
    for clip in _expand(inputs, data_root, on_bad_row):
        if is_url(clip.path or "") and (scheme := str(clip.path).partition("://")[0]) not in schemes:
            filesystem(str(clip.path))  # check once, or every row would have the same error
            schemes.add(scheme)
        yield clip


def _expand(words: Iterable[str], data_root: str | None, on_bad_row: OnBadRow) -> Iterator[Clip]:
    for word in words:
        if word == "-":
            yield from _standard_input(data_root, on_bad_row)
        elif os.path.isdir(word):
            yield from _files(_walk(word))
        elif is_shard(word) and (os.path.isfile(word) or (is_url(word) and not glob.has_magic(word))):
            yield from shard_clips(word, on_bad_row)
        elif list_kind(word):
            yield from stream_clips(word, data_root, on_bad_row)
        elif is_url(word):
            yield from _at_url(word, data_root, on_bad_row)
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
"""The first bytes of audio files. A path may begin with them, too; in a file, control characters follow soon."""


def _standard_input(data_root: str | None, on_bad_row: OnBadRow) -> Iterator[Clip]:
    """The clips listed on standard input, or the one clip whose bytes it contains. Raises `UsageError`."""
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
    mpeg = line[:1] == b"\xff" and line[1:2] >= b"\xe0"  # UTF-8 text never has this first byte
    mp4 = line[:1] == b"\0"  # the size of the first box; paths contain no zero byte
    return mpeg or mp4 or (line.startswith(_FIRST_BYTES) and any(byte < 9 for byte in line[:64]))


def _is_pipe(word: str) -> bool:
    """Whether a word is `<(command)` or /dev/stdin: a descriptor of this process, which the decoder process lacks.

    A named pipe is treated as a path: reading it may block forever, and only the decoder process has a deadline.
    """
    try:
        mode = os.stat(word).st_mode
    except (OSError, ValueError):
        return False
    return word.startswith(("/dev/stdin", "/dev/fd/", "/proc/self/fd/")) and not stat.S_ISCHR(mode)


def named_files(words: Iterable[str]) -> Iterator[str]:
    """The local files that the words on a command line name; an output must not replace them."""
    for word in words:
        if word == "-":
            yield "/dev/stdin"
        elif is_url(word):
            continue
        elif not os.path.exists(word) and glob.has_magic(word):
            yield from glob.iglob(word, recursive=True)
        else:
            yield word


def _at_url(url: str, data_root: str | None, on_bad_row: OnBadRow) -> Iterator[Clip]:
    if url.startswith(("http:", "https:")) or (_is_audio(url) and not glob.has_magic(url)):
        yield from _files([url])  # its row reports a missing file; HTTP has no folders, and `?` begins a query
    elif glob.has_magic(url):
        yield from _matched(glob_urls(url), url, data_root, on_bad_row)
    else:
        try:
            yield from _files(name for name in list_files(url) if name == url or _is_audio(name))
        except FileNotFoundError:
            yield from _files([url])


def _matched(found: list[str], pattern: str, data_root: str | None, on_bad_row: OnBadRow) -> Iterator[Clip]:
    clips: dict[Clip, None] = {}  # `**` matches a folder and its files: drop duplicates
    for name in found:
        try:
            clips |= dict.fromkeys(_expand([name], data_root, on_bad_row))
        except ManifestError as error:  # a table need not be a list of clips
            if on_bad_row is refuse:
                raise
            logger.warning("%s matches a file that is not a list of clips, and is left out: %s", pattern, error)
    yield from clips if found else _files([pattern])


def _files(paths: Iterable[str]) -> Iterator[Clip]:
    return (Clip(path, path) for path in paths)


def _walk(folder: str) -> Iterator[str]:
    """The audio files below a folder; a folder reached through several links is read once."""
    seen: set[tuple[int, int]] = set()
    others: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        logger.warning("%s is left out: %s", error.filename, error.strerror)

    for root, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        state = os.stat(root)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            logger.warning("%s is left out: a link to a folder that has already been read", root)
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
        number, are = counted(others.total(), "file"), agree(others.total(), "is")
        logger.warning("%s: %s without an audio suffix %s left out (%s)", folder, number, are, kinds)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_audio(name: str) -> bool:
    return PurePath(name).suffix.lower() in AUDIO_SUFFIXES
