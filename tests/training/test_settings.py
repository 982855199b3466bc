"""Settings: what presets stand for, what is refused, and that no setting is left unread."""

from __future__ import annotations

import inspect
import re
import tomllib
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from mmmos.cli.train import train
from mmmos.encoders.base import EncoderSpec
from mmmos.errors import UsageError
from mmmos.experiments.config import Ensembles, find_experiment, read_experiment
from mmmos.experiments.sets import CHOICES
from mmmos.losses import LOSSES, LossName
from mmmos.model.aggregators import AGGREGATORS
from mmmos.model.quality import ModelConfig, build_model
from mmmos.training.config import TrainConfig
from mmmos.training.settings import LOSS_OPTIONS, PAPER, PRESETS, Settings, get_preset, parse_setting

KINDS = get_type_hints(Settings)
NAMES = [field.name for field in fields(Settings)]
SPECS = {"wavlm": (4,), "muq": (5,), "m2d": (6,)}
ELSEWHERE = {"train_crop", "eval_crop", "clip_output"}
"""Read where clips are planned and where predictions are made."""


def reached(settings: Settings) -> Any:
    """All that a model is made and trained from."""
    options = [settings.encoder_options(name) for name in SPECS]
    return settings.fusion(), settings.heads(), TrainConfig(settings).stable_dict(), options


def other_values(name: str) -> list[Any]:
    """Values of a setting that are not the paper's."""
    kind = KINDS[name]
    if get_origin(kind) is Literal:
        values = list(get_args(kind))
    else:
        known: dict[type, list[Any]] = {int: [2, 3], float: [0.125, 5.5], bool: [True, False], type(None): [None]}
        values = [value for part in get_args(kind) or (kind,) for value in known[part]]
        values = [0.125] if name == "dropout" else values
    return [value for value in values if value != getattr(PAPER, name)]


