"""Every exception MMMOS raises, and the exit status each one ends a command with.

MmmosError
├── AudioError            one clip cannot be scored; `code` names why        (a row, exit 1)
│   └── LevelError            its samples are not in [-1, 1]; a ValueError, too
├── UsageError            the call cannot be carried out as it was made      (exit 2)
│   ├── ManifestError         a list of clips or labels is malformed
│   ├── ModelNotFoundError    no such model, folder or encoder
│   ├── ModelFormatError      a model or checkpoint is not what it claims to be
│   ├── SampleRateError       audio at another rate than the encoder's own
│   ├── LicenseError          a download whose licence was not accepted
│   └── MissingExtraError     an optional dependency is not installed
├── TrainingError         a training run cannot go on                        (exit 3)
└── BulkError             a run on many clips cannot go on; what is published stays   (exit 3)
"""

from __future__ import annotations


class MmmosError(Exception):
    """Base of every error below; catch it to catch them all."""

    exit_status = 3


class AudioError(MmmosError):
    """One clip cannot be scored.

    `code` is one of the words in `AUDIO_ERROR_CODES`; it is what a row's `error.code` holds.
    """

    exit_status = 1

    def __init__(self, code: str, message: str) -> None:
        if code not in AUDIO_ERROR_CODES:
            raise ValueError(f"unknown audio error code {code!r}")
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, str]]:
        return AudioError, (self.code, str(self))


AUDIO_ERROR_CODES = {
    "not_found": "there is no file at that path",
    "not_readable": "the file, or a folder on the way to it, may not be read by this user",
    "fetch_failed": "the file could not be fetched from the address it is at",
    "empty_file": "the file has no bytes",
    "no_samples": "the file has a header and no audio",
    "unsupported_format": "no decoder recognises the file",
    "decode_failed": "the decoder stopped before any audio",
    "decode_timeout": "the decoder gave nothing within its deadline",
    "decode_crashed": "the decoder's process died",
    "non_finite_audio": "the audio holds NaN or infinity",
    "not_normalized": "samples go beyond 4 times full scale, as integers kept as floats do",
    "bad_sample_rate": "the sample rate is not within 4 kHz to 768 kHz",
    "too_short": "the clip is shorter than the shortest an encoder can hear",
    "bad_segment": "start and end do not describe a stretch of time",
    "segment_out_of_range": "the segment starts after the clip ends",
    "worker_crashed": "the process that scored it died twice",
    "worker_hung": "the process that scored it gave no sign of life, twice",
    "scoring_failed": "the model gave a score that is not a finite number, or scoring raised an error twice",
}


class LevelError(AudioError, ValueError):
    """Samples are not in [-1, 1]: code "not_normalized"; the message says what to divide by."""

    def __init__(self, message: str) -> None:
        super().__init__("not_normalized", message)

    def __reduce__(self) -> tuple[type[LevelError], tuple[str]]:  # type: ignore[override]
        return LevelError, (str(self),)


class UsageError(MmmosError):
    """The call cannot be carried out as it was made: an argument, a file or a setting is wrong."""

    exit_status = 2


class ManifestError(UsageError):
    """A list of clips or labels is malformed; the message names the file and the line."""


class ModelNotFoundError(UsageError):
    """No model, folder or encoder goes by that name; never answered with another model."""


class ModelFormatError(UsageError):
    """A model folder or checkpoint is incomplete, damaged, of another layout or not trusted."""


class SampleRateError(UsageError):
    """Audio was given at another rate than the encoder's own, or without saying its rate."""


class LicenseError(UsageError):
    """A download needs a licence to be accepted first; the message says which and how."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the message says how to install it."""


class TrainingError(MmmosError):
    """A training run cannot go on: a loss that is not finite, no usable row."""


class BulkError(MmmosError):
    """A run on many clips cannot go on: a full disk, no worker that starts. The same command takes it up again."""
