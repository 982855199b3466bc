"""What the service accepts: sizes, lengths and waiting times."""

from __future__ import annotations

from dataclasses import dataclass

from mmmos.audio.limits import MAX_RATE
from mmmos.audio.source import AudioInfo
from mmmos.errors import AudioError, UsageError


@dataclass(frozen=True)
class Limits:
    """Limits of a request and of its clips. Raises `UsageError` for one that is not positive."""

    body_bytes: int = 1000 * 10**6  # of a request's body, all files together
    seconds: float = 2 * 3600.0  # of audio per clip
    sample_rate: int = MAX_RATE  # Hz, of a file
    channels: int = 32  # of a file
    queue: int = 64  # clips that were accepted and have no scores yet; also the most files per request
    deadline: float = 3600.0  # s, from the arrival of a request to its answer
    decode_seconds: float = 60.0  # longest wait for a decoder's next window

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise UsageError(f"the limit {name} is a number above 0, not {value}")

    def check(self, info: AudioInfo) -> None:
        """Raise `AudioError` "over_limit" for a file whose header is beyond a limit."""
        self.check_seconds(info.duration)  # NaN, an unknown length, passes
        for value, most, unit in (
            (info.sample_rate, self.sample_rate, "Hz"),
            (info.channels, self.channels, "channels"),
        ):
            if value > most:
                raise AudioError("over_limit", f"the file has {value} {unit}; this service accepts at most {most}")

    def check_seconds(self, seconds: float) -> None:
        """Raise `AudioError` "over_limit" for a clip that is too long, in s."""
        if seconds > self.seconds:
            reason = f"the clip has {seconds:.0f} s of audio; this service accepts at most {self.seconds:g} s"
            raise AudioError("over_limit", f"{reason}, so cut it or use `mmmos score`")
