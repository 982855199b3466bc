"""`mmmos.push_to_hub`: a model folder, with its card, to a repository of the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mmmos.encoders.torch_settings import building
from mmmos.errors import ModelFormatError
from mmmos.hub.push import upload
from mmmos.hub.terms import check_terms
from mmmos.model.card import hub_card
from mmmos.model.folder import load_folder
from mmmos.model.load import load_model
from mmmos.model.system import ScoringModel

CARD = "README.md"

FEWEST_WEIGHTS = 16
"""Of a tensor that is not equal to another by chance."""


def push_to_hub(
    folder: str | Path,
    repository: str,
    *,
    license: str,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Publish a model folder as `repository`, "user/name", created if there is none. Returns the commit's address.

    Only the model's own files are uploaded, in one commit, and a card with metadata that is made from them and from the
    folder's README.md. The folder stays as it is. `mmmos.from_pretrained(repository)` loads the model.

    - license: the hub's name of the model's licence, as "cc-by-nc-4.0"
    - private, revision, token: as in `mmmos.hub.push.upload`

    Raises `LicenseError` if the licences of the encoders or of lite forbid the licence or the publication,
    `ModelNotFoundError` and `ModelFormatError` for a folder that others could not load, and `UsageError` if the hub
    refuses.
    """
    folder = Path(folder)
    card = card_of(folder, repository, license)
    files: dict[str, Path | bytes] = {str(path.relative_to(folder)): path for path in model_files(folder)}
    files[CARD] = card.encode()
    return upload(repository, files, message="A model of MMMOS", private=private, revision=revision, token=token)


def card_of(folder: Path, repository: str, license_name: str) -> str:
    """The card that a folder would be published with. Raises as `push_to_hub`."""
    with building():
        model = load_folder(str(folder), folder)
    check_terms(license_name, [*(spec.name for spec in model.encoders), *["lite"] * has_weights_of_lite(model)])
    for spec in model.encoders:
        if spec.checkpoint:
            raise ModelFormatError(
                f"{folder}: its encoder {spec.name} was read from {spec.checkpoint}, which others do not have;"
                " train the model with the encoder by its name alone"
            )
    readme = folder / CARD
    text = readme.read_text(encoding="utf-8") if readme.is_file() else f"# {repository.rpartition('/')[2]}\n"
    return hub_card(repository, model, license_name, text)


def has_weights_of_lite(model: ScoringModel) -> bool:
    """Whether any weights are those of lite, as in models that `mmmos train` starts from its scores."""

    def states(one: ScoringModel) -> Iterator[dict[str, Tensor]]:
        return (member.model.state_dict() for member in one.members)

    own = list(states(model))
    return any(
        torch.equal(weight, state.get(name, weight[:0]))
        for lite in states(load_model("lite"))
        for name, weight in lite.items()
        for state in own
        if weight.numel() >= FEWEST_WEIGHTS
    )


def model_files(folder: Path) -> Iterator[Path]:
    """The files of a valid model folder that determine its scores."""
    ensemble = folder / "ensemble.json"
    members = [folder]
    if ensemble.is_file():
        yield ensemble
        members = [folder / name for name in json.loads(ensemble.read_text(encoding="utf-8"))["members"]]
    for member in members:
        yield from (member / "config.json", member / "model.safetensors")
