"""Training: it learns what there is to learn, and does it again to the bit, broken off or not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import EncoderSpec
from mmmos.errors import TrainingError, UsageError
from mmmos.losses import LOSSES
from mmmos.metrics import srcc
from mmmos.model.aggregators import AGGREGATORS
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.model.quality import ModelConfig
from mmmos.model.system import Member
from mmmos.scores import AXES
from mmmos.training.batches import shuffled_batches
from mmmos.training.checkpoint import Epoch
from mmmos.training.config import TrainConfig
from mmmos.training.dataset import Sequences, TrainingSet
from mmmos.training.loop import PREDICT_CROPS, fit, predict
from mmmos.training.settings import PAPER
from tests.recorded_progress import RecordedProgress

DIM = 6
CONFIG = ModelConfig((EncoderSpec("toy", (4, 2), "0" * 64),), fusion=FusionConfig("mean", "none", standardize=True))
DEEP = replace(CONFIG, heads=HeadConfig(head_layers=2, head_hidden=5, dropout=0.3))
CONFIGS = {name: replace(DEEP, aggregator=name, fusion=replace(DEEP.fusion, blstm_hidden=4)) for name in AGGREGATORS}
HOW = TrainConfig(replace(PAPER, lr=0.03, epochs=20, early_stop_patience=None))
SLOPES = np.random.default_rng(99).standard_normal((DIM, 4))


def change(how: TrainConfig, **settings: object) -> TrainConfig:
    """The same with other settings."""
    return replace(how, settings=replace(how.settings, **settings))


def table(clips: int, seed: int, noise: float = 0.3, name: str = "") -> TrainingSet:
    """Labels that are a linear function of the features, and noise."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((clips, DIM)) * 3 + 1
    labels = 5 + 0.3 * (inputs @ SLOPES) + noise * rng.standard_normal((clips, 4))
    return make(inputs, labels, [name] * clips)


def make(inputs: Sequence[np.ndarray], labels: np.ndarray, sets: Sequence[str]) -> TrainingSet:
    """A table of one crop a clip, reduced to vectors [N, D] or to sequences of [T, D]."""
    rows = [
        LabelledClip(Clip(f"{name}{i}.wav"), tuple(map(float, values)), set=name)
        for i, (name, values) in enumerate(zip(sets, labels, strict=True))
    ]
    crops = [torch.as_tensor(values, dtype=torch.float32).reshape(-1, np.shape(values)[-1]) for values in inputs]
    starts = np.cumsum([0, *map(len, crops)]).tolist()
    places = tuple(((i, 1.0),) for i in range(len(crops)))
    return TrainingSet(
        tuple(rows), Sequences(torch.cat(crops), tuple(starts), 10.0), places, torch.tensor(labels).float()
    )


def crops_of(part: TrainingSet) -> list[np.ndarray]:
    """What each row's one crop was reduced to, [T, D]."""
    starts, numbers = part.inputs.starts, [number for ((number, _),) in part.crops]
    return [part.inputs.frames[starts[i] : starts[i + 1]].clone().numpy() for i in numbers]


def join(*tables: TrainingSet) -> TrainingSet:
    joined = make(
        [crop for part in tables for crop in crops_of(part)],
        torch.cat([part.labels for part in tables]).numpy(),
        [""] * sum(len(part.rows) for part in tables),
    )
    return replace(joined, rows=tuple(row for part in tables for row in part.rows))


def with_labels(part: TrainingSet, labels: torch.Tensor) -> TrainingSet:
    return make(crops_of(part), labels.double().numpy(), [row.set for row in part.rows])


def shuffled(part: TrainingSet) -> TrainingSet:
    order = torch.randperm(len(part.rows), generator=torch.Generator().manual_seed(5))
    return with_labels(part, part.labels[order])


def in_time(part: TrainingSet) -> TrainingSet:
    """Each vector as two to six frames around it: what a clip is to an aggregator over time."""
    rng = np.random.default_rng(len(part.rows))
    crops = [vector + 0.5 * rng.standard_normal((rng.integers(2, 7), vector.shape[1])) for vector in crops_of(part)]
    crops = [crop - crop.mean(axis=0) + vector for crop, vector in zip(crops, crops_of(part), strict=True)]
    return make(crops, part.labels.double().numpy(), [row.set for row in part.rows])


