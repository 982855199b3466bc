"""Whether a run's folder holds a row of every clip of its list, once and unharmed; and its parts as one file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
from pyarrow import parquet

from mmmos.bulk.plan import Commit, Plan, clips_of, commit_name, noted, parse_commit, part_name, read_plan, run_id_of
from mmmos.errors import BulkError, UsageError
from mmmos.rows import encodable, open_table, table_schema

if TYPE_CHECKING:
    from mmmos.bulk.stores import Store
    from mmmos.clips import Clip

Progress = Callable[[int], None]
"""Told how many shards are done."""

_UNREADABLE = (OSError, ValueError, IndexError, pyarrow.ArrowException)
"""What reading a file raises that is not there, not Parquet or half Parquet."""


@dataclass(frozen=True)
class Verified:
    """What a run's folder holds."""

    clips: int  # of the list
    shards: int  # of the plan
    done: int  # shards that have a commit
    ok: int  # rows of these
    errors: int
    faults: tuple[str, ...]  # a line each; none if all is there and as it was published


def verify(store: Store, progress: Progress = lambda done: None) -> Verified:
    """Read every part and compare it with the list, and with what was noted when it was published.

    One part is in memory at a time. Raises `UsageError` where there is no run.
    """
    plan = read_plan(store)
    digest = hashlib.sha256()
    commits, faults = _commits(store, plan)
    open_shards, clips_found = [], 0
    for shard, clips in enumerate(noted(_lists(store, plan), digest)):
        clips_found += len(clips)
        commit = commits.get(shard)
        if commit is None:
            open_shards.append(shard)
        elif fault := _fault_of_part(store, plan, commit, clips):
            faults.append(fault)
        progress(shard + 1)
    if clips_found != plan.clips:
        faults.append(f"the list of clips is damaged: {clips_found} of {plan.clips} can be read")
    elif digest.hexdigest() != plan.list_sha256:
        faults.append("the list of clips is not the one that was planned")
    elif run_id_of(plan.list_sha256, plan.task, plan.shard_size) != plan.run_id:
        faults.append("_run/run.json is not as it was planned: its id is that of other settings")
    faults += _stray(store, plan)
    faults += [f"{stretch} not done" for stretch in _stretches(open_shards)]
    ok, errors = (sum(getattr(commit, name) for commit in commits.values()) for name in ("ok", "errors"))
    return Verified(plan.clips, plan.shards, len(commits), ok, errors, tuple(faults))


def merge(store: Store, target: Path, partial: bool = False, progress: Progress = lambda done: None) -> tuple[int, int]:
    """Write the rows of all parts to one .parquet, .jsonl or .csv, in the order of the list, a part at a time.

    Returns the shards that were written and those that are not done yet. Raises `UsageError` where some are not done,
    unless `partial`, and `BulkError` for a part that is not as it was published.
    """
    plan = read_plan(store)
    commits, faults = _commits(store, plan)
    left = plan.shards - len(commits)
    if faults:
        raise BulkError(f"{store.url}: {faults[0]}; `mmmos verify` says more")
    if left and not partial:
        raise UsageError(f"{store.url}: {left} of {plan.shards} shards are not done; --partial writes the others")
    if target.parent.resolve() == Path(store.url).resolve():
        raise UsageError(f"{target} would lie among the parts, whose readers would then read every row twice")
    first = next(iter(commits.values()), None)
    schema = table_schema()
    if first is not None and (found := _read_part(store, first).schema).names != schema.names:
        schema = found.remove_metadata()  # of another task than scoring
    with open_table(target, schema) as write:
        for done, commit in enumerate(commits.values(), start=1):
            for row in _read_part(store, commit).to_pylist():
                write(row)
            progress(done)
    return len(commits), left


def _commits(store: Store, plan: Plan) -> tuple[dict[int, Commit], list[str]]:
    """By shard what was noted of it, in order, and what is wrong with the notes."""
    found, faults = {}, []
    shards = {commit_name(shard): shard for shard in range(plan.shards)}
    for name in store.names("_run/commits"):
        name = f"_run/commits/{name}"
        if name not in shards:
            faults.append(f"{name} is of no shard of this run")
            continue
        commit = parse_commit(store.read(name))
        if commit is None or commit.shard != shards[name]:
            faults.append(f"{name} is damaged")
        else:
            found[commit.shard] = commit
    return found, faults


def _lists(store: Store, plan: Plan) -> Iterator[list[Clip]]:
    """The clips of each shard; none where they cannot be read."""
    for shard in range(plan.shards):
        clips: list[Clip] = []
        with suppress(*_UNREADABLE):
            clips = clips_of(store, plan, shard)
        yield clips


def _read_part(store: Store, commit: Commit) -> pyarrow.Table:
    """A part as it was published. Raises `BulkError` that says what is wrong with it."""
    name = part_name(commit.shard)
    try:
        data = store.read(name)
    except FileNotFoundError as error:
        raise BulkError(f"{name} is gone; its commit is there") from error
    if len(data) != commit.bytes:
        raise BulkError(f"{name} has {len(data)} bytes, and {commit.bytes} were published")
    if hashlib.sha256(data).hexdigest() != commit.sha256:
        raise BulkError(f"{name} has other bytes than were published")
    try:
        return parquet.ParquetFile(pyarrow.BufferReader(data)).read()
    except _UNREADABLE as error:
        raise BulkError(f"{name} cannot be read: {error}") from error


def _fault_of_part(store: Store, plan: Plan, commit: Commit, clips: Sequence[Clip]) -> str | None:
    """What is wrong with a part, if anything is."""
    name = part_name(commit.shard)
    try:
        table = _read_part(store, commit)
    except BulkError as error:
        return str(error)
    if (table.schema.metadata or {}).get(b"run_id") != plan.run_id.encode():
        return f"{name} is of another run"
    if len(table) != len(clips):
        return f"{name} has {len(table)} rows for {len(clips)} clips"
    ok = table.column("error_code").null_count
    if (commit.rows, commit.ok, commit.errors) != (len(table), ok, len(table) - ok):
        return f"{commit_name(commit.shard)} counts other rows than {name} has"
    keys = [key for key in ("id", "path", "start_time") if key in table.column_names]
    for number, (row, clip) in enumerate(zip(table.select(keys).to_pylist(), clips, strict=True)):
        if row != {key: _as_written(getattr(clip, key)) for key in keys}:
            found = next(iter(row.values()), None)
            return f"{name}, row {number} is of {found}, where the list has {encodable(clip.id)}"
    return None


def _as_written(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return encodable(value)


def _stray(store: Store, plan: Plan) -> list[str]:
    """Files beside the parts that a reader of the folder would take for one."""
    planned = {part_name(shard) for shard in range(plan.shards)}
    others = [name for name in store.names("") if name not in planned and not name.startswith(("_", "."))]
    return [f"{name} is no part of this run" for name in others]


def _stretches(shards: Iterable[int]) -> Iterator[str]:
    """Neighbours together.

    >>> list(_stretches([3, 5, 6, 7]))
    ['shard 3 is', 'shards 5 to 7 are']
    """
    first = last = None
    for shard in [*shards, None]:
        if first is not None and last is not None and shard != last + 1:
            yield f"shard {first} is" if first == last else f"shards {first} to {last} are"
            first = None
        first = shard if first is None else first
        last = shard
