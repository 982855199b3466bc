"""What a run is to do and what it has done: the list of clips in shards, and commits.

    DIR/part-00000.parquet         the rows of shard 0, in the order of the list
    DIR/_run/run.json              the plan; it being there says that the plan is whole
    DIR/_run/clips-00000.parquet   the clips as they were listed, a row group a shard, 100 shards a file
    DIR/_run/commits/00000.json    rows, ok, errors, sha256 and bytes of a part; a shard is done when this is there
    DIR/_run/deaths/00000.json     workers that were lost on a shard (losses.py)

Readers of a folder of Parquet leave out what begins with `_`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow
from pyarrow import parquet

from mmmos.audio.clip import Clip
from mmmos.bulk.stores import publishing
from mmmos.errors import UsageError

if TYPE_CHECKING:
    from mmmos.bulk.stores import Store

SHARD_SIZE = 1000
"""Clips of a shard: small enough to lose one, large enough that a million clips are a thousand files."""

SHARDS_PER_FILE = 100
"""Row groups of a file of the list, which is written in memory: 100 of a thousand clips take 50 MB."""


RUN = "_run/run.json"

_LIST = pyarrow.schema(
    [
        ("id", pyarrow.binary()),  # names of files are bytes, and not always UTF-8
        ("path", pyarrow.binary()),
        ("start_time", pyarrow.float64()),
        ("end_time", pyarrow.float64()),
        ("stream", pyarrow.int64()),
    ]
)


@dataclass(frozen=True)
class Plan:
    """Which clips, in which shards, and what is done with them."""

    run_id: str  # sha256 of the list, the task and the size of a shard
    clips: int
    shard_size: int
    list_sha256: str  # of every clip's id, path, stretch and stream, in their order
    task: dict[str, Any]  # all that the rows depend on beside the clips; `model` is what the first driver called it

    @property
    def shards(self) -> int:
        """How many shards there are; the last one may be short."""
        return -(-self.clips // self.shard_size)

    def rows(self, shard: int) -> int:
        """Clips of a shard, and so rows of its part."""
        return min(self.shard_size, self.clips - shard * self.shard_size)


def make_plan(store: Store, clips: Iterable[Clip], description: dict[str, Any], shard_size: int | None = None) -> Plan:
    """Plan a run in this place, or find that the plan which is there is the same.

    Without a shard size it is that of the plan which is there, else `SHARD_SIZE`. Reads the clips one shard at a time.
    Raises `UsageError` that says what differs where another run is there.
    """
    description = json.loads(json.dumps(description, allow_nan=False))
    there = read_plan(store) if "run.json" in store.names("_run") else None
    shard_size = shard_size or (there.shard_size if there else SHARD_SIZE)
    if there is not None:
        _check_same(store, there, description, shard_size)  # told before a long list is read
        _check_list(store, there, clips)
        if there.run_id != run_id_of(there.list_sha256, description, shard_size):
            raise UsageError(f"{store.url}: {RUN} is damaged")
        return there
    if any(name.startswith("part-") for name in store.names("")):
        raise UsageError(f"{store.url} holds parts of no run that is known; give another folder")
    digest, count = hashlib.sha256(), 0
    with publishing(store):
        for name, data, rows in _files_of_list(noted(_in_shards(clips, shard_size), digest)):
            store.publish(name, data)
            count += rows
        listed = digest.hexdigest()
        plan = Plan(run_id_of(listed, description, shard_size), count, shard_size, listed, description)
        store.publish(RUN, json.dumps(asdict(plan) | {"shards": plan.shards}, indent=1).encode() + b"\n")
    return plan


def _check_list(store: Store, plan: Plan, clips: Iterable[Clip]) -> None:
    """Refuse to go on with another list; of the same one, write the files anew that are missing or cut short."""
    digest, count = hashlib.sha256(), 0
    anew: dict[str, bytes] = {}
    shards = noted(_in_shards(clips, plan.shard_size), digest)
    with publishing(store):
        damaged = {name for name, rows in _planned_files(plan) if not _is_whole(store, name, rows)}
        for name, data, rows in _files_of_list(shards) if damaged else ():
            count += rows
            anew |= {name: data} if name in damaged else {}
        count += sum(map(len, shards))
        if digest.hexdigest() != plan.list_sha256:
            how = f"{plan.clips} clips, now {count}" if plan.clips != count else "the same number of clips, others"
            raise UsageError(f"{store.url} is a run on another list ({how}); give another folder")
        for name, data in anew.items():
            store.publish(name, data)


def run_id_of(list_sha256: str, description: dict[str, Any], shard_size: int) -> str:
    """The sha256 of all that makes a run this one: not of what the model is called, as its sha256 is told."""
    made = {key: value for key, value in description.items() if key != "model"}
    return hashlib.sha256(json.dumps([list_sha256, made, shard_size], sort_keys=True).encode()).hexdigest()


def read_plan(store: Store) -> Plan:
    """The plan that is there. Raises `UsageError` if there is none."""
    try:
        told = json.loads(store.read(RUN))
        shards = told.pop("shards")
        plan = Plan(**told)
        sizes = shards, plan.clips, plan.shard_size
        if any(type(size) is not int for size in sizes) or plan.clips < 0 or plan.shard_size < 1:
            raise ValueError("no such sizes")
        if shards != plan.shards or not isinstance(plan.task.get("settings", {}), dict):
            raise ValueError("no such plan")
        return plan
    except FileNotFoundError as error:
        raise UsageError(f"{store.url} is no run of mmmos: there is no {RUN}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{store.url}: {RUN} is damaged") from error


def clips_of(store: Store, plan: Plan, shard: int) -> list[Clip]:
    """The clips of a shard, in their order."""
    with store.open(list_name(shard)) as file:
        return clips_in(parquet.ParquetFile(file, pre_buffer=False), shard)


def clips_in(file: parquet.ParquetFile, shard: int) -> list[Clip]:
    """The clips of a shard in the file of the list that they are in."""
    # With threads, which `pre_buffer` starts too, a process that ends soon after may be aborted: they are still there.
    table = file.read_row_group(shard % SHARDS_PER_FILE, use_threads=False)
    return [
        Clip(_text(row["id"]), _text(row["path"]), row["start_time"], row["end_time"], stream=row["stream"])
        for row in table.to_pylist()
    ]


def _check_same(store: Store, there: Plan, description: dict[str, Any], shard_size: int) -> None:
    """Refuse to go on with a run of another task. The model is the same whatever it is called, if its sha256 is."""
    given = _flat(description | {"shard size": shard_size})
    found = _flat(there.task | {"shard size": there.shard_size})
    for name in [*found, *given]:
        was, now = found.get(name), given.get(name)
        if was != now:
            if name == "model_sha256":
                was, now = f"{was} ({there.task.get('model')})", f"{now} ({description.get('model')})"
            raise UsageError(f"{store.url} is a run with {name} {was}, not {now}; give another folder")


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    """Settings beside the others."""
    beside: dict[str, Any] = {key: value for key, value in told.items() if key not in ("settings", "model")}
    return {**beside, **told.get("settings", {})}


def _in_shards(clips: Iterable[Clip], size: int) -> Iterator[list[Clip]]:
    waiting = iter(clips)
    while shard := list(islice(waiting, size)):
        yield shard


def noted(shards: Iterable[list[Clip]], digest: Any) -> Iterator[list[Clip]]:
    """The same shards, each clip told to the digest."""
    for shard in shards:
        for clip in shard:
            end = None if clip.end_time is None else float(clip.end_time)
            told = json.dumps([clip.id, clip.path, float(clip.start_time), end, clip.stream])
            digest.update(told.encode() + b"\n")
        yield shard


def _files_of_list(shards: Iterator[list[Clip]]) -> Iterator[tuple[str, bytes, int]]:
    """The list in files of `SHARDS_PER_FILE` row groups: their names, what is in them and how many clips that are."""
    number = 0
    while first := next(shards, None):
        out, count = io.BytesIO(), 0
        with parquet.ParquetWriter(out, _LIST) as writer:
            for shard in (first, *islice(shards, SHARDS_PER_FILE - 1)):
                writer.write_table(pyarrow.Table.from_pylist([_listed(clip) for clip in shard], _LIST))
                count += len(shard)
        yield list_name(number), out.getvalue(), count
        number += SHARDS_PER_FILE


def _planned_files(plan: Plan) -> Iterator[tuple[str, int]]:
    """The names of the list's files, and how many clips are in each."""
    for first in range(0, plan.shards, SHARDS_PER_FILE):
        size = SHARDS_PER_FILE * plan.shard_size
        yield list_name(first), min(size, plan.clips - first * plan.shard_size)


def _is_whole(store: Store, name: str, rows: int) -> bool:
    """Whether a file of the list is there to its end."""
    try:
        with store.open(name) as file:
            return bool(parquet.ParquetFile(file).metadata.num_rows == rows)
    except (FileNotFoundError, ValueError, pyarrow.ArrowException):
        return False


def _listed(clip: Clip) -> dict[str, Any]:
    return {
        "id": _bytes(clip.id),
        "path": None if clip.path is None else _bytes(clip.path),
        "start_time": float(clip.start_time),
        "end_time": clip.end_time,
        "stream": clip.stream,
    }


def list_name(shard: int) -> str:
    """The name of the file that lists a shard's clips."""
    return f"_run/clips-{shard // SHARDS_PER_FILE:05d}.parquet"


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _text(name: Any) -> Any:
    return None if name is None else name.decode("utf-8", "surrogatepass")