TRAIN, DEV, TEST = table(150, 0), table(60, 1), table(200, 2)


def order(member: Member, on: TrainingSet = TEST) -> list[float]:
    """SRCC of each axis on clips that took no part."""
    z = predict(member.model, on).numpy()
    return [srcc(z[:, i], on.labels[:, i].numpy()) for i in range(4)]


def weights(member: Member) -> dict[str, torch.Tensor]:
    return member.model.state_dict()


def assert_bit_equal(ours: Member, other: Member) -> None:
    assert ours.scale == other.scale
    assert weights(ours).keys() == weights(other).keys()
    assert all(torch.equal(value, weights(other)[key]) for key, value in weights(ours).items())


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_recovers_a_linear_function(loss: str) -> None:
    member, history = fit(CONFIG, TRAIN, DEV, change(HOW, loss=loss))
    assert min(order(member)) > 0.95
    assert min(history[-1].dev_srcc.values()) > 0.9
    assert history[-1].dev_loss < history[0].dev_loss


@pytest.mark.slow
def test_labels_are_predicted_on_their_own_scale() -> None:
    member, _ = fit(CONFIG, TRAIN, DEV, change(HOW, epochs=40))
    predicted = member.scale.to_labels(predict(member.model, TEST).double().numpy())
    error = np.sqrt(np.mean((predicted - TEST.labels.numpy()) ** 2, axis=0))
    assert (error < 0.45).all()  # of which the noise is 0.3
    np.testing.assert_allclose(member.scale.mean, TRAIN.labels.double().mean(dim=0))
    np.testing.assert_allclose(member.scale.std, TRAIN.labels.double().std(dim=0))


@pytest.mark.slow
def test_dropout_and_hidden_layers_learn_too() -> None:
    member, _ = fit(DEEP, TRAIN, DEV, HOW)
    assert min(order(member)) > 0.85
    assert not member.model.training
    assert not any(parameter.requires_grad for parameter in member.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, *CONFIGS.values()], ids=lambda config: config.aggregator)
def test_same_seed_same_weights_to_the_bit(config: ModelConfig) -> None:
    how = change(HOW, epochs=3)
    train, dev = (in_time(part) if config.aggregator == "blstm_t" else part for part in (TRAIN, DEV))
    first, history = fit(config, train, dev, how)
    torch.rand(7)  # what else the process draws does not matter
    again, history_again = fit(config, train, dev, how)
    assert_bit_equal(first, again)
    assert history == history_again
    other, _ = fit(config, train, dev, replace(how, seed=43))
    assert not torch.equal(weights(first)["heads.axes.PQ.1.weight"], weights(other)["heads.axes.PQ.1.weight"])


def test_training_leaves_the_processs_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(DEEP, TRAIN, DEV, change(HOW, epochs=1))
    assert torch.equal(torch.rand(4), expected)


class BrokenOffError(Exception):
    pass


class CountedEpochs(RecordedProgress):
    """Keeps the numbers of finished epochs, and breaks off after one of them."""

    def __init__(self, last: int | None = None) -> None:
        super().__init__()
        self.last = last
        self.epochs: list[int] = []

    def advance(self, count: float = 1) -> None:
        super().advance(count)
        self.epochs.append(round(self.stages[-1][3] + self.total_clips))
        if self.epochs[-1] == self.last:
            raise BrokenOffError


@pytest.mark.slow
@pytest.mark.parametrize("breaks", [[1], [3], [1, 2, 4]])
@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_run_that_was_broken_off_ends_as_an_undisturbed_one(tmp_path: Path, breaks: list[int], name: str) -> None:
    how = change(HOW, epochs=6, weight_decay=0.1, offset_calibration="train_mean")
    config, parts = CONFIGS[name], (in_time(TRAIN), in_time(DEV)) if name == "blstm_t" else (TRAIN, DEV)
    expected, history = fit(config, *parts, how)
    for number in breaks:
        with pytest.raises(BrokenOffError):
            fit(config, *parts, how, tmp_path, CountedEpochs(number))
    progress = CountedEpochs()
    member, resumed = fit(config, *parts, how, tmp_path, progress)
    assert_bit_equal(member, expected)
    assert resumed == history
    assert progress.epochs == [epoch.epoch for epoch in history[breaks[-1] :]]


