"""The settings that determine a model, with the names that experiments and `mmmos train` use.

Where the paper leaves a choice open or its published code differs from it, there is a setting. The defaults are the
preset `paper`; `PRESETS` has the other presets.
"""

from __future__ import annotations

import inspect
import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from mmmos.encoders.base import EncoderSpec
from mmmos.errors import UsageError
from mmmos.features.crops import CropMode
from mmmos.losses import LOSSES, CccMoments, ConNorm, DcqRank, LossName
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig, HeadSettings
from mmmos.model.quality import ModelConfig


@dataclass(frozen=True)
class Settings(HeadSettings, FusionConfig):
    """A configuration without its data and encoders. Encoders are always frozen and in evaluation mode.

    Settings of the fusion and of the heads are declared in `FusionConfig` and `HeadSettings`, which are stored in the
    model; all others are declared here.
    """

    # Features
    muq_sample_rate: Literal[24000, 16000] = 24000  # Hz; at 16000 MuQ's input plays 1.5 times too fast
    muq_via_16k: bool = False  # resample MuQ's audio to 16 kHz and back: no content above 8 kHz, same speed
    pad_mask: bool = True  # False: pad clips under 10 s with silence, which counts as audio
    train_crop: CropMode = "random"  # of clips over 10 s: a random crop per epoch, windows in turn, or the first 10 s
    eval_crop: CropMode = "windows"  # the same in evaluation, where a clip's score is the mean over its windows

    # Fusion
    aggregator: Literal["mlp", "blstm_h", "blstm_t"] = "mlp"  # on pooled vectors, an LSTM on them, or one on frames

    # Loss, on labels in z units
    loss: LossName = "ut"  # of rows of the primary dataset
    ut_tau: float = 0.25  # errors up to this are ignored; 0.5 in the published code
    con_norm: ConNorm = "offdiag"  # mean over pairs of different clips, or as in UTMOS's code
    con_margin: float = 0.1  # errors of a difference up to this are ignored
    dcq_mse_weight: float = 0.0  # weight of an added squared error; at 0 the loss ignores an offset
    dcq_rank: DcqRank = "linear"  # reward correct order without limit, or only penalise wrong order
    ccc_moments: CccMoments = "population"  # divide by n, or variances by n - 1
    other_loss: LossName = "con"  # of rows of other sets

    # Training
    lr: float = 1e-4  # of AdamW
    weight_decay: float = 0.0  # decoupled
    batch_size: int | None = None  # 32 for mlp, 16 for the others
    epochs: int = 10  # at the most
    early_stop_patience: int | None = 1  # epochs without a better development loss; None: run all epochs
    val_loss: Literal["full_set", "batch_mean"] = "full_set"  # on all development clips at once, or by batch
    dev_target_stats: Literal["train", "own"] = "train"  # whose mean and std standardise development labels
    offset_calibration: Literal["none", "train_mean"] = "none"  # train_mean: shift scores to the training clips' mean
    clip_output: bool = False  # clip predictions to 0-10
    precision: Literal["float32", "bfloat16"] = "float32"  # of training; for encoders use --dtype

    def model(self, encoders: Sequence[EncoderSpec]) -> ModelConfig:
        """The config of a model with these encoders, in this order."""
        names = tuple(spec.name for spec in encoders)
        return ModelConfig(tuple(encoders), self.aggregator, self.fusion(names), self.heads())

    def fusion(self, encoders: Collection[str] = ("wavlm",)) -> FusionConfig:
        """The settings of the fusion for these encoders."""
        own = {item.name: getattr(self, item.name) for item in fields(FusionConfig)}
        return FusionConfig(**own if "wavlm" in encoders else own | {"wavlm_output": "last"})

    def heads(self) -> HeadConfig:
        """The shape of the heads."""
        return HeadConfig(**{item.name: getattr(self, item.name) for item in fields(HeadSettings)})

    def loss_options(self, name: LossName) -> dict[str, Any]:
        """The settings that a loss of `LOSSES` reads."""
        return {option: getattr(self, option) for option in LOSS_OPTIONS[name]}

    def encoder_options(self, name: str) -> dict[str, Any]:
        """Arguments of `load_encoder` for an encoder."""
        options: dict[str, Any] = {} if self.pad_mask else {"pad_silence": 10.0}
        if name == "wavlm" and self.wavlm_output != "last":
            options["layers"] = "all"
        if name == "muq" and self.muq_sample_rate != 24000:
            options["muq_sample_rate"] = self.muq_sample_rate
        if name == "muq" and self.muq_via_16k:
            options["muq_via_16k"] = True
        return options

    def replace(self, values: Mapping[str, Any]) -> Settings:
        """A copy with these values; "none" means None, which TOML does not have.

        Raises `UsageError` for an unknown name or value.
        """
        kinds = _kinds()
        if unknown := set(values) - set(kinds):
            raise UsageError(f"no setting is called {', '.join(sorted(unknown))}; there are {', '.join(kinds)}")
        values = {name: None if _is_none(value, kinds[name]) else value for name, value in values.items()}
        for name, value in values.items():
            if not _fits(value, kinds[name]):
                raise UsageError(f"{name} cannot be {value!r}; it is {_words(kinds[name])}")
        given: dict[str, Any] = {name: float(v) if kinds[name] is float else v for name, v in values.items()}
        try:
            made = replace(self, **given)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if made.wavlm_output == "weighted_per_axis" and made.aggregator != "mlp":
            raise UsageError(f"wavlm_output weighted_per_axis is for the aggregator mlp, not {made.aggregator}")
        if made.muq_via_16k and made.muq_sample_rate != 24000:
            raise UsageError(f"muq_via_16k is for muq_sample_rate 24000, not {made.muq_sample_rate}: set one of them")
        if made.dropout >= 1:
            raise UsageError(f"dropout must be below 1, not {made.dropout}")
        return made


