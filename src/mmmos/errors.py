"""Every exception that MMMOS raises, and the exit status of a command that it ends.

MmmosError
├── AudioError            one clip cannot be scored; `code` is the reason    (a row, exit 1)
│   └── LevelError            its samples are not in [-1, 1]; also a ValueError
├── UsageError            an argument, a file or a setting is wrong          (exit 2)
│   ├── ManifestError         a list of clips or labels is malformed
│   ├── ModelNotFoundError    no such model, folder or encoder
│   ├── ModelFormatError      a model or checkpoint is damaged or of another format
│   ├── SampleRateError       audio at another rate than the encoder's
│   ├── LicenseError          a download whose licence was not accepted
│   ├── MissingExtraError     an optional dependency is not installed
│   └── BackendError          a compiled back end cannot run a network
│       └── PrecisionError        a precision was not checked for a model, or failed
├── TrainingError         a training run cannot continue                     (exit 3)
└── BulkError             a run on many clips cannot continue; published parts stay   (exit 3)
"""

from __future__ import annotations


class MmmosError(Exception):
    """Base class of all errors below."""

    exit_status = 3


class AudioError(MmmosError):
    """One clip cannot be scored.

    `code` is a key of `AUDIO_ERROR_CODES`; a row has it as `error.code`.
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
    "fetch_failed": "the file could not be fetched from its address",
    "empty_file": "the file has no bytes",
    "no_samples": "the file has a header and no audio",
    "unsupported_format": "no decoder recognises the file",
    "decode_failed": "the decoder stopped before any audio",
    "decode_timeout": "the decoder returned nothing within its deadline",
    "decode_crashed": "the decoder's process died",
    "non_finite_audio": "the audio holds NaN or infinity",
    "not_normalized": "samples go beyond 4 times full scale, as integers kept as floats do",
    "bad_sample_rate": "the sample rate is not within 4 kHz to 768 kHz",
    "too_short": "the clip is shorter than the model's encoders need",
    "bad_segment": "start and end do not describe a segment",
    "segment_out_of_range": "the segment starts after the clip ends",
    "over_limit": "the clip is longer, or has more channels or a higher sample rate, than the service accepts",
    "worker_crashed": "the worker crashed, twice",
    "worker_hung": "the worker stopped responding, twice",
    "scoring_failed": "the model returned a score that is not finite, or scoring raised an error, twice",
}


class LevelError(AudioError, ValueError):
    """Samples are not in [-1, 1]: code "not_normalized"; the message says what to divide by."""

    def __init__(self, message: str) -> None:
        super().__init__("not_normalized", message)

    def __reduce__(self) -> tuple[type[LevelError], tuple[str]]:  # type: ignore[override]
        return LevelError, (str(self),)


class UsageError(MmmosError):
    """An argument, a file or a setting is wrong."""

    exit_status = 2


class ManifestError(UsageError):
    """A list of clips or labels is malformed; the message names the file and the line."""


class ModelNotFoundError(UsageError):
    """No model, folder or encoder has that name; another model is never substituted."""


class ModelFormatError(UsageError):
    """A model folder or checkpoint is incomplete, damaged, of another format or not trusted."""


class SampleRateError(UsageError):
    """Audio has another rate than the encoder's, or its rate is not given."""


class LicenseError(UsageError):
    """A download needs consent to a licence; the message says which one and how."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the message says how to install it."""


class BackendError(UsageError):
    """A compiled back end is too old, cannot run a network, or has no int8 network of it."""


class PrecisionError(BackendError):
    """A precision was not checked for a model, or changes its scores too much."""


class TrainingError(MmmosError):
    """A training run cannot continue: the loss is not finite, or no row is usable."""


class BulkError(MmmosError):
    """A run on many clips cannot continue: the disk is full, or no worker starts. The same command resumes it."""