@pytest.mark.slow
def test_resumed_run_keeps_a_best_epoch_before_the_break(tmp_path: Path) -> None:
    against = with_labels(DEV, 10 - DEV.labels)
    how = change(HOW, epochs=4)
    expected, history = fit(CONFIG, TRAIN, against, how)
    assert min(history, key=lambda epoch: epoch.dev_loss).epoch == 1
    with pytest.raises(BrokenOffError):
        fit(CONFIG, TRAIN, against, how, tmp_path, CountedEpochs(3))
    member, _ = fit(CONFIG, TRAIN, against, how, tmp_path)
    assert_bit_equal(member, expected)


@pytest.mark.slow
def test_a_break_in_the_middle_of_saving_loses_that_epoch_alone(tmp_path: Path) -> None:
    how = change(HOW, epochs=3)
    expected, _ = fit(DEEP, TRAIN, DEV, how)
    with pytest.raises(BrokenOffError):
        fit(DEEP, TRAIN, DEV, how, tmp_path, CountedEpochs(1))
    with mock.patch("os.replace", side_effect=BrokenOffError), pytest.raises(BrokenOffError):
        fit(DEEP, TRAIN, DEV, how, tmp_path)
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / "checkpoint.pt.1.part").write_bytes(b"of a process that was killed")
    progress = CountedEpochs()
    member, _ = fit(DEEP, TRAIN, DEV, how, tmp_path, progress)
    assert_bit_equal(member, expected)
    assert progress.epochs == [2, 3]


def test_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    how = change(HOW, epochs=2)
    first, history = fit(CONFIG, TRAIN, DEV, how, tmp_path)
    again, history_again = fit(CONFIG, TRAIN, DEV, how, tmp_path, CountedEpochs(3))
    assert_bit_equal(first, again)
    assert history == history_again


