"""Checks that a run's folder has exactly one undamaged row per listed clip, and merges its parts into one file."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
from pyarrow import parquet

from mmmos.bulk.commits import Commit, commit_name, part_name, read_commits
from mmmos.bulk.plan import RUN, SHARDS_PER_FILE, Plan, clips_in, hash_clips, list_name, read_plan, run_id_of
from mmmos.errors import BulkError, UsageError
from mmmos.inference.rows import encodable, open_table, table_schema
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.wording import agree, counted

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.bulk.stores import Store

PREFETCHED_PARTS = 4
"""Parts that are read while one is checked, and are in memory with it."""

_UNREADABLE = (OSError, ValueError, IndexError, pyarrow.ArrowException)
"""Errors of reading a file that is missing, truncated or not Parquet."""


@dataclass
class Verified:
    """The result of checking a run's folder."""

    clips: int  # of the list
    shards: int  # of the plan
    done: int = 0  # shards with a commit
    ok: int = 0  # rows of these
    errors: int = 0
    faults: list[str] = field(default_factory=list)  # one line each; empty if the folder is complete and undamaged
    remove: list[str] = field(default_factory=list)  # files to remove, so that the run's command repairs the rest
    recoverable: bool = True  # by that command

    def add(self, fault: str, remove: str) -> None:
        """Add a fault, and the file to remove because of it."""
        self.faults.append(fault)
        self.remove.append(remove)


def verify(store: Store, progress: Progress = NO_PROGRESS) -> Verified:
    """Compare every part with the list and with its commit.

    A few parts are in memory at a time. Raises `UsageError` if the folder has no run.
    """
    plan = read_plan(store)
    found = Verified(plan.clips, plan.shards)
    digest = hashlib.sha256()
    commits = _commits(store, plan, found)
    open_shards, clips_found = [], 0
    parts = _parts(store, commits.values())
    for shard, clips in enumerate(hash_clips(_lists(store, plan), digest)):
        clips_found += len(clips)
        if commit := commits.get(shard):
            try:
                _check_part(plan, commit, _table(commit, next(parts)), clips)
            except BulkError as error:
                found.add(str(error), commit_name(shard))
        else:
            open_shards.append(shard)
        progress.advance()
    for name in _unexpected_files(store, plan):
        found.add(f"{name} is not a part of this run", name)
    if fault := _fault_of_list(plan, clips_found, digest.hexdigest()):
        found.faults.append(fault)
        # The list is damaged, so the parts may be undamaged.
        found.remove = [f"_run/{name}" for name in store.names("_run") if name.startswith("clips-")]
    if run_id_of(plan.list_sha256, plan.task, plan.shard_size) != plan.run_id:
        found.faults.append(f"{RUN} is damaged: its id does not match its settings")
        found.recoverable = False
    found.faults += [f"{shards} not done" for shards in _ranges(open_shards)]
    return found


def _fault_of_list(plan: Plan, clips: int, sha256: str) -> str | None:
    """The fault of the list, of which `clips` clips could be read; None if it is undamaged."""
    if clips != plan.clips:
        return f"the list of clips is damaged: {clips} of {plan.clips} can be read"
    return None if sha256 == plan.list_sha256 else "the list of clips is not the one that was planned"


def merge(store: Store, target: Path, partial: bool = False, progress: Progress = NO_PROGRESS) -> tuple[int, int]:
    """Write the rows of all parts to one .parquet, .jsonl or .csv, in the order of the list, a part at a time.

    Parts of an earlier version get empty values in columns that they do not have. Returns the number of shards that
    were written, and of those that are not done or have a damaged commit. Raises `UsageError` if there are any of the
    latter, unless `partial`, and for a part with unknown columns; `BulkError` for a damaged part.
    """
    plan = read_plan(store)
    found = Verified(plan.clips, plan.shards)
    commits = _commits(store, plan, found)
    left = plan.shards - len(commits)
    if found.faults and not partial:
        raise BulkError(f"{store.url}: {found.faults[0]}; run `mmmos verify` for what to do")
    if left and not partial:
        shards = f"{counted(left, 'shard', of=plan.shards)} {agree(left, 'is')}"
        raise UsageError(f"{store.url}: {shards} not done; --partial writes the others")
    if target.parent.resolve() == Path(store.url).resolve():
        raise UsageError(
            f"{target} would be in the folder of the parts, where readers would read rows twice; name another folder"
        )
    try:
        _merge_parts(store, commits.values(), target, progress)
    except BulkError as error:
        raise BulkError(f"{store.url}: {error}; run `mmmos verify` for what to do") from error
    return len(commits), left


def _merge_parts(store: Store, commits: Collection[Commit], target: Path, progress: Progress) -> None:
    tables = map(_table, commits, _parts(store, commits))
    first = next(tables, None)
    schema = table_schema()
    if first is not None and not set(first.schema.names) <= set(schema.names):
        schema = first.schema.remove_metadata()  # another task than scoring
    empty = dict.fromkeys(schema.names)  # columns that parts of an earlier version do not have
    with open_table(target, schema) as write:
        for commit, table in zip(commits, chain([] if first is None else [first], tables), strict=True):
            if unknown := [name for name in table.schema.names if name not in empty]:
                raise UsageError(
                    f"{part_name(commit.shard)} has columns that other parts do not have: {', '.join(unknown)}; merge"
                    " with the version of mmmos that wrote it"
                )
            for row in table.to_pylist():
                write(empty | row)
            progress.advance()


