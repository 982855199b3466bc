"""What a run is to do and what it has done: the list of clips in shards, commits, and the workers that were lost.

    DIR/part-00000.parquet         the rows of shard 0, in the order of the list
    DIR/_run/run.json              the plan; it being there says that the plan is whole
    DIR/_run/clips-00000.parquet   the clips as they were listed, a row group a shard, 100 shards a file
    DIR/_run/commits/00000.json    rows, ok, errors, sha256 and bytes of a part; a shard is done when this is there
    DIR/_run/deaths/00000.json     workers that were lost on a shard, and on single clips of it

Readers of a folder of Parquet leave out what begins with `_`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow
from pyarrow import parquet

from mmmos.clips import Clip
from mmmos.errors import BulkError, UsageError

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

    run_id: str  # sha256 of the three below
    clips: int
    shard_size: int
    list_sha256: str  # of every clip's id, path, stretch and stream, in their order
    task: dict[str, Any]  # all that the rows depend on beside the clips

    @property
    def shards(self) -> int:
        """How many shards there are; the last one may be short."""
        return -(-self.clips // self.shard_size)

    def rows(self, shard: int) -> int:
        """Clips of a shard, and so rows of its part."""
        return min(self.shard_size, self.clips - shard * self.shard_size)


@dataclass(frozen=True)
class Commit:
    """A part that was published."""

    shard: int
    rows: int
    ok: int
    errors: int  # rows with an `error_code`
    sha256: str  # of the part's bytes
    bytes: int


@dataclass
class Losses:
    """The workers that died, or raised an error, on a shard: on the whole of it, and on one clip (by its number)."""

    attempts: int = 0
    clips: dict[int, list[tuple[str, str]]] = field(default_factory=dict)  # of each time an error's code and the reason


def part_name(shard: int) -> str:
    """The name of a shard's rows.

    >>> part_name(12)
    'part-00012.parquet'
    """
    return f"part-{shard:05d}.parquet"


def make_plan(store: Store, clips: Iterable[Clip], description: dict[str, Any], shard_size: int = SHARD_SIZE) -> Plan:
    """Plan a run in this place, or find that the plan which is there is the same.

    Reads the clips one shard at a time. Raises `UsageError` that says what differs where another run is there.
    """
    description = json.loads(json.dumps(description, allow_nan=False))
    there = read_plan(store) if "run.json" in store.names("_run") else None
    if there is None and any(name.startswith("part-") for name in store.names("")):
        raise UsageError(f"{store.url} holds parts of no run that is known; give another folder")
    if there is not None:
        _check_same(store, there, description, shard_size)  # told before a long list is read
    digest, count = hashlib.sha256(), 0
    shards = noted(_in_shards(clips, shard_size), digest)
    if there is None:
        with publishing(store):
            count = _publish_list(store, shards)
    else:
        count = sum(map(len, shards))
    listed = digest.hexdigest()
    plan = Plan(run_id_of(listed, description, shard_size), count, shard_size, listed, description)
    if there is None:
        with publishing(store):
            store.publish(RUN, json.dumps(asdict(plan) | {"shards": plan.shards}, indent=1).encode() + b"\n")
    elif there != plan:
        how = f"{there.clips} clips, now {count}" if there.clips != count else "the same number of clips, others"
        raise UsageError(f"{store.url} is a run on another list ({how}); give another folder")
    return plan


def run_id_of(list_sha256: str, description: dict[str, Any], shard_size: int) -> str:
    """The sha256 of all that makes a run this one."""
    return hashlib.sha256(json.dumps([list_sha256, description, shard_size], sort_keys=True).encode()).hexdigest()


def read_plan(store: Store) -> Plan:
    """The plan that is there. Raises `UsageError` if there is none."""
    try:
        told = json.loads(store.read(RUN))
        told.pop("shards")
        return Plan(**told)
    except FileNotFoundError as error:
        raise UsageError(f"{store.url} is no run of mmmos: there is no {RUN}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{store.url}: {RUN} is damaged") from error


def clips_of(store: Store, plan: Plan, shard: int) -> list[Clip]:
    """The clips of a shard, in their order."""
    with store.open(_list_name(shard // SHARDS_PER_FILE)) as file:
        table = parquet.ParquetFile(file).read_row_group(shard % SHARDS_PER_FILE)
    return [
        Clip(_text(row["id"]), _text(row["path"]), row["start_time"], row["end_time"], stream=row["stream"])
        for row in table.to_pylist()
    ]


def publish_part(store: Store, plan: Plan, shard: int, table: pyarrow.Table) -> Commit:
    """Write a shard's rows and, once they are there, its commit. The same rows give the same bytes."""
    about = {key: value if isinstance(value, str) else json.dumps(value) for key, value in plan.task.items()}
    out = io.BytesIO()
    parquet.write_table(
        table.combine_chunks().replace_schema_metadata({"run_id": plan.run_id} | about),
        out,
        row_group_size=max(table.num_rows, 1),
    )
    data = out.getvalue()
    errors = table.num_rows - table.column("error_code").null_count
    digest = hashlib.sha256(data).hexdigest()
    commit = Commit(shard, table.num_rows, table.num_rows - errors, errors, digest, len(data))
    with publishing(store):
        store.publish(part_name(shard), data)
        store.publish(commit_name(shard), json.dumps(asdict(commit)).encode() + b"\n")
    return commit