def test_history_is_written_a_line_an_epoch(tmp_path: Path) -> None:
    _, history = fit(CONFIG, TRAIN, DEV, change(HOW, epochs=3), tmp_path)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [Epoch(**json.loads(line)) for line in lines] == history
    assert [epoch.epoch for epoch in history] == [1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [
        lambda: (DEEP, TRAIN, DEV, HOW),
        lambda: (CONFIG, TRAIN, DEV, replace(HOW, seed=1)),
        lambda: (CONFIG, TRAIN, DEV, change(HOW, loss="ccc")),
        lambda: (CONFIG, TRAIN, DEV, change(HOW, precision="bfloat16")),
        lambda: (CONFIG, TRAIN.take(TRAIN.rows[1:]), DEV, HOW),
        lambda: (CONFIG, TRAIN, DEV.take(DEV.rows[1:]), HOW),
        lambda: (CONFIG, with_labels(TRAIN, TRAIN.labels + 0.1), DEV, HOW),
        lambda: (CONFIG, replace(TRAIN, rows=(replace(TRAIN.rows[0], set="b"), *TRAIN.rows[1:])), DEV, HOW),
        lambda: (CONFIG, replace(TRAIN, crops=(((0, 1.0), (1, 1.0)), *TRAIN.crops[1:])), DEV, HOW),
    ],
    ids=["config", "seed", "loss", "precision", "fewer rows", "fewer dev rows", "labels", "set", "crops"],
)
def test_the_folder_of_another_run_is_refused_and_kept(tmp_path: Path, change: Callable[[], tuple]) -> None:
    with pytest.raises(BrokenOffError):
        fit(CONFIG, TRAIN, DEV, HOW, tmp_path, CountedEpochs(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=f"{tmp_path.name} holds a run with other settings or rows"):
        fit(*change(), tmp_path)  # type: ignore[call-arg]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"run": _Trap(sprung)}, tmp_path / "checkpoint.pt")
    with pytest.raises(UsageError, match="damaged"):
        fit(CONFIG, TRAIN, DEV, HOW, tmp_path)
    assert not sprung.exists()


@pytest.mark.slow
def test_the_best_epoch_by_development_loss_is_given_back() -> None:
    train, dev = table(10, 0, noise=1.0), table(30, 1)  # few and noisy: overfits soon
    wide = replace(CONFIG, heads=HeadConfig(head_layers=2, head_hidden=20))
    how = change(HOW, epochs=30)
    member, history = fit(wide, train, dev, how)
    losses = [epoch.dev_loss for epoch in history]
    best = 1 + losses.index(min(losses))
    assert 1 < best < 30
    at_best, _ = fit(wide, train, dev, change(how, epochs=best))
    assert_bit_equal(member, at_best)


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_training_ends_when_patience_does(patience: int) -> None:
    against = with_labels(DEV, 10 - DEV.labels)
    _, history = fit(CONFIG, TRAIN, against, change(HOW, early_stop_patience=patience))
    losses = [epoch.dev_loss for epoch in history]
    assert len(losses) == 1 + losses.index(min(losses)) + patience
    assert losses[0] == min(losses)


@pytest.mark.slow
def test_development_loss_is_of_the_primary_dataset() -> None:
    other = with_labels(table(40, 7, name="b"), torch.rand(40, 4))
    train = join(TRAIN, table(40, 6, name="b"))
    _, alone = fit(CONFIG, train, DEV, change(HOW, epochs=2))
    _, together = fit(CONFIG, train, join(DEV, other), change(HOW, epochs=2))
    assert alone == together


@pytest.mark.slow
def test_clips_nobody_rated_on_an_axis_are_ignored_on_it() -> None:
    labels = TRAIN.labels.clone()
    labels[::2, 0] = math.nan
    labels[1::2, 1] = math.nan
    member, history = fit(CONFIG, with_labels(TRAIN, labels), DEV, HOW)
    assert min(order(member)) > 0.95
    assert all(math.isfinite(epoch.train_loss) for epoch in history)


@pytest.mark.slow
def test_an_axis_without_labels_is_left_as_it_was() -> None:
    train, dev = (part.labels.clone() for part in (TRAIN, DEV))
    train[:, 2], dev[:, 2] = math.nan, math.nan
    without_labels = with_labels(TRAIN, train), with_labels(DEV, dev)
    start, _ = fit(CONFIG, *without_labels, change(HOW, lr=0.0, epochs=1))
    member, history = fit(CONFIG, *without_labels, HOW)
    assert torch.equal(weights(member)["heads.axes.PC.1.weight"], weights(start)["heads.axes.PC.1.weight"])
    assert not torch.equal(weights(member)["heads.axes.PQ.1.weight"], weights(start)["heads.axes.PQ.1.weight"])
    assert history[-1].dev_srcc["PC"] is None
    assert min(value for i, value in enumerate(order(member)) if AXES[i] != "PC") > 0.95


@pytest.mark.slow
def test_another_set_teaches_an_order_on_any_scale() -> None:
    """The primary dataset says nothing of the slopes: they come from a set whose labels are ten times smaller."""
    blind = with_labels(TRAIN, 5 + torch.randn(TRAIN.labels.shape))
    other = table(150, 6, name="b")
    shrunk = with_labels(other, 1 + other.labels / 10)
    members = [fit(CONFIG, join(blind, part), DEV, change(HOW, lr=0.01))[0] for part in (other, shrunk)]
    assert min(order(members[0])) > 0.8
    for key, value in weights(members[0]).items():
        torch.testing.assert_close(weights(members[1])[key], value, rtol=1e-2, atol=1e-2)


def test_the_scale_is_that_of_the_primary_dataset() -> None:
    other = table(50, 6, name="b")
    shifted = with_labels(other, other.labels / 10)
    member, _ = fit(CONFIG, join(shifted, TRAIN), DEV, change(HOW, epochs=1))
    assert member.scale.mean == pytest.approx(TRAIN.labels.double().mean(dim=0).tolist())


@pytest.mark.slow
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 16), st.integers(0, 99))
def test_batches_never_mix_sets_and_have_no_rest_of_one(sizes: list[int], batch_size: int, seed: int) -> None:
    names = [name for name, size in zip("abcd", sizes, strict=False) for _ in range(size)]
    clips = make(np.zeros((len(names), DIM)), np.zeros((len(names), 4)), names)
    torch.manual_seed(seed)
    batches = list(shuffled_batches(clips, batch_size))
    assert sorted(i for batch in batches for i in batch) == list(range(len(names)))
    for batch in batches:
        (name,) = {names[i] for i in batch}
        assert len(batch) <= batch_size + 1
        assert len(batch) > 1 or batch_size == 1 or names.count(name) == 1


