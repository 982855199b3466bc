"""The command `mmmos`: one short function a command, heavy imports inside.

stdout carries data only; progress and notes go to stderr.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from mmmos.errors import MmmosError, UsageError
from mmmos.terminal import agreement_table, progress, score_table

if TYPE_CHECKING:
    from mmmos.predictor import Predictor
    from mmmos.scores import Scores

app = typer.Typer(
    name="mmmos",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
notes = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

ModelOption = Annotated[
    str, typer.Option("--model", help="lite (bundled), audiobox (the published baseline), a model folder, or a hub id.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust-checkpoint", help="Read the tensors of a pickled checkpoint of unknown origin.")
]
AcceptOption = Annotated[
    list[str],
    typer.Option("--accept-license", help="wavlm, muq or audiobox: accept its licence and fetch it."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DtypeOption = Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Precision of the encoders.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        help="Start of relative paths in a list, and of /your_path/ (else MMMOS_DATA).",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from mmmos.version import VERSION

        print(VERSION)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """How good is this clip of speech, music or sound? Four scores from 0 to 10, without a reference."""


@app.command()
def score(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Files, folders, patterns, lists (.jsonl, .csv, .tsv, .scp), or - for paths on stdin."),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write rows here: .jsonl, .csv or .parquet.")
    ] = None,
    model: ModelOption = "lite",
    segments: Annotated[bool, typer.Option("--segments", help="One row for each 10-second window.")] = False,
    form: Annotated[
        Literal["mmmos", "audiobox"], typer.Option("--format", help="audiobox prints its four keys alone.")
    ] = "mmmos",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the scores in OUTPUT.jsonl, score the rest.")] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Windows at a time; 1 on a CPU, 16 on a GPU.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    data_root: DataRoot = None,
) -> None:
    """Score clips: PQ, PC, CE and CU from 0 to 10.

    A clip that cannot be scored gets a row that says why; the others get their scores. Exit status: 0
    every clip scored, 1 some rows are errors, 2 wrong usage, 130 or 143 interrupted.
    """
    from mmmos.inputs import expand
    from mmmos.rows import not_done

    if resume and (output is None or output.suffix not in (".jsonl", ".json") or segments or form != "mmmos"):
        raise UsageError("--resume needs -o OUTPUT.jsonl, without --segments or --format")
    clips = list(expand(inputs, None if data_root is None else str(data_root)))
    if not clips:
        notes.print(f"mmmos: nothing to score in {' '.join(inputs)}")
        with _rows_to(output, form, resume):
            return
    predictor = _predictor(model, device, dtype, trust_checkpoint, accept_license, batch_size)
    if resume and output:
        clips = not_done(clips, output, predictor.model.sha256)
    failed = 0
    # Where rows go to the terminal themselves, they show how far it is; a bar would run into them.
    bar = 0 if output is None and sys.stdout.isatty() else len(clips)
    with predictor, _rows_to(output, form, resume) as write, progress(notes, "scoring", bar) as advance:
        for number, scores in enumerate(predictor.stream(clips, segments=segments), start=1):
            write(scores)
            failed += scores.error is not None
            advance(number)
    if failed:
        notes.print(f"mmmos: {failed} of {len(clips)} clips could not be scored; their rows say why")
        raise typer.Exit(1)


@app.command()
def train(
    manifest: Annotated[
        Path, typer.Argument(help="Labelled clips: CSV or JSONL with a path and any of CE, CU, PC, PQ.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new model; the same call resumes it.")],
    dev: Annotated[
        Path | None, typer.Option(help="Labelled clips to stop on; if not given, a share of MANIFEST.")
    ] = None,
    dev_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of MANIFEST held out to stop on; no group is split.")
    ] = 0.2,
    encoders: Annotated[
        str, typer.Option(help="Names, comma-separated; NAME=PATH for a checkpoint.")
    ] = "distillmos,musicnn",
    cache: Annotated[Path | None, typer.Option(help="Where features are kept; OUTPUT/cache if not given.")] = None,
    loss: Annotated[Literal["con", "ut", "dcq", "ccc"], typer.Option(help="Training loss.")] = "ut",
    other_loss: Annotated[
        Literal["con", "ut", "dcq", "ccc"], typer.Option(help="Loss of rows of sets other than --main-set.")
    ] = "con",
    main_set: Annotated[str, typer.Option(help="Value of the column `set` whose scale the scores are on.")] = "",
    pool: Annotated[Literal["mean", "mean_std"], typer.Option(help="Statistics over time.")] = "mean_std",
    embed_norm: Annotated[
        Literal["l2", "none", "layernorm"], typer.Option(help="How each encoder's vector is normalised.")
    ] = "none",
    standardize: Annotated[bool, typer.Option(help="z-score the pooled values on the training rows.")] = True,
    head_layers: Annotated[int, typer.Option(min=1, help="Layers of each head.")] = 1,
    hidden: Annotated[int | None, typer.Option(min=1, help="Width of a head's layers before the last.")] = None,
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="Before each layer of a head.")] = 0.0,
    lr: Annotated[float, typer.Option(min=0, help="Learning rate of AdamW.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(min=0, help="Weight decay of AdamW.")] = 0.1,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips of a training step.")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs.")] = 300,
    patience: Annotated[
        int, typer.Option(min=1, help="Epochs without a better development loss before it stops.")
    ] = 20,
    seed: Annotated[int, typer.Option(help="Of the split, the weights and the order of clips.")] = 42,
    device: DeviceOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    data_root: DataRoot = None,
) -> None:
    """Train a model on human labels, each clip encoded once."""
    from mmmos.aggregators import FusionConfig
    from mmmos.fitting import Trust, train_folder
    from mmmos.heads import HeadConfig
    from mmmos.manifest import read_labels, split_groups
    from mmmos.train import TrainConfig

    rows = read_labels(manifest, data_root)
    parts = (rows, read_labels(dev, data_root)) if dev else split_groups(rows, dev_share, seed)
    how = TrainConfig(
        loss=loss,
        other_loss=other_loss,
        main_set=main_set,
        lr=lr,
        weight_decay=weight_decay,
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        seed=seed,
    )
    with progress(notes, "encoding", len(rows)) as advance:
        result = train_folder(
            output,
            parts[0],
            parts[1],
            encoders.split(","),
            FusionConfig(pool, embed_norm, standardize),
            HeadConfig(head_layers, hidden, dropout),
            how,
            cache or output / "cache",
            note=lambda line: notes.print(f"mmmos: {line}"),
            encoded=lambda done, _: advance(done),
            trust=Trust(device, trust_checkpoint, tuple(accept_license)),
        )
    print(json.dumps(asdict(result), allow_nan=False))


@app.command()
def evaluate(
    manifest: Annotated[Path, typer.Argument(help="Labelled clips.")],
    model: ModelOption = "lite",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the figures here, as JSON.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    data_root: DataRoot = None,
) -> None:
    """Compare a model's scores with human labels: MSE, LCC, SRCC, KTAU, bias, with intervals."""
    from mmmos.evaluate import evaluate as agreement
    from mmmos.manifest import read_labels, shortened, split_present

    rows, missing = split_present(read_labels(manifest, data_root))
    if missing:
        notes.print(f"mmmos: {len(missing)} listed clips are missing and left out: {shortened(missing)}")
    if not rows:
        raise UsageError(f"{manifest}: none of the {len(missing)} listed clips is there")
    if output and not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}")
    predictor = _predictor(model, device, dtype, trust_checkpoint, accept_license)
    scores = []
    with predictor, progress(notes, "scoring", len(rows)) as advance:
        for number, item in enumerate(predictor.stream(row.clip for row in rows), start=1):
            scores.append(item)
            advance(number)
    found = agreement(rows, scores)
    unscored = sum(math.isnan(item.PQ) for item in scores)
    figures = {"model": model, "manifest": str(manifest), "clips": len(rows), "missing": missing, "unscored": unscored}
    figures["agreement"] = [part.to_json() for part in found]
    if output:
        output.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    elif sys.stdout.isatty():
        print(agreement_table(found))
    else:
        print(json.dumps(figures, allow_nan=False))
    if unscored:
        notes.print(f"mmmos: {unscored} of {len(rows)} clips have no score and were left out")


