"""The plan of a bulk run: its clips in shards, and its task.

    DIR/part-00000.parquet         the rows of shard 0, in the order of the list
    DIR/_run/run.json              the plan; it is written last, so that a plan with this file is complete
    DIR/_run/clips-00000.parquet   the listed clips, one row group per shard, 100 shards per file
    DIR/_run/commits/00000.json    rows, ok, errors, sha256 and bytes of a part; a shard is finished when it has one
    DIR/_run/deaths/00000.json     worker failures on a shard (failures.py)

Readers of a Parquet folder ignore names that begin with `_`.
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
"""Clips per shard: few enough that repeating one is cheap, enough that a million clips make only a thousand files."""

SHARDS_PER_FILE = 100
"""Row groups per file of the list. A file is built in memory: 100 shards of 1000 clips take 50 MB."""

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
    """The clips of a run, their division into shards, and the task."""

    run_id: str  # sha256 of the list, the task and the size of a shard
    clips: int
    shard_size: int
    list_sha256: str  # of every clip's id, path, segment and stream, in order
    task: dict[str, Any]  # all that rows depend on besides clips; `model` is its name in the first command

    @property
    def shards(self) -> int:
        """Number of shards; the last one may be short."""
        return -(-self.clips // self.shard_size)

    def rows(self, shard: int) -> int:
        """Number of clips in a shard, and of rows in its part."""
        return min(self.shard_size, self.clips - shard * self.shard_size)


def make_plan(store: Store, clips: Iterable[Clip], description: dict[str, Any], shard_size: int | None = None) -> Plan:
    """Plan a run in a folder, or check that the folder's plan is the same.

    `shard_size` defaults to that of the folder's plan, else to `SHARD_SIZE`. Reads the clips one shard at a time.
    Raises `UsageError` that names the difference if the folder has another run.
    """
    description = json.loads(json.dumps(description, allow_nan=False))
    known = read_plan(store) if "run.json" in store.names("_run") else None
    shard_size = shard_size or (known.shard_size if known else SHARD_SIZE)
    if known is not None:
        _check_same(store, known, description, shard_size)  # before a long list is read
        _check_list(store, known, clips)
        if known.run_id != run_id_of(known.list_sha256, description, shard_size):
            raise UsageError(f"{store.url}: {RUN} is damaged")
        return known
    if any(name.startswith("part-") for name in store.names("")):
        raise UsageError(f"{store.url} contains part files but no run.json; choose an empty folder")
    digest, count = hashlib.sha256(), 0
    with publishing(store):
        for name, data, rows in _files_of_list(hash_clips(_in_shards(clips, shard_size), digest)):
            store.publish(name, data)
            count += rows
        listed = digest.hexdigest()
        plan = Plan(run_id_of(listed, description, shard_size), count, shard_size, listed, description)
        store.publish(RUN, json.dumps(asdict(plan) | {"shards": plan.shards}, indent=1).encode() + b"\n")
    return plan


def _check_list(store: Store, plan: Plan, clips: Iterable[Clip]) -> None:
    """Check that the list is the planned one, and write its missing and truncated files again."""
    digest, count = hashlib.sha256(), 0
    repaired: dict[str, bytes] = {}
    shards = hash_clips(_in_shards(clips, plan.shard_size), digest)
    with publishing(store):
        damaged = {name for name, rows in _planned_files(plan) if not _is_complete(store, name, rows)}
        for name, data, rows in _files_of_list(shards) if damaged else ():
            count += rows
            repaired |= {name: data} if name in damaged else {}
        count += sum(map(len, shards))
        if digest.hexdigest() != plan.list_sha256:
            difference = f"{plan.clips} clips, now {count}" if plan.clips != count else "as many clips, but others"
            raise UsageError(f"{store.url} is a run on another list ({difference}); give another folder")
        for name, data in repaired.items():
            store.publish(name, data)


def run_id_of(list_sha256: str, description: dict[str, Any], shard_size: int) -> str:
    """The sha256 of all that identifies a run; the model is identified by its sha256, not by its name."""
    identity = {key: value for key, value in description.items() if key != "model"}
    return hashlib.sha256(json.dumps([list_sha256, identity, shard_size], sort_keys=True).encode()).hexdigest()


def read_plan(store: Store) -> Plan:
    """The plan of a folder. Raises `UsageError` if there is none."""
    try:
        fields = json.loads(store.read(RUN))
        shards = fields.pop("shards")
        plan = Plan(**fields)
        sizes = shards, plan.clips, plan.shard_size
        if any(type(size) is not int for size in sizes) or plan.clips < 0 or plan.shard_size < 1:
            raise ValueError("invalid sizes")
        if shards != plan.shards or not isinstance(plan.task.get("settings", {}), dict):
            raise ValueError("invalid plan")
        return plan
    except FileNotFoundError as error:
        raise UsageError(f"{store.url} is not an mmmos run: it has no {RUN}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{store.url}: {RUN} is damaged") from error


def clips_of(store: Store, plan: Plan, shard: int) -> list[Clip]:
    """The clips of a shard, in order."""
    with store.open(list_name(shard)) as file:
        return clips_in(parquet.ParquetFile(file, pre_buffer=False), shard)


def clips_in(file: parquet.ParquetFile, shard: int) -> list[Clip]:
    """The clips of a shard, from the file of the list that has them."""
    # No threads (`pre_buffer` starts some, too): a process that exits while they run may be aborted.
    table = file.read_row_group(shard % SHARDS_PER_FILE, use_threads=False)
    return [
        Clip(_text(row["id"]), _text(row["path"]), row["start_time"], row["end_time"], stream=row["stream"])
        for row in table.to_pylist()
    ]


def _check_same(store: Store, known: Plan, description: dict[str, Any], shard_size: int) -> None:
    """Raise `UsageError` for a run of another task. Models are equal if their sha256 is, whatever their names."""
    given = _flat(description | {"shard size": shard_size})
    planned = _flat(known.task | {"shard size": known.shard_size})
    for name in [*planned, *given]:
        was, now = planned.get(name), given.get(name)
        if was != now:
            if name == "model_sha256":
                was, now = f"{was} ({known.task.get('model')})", f"{now} ({description.get('model')})"
            raise UsageError(f"{store.url} is a run with {name} {was}, not {now}; give another folder")


def _flat(task: dict[str, Any]) -> dict[str, Any]:
    """A task with its settings on the level of the other keys."""
    others: dict[str, Any] = {key: value for key, value in task.items() if key not in ("settings", "model")}
    return {**others, **task.get("settings", {})}


def _in_shards(clips: Iterable[Clip], size: int) -> Iterator[list[Clip]]:
    remaining = iter(clips)
    while shard := list(islice(remaining, size)):
        yield shard


def hash_clips(shards: Iterable[list[Clip]], digest: Any) -> Iterator[list[Clip]]:
    """The same shards; updates the digest with each clip."""
    for shard in shards:
        for clip in shard:
            end = None if clip.end_time is None else float(clip.end_time)
            line = json.dumps([clip.id, clip.path, float(clip.start_time), end, clip.stream])
            digest.update(line.encode() + b"\n")
        yield shard


def _files_of_list(shards: Iterator[list[Clip]]) -> Iterator[tuple[str, bytes, int]]:
    """The list as files of `SHARDS_PER_FILE` row groups: name, content and number of clips of each."""
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
    """Name and number of clips of each file of the list."""
    for first in range(0, plan.shards, SHARDS_PER_FILE):
        size = SHARDS_PER_FILE * plan.shard_size
        yield list_name(first), min(size, plan.clips - first * plan.shard_size)


def _is_complete(store: Store, name: str, rows: int) -> bool:
    """Whether a file of the list exists and is not truncated."""
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
