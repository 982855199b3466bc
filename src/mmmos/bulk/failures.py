"""The workers that were lost in a run, so that the next driver knows of them, too.

DIR/_run/deaths/00000.json     of a shard: how often it was lost, and by clip the code and the reason of each time
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from mmmos.bulk.stores import publishing, read_all
from mmmos.errors import AUDIO_ERROR_CODES

if TYPE_CHECKING:
    from mmmos.bulk.stores import Store


@dataclass
class Failures:
    """The workers lost on a shard, as they died, hung or raised an error: on the whole of it, and on single clips."""

    attempts: int = 0
    clips: dict[int, list[tuple[str, str]]] = field(
        default_factory=dict
    )  # by number; of each time a code and the reason


def read_failures(store: Store) -> dict[int, Failures]:
    """By shard the workers that were lost on it; none where a note is damaged, or is somebody else's file."""
    found = {}
    for name, text in read_all(store, "_run/deaths"):
        shard = re.fullmatch(r"_run/deaths/([0-9]+)\.json", name)
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            losses = Failures(**json.loads(text))
            losses.clips = {int(number): [_time(*time) for time in times] for number, times in losses.clips.items()}
            if shard and type(losses.attempts) is int:
                found[int(shard[1])] = losses
    return found


def _time(code: str, reason: str) -> tuple[str, str]:
    if code not in AUDIO_ERROR_CODES:
        raise ValueError("no such code")
    return code, str(reason)


def publish_failures(store: Store, shard: int, losses: Failures) -> None:
    """Log the workers that were lost on a shard."""
    with publishing(store):
        store.publish(f"_run/deaths/{shard:05d}.json", json.dumps(asdict(losses)).encode() + b"\n")