@cache
def _kinds() -> dict[str, Any]:
    """The type of each setting."""
    return get_type_hints(Settings)


LOSS_OPTIONS = {name: tuple(inspect.getfullargspec(loss).kwonlyargs) for name, loss in LOSSES.items()}
"""The settings that each loss reads, by its name."""

PAPER = Settings()
PRESETS: dict[str, Settings] = {
    "paper": PAPER,
    # As in the published script, except that it fine-tunes MuQ and M2D: here they are frozen, as in the paper.
    "official_code": replace(
        PAPER,
        muq_sample_rate=16000,
        wavlm_output="weighted_shared",
        pad_mask=False,
        eval_crop="random",
        ut_tau=0.5,
        ccc_moments="mixed",
        dev_target_stats="own",
        val_loss="batch_mean",
        early_stop_patience=None,
    ),
    # Our own: features on one scale, a rate and a patience that let linear heads converge, all windows in training,
    # and losses that depend on both the order and the offset. dev/LOG.md has the gain from each of these.
    "best": replace(
        PAPER,
        train_crop="windows",
        pool="mean_std",
        embed_norm="none",
        frame_norm="none",
        standardize=True,
        dcq_mse_weight=1.0,
        dcq_rank="hinge",
        lr=1e-3,
        weight_decay=0.1,
        epochs=60,
        early_stop_patience=8,
        offset_calibration="train_mean",
    ),
    # For a few hundred clips of the user's own.
    "small": replace(
        PAPER,
        train_crop="windows",
        pool="mean_std",
        embed_norm="none",
        standardize=True,
        lr=1e-3,
        weight_decay=0.1,
        batch_size=32,
        epochs=300,
        early_stop_patience=20,
    ),
}
"""Presets by name."""


def get_preset(name: str) -> Settings:
    """The settings of that name. Raises `UsageError`."""
    if name not in PRESETS:
        raise UsageError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def parse_setting(text: str) -> tuple[str, Any]:
    """Parse `NAME=VALUE`: values as in TOML, words without quotes, `none` for None. Raises `UsageError`.

    >>> parse_setting("lr=1e-3"), parse_setting("loss=ccc"), parse_setting("early_stop_patience=none")
    (('lr', 0.001), ('loss', 'ccc'), ('early_stop_patience', None))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"a setting is NAME=VALUE, not {text!r}")
    if _is_none(value, _kinds().get(name)):
        return name, None
    try:
        return name, tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return name, value


def _is_none(value: Any, kind: Any) -> bool:
    return value == "none" and type(None) in get_args(kind)


def _fits(value: Any, kind: Any) -> bool:
    choices = get_args(kind)
    if not choices:
        if kind is bool or isinstance(value, bool):
            return kind is bool and isinstance(value, bool)
        numbers, least = ((int, float), 0) if kind is float else (int, 1)
        return isinstance(value, numbers) and least <= value < math.inf
    if type(None) in choices:
        return value is None or any(_fits(value, part) for part in choices if part is not type(None))
    return value in choices and not isinstance(value, bool)


def _words(kind: Any) -> str:
    choices = get_args(kind)
    if not choices:
        return {int: "a whole number above 0", float: "a number not below 0", bool: "true or false"}[kind]
    return " or ".join("none" if c is type(None) else _words(c) if isinstance(c, type) else str(c) for c in choices)
