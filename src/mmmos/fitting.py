"""From labelled clips to a model folder: encode, fit, check, save. What `mmmos train` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmmos.aggregators import AGGREGATORS, FusionConfig
from mmmos.cache import FeatureCache
from mmmos.dataset import Progress, Table, extract, load_table
from mmmos.encoders import load_encoder
from mmmos.errors import UsageError
from mmmos.heads import HeadConfig
from mmmos.hub import About, Member, load_folder, save_model
from mmmos.manifest import LabelledClip, shortened, split_present
from mmmos.model import EncoderSpec, ModelConfig
from mmmos.models import MODELS, load_encoders
from mmmos.predictor import pick_device
from mmmos.scores import AXES
from mmmos.selfcheck import check_scores
from mmmos.train import Epoch, TrainConfig, best_epoch, fit


@dataclass(frozen=True)
class Trust:
    """Where encoders may come from, and where they run."""

    device: str = "auto"
    checkpoints: bool = False  # whether pickles of unknown origin are read
    licenses: tuple[str, ...] = ()  # accepted


@dataclass(frozen=True)
class Fitted:
    """What came of a training run."""

    folder: str
    epochs: int
    best_epoch: int
    train_clips: int
    dev_clips: int
    dev_srcc: dict[str, float | None]  # by axis, main set, at the best epoch
    left_out: list[str]  # paths of clips that are missing, ids of those that could not be decoded or are silent


def train_folder(
    folder: Path,
    train: Sequence[LabelledClip],
    dev: Sequence[LabelledClip],
    encoders: Sequence[str],
    fusion: FusionConfig,
    heads: HeadConfig,
    how: TrainConfig,
    cache: Path,
    note: Callable[[str], None] = lambda line: None,
    encoded: Progress = lambda done, total: None,
    epoch_done: Callable[[Epoch], None] = lambda epoch: None,
    trust: Trust | None = None,
) -> Fitted:
    """Train one model on clips with human labels and save it as a folder.

    Broken off and called again, it goes on where it was: features are in `cache`, epochs in `folder`.
    Clips that are missing or cannot be decoded are left out, noted and listed. Raises
    `ModelNotFoundError`, `TrainingError`, `UsageError`.
    """
    if str(folder) in MODELS:
        raise UsageError(f"{folder} is the name of a model that comes with mmmos; call yours otherwise")
    both = {row.clip for row in train} & {row.clip for row in dev}
    if both:
        raise UsageError(f"{len(both)} clips are in both training and development rows: {next(iter(both)).id} ...")
    table, config, left_out = encode_rows([*train, *dev], encoders, fusion, heads, cache, note, encoded, trust)
    usable = {id(row) for row in table.rows}
    parts = [table.take([row for row in part if id(row) in usable]) for part in (train, dev)]
    member, history = fit(config, parts[0], parts[1], how, folder, epoch_done)
    best = best_epoch(history)
    result = Fitted(
        str(folder), len(history), best.epoch, len(parts[0].rows), len(parts[1].rows), best.dev_srcc, left_out
    )
    training = {"settings": asdict(how), "train": count_sets(parts[0]), "dev": count_sets(parts[1])}
    about = About(training=training | {"best_epoch": best.epoch, "dev_srcc": best.dev_srcc})
    save_checked(folder, member, about, _card(folder.name, result, training), trust or Trust())
    return result


def encode_rows(
    rows: Sequence[LabelledClip],
    encoders: Sequence[str],
    fusion: FusionConfig,
    heads: HeadConfig,
    cache: Path,
    note: Callable[[str], None] = lambda line: None,
    encoded: Progress = lambda done, total: None,
    trust: Trust | None = None,
) -> tuple[Table, ModelConfig, list[str]]:
    """The rows as a table, the config of a model for it, and the ids that had to be left out.

    An encoder is a name of `ENCODERS`, or `NAME=PATH` for one whose checkpoint lies at the path.
    """
    present, missing = split_present(rows)
    if missing:
        note(f"{len(missing)} of {len(rows)} listed clips are missing: {shortened(missing)}")
    places = {name: place for name, _, place in (word.partition("=") for word in encoders)}
    trust = trust or Trust()
    networks = {
        name: load_encoder(name, place or None, trust.checkpoints, trust.licenses).to(pick_device(trust.device))
        for name, place in places.items()
    }
    specs = tuple(
        EncoderSpec(
            name,
            network.columns,
            network.fingerprint(),
            network.settings(),
            str(Path(places[name]).resolve()) if places[name] else None,
        )
        for name, network in networks.items()
    )
    config = ModelConfig(specs, "mlp", fusion, heads)
    store = FeatureCache(cache)
    failed = extract(present, networks, store, encoded)
    for name, reason in failed.items():
        note(f"{name} is left out: {reason}")
    aggregator = AGGREGATORS[config.aggregator]({name: network.columns for name, network in networks.items()}, fusion)
    return load_table(present, networks, store, aggregator), config, [*missing, *failed]


def save_checked(folder: Path, member: Member, about: About, card: str, trust: Trust) -> None:
    """Save a model with its own scores of the check clip in its config."""
    save_model(folder, member, about, card)
    model = load_folder(folder.name, folder)
    scores = check_scores(replace(model, loaded=load_encoders(model, trust.checkpoints, trust.licenses)))
    save_model(folder, member, replace(about, check=scores), card)


def count_sets(table: Table) -> dict[str, Any]:
    """How many clips and labels of each set a table has."""
    clips = Counter(row.set for row in table.rows)
    labels = {axis: int(table.labels[:, i].isfinite().sum()) for i, axis in enumerate(AXES)}
    return {"clips": dict(sorted(clips.items())), "labels": labels}


def _card(name: str, result: Fitted, training: dict[str, Any]) -> str:
    srcc = ", ".join(f"{axis} {value}" for axis, value in result.dev_srcc.items() if value is not None) or "undefined"
    labels = ", ".join(f"{count} {axis}" for axis, count in training["train"]["labels"].items() if count)
    return (
        f"# {name}\n\nA model of MMMOS: production quality (PQ) and complexity (PC), content enjoyment (CE) and\n"
        f"usefulness (CU) of audio, 0-10.\n\n- Trained on {result.train_clips} clips with {labels} labels.\n"
        f"- Stopped on {result.dev_clips} other clips, at epoch {result.best_epoch} of {result.epochs}. Their SRCC,"
        f" flattered because they chose the epoch: {srcc}.\n- Not calibrated. Mind the licences of your data and of"
        " the encoders before any commercial use.\n"
    )
