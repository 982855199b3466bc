"""What `mmmos score` was given, as clips: files, folders, patterns, lists, standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mmmos.clips import Clip
from mmmos.manifest import SUFFIXES, read_clips

AUDIO_SUFFIXES = {
    *(".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mp2", ".mp3"),
    *(".mpc", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".spx", ".tta", ".voc", ".w64", ".wav", ".weba", ".wma", ".wv"),
    *(".3gp", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"),
}
"""What is taken from a folder. A file named outright is tried whatever it is called."""


def expand(inputs: Sequence[str], data_root: str | None = None) -> Iterator[Clip]:
    """The clips behind the words on a command line, in their order, folders in the order of names.

    - a file whose name says that it is a list (`manifest.SUFFIXES`): its rows
    - a folder: every audio file below it
    - `-`: one path a line on standard input
    - a pattern with `*`, `?` or `[`, if no file has that very name: what it matches
    - anything else: one file, even if there is none, so that it gets its row

    Raises `ManifestError`.
    """
    for word in inputs:
        if word == "-":
            yield from _files(os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip())
        elif os.path.isdir(word):
            yield from _files(_walk(word))
        elif Path(word).suffix.lower() in SUFFIXES:
            yield from read_clips(word, data_root)
        elif not os.path.exists(word) and glob.has_magic(word):
            found = sorted(glob.glob(word, recursive=True))
            # `**` matches a folder and what is in it: no clip twice.
            yield from dict.fromkeys(expand(found, data_root)) if found else _files([word])
        else:
            yield from _files([word])


def _files(paths: Iterable[str]) -> Iterator[Clip]:
    return (Clip(path, path) for path in paths)


def _walk(folder: str) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        yield from (os.path.join(root, name) for name in sorted(files) if Path(name).suffix.lower() in AUDIO_SUFFIXES)
