"""`mmmos push`: publish a model folder on a hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder, as `mmmos train` writes it.")],
    repository: Annotated[str, typer.Argument(metavar="REPO", help="user/name on the hub, created if there is none.")],
    license_name: Annotated[
        str, typer.Option("--license", metavar="NAME", help="The model's licence by the hub's name, as cc-by-nc-4.0.")
    ],
    private: Annotated[bool, typer.Option("--private", help="A repository that is created is private.")] = False,
    revision: Annotated[str | None, typer.Option(help="An existing branch; main by default.")] = None,
    token: Annotated[
        str | None, typer.Option(envvar="HF_TOKEN", help="By default the one of `hf auth login`.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and print the card only.")] = False,
) -> None:
    """Publish a model on a hub, with a card.

    Refuses licences that those of the encoders or of lite forbid. Encoders are not uploaded. Prints the address of the
    commit; `mmmos score --model REPO` uses the model.
    """
    from mmmos.model.push import card_of, push_to_hub

    if dry_run:
        print(card_of(folder, repository, license_name), end="")
        return
    url = push_to_hub(folder, repository, license=license_name, private=private, revision=revision, token=token)
    print(json.dumps({"commit": url}))
