"""The command `mmmos`: one short function per command, which imports heavy modules when it runs.

stdout carries data only; progress and messages go to stderr.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mmmos.cli.about import doctor, licenses
from mmmos.cli.bulk import merge, verify
from mmmos.cli.calibrate import calibrate
from mmmos.cli.compare import compare
from mmmos.cli.console import log_to_stderr, stderr
from mmmos.cli.data import data
from mmmos.cli.ensemble import ensemble
from mmmos.cli.evaluate import evaluate
from mmmos.cli.experiment import experiment
from mmmos.cli.extract import extract
from mmmos.cli.help import HELP_OPTIONS, Sections
from mmmos.cli.leaderboard import leaderboard
from mmmos.cli.push import push
from mmmos.cli.ratings import ratings
from mmmos.cli.report import report
from mmmos.cli.score import score
from mmmos.cli.serve import serve
from mmmos.cli.train import train
from mmmos.errors import MmmosError

app = typer.Typer(
    name="mmmos",
    cls=Sections,
    context_settings=HELP_OPTIONS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    *(score, serve, ratings, train, calibrate, experiment, ensemble, extract, push),
    *(evaluate, compare, leaderboard, report),
    *(verify, merge, doctor, licenses),
):
    app.command()(command)
app.add_typer(data, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        from mmmos.version import VERSION

        print(VERSION)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Score the quality of speech, music and sound without a reference: PQ, PC, CE and CU, from 0 to 10.

    Data goes to stdout, progress and messages to stderr. `mmmos COMMAND -h` explains a command.
    """
    context.with_resource(log_to_stderr())


def main() -> None:
    """Entry point: runs a command and turns every expected error into one line and an exit status."""
    # Threads that wait for each other should sleep: spinning, they double the time where another process wants a core.
    _open_closed_descriptors()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    atexit.register(gc.freeze)  # else the last collection visits every object of torch, for half a second
    try:
        _command()()  # leaves by SystemExit: 0, the status of a typer.Exit, or 2 for wrong usage
    except MmmosError as error:
        stderr.print(f"mmmos: {error}")
        sys.exit(error.exit_status)
    except OSError as error:  # a disk that is full, a folder that cannot be written
        stderr.print(f"mmmos: {_reason(error)}")
        sys.exit(3)


@functools.cache
def _command() -> Callable[..., Any]:
    """The command with its subcommands; to make their options from signatures takes 40 ms."""
    return typer.main.get_command(app)


def _reason(error: OSError) -> str:
    """What the system says, without its number.

    >>> _reason(FileNotFoundError(2, "No such file or directory", "a.wav"))
    'a.wav: no such file or directory'
    """
    if not error.strerror:
        return str(error)
    what = error.strerror[0].lower() + error.strerror[1:]
    return f"{os.fsdecode(error.filename)}: {what}" if error.filename is not None else what


def _open_closed_descriptors() -> None:
    """Put /dev/null where 0, 1 or 2 is closed: the next file opened would be taken for a standard one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        if descriptor == 2:
            sys.stderr = open(descriptor, "w", closefd=False)  # noqa: SIM115, for the whole process
    os.close(descriptor)


def _stop(number: int, frame: Any) -> None:
    reason = "interrupted" if number == signal.SIGINT else "terminated"
    stderr.print(
        f"mmmos: {reason}; train, experiment, extract, score -o FOLDER/ and score -o OUTPUT.jsonl --resume continue"
        " from what is written"
    )
    sys.exit(128 + number)
