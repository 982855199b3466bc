"""The finished rows of a run's folder, also while the run continues."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pyarrow import parquet

from mmmos.bulk.commits import committed, part_name
from mmmos.bulk.plan import read_plan

if TYPE_CHECKING:
    from mmmos.bulk.stores import Store


def finished_rows(store: Store) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number, from 1, and fields of each row of the finished shards, in the order of the list, a part at a time.

    Checksums are not compared: `mmmos verify` does that. Raises `UsageError` if the folder has no run.
    """
    read_plan(store)
    number = 0
    for shard in sorted(committed(store)):
        table = parquet.read_table(io.BytesIO(store.read(part_name(shard))), use_threads=False)
        for row in table.to_pylist():
            number += 1
            yield number, row
