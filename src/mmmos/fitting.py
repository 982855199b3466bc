"""From labelled clips to a model folder: encode, fit, check, save. What `mmmos train` does."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mmmos.aggregators import AGGREGATORS
from mmmos.cache import FeatureCache, Keep
from mmmos.crops import How
from mmmos.dataset import Extractor, Planned, Progress, Table, name_of
from mmmos.encoders import Encoder, load_encoder
from mmmos.encoders.device import pick_device
from mmmos.errors import UsageError
from mmmos.history import CHECKPOINT, Epoch, best_epoch
from mmmos.hub import About, Member, ScoringModel, save_model
from mmmos.manifest import LabelledClip, check_disjoint, shortened, split_present
from mmmos.model import EncoderSpec, ModelConfig
from mmmos.models import MODELS
from mmmos.scores import AXES
from mmmos.selfcheck import check_scores
from mmmos.settings import Settings
from mmmos.train import fit

Note = Callable[[str], None]
"""Called with one line for the user."""


OURS = (CHECKPOINT, "cache", "config.json")
"""What tells a folder of a training run from others."""


def _silent(*_: Any) -> None:
    """No note, no progress."""


@dataclass(frozen=True)
class EncoderSource:
    """Which encoders, where their weights may come from, and what they run on."""

    names: tuple[str, ...]  # keys of `ENCODERS`, or NAME=PATH for one whose checkpoint lies at the path
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    trust_checkpoint: bool = False  # whether a pickle of unknown origin is read
    accept_licenses: tuple[str, ...] = ()


class Listener:
    """Encoders loaded once for all that is trained on them, and the clips that they have heard."""

    def __init__(self, source: EncoderSource, settings: Settings, cache: Path, keep: Keep = "frames") -> None:
        device = pick_device(source.device)
        places = {name: place for name, _, place in (word.partition("=") for word in source.names)}
        self.encoders: dict[str, Encoder] = {}
        for name, place in places.items():
            options = settings.encoder_options(name)
            encoder = load_encoder(name, place or None, source.trust_checkpoint, source.accept_licenses, **options)
            self.encoders[name] = encoder.to(device)
        self.extractor = Extractor(self.encoders, FeatureCache(cache, keep), getattr(torch, source.dtype))
        self._specs = {
            name: EncoderSpec(
                name,
                encoder.columns,
                self.extractor.fingerprints[name],
                encoder.settings(),
                str(Path(places[name]).resolve()) if places[name] else None,
            )
            for name, encoder in self.encoders.items()
        }

    def config(self, settings: Settings, encoders: Sequence[str] | None = None) -> ModelConfig:
        """A model on these encoders, in their order; on all of them if none are named."""
        names = tuple(encoders or self._specs)
        specs = tuple(self._specs[name] for name in names)
        return ModelConfig(specs, settings.aggregator, settings.fusion(names), settings.heads())

    def hear(
        self,
        rows: Sequence[LabelledClip],
        how: How,
        count: int = 1,
        seed: int = 0,
        note: Note = _silent,
        progress: Progress = _silent,
    ) -> tuple[list[Planned], list[str]]:
        """Plan and encode the clips. Returns the plans, and what is left out: paths that are missing, ids that failed.

        Raises `UsageError` before anything is encoded if the disk has no room for the features.
        """
        present, missing = split_present(rows)
        if missing:
            note(f"{len(missing)} of {len(rows)} listed clips are missing: {shortened(missing)}")
        plans, unopened = self.extractor.plan(present, how, count, seed)
        self._make_room(plans, note)
        failed = unopened | self.extractor.extract(plans, progress)
        for name, reason in failed.items():
            note(f"{name} is left out: {reason}")
        return [plan for plan in plans if name_of(plan.row.clip) not in failed], [*missing, *failed]

    def table(self, plans: Sequence[Planned], config: ModelConfig) -> Table:
        """The clips as that model is trained on them."""
        columns = {spec.name: spec.columns for spec in config.encoders}
        return self.extractor.table(plans, AGGREGATORS[config.aggregator](columns, config.fusion))

    def _make_room(self, plans: Sequence[Planned], note: Note) -> None:
        root = self.extractor.cache.root
        size = self.extractor.size(plans)
        place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
        free = shutil.disk_usage(place).free
        if size > 1 << 20:
            crops = sum(len(plan.crops) for plan in plans)
            note(f"encoding {crops} crops of {len(plans)} clips, about {_bytes(size)} in {root}")
        if size > free:
            raise UsageError(f"features would take {_bytes(size)} in {root}, where {_bytes(free)} are free")


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
    source: EncoderSource,
    settings: Settings,
    cache: Path,
    *,
    seed: int = 42,
    main_set: str = "",
    note: Note = _silent,
    encoded: Progress = _silent,
    epoch_done: Callable[[Epoch], None] = _silent,
) -> Fitted:
    """Train one model on clips with human labels and save it as a folder.

    Broken off and called again, it goes on where it was: features are in `cache`, epochs in `folder`.
    Clips that are missing or cannot be decoded are left out, noted and listed. Raises
    `ModelNotFoundError`, `TrainingError`, `UsageError`.
    """
    if str(folder) in MODELS:
        raise UsageError(f"{folder} is the name of a model that comes with mmmos; call yours otherwise")
    check_disjoint(train, dev)
    for part, rows in (("training", train), ("development", dev)):
        if not any(row.set == main_set for row in rows):
            sets = ", ".join(sorted({repr(row.set) for row in rows})) or "none at all"
            raise UsageError(f"no {part} row is of the main set {main_set!r}; there are rows of {sets} (--main-set)")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in OURS):
        raise UsageError(f"{folder} holds other files; give a new folder")
    listener = Listener(source, settings, cache, "frames" if settings.aggregator == "blstm_t" else "pooled")
    config = listener.config(settings)
    total = len(train) + len(dev)
    heard, missed = listener.hear(
        train, settings.train_crop, settings.epochs, seed, note, lambda done, _: encoded(done, total)
    )
    dev_heard, dev_missed = listener.hear(
        dev, settings.eval_crop, 1, seed, note, lambda done, _: encoded(len(train) + done, total)
    )
    parts = listener.table(heard, config), listener.table(dev_heard, config)
    how = settings.training(seed, main_set)
    member, history = fit(config, parts[0], parts[1], how, folder, epoch_done)
    best = best_epoch(history)
    counts = len(parts[0].rows), len(parts[1].rows)
    result = Fitted(str(folder), len(history), best.epoch, *counts, best.dev_srcc, [*missed, *dev_missed])
    training: dict[str, Any] = {"settings": asdict(settings) | {"seed": seed, "main_set": main_set}}
    training |= {"train": count_sets(parts[0]), "dev": count_sets(parts[1])}
    training |= {"best_epoch": best.epoch, "dev_srcc": best.dev_srcc}
    about = About(training=training, rated=rated_axes(parts[0]), clip_output=settings.clip_output)
    save_checked(folder, member, about, _card(folder.name, result, training), listener.encoders)
    return result


def save_checked(folder: Path, member: Member, about: About, card: str, encoders: Mapping[str, Encoder]) -> None:
    """Save a model with its own scores of the check clip in its config."""
    model = ScoringModel(folder.name, (member,), np.ones((1, len(AXES))), about, "", encoders)
    save_model(folder, member, replace(about, check=check_scores(model)), card)


def rated_axes(table: Table) -> tuple[str, ...]:
    """The axes that a table has labels of."""
    return tuple(axis for axis, known in zip(AXES, table.labels.isfinite().any(dim=0).tolist(), strict=True) if known)


def count_sets(table: Table) -> dict[str, Any]:
    """How many clips and labels of each set a table has."""
    clips = Counter(row.set for row in table.rows)
    labels = {axis: int(table.labels[:, i].isfinite().sum()) for i, axis in enumerate(AXES)}
    return {"clips": dict(sorted(clips.items())), "labels": labels}


def _bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


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
