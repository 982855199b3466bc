"""Records worker failures, so that a resumed run keeps counting attempts.

DIR/_run/deaths/00000.json     failures on shard 0: their number on the whole shard, and code and reason by clip
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
    """Failures of workers on a shard, which died, hung or raised an error: on the whole shard, and on single clips."""

    attempts: int = 0
    # By a clip's number in the shard: the code and the reason of each failure.
    clips: dict[int, list[tuple[str, str]]] = field(default_factory=dict)


def read_failures(store: Store) -> dict[int, Failures]:
    """Failures by shard. A record that is damaged, or is another file, is ignored."""
    failures = {}
    for name, text in read_all(store, "_run/deaths"):
        shard = re.fullmatch(r"_run/deaths/([0-9]+)\.json", name)
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            record = Failures(**json.loads(text))
            record.clips = {int(number): [_failure(*pair) for pair in pairs] for number, pairs in record.clips.items()}
            if shard and type(record.attempts) is int:
                failures[int(shard[1])] = record
    return failures


def _failure(code: str, reason: str) -> tuple[str, str]:
    if code not in AUDIO_ERROR_CODES:
        raise ValueError("unknown code")
    return code, str(reason)


def publish_failures(store: Store, shard: int, failures: Failures) -> None:
    """Publish the record of a shard."""
    with publishing(store):
        store.publish(f"_run/deaths/{shard:05d}.json", json.dumps(asdict(failures)).encode() + b"\n")