def committed(store: Store) -> dict[int, Commit]:
    """The shards that are done. One whose part was taken away is not."""
    parts = set(store.names(""))
    names = [f"_run/commits/{name}" for name in store.names("_run/commits")]
    with ThreadPoolExecutor(16) as readers:  # an object store answers each in tens of milliseconds
        found = [parse_commit(text) for text in readers.map(store.read, names)]
    return {commit.shard: commit for commit in found if commit is not None and part_name(commit.shard) in parts}


def parse_commit(text: bytes) -> Commit | None:
    """What was noted of a part; None if the note is damaged: its shard is then not done."""
    try:
        return Commit(**json.loads(text))
    except (ValueError, TypeError):
        return None


def read_losses(store: Store) -> dict[int, Losses]:
    """By shard the workers that were lost on it."""
    found = {}
    for name in store.names("_run/deaths"):
        told = json.loads(store.read(f"_run/deaths/{name}"))
        clips = {int(number): [(code, why) for code, why in times] for number, times in told["clips"].items()}
        found[int(name.removesuffix(".json"))] = Losses(told["attempts"], clips)
    return found


def publish_losses(store: Store, shard: int, losses: Losses) -> None:
    """Note the workers that were lost on a shard, so that the next driver knows of them, too."""
    with publishing(store):
        store.publish(f"_run/deaths/{shard:05d}.json", json.dumps(asdict(losses)).encode() + b"\n")


@contextmanager
def publishing(store: Store) -> Iterator[None]:
    """Where the place itself fails, a full disk or a lost connection: a `BulkError` that says so."""
    try:
        yield
    except OSError as error:
        raise BulkError(
            f"{store.url}: {error.strerror or error}; what is published stays, run the same command again to go on"
        ) from error


def _check_same(store: Store, there: Plan, description: dict[str, Any], shard_size: int) -> None:
    """Refuse to go on with a run of another task."""
    given = _flat(description | {"shard size": shard_size})
    found = _flat(there.task | {"shard size": there.shard_size})
    for name in [*found, *given]:
        if found.get(name) != given.get(name):
            raise UsageError(
                f"{store.url} is a run with {name} {found.get(name)}, not {given.get(name)}; give another folder"
            )


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    """Settings beside the others."""
    return {**{key: value for key, value in told.items() if key != "settings"}, **told.get("settings", {})}


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


def _publish_list(store: Store, shards: Iterator[list[Clip]]) -> int:
    """Write the list in files of `SHARDS_PER_FILE` row groups; returns how many clips there are."""
    count, files = 0, 0
    while first := next(shards, None):
        out = io.BytesIO()
        with parquet.ParquetWriter(out, _LIST) as writer:
            for shard in (first, *islice(shards, SHARDS_PER_FILE - 1)):
                writer.write_table(pyarrow.Table.from_pylist([_listed(clip) for clip in shard], _LIST))
                count += len(shard)
        store.publish(_list_name(files), out.getvalue())
        files += 1
    return count


def _listed(clip: Clip) -> dict[str, Any]:
    return {
        "id": _bytes(clip.id),
        "path": None if clip.path is None else _bytes(clip.path),
        "start_time": float(clip.start_time),
        "end_time": clip.end_time,
        "stream": clip.stream,
    }


def _list_name(number: int) -> str:
    return f"_run/clips-{number:05d}.parquet"


def commit_name(shard: int) -> str:
    """The name of the note that a shard is done."""
    return f"_run/commits/{shard:05d}.json"


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _text(name: Any) -> Any:
    return None if name is None else name.decode("utf-8", "surrogatepass")