def as_text(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_loss_names_and_defaults_are_those_of_the_losses() -> None:
    assert set(get_args(LossName)) == set(LOSSES)
    for loss in LOSSES.values():
        defaults = inspect.getfullargspec(loss).kwonlydefaults or {}
        assert defaults == {name: getattr(PAPER, name) for name in defaults}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_every_model(name: str) -> None:
    settings = get_preset(name)
    assert settings == PRESETS[name]
    assert settings.replace(asdict(settings)) == settings  # every value is one that is allowed
    summed = settings.wavlm_output != "last"
    specs = [EncoderSpec(name, (4, 4) if summed and name == "wavlm" else dims, "") for name, dims in SPECS.items()]
    for aggregator in AGGREGATORS:
        own = settings.replace({"aggregator": aggregator})
        build_model(ModelConfig(tuple(specs), aggregator, own.fusion(), own.heads()))
        assert TrainConfig(own).batch_size >= 16


def test_paper_is_the_default_and_what_the_paper_says() -> None:
    assert PRESETS["paper"] == PAPER == Settings()
    assert asdict(PAPER) == {
        "wavlm_output": "last",
        "muq_sample_rate": 24000,
        "muq_via_16k": False,
        "pad_mask": True,
        "train_crop": "random",
        "eval_crop": "windows",
        "aggregator": "mlp",
        "pool": "mean",
        "embed_norm": "l2",
        "frame_norm": "l2",
        "standardize": False,
        "align": "pool_lowest",
        "align_rate_hz": None,
        "blstm_hidden": 256,
        "blstm_h_input": "vector",
        "head_layers": 1,
        "head_hidden": None,
        "dropout": 0.0,
        "loss": "ut",
        "ut_tau": 0.25,
        "con_norm": "offdiag",
        "con_margin": 0.1,
        "dcq_mse_weight": 0.0,
        "dcq_rank": "linear",
        "ccc_moments": "population",
        "other_loss": "con",
        "lr": 1e-4,
        "weight_decay": 0.0,
        "batch_size": None,
        "epochs": 10,
        "early_stop_patience": 1,
        "val_loss": "full_set",
        "dev_target_stats": "train",
        "offset_calibration": "none",
        "clip_output": False,
        "precision": "float32",
    }


def test_published_code_differs_from_the_paper_in_these() -> None:
    theirs = asdict(PRESETS["official_code"])
    assert {name: value for name, value in theirs.items() if value != asdict(PAPER)[name]} == {
        "muq_sample_rate": 16000,
        "wavlm_output": "weighted_shared",
        "pad_mask": False,
        "eval_crop": "random",
        "ut_tau": 0.5,
        "ccc_moments": "mixed",
        "dev_target_stats": "own",
        "val_loss": "batch_mean",
        "early_stop_patience": None,
    }


def test_batches_are_the_papers_and_what_is_given() -> None:
    sizes = {name: TrainConfig(PAPER.replace({"aggregator": name})).batch_size for name in AGGREGATORS}
    assert sizes == {"mlp": 32, "blstm_h": 16, "blstm_t": 16}
    for name in AGGREGATORS:
        assert TrainConfig(PAPER.replace({"aggregator": name, "batch_size": 7})).batch_size == 7


@pytest.mark.parametrize("name", NAMES)
def test_no_setting_is_left_unread(name: str) -> None:
    values = other_values(name)
    assert values
    for value in values:
        found = [
            reached(replace(PAPER, loss=loss)) != reached(replace(PAPER, **{"loss": loss, name: value}))
            for loss in LOSSES
        ]
        assert any(found) == (name not in ELSEWHERE)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_can_be_given_in_words(name: str) -> None:
    for value in other_values(name):
        key, parsed = parse_setting(f"{name}={as_text(value)}")
        changed = PAPER.replace({key: parsed})
        assert getattr(changed, name) == value
        assert replace(changed, **{name: getattr(PAPER, name)}) == PAPER
        if KINDS[name] is float:
            assert type(getattr(changed, name)) is float


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_options_are_the_arguments_of_the_loss(loss: str) -> None:
    arguments = inspect.signature(LOSSES[loss]).parameters.values()
    options = {argument.name: argument.default for argument in arguments if argument.kind is argument.KEYWORD_ONLY}
    assert set(LOSS_OPTIONS) == set(LOSSES) == set(get_args(KINDS["loss"])) == set(get_args(KINDS["other_loss"]))
    assert list(LOSS_OPTIONS[loss]) == list(options)
    assert PAPER.loss_options(loss) == options


def test_fusion_is_a_view_of_the_settings() -> None:
    settings = PAPER.replace({"wavlm_output": "weighted_shared", "blstm_hidden": 7, "align": "repeat"})
    fusion = settings.fusion(["muq", "wavlm"])
    assert asdict(fusion) == {name: getattr(settings, name) for name in asdict(fusion)}
    assert settings.fusion(["muq"]) == replace(fusion, wavlm_output="last")


def test_muq_via_16k_is_an_encoder_option() -> None:
    assert PAPER.replace({"muq_via_16k": True}).encoder_options("muq") == {"muq_via_16k": True}
    with pytest.raises(UsageError, match="muq_via_16k is for muq_sample_rate 24000, not 16000: set one of them"):
        PRESETS["official_code"].replace({"muq_via_16k": True})


def test_encoders_are_asked_for_what_the_settings_say() -> None:
    theirs = PRESETS["official_code"]
    assert {name: PAPER.encoder_options(name) for name in SPECS} == {"wavlm": {}, "muq": {}, "m2d": {}}
    assert {name: theirs.encoder_options(name) for name in SPECS} == {
        "wavlm": {"pad_silence": 10.0, "layers": "all"},
        "muq": {"pad_silence": 10.0, "muq_sample_rate": 16000},
        "m2d": {"pad_silence": 10.0},
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lrate": 1e-3}, "no setting is called lrate; there are pool, .*, wavlm_output, .*, lr, .*precision$"),
        ({"nosuch": 1, "also": 2}, "no setting is called also, nosuch;"),
        ({"loss": "mae"}, "loss cannot be 'mae'; it is ut or con or dcq or ccc"),
        ({"lr": "fast"}, "lr cannot be 'fast'; it is a number"),
        ({"lr": True}, "lr cannot be True; it is a number"),
        ({"epochs": 2.5}, "epochs cannot be 2.5; it is a whole number"),
        ({"epochs": 0}, "epochs cannot be 0; it is a whole number above 0"),
        ({"batch_size": -8}, "batch_size cannot be -8; it is a whole number above 0 or none"),
        ({"lr": -1.0}, "lr cannot be -1.0; it is a number not below 0"),
        ({"lr": float("nan")}, "lr cannot be nan; it is a number"),
        ({"weight_decay": float("inf")}, "weight_decay cannot be inf; it is a number"),
        ({"epochs": False}, "epochs cannot be False; it is a whole number"),
        ({"epochs": None}, "epochs cannot be None; it is a whole number"),
        ({"standardize": 1}, "standardize cannot be 1; it is true or false"),
        ({"muq_sample_rate": 44100}, "muq_sample_rate cannot be 44100; it is 24000 or 16000"),
        ({"early_stop_patience": "never"}, "patience cannot be 'never'; it is a whole number above 0 or none"),
        ({"align_rate_hz": "slow"}, "align_rate_hz cannot be 'slow'; it is a number not below 0 or none"),
        ({"eval_crop": ["random"]}, "eval_crop cannot be .*; it is random or windows or first"),
        ({"dropout": 1.0}, "dropout must be below 1, not 1.0"),
        ({"wavlm_output": "weighted_per_axis", "aggregator": "blstm_t"}, "is for the aggregator mlp, not blstm_t"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PAPER.replace(change)


def test_an_unknown_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=f"no preset is called 'papr'; there are {', '.join(PRESETS)}"):
        get_preset("papr")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=1e-3", ("lr", 1e-3)),
        ("epochs=3", ("epochs", 3)),
        ("standardize=true", ("standardize", True)),
        ("loss=ccc", ("loss", "ccc")),
        ("loss='ccc'", ("loss", "ccc")),
        ("embed_norm=none", ("embed_norm", "none")),  # a word of that setting's
        ("align_rate_hz=none", ("align_rate_hz", None)),
        ("batch_size=none", ("batch_size", None)),
        ("nosuch=none", ("nosuch", "none")),
        ("loss=a=b", ("loss", "a=b")),
        ("loss=", ("loss", "")),
    ],
)
def test_settings_are_read_as_in_toml_and_words_without_quotes(text: str, expected: tuple[str, Any]) -> None:
    name, value = parse_setting(text)
    assert (name, value, type(value)) == (*expected, type(expected[1]))


