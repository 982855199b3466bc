"""`mmmos verify` and `mmmos merge`: check and merge the folder of a bulk run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmmos.cli.console import ConsoleProgress, stderr
from mmmos.cli.options import OverwriteOption, check_output
from mmmos.io.remote import is_url
from mmmos.wording import agree, counted

if TYPE_CHECKING:
    from mmmos.bulk.verify import Verified

logger = logging.getLogger(__name__)

FolderArgument = Annotated[str, typer.Argument(metavar="DIR", help="Folder of a run, or its address (s3://...).")]


def verify(folder: FolderArgument) -> None:
    """Check that a run's folder is complete and undamaged.

    Compares all parts with the list: one row per clip, in order, as published. Prints each fault on a line, then how to
    repair it. Exit status: 0 whole, 1 not whole, 2 not a run.
    """
    from mmmos.bulk.plan import read_plan
    from mmmos.bulk.stores import open_store
    from mmmos.bulk.verify import verify as verify_store

    store = open_store(folder)
    with ConsoleProgress(stderr) as progress:
        progress.start("verifying", read_plan(store).shards, "shards")
        found = verify_store(store, progress)
    for fault in found.faults:
        print(fault)
    print(
        f"{'not whole' if found.faults else 'whole'}: {found.done} of {found.shards} shards,"
        f" {found.ok + found.errors} of {found.clips} clips, {found.ok} ok, {found.errors} errors"
    )
    if found.faults:
        print(_fix(found))
        raise typer.Exit(1)


def _fix(found: Verified) -> str:
    if not found.recoverable:
        return "the plan is damaged and cannot be repaired: run the command with another folder"
    if found.remove:
        return f"remove these files and run the command again: {' '.join(found.remove)}"
    return "run the command again"


def merge(
    folder: FolderArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Write rows here: .jsonl, .csv or .parquet.")],
    partial: Annotated[bool, typer.Option("--partial", help="Leave out missing shards.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the parts of a run as one file.

    Rows are in the order of the list. Exit status: 0 written, 2 missing shards or wrong usage, 3 a part is damaged.
    """
    from mmmos.bulk.plan import read_plan
    from mmmos.bulk.stores import open_store
    from mmmos.bulk.verify import merge as merge_store
    from mmmos.inference.rows import check_target

    store = open_store(folder)
    shards = read_plan(store).shards
    check_target(output)
    check_output(output, [None if is_url(folder) else folder], overwrite)
    with ConsoleProgress(stderr) as progress:
        progress.start("merging", shards, "shards")
        written, left = merge_store(store, output, partial, progress)
    if left:
        shards_left = counted(left, "shard", of=written + left)
        logger.warning("%s %s not done, and left out", shards_left, agree(left, "is"))