@app.command()
def doctor() -> None:
    """Check this installation, and that the bundled model gives the scores it should."""
    from mmmos.doctor import examine

    healthy = True
    for check in examine():
        print(f"{'ok ' if check.ok else 'BAD'}  {check.name:<18} {check.finding}")
        healthy &= check.ok
    raise typer.Exit(0 if healthy else 3)


@app.command()
def licenses() -> None:
    """List the licences of all weights, bundled or downloaded, and of the data they learned from."""
    from mmmos.licenses import LICENSES

    for item in LICENSES:
        print(f"{item.name}\n    {item.license}\n    commercial use: {item.commercial_use}")
        print(f"    {item.note}\n    {item.source}")


def main() -> None:
    """Entry point: runs a command and turns every expected error into one line and an exit status."""
    # Threads that wait for each other should sleep: spinning, they double the time where another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        app()  # leaves by SystemExit: 0, the status of a typer.Exit, or 2 for wrong usage
    except MmmosError as error:
        notes.print(f"mmmos: {error}")
        sys.exit(error.exit_status)
    except OSError as error:  # a disk that is full, a folder that cannot be written
        notes.print(f"mmmos: {error}")
        sys.exit(3)


def _stop(number: int, frame: Any) -> None:
    how = "interrupted" if number == signal.SIGINT else "terminated"
    notes.print(f"mmmos: {how}; score -o OUTPUT.jsonl --resume and train go on from what is written")
    sys.exit(128 + number)


def _predictor(
    model: str,
    device: str,
    dtype: Any,
    trust_checkpoint: bool,
    accept_licenses: list[str],
    batch_size: int | None = None,
) -> Predictor:
    from mmmos.predictor import from_pretrained

    predictor = from_pretrained(
        model,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        trust_checkpoint=trust_checkpoint,
        accept_licenses=tuple(accept_licenses),
    )
    if not predictor.provenance.calibrated:
        notes.print(
            f"mmmos: scores are from {model!r}, which is not calibrated: compare clips of one kind, see its card"
        )
    return predictor


@contextmanager
def _rows_to(
    output: Path | None, form: Literal["mmmos", "audiobox"], append: bool
) -> Iterator[Callable[[Scores], None]]:
    """Where rows go: a file, a table on a terminal, or JSONL into a pipe."""
    from mmmos.rows import open_rows

    if output is None and form == "mmmos" and sys.stdout.isatty():
        yield score_table(sys.stdout, Console().width)
        return
    try:
        with open_rows(output or sys.stdout, form, append) as write:
            yield write
    except BrokenPipeError:  # `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None
