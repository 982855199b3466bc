"""WebDataset shards: tar archives in which the files of a sample have the same name up to its first dot."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath

from mmmos.audio.clip import Clip
from mmmos.errors import ManifestError
from mmmos.io.lists import AUDIO_SUFFIXES, OnBadRow
from mmmos.io.shards import list_members, member_path
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)


def shard_clips(archive: str, on_bad_row: OnBadRow) -> Iterator[Clip]:
    """The audio files of a shard at a path or URL, in order.

    A clip's id is the key of its sample, or its whole name if the sample has several audio files. Hidden files are
    left out; samples without audio are counted and logged. Damage goes to `on_bad_row`, and ends the shard.
    """
    without = 0
    for key, names in groupby(_visible(archive, on_bad_row), sample_key):
        audio = [name for name in names if PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES]
        without += not audio
        for name in audio:
            yield Clip(key if len(audio) == 1 else name, member_path(archive, name))
    if without:
        samples, are = counted(without, "sample"), agree(without, "is")
        logger.warning("%s: %s without an audio file %s left out", archive, samples, are)


def sample_key(name: str) -> str:
    """The key of the sample that a member belongs to: its path up to the first dot of its name.

    >>> sample_key("./speech/utt.1.left.wav")
    'speech/utt'
    """
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0]))


def _visible(archive: str, on_bad_row: OnBadRow) -> Iterator[str]:
    try:
        for name in list_members(archive):
            if not _is_hidden(name):
                yield name
    except ManifestError as error:
        on_bad_row(error)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
