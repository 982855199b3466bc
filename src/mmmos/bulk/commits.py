"""Commits of a bulk run: one per published part, with its checksum and counts."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow
from pyarrow import parquet

from mmmos.bulk.plan import Plan
from mmmos.bulk.stores import publishing, read_all

if TYPE_CHECKING:
    from mmmos.bulk.stores import Store


@dataclass(frozen=True)
class Commit:
    """The record of a published part."""

    shard: int
    rows: int
    ok: int
    errors: int  # rows with an `error_code`
    sha256: str  # of the part's bytes
    bytes: int


def part_name(shard: int) -> str:
    """The name of a shard's part.

    >>> part_name(12)
    'part-00012.parquet'
    """
    return f"part-{shard:05d}.parquet"


def publish_part(store: Store, plan: Plan, shard: int, table: pyarrow.Table) -> Commit:
    """Publish a shard's rows, then its commit. The same rows give the same bytes."""
    info = {key: value if isinstance(value, str) else json.dumps(value) for key, value in plan.task.items()}
    out = io.BytesIO()
    parquet.write_table(
        table.combine_chunks().replace_schema_metadata({"run_id": plan.run_id} | info),
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
    """The finished shards: those that have both a part and an undamaged commit."""
    parts = set(store.names(""))
    return {shard: commit for shard, commit in read_commits(store)[0].items() if part_name(shard) in parts}


def read_commits(store: Store) -> tuple[dict[int, Commit], list[str]]:
    """Commits by shard, in order, and the names of the damaged ones."""
    commits, damaged = {}, []
    for name, text in read_all(store, "_run/commits"):
        commit = _parse_commit(text)
        if commit is None or name != commit_name(commit.shard):
            damaged.append(name)
        else:
            commits[commit.shard] = commit
    return dict(sorted(commits.items())), damaged


def _parse_commit(text: bytes) -> Commit | None:
    """A commit; None if it is damaged, which makes its shard unfinished."""
    try:
        commit = Commit(**json.loads(text))
    except (ValueError, TypeError):
        return None
    counts = commit.shard, commit.rows, commit.ok, commit.errors, commit.bytes
    valid = all(type(count) is int and count >= 0 for count in counts) and type(commit.sha256) is str
    return commit if valid else None


def commit_name(shard: int) -> str:
    """The name of a shard's commit."""
    return f"_run/commits/{shard:05d}.json"
