"""Blocks of samples through libsndfile, including everything that can be decoded of a damaged file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmmos.errors import AudioError

UNKNOWN_FRAMES = 1 << 62
"""libsndfile returns at least this number of frames if the header has none, such as for a FLAC written to a pipe."""

NO_MEMORY = 17
"""libsndfile's error number for "Internal malloc () failed."."""

SMALLEST_HOLE = 1024
LARGEST_HOLE = 1 << 26
"""Samples that are skipped at damage: from less than a usual FLAC block to half an hour at 48 kHz."""


class SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read without seeking between blocks.

    soundfile seeks to the current position after every read of a seekable file. After a seek the next frames
    of an MP3 are noise, so every block would begin with noise.
    """

    def seekable(self) -> bool:
        """False, so that soundfile does not seek."""
        return False

    def can_seek(self) -> bool:
        """Whether `go_to` works; GSM and some ADPCM files can only be read from the beginning."""
        return bool(super().seekable())

    def length(self) -> int | None:
        """Number of samples per channel; None if the header does not give it."""
        return None if self.frames >= UNKNOWN_FRAMES else int(self.frames)


def check_memory(error: Exception) -> None:
    """Raise MemoryError if a decoder ran out of memory, as this does not depend on the format of the file."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == NO_MEMORY:
        raise MemoryError(str(error)) from error


def go_to(file: SoundFile, sample: int) -> tuple[SoundFile, int]:
    """Seek to a sample, or the end of the file; returns the file and its new position.

    A FLAC that cannot seek because of damage or a missing length is opened again, at its beginning. Raises
    `AudioError` ("decode_failed").
    """
    try:
        return file, int(file.seek(min(sample, file.frames)))
    except soundfile.LibsndfileError as error:
        if file.format == "FLAC":
            return _opened(file.name), 0
        raise AudioError("decode_failed", f"the decoder cannot seek to sample {sample}") from error


def blocks_of(file: SoundFile, step: int, warnings: set[str], position: int = 0) -> Iterator[NDArray[np.float32]]:
    """Blocks [n, C] of up to `step` samples, from the file's current `position` to its end.

    Blocks of a FLAC that cannot be decoded are replaced by silence, and "decode_warnings" is added to `warnings`. Other
    damage raises `soundfile.LibsndfileError` after the samples before it.
    """
    length, hole = file.length(), 0
    with ExitStack() as stack:
        while length is None or position + hole < length:
            size = step if length is None else min(step, length - position - hole)
            out = np.empty((size, file.channels), np.float32)
            failure = None
            try:
                got = len(file.read(out=out))
            except soundfile.LibsndfileError as error:
                check_memory(error)
                got, failure = _reached(file, position + hole) - position - hole, error
            if got:
                if hole:
                    warnings.add("decode_warnings")
                    yield np.zeros((hole, file.channels), np.float32)
                yield out[:got]
                position, hole = position + hole + got, 0
            if failure is not None:
                if file.format != "FLAC":
                    raise failure
                file, behind = _after_damage(file.name, position + hole, length, failure)
                stack.enter_context(file)
                hole = behind - position
            elif not got:
                return


def _reached(file: SoundFile, position: int) -> int:
    """The position after a read that failed."""
    try:
        return max(position, int(file.tell()))
    except soundfile.LibsndfileError:
        return position


def _after_damage(
    name: object, position: int, length: int | None, failure: soundfile.LibsndfileError
) -> tuple[SoundFile, int]:
    """A FLAC opened again at the first position after `position` that its decoder can seek to, and that position.

    Raises `failure` if there is none. A decoder cannot seek any more after it has read damaged data.
    """
    size = SMALLEST_HOLE
    while size <= LARGEST_HOLE and (length is None or position + size < length):
        file = _opened(name)
        try:
            return file, int(file.seek(position + size))
        except soundfile.LibsndfileError:
            file.close()
            size *= 2
    raise failure


def _opened(name: object) -> SoundFile:
    if hasattr(name, "seek"):
        name.seek(0)
    return SoundFile(name)
