"""Blocks of samples through libsndfile, with all that can be decoded of a damaged file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmmos.errors import AudioError

UNKNOWN_FRAMES = 1 << 62
"""From here on, libsndfile's number of frames means that the header has none, as of a FLAC written to a pipe."""

NO_MEMORY = 17
"""Its number of the error "Internal malloc () failed."."""

SMALLEST_HOLE = 1024
LARGEST_HOLE = 1 << 26
"""Samples that are passed over at damage: from less than FLAC's usual block to half an hour at 48 kHz."""


class SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read straight through.

    soundfile seeks after every read of a file that says it can be sought, to where it is anyway. After
    a seek the next frames of an MP3 are noise, and so every block would begin with noise.
    """

    def seekable(self) -> bool:
        """False, for soundfile."""
        return False

    def can_seek(self) -> bool:
        """Whether `go_to` works; GSM and some ADPCM can only be read from their beginning."""
        return bool(super().seekable())

    def length(self) -> int | None:
        """Number of samples per channel, None where the header does not say it."""
        return None if self.frames >= UNKNOWN_FRAMES else int(self.frames)


def check_memory(error: Exception) -> None:
    """Raise MemoryError if it was for want of memory that a decoder failed: this says nothing of the file's format."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == NO_MEMORY:
        raise MemoryError(str(error)) from error


def go_to(file: SoundFile, sample: int) -> tuple[SoundFile, int]:
    """Go to a sample, or the file's end; the file and where it came to.

    Where damage or a missing length is in the way of a FLAC, this is another one, at its beginning. Raises `AudioError`
    ("decode_failed").
    """
    try:
        return file, int(file.seek(min(sample, file.frames)))
    except soundfile.LibsndfileError as error:
        if file.format == "FLAC":
            return _opened(file.name), 0
        raise AudioError("decode_failed", f"the decoder cannot go to sample {sample}") from error


def blocks_of(file: SoundFile, step: int, warnings: set[str], position: int = 0) -> Iterator[NDArray[np.float32]]:
    """Blocks [n, C] of up to `step` samples, from where the file is, `position`, to its end.

    Silence stands in for blocks of a FLAC that cannot be decoded, with "decode_warnings" added to `warnings`. Other
    damage raises `soundfile.LibsndfileError` once all before it has been given.
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
                file, behind = _behind_damage(file.name, position + hole, length, failure)
                stack.enter_context(file)
                hole = behind - position
            elif not got:
                return


def _reached(file: SoundFile, position: int) -> int:
    """Where a read that failed has come to."""
    try:
        return max(position, int(file.tell()))
    except soundfile.LibsndfileError:
        return position


def _behind_damage(
    name: object, position: int, length: int | None, failure: soundfile.LibsndfileError
) -> tuple[SoundFile, int]:
    """A FLAC opened again at the first place behind `position` that its decoder can go to, and the place.

    Raises `failure` if there is none. A decoder that has met damage once cannot go anywhere any more.
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