def test_rows_come_in_another_order_each_epoch() -> None:
    seen = []

    def loss(prediction: torch.Tensor, target: torch.Tensor, **options: object) -> torch.Tensor:
        seen.append(target)
        return (prediction - target).square().mean()

    with mock.patch.dict(LOSSES, {"ut": loss}):
        fit(CONFIG, TRAIN, DEV, change(HOW, epochs=2, batch_size=150))
    first, _, second, _ = seen  # a batch of all rows, then the development set
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(dim=0).values, second.sort(dim=0).values)


def test_standardizing_is_fitted_on_the_training_rows_alone() -> None:
    member, _ = fit(CONFIG, TRAIN, DEV, change(HOW, epochs=1))
    standardizer = member.model.aggregator.standardizer
    torch.testing.assert_close(standardizer.mean, TRAIN.inputs.frames.mean(dim=0))
    torch.testing.assert_close(standardizer.scale, 1 / TRAIN.inputs.frames.std(dim=0, correction=0))


def test_steps_are_taken_with_the_loss_of_the_set() -> None:
    calls = []

    def spy(name: str) -> Callable[..., torch.Tensor]:
        def loss(prediction: torch.Tensor, target: torch.Tensor, **options: object) -> torch.Tensor:
            calls.append((name, len(target), options))
            return (prediction - target).square().mean()

        return loss

    with mock.patch.dict(LOSSES, {"ut": spy("ut"), "dcq": spy("dcq")}):
        how = change(HOW, epochs=1, loss="ut", ut_tau=0.5, other_loss="dcq", batch_size=100)
        fit(CONFIG, join(TRAIN, table(30, 6, name="b")), DEV, how)
    ut = {"ut_tau": 0.5, "con_norm": "offdiag", "con_margin": 0.1}
    dcq = {"dcq_mse_weight": 0.0, "dcq_rank": "linear"}
    assert calls[-1] == ("ut", 60, ut)  # the development set, at once
    assert sorted(calls[:-1], key=str) == [("dcq", 30, dcq), ("ut", 100, ut), ("ut", 50, ut)]


def test_a_loss_that_is_not_finite_ends_training_and_names_clips() -> None:
    def broken(prediction: torch.Tensor, target: torch.Tensor, **options: object) -> torch.Tensor:
        return prediction.sum() / 0

    with mock.patch.dict(LOSSES, {"ut": broken}), pytest.raises(TrainingError, match=r"epoch 1.*\d+\.wav, \d+\.wav"):
        fit(CONFIG, TRAIN, DEV, HOW)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["training", "development"])
def test_non_finite_features_are_reported_with_their_clips(value: float, where: str) -> None:
    parts = {"training": TRAIN, "development": DEV}
    crops = crops_of(parts[where])
    crops[41][0, 2] = value
    parts[where] = make(crops, parts[where].labels.numpy(), [""] * len(crops))
    with pytest.raises(TrainingError, match=rf"1 {where} clips are not finite: 41\.wav$"):
        fit(CONFIG, parts["training"], parts["development"], HOW)