@pytest.mark.parametrize("text", ["lr", "", "--lr"])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"a setting is NAME=VALUE, not '{text}'"):
        parse_setting(text)


def test_settings_are_not_changed_in_place() -> None:
    before = asdict(PAPER)
    PAPER.replace({"lr": 1.0, "loss": "ccc"})
    assert asdict(PAPER) == before


# The paper's statements in docs/SETTINGS.md

ROOT = Path(__file__).parents[2]


def paper_rows() -> list[tuple[str, list[str], list[str], str]]:
    """Statement, settings, defaults and reason of each row of the tables below "The paper, sentence by sentence"."""
    text = (ROOT / "docs" / "SETTINGS.md").read_text().partition("## The paper, sentence by sentence")[2]
    lines = [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    rows = [cells for cells in lines if cells[0] != "statement in the paper" and set(cells[0]) != {"-"}]
    return [(said, names.split("; "), values.split("; "), reason) for said, names, values, reason in rows]


def default_of(name: str) -> Any:
    """What the code has: of a setting, a key of an experiment as in `paper.toml`, or an option of `mmmos train`."""
    experiment = tomllib.loads(find_experiment("paper").read_text())
    table, _, key = name.rpartition(" ")
    if table == "[data]":
        known = {"train", "dev", "stratify", *CHOICES}
        assert key in known
        return experiment["data"].get(key, CHOICES.get(key, (None,))[0])
    if table == "[ensembles]":
        value = getattr(Ensembles(**experiment.get("ensembles", {})), key)
        return ", ".join(value) if isinstance(value, tuple) else value
    if table == "[encoders]":
        return experiment["encoders"][key]
    if table == "train":
        return inspect.signature(train).parameters[key.removeprefix("--").replace("-", "_")].default
    return experiment["seeds"] if key == "seeds" else getattr(PAPER, key)


def test_settings_of_the_papers_table_have_its_defaults() -> None:
    rows = paper_rows()
    assert len(rows) > 30
    for said, names, values, reason in rows:
        assert len(reason) > 10, said
        if names == ["fixed"]:
            continue
        assert len(names) == len(values), said
        for name, value in zip(names, values, strict=True):
            assert re.fullmatch(r"`[^`]+`", name), name
            assert value == as_text(default_of(name.strip("`"))), name


def test_papers_table_has_every_setting_and_quotes() -> None:
    rows = paper_rows()
    assert {name.strip("`") for _, names, _, _ in rows for name in names} >= {
        *NAMES,
        *(f"[data] {key}" for key in CHOICES),
    }
    assert all(said == "nothing" or (said[0], said[-1]) == ('"', '"') for said, *_ in rows)
    assert read_experiment(find_experiment("paper")).grid[0].settings == PAPER
