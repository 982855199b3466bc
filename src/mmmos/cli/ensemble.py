"""`mmmos ensemble`: one model of several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mmmos.cli.console import ConsoleProgress, stderr
from mmmos.cli.evaluate import write_report
from mmmos.cli.options import (
    AcceptOption,
    DataRoot,
    DeviceOption,
    DtypeOption,
    OverwriteOption,
    StrictOption,
    TrustOption,
    check_folder,
)
from mmmos.errors import UsageError
from mmmos.hub.options import LoadOptions
from mmmos.io.named_paths import split_name


def ensemble(
    models: Annotated[
        list[str],
        typer.Argument(help="Model folders, hub ids or lite; NAME=MODEL for another name than the folder's."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the ensemble.")],
    strategy: Annotated[
        str,
        typer.Option(help="all (equal weights), dev_top_8, pam_top_8, pam_top_4, pam_top_1 or submitted."),
    ] = "all",
    dev: Annotated[
        Path | None, typer.Option(help="Rated clips that none of the models was trained on, to choose by.")
    ] = None,
    pam: Annotated[
        Path | None, typer.Option(help="Rated clips for the strategies that choose on PAM; --dev if not given.")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Of submitted: paper_checkmarks (by the models' names), rule_12_12 or rule_11_12.")
    ] = "paper_checkmarks",
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    data_root: DataRoot = None,
) -> None:
    """Combine models into one model folder.

    Scores of the ensemble are the weighted means of its models' scores. The strategies are those of the MMMOS paper
    (Table IV): they rank the models by the SRCC of the mean of the four axes on rated clips, and give the chosen ones
    equal weights. Models must be of the same encoders and rating scale. A window is encoded once for all of them.
    """
    from mmmos.data.corpora import read_reported
    from mmmos.report.text import ensemble_table
    from mmmos.training.ensembles import make_ensemble

    named = _named(models)
    check_folder(output, [*named.values(), dev, pam])
    if output.exists() and any(output.iterdir()) and not overwrite:
        raise UsageError(f"{output} exists and is not empty; add --overwrite to replace the model in it")
    lists = {name: read_reported(path, strict, data_root)[0] for name, path in (("dev", dev), ("pam", pam)) if path}
    options = LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license))
    with ConsoleProgress(stderr) as progress:
        made = make_ensemble(output, named, strategy, options, lists=lists, rule=rule, progress=progress)
    write_report(made.to_json(), ensemble_table(made.weights, made.figures), None)


def _named(models: list[str]) -> dict[str, str]:
    """Models by their names. Raises `UsageError` for two with the same name.

    >>> _named(["runs/a/", "BiEnc MLP UT=runs/b"])
    {'a': 'runs/a/', 'BiEnc MLP UT': 'runs/b'}
    """
    found: dict[str, str] = {}
    for model in models:
        name, path = split_name(model)
        name = name or os.path.basename(os.path.normpath(path))
        if name in found:
            raise UsageError(f"two models are called {name}: {found[name]} and {path}; give NAME=MODEL")
        found[name] = path
    return found
