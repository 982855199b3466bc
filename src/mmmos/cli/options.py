"""What several commands share: their options, checks of outputs, and a model opened as the options say."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmmos.errors import UsageError
from mmmos.hub.options import LoadOptions
from mmmos.io.atomic import check_parent
from mmmos.io.named_paths import split_name

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.inference.predictor import Predictor
    from mmmos.inference.several import Predictors
    from mmmos.scores import Scores


logger = logging.getLogger(__name__)


ModelOption = Annotated[
    str, typer.Option("--model", help="lite (bundled), audiobox (the published baseline), a model folder, or a hub id.")
]
ModelsOption = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="lite (bundled), audiobox (the published baseline), a model folder, or a hub id; again for another model"
        " whose columns begin with its name, or NAME=MODEL.",
    ),
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
ScoringDtypeOption = Annotated[
    Literal["auto", "float32", "bfloat16", "int8"],
    typer.Option(help="Precision of the encoders; int8 needs mmmos doctor --precision."),
]
BackendOption = Annotated[
    Literal["auto", "torch", "openvino"],
    typer.Option(help="What runs the encoders; auto is torch, and openvino (mmmos[fast]) for int8."),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        help="Start of relative paths in a list, and of /your_path/ (else MMMOS_DATA).",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an output file that exists.")]

StrictOption = Annotated[bool, typer.Option("--strict", help="End with status 2 at a bad row of a list.")]


def check_output(path: str | Path, inputs: Iterable[str | Path | None] = (), overwrite: bool = False) -> None:
    """Raise `UsageError` where writing a file at `path` would destroy something, or cannot work.

    `inputs` are the files that the command reads, and folders of such files; None stands for an option that was not
    given. None of them is ever an output, also through a link, and neither is the file that standard output or standard
    error goes to. Another existing file is replaced only if `overwrite`. Devices and pipes, such as /dev/stdout, always
    pass.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file")
    check_parent(path)
    if not path.is_file():
        return
    for name in _files_of(inputs):
        if os.path.exists(name) and os.path.samefile(name, path):
            same = "" if name == os.fspath(path) else f" (the same file as {name})"
            raise UsageError(f"{path} is an input{same}; write the output to another file")
    for name, descriptor in (("standard output", 1), ("standard error", 2)):
        with suppress(OSError):  # a closed descriptor
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                raise UsageError(f"{path} is where {name} goes; write the output to another file")
    if not overwrite:
        raise UsageError(f"{path} exists; add --overwrite to replace it, or name another file")


def _files_of(inputs: Iterable[str | Path | None]) -> Iterator[str]:
    """The inputs that are given, and the files below those that are folders."""
    for name in inputs:
        if name is None:
            continue
        yield os.fspath(name)
        for folder, _, files in os.walk(name):  # nothing where it is a file
            yield from (os.path.join(folder, file) for file in files)


def check_folder(folder: Path, inputs: Iterable[str | Path | None]) -> None:
    """Raise `UsageError` where a folder that a command fills is a file, or where one of its inputs lies in it."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a new folder")
    if not folder.is_dir():
        return
    root = folder.resolve()
    for name in inputs:
        if name is not None and root in Path(name).resolve().parents:
            raise UsageError(f"{name} is an input and lies in the output folder {folder}; name a new folder")


def open_predictor(model: str, options: LoadOptions, batch_size: int | None = None) -> Predictor:
    """The model that the options name, with a warning if it is not calibrated."""
    from mmmos.inference import predictor as inference

    predictor = inference.open_predictor(model, options, batch_size)
    if not predictor.provenance.calibrated:
        warn_uncalibrated(model)
    return predictor


def score_clips(predictor: Predictor, clips: Sequence[Clip]) -> list[Scores]:
    """The scores of clips, with a progress bar."""
    from mmmos.cli.console import ConsoleProgress, stderr

    with ConsoleProgress(stderr) as progress:
        progress.start("scoring", len(clips))
        return list(predictor.stream(clips, progress=progress))


def columns_of(models: Sequence[str]) -> dict[str, str]:
    """The models after the first, by the start of their columns: `NAME=MODEL`, or the end of the model's name.

    Raises `UsageError` for two models with the same start.

    >>> columns_of(["lite", "audiobox", "runs/my-model/", "old=runs/v1"])
    {'audiobox': 'audiobox', 'my_model': 'runs/my-model/', 'old': 'runs/v1'}
    """
    found: dict[str, str] = {}
    for model in models[1:]:
        start, path = split_name(model)
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", start):
            model = path
        else:
            start = re.sub(r"\W+", "_", os.path.basename(os.path.normpath(model)), flags=re.ASCII).strip("_")
        if not start or start in found:
            raise UsageError(f"--model {model}: another model's columns begin with {start!r}; give NAME=MODEL")
        found[start] = model
    return found


def open_predictors(
    model: str, others: Mapping[str, str], options: LoadOptions, batch_size: int | None = None
) -> Predictors:
    """The models of several --model, `others` by the start of their columns, with a warning for each as above.

    The decoder's process starts first: it loads its libraries while this process loads torch and the models.
    """
    from mmmos.audio.decoder import SequentialDecoder

    decoder = SequentialDecoder()
    decoder.start()
    try:
        from mmmos.inference.several import Predictors  # imports torch

        predictors = Predictors.open(model, others, options, batch_size, decoder)
    except BaseException:
        decoder.close()
        raise
    for name, predictor in ((model, predictors.first), *((others[key], one) for key, one in predictors.others.items())):
        if not predictor.provenance.calibrated:
            warn_uncalibrated(name)
    return predictors


def warn_uncalibrated(model: str) -> None:
    """Warn that a model's scores were not checked against raters outside its training data."""
    logger.warning("scores are from %r, which is not calibrated: compare clips of one kind, see its card", model)