@pytest.mark.parametrize("lr", [1e18, 1e30])
def test_training_that_explodes_ends_with_an_error(lr: float, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss is (inf|nan)"):
        fit(CONFIG, TRAIN, DEV, change(HOW, lr=lr, batch_size=200), tmp_path)


@pytest.mark.parametrize("missing", ["training", "development"])
def test_training_without_primary_dataset_is_refused(missing: str) -> None:
    other = table(20, 6, name="b")
    parts = (other, DEV) if missing == "training" else (TRAIN, other)
    with pytest.raises(TrainingError, match=f"no usable {missing} row"):
        fit(CONFIG, *parts, HOW)
    with pytest.raises(TrainingError, match="in the primary dataset 'c'"):
        fit(CONFIG, TRAIN, DEV, replace(HOW, primary_dataset="c"))


@pytest.mark.parametrize("field", ["loss", "other_loss"])
def test_an_unknown_loss_is_refused_with_the_names_there_are(field: str) -> None:
    with pytest.raises(UsageError, match=r"'mae'; there are con, ut, dcq, ccc"):
        fit(CONFIG, TRAIN, DEV, change(HOW, **{field: "mae"}))


# The paper's Table III, small: two or three encoders of 8 values, every aggregator and every loss.
WIDE = np.random.default_rng(98).standard_normal((24, 4))
GRID = [("mlp", 3, "con"), ("mlp", 2, "ut"), ("blstm_t", 3, "ccc"), ("blstm_h", 3, "dcq")]


def wide(clips: int, seed: int, encoders: int) -> TrainingSet:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((clips, 8 * encoders)) * 3 + 1
    labels = 5 + 0.3 * inputs @ WIDE[: inputs.shape[1]] + 0.3 * rng.standard_normal((clips, 4))
    return make(inputs, labels, [""] * clips)


@pytest.mark.slow
@pytest.mark.parametrize(("aggregator", "encoders", "loss"), GRID)
def test_fit_recovers_a_linear_function(aggregator: str, encoders: int, loss: str) -> None:
    fusion = replace(CONFIG.fusion, blstm_hidden=8, frame_norm="none")
    specs = tuple(EncoderSpec(f"toy{i}", (8,), "0" * 64) for i in range(encoders))
    config = ModelConfig(specs, aggregator, fusion)
    parts = [wide(clips, seed, encoders) for seed, clips in enumerate((300, 80, 300))]
    train, dev, test = map(in_time, parts) if aggregator == "blstm_t" else parts
    how = TrainConfig(replace(PAPER, loss=loss, lr=0.02, epochs=25, early_stop_patience=None))
    member, history = fit(config, train, dev, how)
    assert min(order(member, test)) > 0.95
    assert min(history[-1].dev_srcc.values()) > 0.9
    blind, _ = fit(config, shuffled(train), shuffled(dev), change(how, epochs=8))
    assert abs(np.mean(order(blind, test))) < 0.3
    assert max(map(abs, order(blind, test))) < 0.7


def ccc_loss(z: np.ndarray, target: np.ndarray) -> float:
    """Mean over the axes of one minus the concordance correlation, as its definition has it."""
    values = []
    for p, t in zip(z.T, target.T, strict=True):
        cov = np.mean((p - p.mean()) * (t - t.mean()))
        values.append(1 - 2 * cov / (p.var() + t.var() + (p.mean() - t.mean()) ** 2 + 1e-6))
    return float(np.mean(values))


@pytest.mark.parametrize("stats", ["train", "own"])
@pytest.mark.parametrize("val_loss", ["full_set", "batch_mean"])
def test_the_development_loss_is_what_the_settings_say(val_loss: str, stats: str) -> None:
    dev = with_labels(DEV, 2 + 3 * DEV.labels)
    how = change(HOW, epochs=1, loss="ccc", batch_size=16, val_loss=val_loss, dev_target_stats=stats)
    member, history = fit(CONFIG, TRAIN, dev, how)
    z, labels = predict(member.model, dev).double().numpy(), dev.labels.double().numpy()
    own = (TRAIN if stats == "train" else dev).labels.double().numpy()
    target = (labels - own.mean(axis=0)) / own.std(axis=0, ddof=1)
    # The rows in their order, 16 at a time; the last 12 count as much as the others.
    parts = [slice(i, i + 16) for i in (0, 16, 32, 48)] if val_loss == "batch_mean" else [slice(None)]
    expected = np.mean([ccc_loss(z[part], target[part]) for part in parts])
    assert history[0].dev_loss == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(member.scale.mean, TRAIN.labels.double().mean(dim=0))  # scores are on this scale always


def test_settings_of_the_development_loss_do_differ() -> None:
    dev = with_labels(DEV, 2 + 3 * DEV.labels)
    losses = [
        fit(CONFIG, TRAIN, dev, change(HOW, epochs=1, val_loss=val_loss, dev_target_stats=stats))[1][0].dev_loss
        for val_loss, stats in product(("full_set", "batch_mean"), ("train", "own"))
    ]
    assert len({round(loss, 4) for loss in losses}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["con", "dcq"])
def test_calibrated_scores_have_the_mean_of_the_training_labels(loss: str) -> None:
    labels = TRAIN.labels + 2
    labels[::3, 1] = math.nan
    other = table(40, 6, name="b")
    train = join(with_labels(TRAIN, labels), other)
    how = change(HOW, loss=loss, epochs=3)
    plain, history = fit(CONFIG, train, DEV, how)
    moved, history_again = fit(CONFIG, train, DEV, change(how, offset_calibration="train_mean"))
    scores = [member.scale.to_labels(predict(member.model, train).double().numpy())[:150] for member in (plain, moved)]
    rated = np.isfinite(labels.numpy())
    means = [[part[rated[:, i], i].mean() for i in range(4)] for part in (labels.double().numpy(), *scores)]
    np.testing.assert_allclose(means[2], means[0], atol=1e-5)
    assert np.abs(np.subtract(means[1], means[0])).max() > 0.05  # without it there is an offset
    assert all(torch.equal(value, weights(moved)[key]) for key, value in weights(plain).items())
    assert moved.scale.std == plain.scale.std
    assert history == history_again


def test_an_axis_that_nobody_was_asked_about_is_not_calibrated() -> None:
    labels = TRAIN.labels.clone()
    labels[:, 2] = math.nan
    train, how = with_labels(TRAIN, labels), change(HOW, epochs=1)
    plain, _ = fit(CONFIG, train, DEV, how)
    moved, _ = fit(CONFIG, train, DEV, change(how, offset_calibration="train_mean"))
    assert moved.scale.mean[2] == plain.scale.mean[2]
    assert moved.scale.mean[3] != plain.scale.mean[3]


@pytest.mark.slow
@pytest.mark.parametrize("name", AGGREGATORS)
def test_bfloat16_trains_to_other_weights_close_by(name: str) -> None:
    parts = (in_time(TRAIN), in_time(DEV), in_time(TEST)) if name == "blstm_t" else (TRAIN, DEV, TEST)
    config = replace(CONFIGS[name], heads=HeadConfig())
    exact, rough = (
        fit(config, *parts[:2], change(HOW, epochs=5, precision=precision))[0] for precision in ("float32", "bfloat16")
    )
    assert all(value.dtype == torch.float32 for value in weights(rough).values())
    ours, expected = (
        torch.cat([parameter.flatten() for parameter in member.model.parameters()]) for member in (rough, exact)
    )
    assert not torch.equal(ours, expected)
    torch.testing.assert_close(ours, expected, rtol=0.1, atol=0.1)
    assert np.abs(np.subtract(order(rough, parts[2]), order(exact, parts[2]))).max() < 0.02


def test_clip_score_is_the_weighted_mean_of_its_crops() -> None:
    singles = table(3 * PREDICT_CROPS, 3)
    member, _ = fit(CONFIG, TRAIN, DEV, change(HOW, epochs=1))
    scores = predict(member.model, singles)
    for i in (0, 70, 191):
        alone = member.model.from_reduced(singles.inputs.batch([i]))
        torch.testing.assert_close(scores[i], alone[0])
    crops = (((5, 1.0), (190, 0.25)), ((7, 0.3),), ((9, 1.0), (9, 1.0), (0, 1.0)))
    several = replace(singles, rows=singles.rows[:3], crops=crops, labels=singles.labels[:3])
    means = torch.stack([(scores[5] + scores[190] / 4) / 1.25, scores[7], (2 * scores[9] + scores[0]) / 3])
    torch.testing.assert_close(predict(member.model, several), means)


def test_each_epoch_trains_on_the_next_crop() -> None:
    crops = tuple(((2 * i, 1.0), (2 * i + 1, 1.0)) for i in range(50))
    whole = table(100, 3)
    part = replace(whole, rows=whole.rows[:50], crops=crops, labels=whole.labels[:50])
    _, history = fit(CONFIG, part, part, change(HOW, lr=0.0, epochs=4, batch_size=50))
    first, second, third, fourth = (epoch.train_loss for epoch in history)
    assert (third, fourth) == pytest.approx((first, second), rel=1e-5)
    assert abs(first - second) > 1e-3
    assert len({epoch.dev_loss for epoch in history}) == 1


def test_what_is_not_finite_in_a_crop_of_no_row_does_no_harm() -> None:
    crops = crops_of(TRAIN)
    crops[149][:] = math.nan
    broken = make(crops, TRAIN.labels.numpy(), [""] * 150)
    member, _ = fit(CONFIG, broken.take(broken.rows[:149]), DEV, change(HOW, epochs=2))
    expected, _ = fit(CONFIG, TRAIN.take(TRAIN.rows[:149]), DEV, change(HOW, epochs=2))
    assert_bit_equal(member, expected)