def _commits(store: Store, plan: Plan, found: Verified) -> dict[int, Commit]:
    """Commits by shard, in order. Adds the faults of commits to `found`."""
    commits, damaged = read_commits(store)
    shards = {commit_name(shard) for shard in range(plan.shards)}
    for name in sorted([*damaged, *map(commit_name, commits)]):
        if name not in shards:
            found.add(f"{name} does not belong to a shard of this run", name)
        elif name in damaged:
            found.add(f"{name} is damaged", name)
    known = {shard: commit for shard, commit in commits.items() if shard < plan.shards}
    found.done = len(known)
    found.ok, found.errors = (sum(getattr(commit, name) for commit in known.values()) for name in ("ok", "errors"))
    return known


def _lists(store: Store, plan: Plan) -> Iterator[list[Clip]]:
    """The clips of each shard; an empty list if they cannot be read."""
    for first in range(0, plan.shards, SHARDS_PER_FILE):
        left = deque(range(first, min(first + SHARDS_PER_FILE, plan.shards)))
        with suppress(*_UNREADABLE), store.open(list_name(first)) as opened:
            file = parquet.ParquetFile(opened, pre_buffer=False)
            while left:
                clips = clips_in(file, left[0])
                left.popleft()
                yield clips
        yield from ([] for _ in left)


def _parts(store: Store, commits: Iterable[Commit]) -> Iterator[bytes | None]:
    """The bytes of each part, or None if it is missing; prefetches `PREFETCHED_PARTS` of them."""

    def read(commit: Commit) -> bytes | None:
        try:
            return store.read(part_name(commit.shard))
        except FileNotFoundError:
            return None

    with ThreadPoolExecutor(PREFETCHED_PARTS) as readers:
        waiting: deque[Future[bytes | None]] = deque()
        for commit in commits:
            waiting.append(readers.submit(read, commit))
            if len(waiting) > PREFETCHED_PARTS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _table(commit: Commit, data: bytes | None) -> pyarrow.Table:
    """A part as published. Raises `BulkError` that names the fault."""
    name = part_name(commit.shard)
    if data is None:
        raise BulkError(f"{name} is missing, although it has a commit")
    if len(data) != commit.bytes:
        raise BulkError(f"{name} has {len(data)} bytes instead of the {commit.bytes} in its commit")
    if hashlib.sha256(data).hexdigest() != commit.sha256:
        raise BulkError(f"{name} does not match the checksum in its commit")
    try:
        # No threads: a process that exits while pyarrow's run may be aborted.
        return parquet.ParquetFile(pyarrow.BufferReader(data), pre_buffer=False).read(use_threads=False)
    except _UNREADABLE as error:
        raise BulkError(f"{name} cannot be read: {error}") from error


def _check_part(plan: Plan, commit: Commit, table: pyarrow.Table, clips: Sequence[Clip]) -> None:
    """Raise `BulkError` for a damaged part. Its rows are compared with the list if that can be read."""
    name, info = part_name(commit.shard), table.schema.metadata or {}
    expected = {"run_id": plan.run_id, "model": str(plan.task.get("model"))}
    if any(info.get(key.encode()) != value.encode() for key, value in expected.items()):
        raise BulkError(f"{name} belongs to another run")
    if len(table) != plan.rows(commit.shard):
        raise BulkError(f"{name} has {counted(len(table), 'row')} for {counted(plan.rows(commit.shard), 'clip')}")
    ok = table.column("error_code").null_count
    if (commit.rows, commit.ok, commit.errors) != (len(table), ok, len(table) - ok):
        raise BulkError(f"{commit_name(commit.shard)} does not match the row counts of {name}")
    keys = [key for key in ("id", "path", "start_time") if key in table.column_names]
    for number, (row, clip) in enumerate(zip(table.select(keys).to_pylist(), clips, strict=False)):
        if any(_as_written(row[key]) != _as_written(getattr(clip, key)) for key in keys):
            found = next(iter(row.values()), None)
            raise BulkError(f"{name}, row {number} is {found}, but the list has {encodable(clip.id)}")


def _as_written(value: Any) -> Any:
    """A value as rows of scores have it; rows of other tasks may have the exact value."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return encodable(value)


def _unexpected_files(store: Store, plan: Plan) -> list[str]:
    """Files that a reader of the folder would mistake for parts."""
    planned = {part_name(shard) for shard in range(plan.shards)}
    return [name for name in store.names("") if name not in planned and not name.startswith(("_", "."))]


def _ranges(shards: Iterable[int]) -> Iterator[str]:
    """Consecutive shards as ranges.

    >>> list(_ranges([3, 5, 6, 7]))
    ['shard 3 is', 'shards 5 to 7 are']
    """
    first = last = None
    for shard in [*shards, None]:
        if first is not None and last is not None and shard != last + 1:
            yield f"shard {first} is" if first == last else f"shards {first} to {last} are"
            first = None
        first = shard if first is None else first
        last = shard
