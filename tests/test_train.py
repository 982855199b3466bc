"""Training: it learns what there is to learn, and does it again to the bit, broken off or not."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmos.aggregators import FusionConfig
from mmmos.clips import Clip
from mmmos.dataset import Table
from mmmos.errors import TrainingError, UsageError
from mmmos.heads import HeadConfig
from mmmos.hub import Member
from mmmos.losses import LOSSES
from mmmos.manifest import LabelledClip
from mmmos.metrics import srcc
from mmmos.model import EncoderSpec, ModelConfig
from mmmos.scores import AXES
from mmmos.train import Epoch, TrainConfig, _batches, fit

DIM = 6
CONFIG = ModelConfig((EncoderSpec("toy", (4, 2), "0" * 64),), fusion=FusionConfig("mean", "none", standardize=True))
DEEP = replace(CONFIG, heads=HeadConfig(layers=2, hidden=5, dropout=0.3))
HOW = TrainConfig(lr=0.03, epochs=20, patience=None)
SLOPES = np.random.default_rng(99).standard_normal((DIM, 4))


def table(clips: int, seed: int, noise: float = 0.3, name: str = "") -> Table:
    """Labels that are a linear function of the features, and noise."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((clips, DIM)) * 3 + 1
    labels = 5 + 0.3 * (inputs @ SLOPES) + noise * rng.standard_normal((clips, 4))
    return make(inputs, labels, [name] * clips)


def make(inputs: np.ndarray, labels: np.ndarray, sets: list[str]) -> Table:
    rows = [
        LabelledClip(Clip(f"{name}{i}.wav"), tuple(map(float, values)), set=name)
        for i, (name, values) in enumerate(zip(sets, labels, strict=True))
    ]
    return Table(tuple(rows), torch.tensor(inputs).float(), torch.tensor(labels).float())


def join(*tables: Table) -> Table:
    return Table(
        tuple(row for part in tables for row in part.rows),
        torch.cat([part.inputs for part in tables]),
        torch.cat([part.labels for part in tables]),
    )


def with_labels(part: Table, labels: torch.Tensor) -> Table:
    return make(part.inputs.double().numpy(), labels.double().numpy(), [row.set for row in part.rows])


TRAIN, DEV, TEST = table(150, 0), table(60, 1), table(200, 2)


def order(member: Member, on: Table = TEST) -> list[float]:
    """SRCC of each axis on clips that took no part."""
    z = member.model.from_reduced(on.inputs).numpy()
    return [srcc(z[:, i], on.labels[:, i].numpy()) for i in range(4)]


def weights(member: Member) -> dict[str, torch.Tensor]:
    return member.model.state_dict()


def assert_bit_equal(ours: Member, other: Member) -> None:
    assert ours.scale == other.scale
    assert weights(ours).keys() == weights(other).keys()
    assert all(torch.equal(value, weights(other)[key]) for key, value in weights(ours).items())


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_recovers_a_linear_function(loss: str) -> None:
    member, history = fit(CONFIG, TRAIN, DEV, replace(HOW, loss=loss))
    assert min(order(member)) > 0.95
    assert min(history[-1].dev_srcc.values()) > 0.9
    assert history[-1].dev_loss < history[0].dev_loss


def test_labels_are_predicted_on_their_own_scale() -> None:
    member, _ = fit(CONFIG, TRAIN, DEV, replace(HOW, epochs=40))
    predicted = member.scale.to_labels(member.model.from_reduced(TEST.inputs).double().numpy())
    error = np.sqrt(np.mean((predicted - TEST.labels.numpy()) ** 2, axis=0))
    assert (error < 0.45).all()  # of which the noise is 0.3
    np.testing.assert_allclose(member.scale.mean, TRAIN.labels.double().mean(dim=0))
    np.testing.assert_allclose(member.scale.std, TRAIN.labels.double().std(dim=0))


def test_shuffled_labels_teach_nothing() -> None:
    train, dev = (
        with_labels(part, part.labels[torch.randperm(len(part.rows), generator=torch.Generator().manual_seed(5))])
        for part in (table(600, 0), DEV)
    )
    member, _ = fit(CONFIG, train, dev, HOW)
    assert max(map(abs, order(member))) < 0.6
    assert abs(np.mean(order(member))) < 0.3


def test_dropout_and_hidden_layers_learn_too() -> None:
    member, _ = fit(DEEP, TRAIN, DEV, HOW)
    assert min(order(member)) > 0.85
    assert not member.model.training
    assert not any(parameter.requires_grad for parameter in member.model.parameters())


@pytest.mark.parametrize("config", [CONFIG, DEEP])
def test_same_seed_same_weights_to_the_bit(config: ModelConfig) -> None:
    how = replace(HOW, epochs=3)
    first, history = fit(config, TRAIN, DEV, how)
    torch.rand(7)  # what else the process draws does not matter
    again, history_again = fit(config, TRAIN, DEV, how)
    assert_bit_equal(first, again)
    assert history == history_again
    other, _ = fit(config, TRAIN, DEV, replace(how, seed=43))
    assert not torch.equal(weights(first)["heads.axes.PQ.1.weight"], weights(other)["heads.axes.PQ.1.weight"])


def test_training_leaves_the_processs_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(DEEP, TRAIN, DEV, replace(HOW, epochs=1))
    assert torch.equal(torch.rand(4), expected)


class BrokenOffError(Exception):
    pass


def stop_after(number: int) -> Callable[[Epoch], None]:
    def report(epoch: Epoch) -> None:
        if epoch.epoch == number:
            raise BrokenOffError

    return report


@pytest.mark.parametrize("breaks", [[1], [3], [1, 2, 4]])
def test_a_run_that_was_broken_off_ends_as_an_undisturbed_one(tmp_path: Path, breaks: list[int]) -> None:
    how = replace(HOW, epochs=6, weight_decay=0.1)
    expected, history = fit(DEEP, TRAIN, DEV, how)
    for number in breaks:
        with pytest.raises(BrokenOffError):
            fit(DEEP, TRAIN, DEV, how, tmp_path, stop_after(number))
    seen = []
    member, resumed = fit(DEEP, TRAIN, DEV, how, tmp_path, seen.append)
    assert_bit_equal(member, expected)
    assert resumed == history
    assert seen == history[breaks[-1] :]


def test_a_run_whose_best_epoch_lies_before_the_break_still_ends_with_it(tmp_path: Path) -> None:
    against = with_labels(DEV, 10 - DEV.labels)
    how = replace(HOW, epochs=4)
    expected, history = fit(CONFIG, TRAIN, against, how)
    assert min(history, key=lambda epoch: epoch.dev_loss).epoch == 1
    with pytest.raises(BrokenOffError):
        fit(CONFIG, TRAIN, against, how, tmp_path, stop_after(3))
    member, _ = fit(CONFIG, TRAIN, against, how, tmp_path)
    assert_bit_equal(member, expected)


def test_a_break_in_the_middle_of_saving_loses_that_epoch_alone(tmp_path: Path) -> None:
    how = replace(HOW, epochs=3)
    expected, _ = fit(DEEP, TRAIN, DEV, how)
    with pytest.raises(BrokenOffError):
        fit(DEEP, TRAIN, DEV, how, tmp_path, stop_after(1))
    with mock.patch("mmmos.train.os.replace", side_effect=BrokenOffError), pytest.raises(BrokenOffError):
        fit(DEEP, TRAIN, DEV, how, tmp_path)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(part.read_bytes()[:100])
    seen = []
    member, _ = fit(DEEP, TRAIN, DEV, how, tmp_path, seen.append)
    assert_bit_equal(member, expected)
    assert [epoch.epoch for epoch in seen] == [2, 3]


def test_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    how = replace(HOW, epochs=2)
    first, history = fit(CONFIG, TRAIN, DEV, how, tmp_path)
    again, history_again = fit(CONFIG, TRAIN, DEV, how, tmp_path, stop_after(3))
    assert_bit_equal(first, again)
    assert history == history_again


def test_history_is_written_a_line_an_epoch(tmp_path: Path) -> None:
    _, history = fit(CONFIG, TRAIN, DEV, replace(HOW, epochs=3), tmp_path)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [Epoch(**json.loads(line)) for line in lines] == history
    assert [epoch.epoch for epoch in history] == [1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [
        lambda: (DEEP, TRAIN, DEV, HOW),
        lambda: (CONFIG, TRAIN, DEV, replace(HOW, seed=1)),
        lambda: (CONFIG, TRAIN, DEV, replace(HOW, loss="ccc")),
        lambda: (CONFIG, TRAIN.take(TRAIN.rows[1:]), DEV, HOW),
        lambda: (CONFIG, TRAIN, DEV.take(DEV.rows[1:]), HOW),
        lambda: (CONFIG, with_labels(TRAIN, TRAIN.labels + 0.1), DEV, HOW),
        lambda: (CONFIG, replace(TRAIN, rows=(replace(TRAIN.rows[0], set="b"), *TRAIN.rows[1:])), DEV, HOW),
    ],
    ids=["config", "seed", "loss", "fewer rows", "fewer dev rows", "labels", "set"],
)
def test_the_folder_of_another_run_is_refused_and_kept(tmp_path: Path, change: Callable[[], tuple]) -> None:
    with pytest.raises(BrokenOffError):
        fit(CONFIG, TRAIN, DEV, HOW, tmp_path, stop_after(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=f"{tmp_path.name} holds a run with other settings or rows"):
        fit(*change(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"run": _Trap(sprung)}, tmp_path / "checkpoint.pt")
    with pytest.raises(pickle.UnpicklingError):
        fit(CONFIG, TRAIN, DEV, HOW, tmp_path)
    assert not sprung.exists()


def test_the_best_epoch_by_development_loss_is_given_back() -> None:
    train, dev = table(10, 0, noise=1.0), table(30, 1)  # few and noisy: overfits soon
    wide = replace(CONFIG, heads=HeadConfig(layers=2, hidden=20))
    how = replace(HOW, epochs=30)
    member, history = fit(wide, train, dev, how)
    losses = [epoch.dev_loss for epoch in history]
    best = 1 + losses.index(min(losses))
    assert 1 < best < 30
    at_best, _ = fit(wide, train, dev, replace(how, epochs=best))
    assert_bit_equal(member, at_best)


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_training_ends_when_patience_does(patience: int) -> None:
    against = with_labels(DEV, 10 - DEV.labels)
    _, history = fit(CONFIG, TRAIN, against, replace(HOW, patience=patience))
    losses = [epoch.dev_loss for epoch in history]
    assert len(losses) == 1 + losses.index(min(losses)) + patience
    assert losses[0] == min(losses)


def test_the_development_loss_is_that_of_the_main_set_alone() -> None:
    other = with_labels(table(40, 7, name="b"), torch.rand(40, 4))
    train = join(TRAIN, table(40, 6, name="b"))
    _, alone = fit(CONFIG, train, DEV, replace(HOW, epochs=2))
    _, beside = fit(CONFIG, train, join(DEV, other), replace(HOW, epochs=2))
    assert alone == beside


def test_clips_nobody_rated_on_an_axis_are_ignored_on_it() -> None:
    labels = TRAIN.labels.clone()
    labels[::2, 0] = math.nan
    labels[1::2, 1] = math.nan
    member, history = fit(CONFIG, with_labels(TRAIN, labels), DEV, HOW)
    assert min(order(member)) > 0.95
    assert all(math.isfinite(epoch.train_loss) for epoch in history)


def test_an_axis_without_labels_is_left_as_it_was() -> None:
    train, dev = (part.labels.clone() for part in (TRAIN, DEV))
    train[:, 2], dev[:, 2] = math.nan, math.nan
    unlabelled = with_labels(TRAIN, train), with_labels(DEV, dev)
    start, _ = fit(CONFIG, *unlabelled, replace(HOW, lr=0.0, epochs=1))
    member, history = fit(CONFIG, *unlabelled, HOW)
    assert torch.equal(weights(member)["heads.axes.PC.1.weight"], weights(start)["heads.axes.PC.1.weight"])
    assert not torch.equal(weights(member)["heads.axes.PQ.1.weight"], weights(start)["heads.axes.PQ.1.weight"])
    assert history[-1].dev_srcc["PC"] is None
    assert min(value for i, value in enumerate(order(member)) if AXES[i] != "PC") > 0.95


def test_another_set_teaches_an_order_on_any_scale() -> None:
    """The main set says nothing of the slopes: they come from a set whose labels are ten times smaller."""
    blind = with_labels(TRAIN, 5 + torch.randn(TRAIN.labels.shape))
    other = table(150, 6, name="b")
    shrunk = with_labels(other, 1 + other.labels / 10)
    members = [fit(CONFIG, join(blind, part), DEV, replace(HOW, lr=0.01))[0] for part in (other, shrunk)]
    assert min(order(members[0])) > 0.8
    for key, value in weights(members[0]).items():
        torch.testing.assert_close(weights(members[1])[key], value, rtol=1e-2, atol=1e-2)


def test_the_scale_is_that_of_the_main_set() -> None:
    other = table(50, 6, name="b")
    shifted = with_labels(other, other.labels / 10)
    member, _ = fit(CONFIG, join(shifted, TRAIN), DEV, replace(HOW, epochs=1))
    assert member.scale.mean == pytest.approx(TRAIN.labels.double().mean(dim=0).tolist())


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 16), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_batches_never_mix_sets_and_have_no_rest_of_one(sizes: list[int], batch_size: int, seed: int) -> None:
    names = [name for name, size in zip("abcd", sizes, strict=False) for _ in range(size)]
    clips = make(np.zeros((len(names), DIM)), np.zeros((len(names), 4)), names)
    torch.manual_seed(seed)
    batches = list(_batches(clips, batch_size))
    assert sorted(i for batch in batches for i in batch) == list(range(len(names)))
    for batch in batches:
        (name,) = {names[i] for i in batch}
        assert len(batch) <= batch_size + 1
        assert len(batch) > 1 or batch_size == 1 or names.count(name) == 1


def test_rows_come_in_another_order_each_epoch() -> None:
    seen = []

    def loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(target)
        return (prediction - target).square().mean()

    with mock.patch.dict(LOSSES, {"ut": loss}):
        fit(CONFIG, TRAIN, DEV, replace(HOW, epochs=2, batch_size=150))
    first, _, second, _ = seen  # a batch of all rows, then the development set
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(dim=0).values, second.sort(dim=0).values)


def test_standardizing_is_fitted_on_the_training_rows_alone() -> None:
    member, _ = fit(CONFIG, TRAIN, DEV, replace(HOW, epochs=1))
    standardizer = member.model.aggregator.standardizer
    torch.testing.assert_close(standardizer.center, TRAIN.inputs.mean(dim=0))
    torch.testing.assert_close(standardizer.factor, 1 / TRAIN.inputs.std(dim=0, correction=0))


def test_steps_are_taken_with_the_loss_of_the_set() -> None:
    calls = []

    def spy(name: str) -> Callable[..., torch.Tensor]:
        def loss(prediction: torch.Tensor, target: torch.Tensor, **options: object) -> torch.Tensor:
            calls.append((name, len(target), options))
            return (prediction - target).square().mean()

        return loss

    with mock.patch.dict(LOSSES, {"ut": spy("ut"), "dcq": spy("dcq")}):
        how = replace(HOW, epochs=1, loss="ut", loss_options={"ut_tau": 0.5}, other_loss="dcq", batch_size=100)
        fit(CONFIG, join(TRAIN, table(30, 6, name="b")), DEV, how)
    assert calls[-1] == ("ut", 60, {"ut_tau": 0.5})  # the development set, at once
    assert sorted(calls[:-1], key=str) == [("dcq", 30, {}), ("ut", 100, {"ut_tau": 0.5}), ("ut", 50, {"ut_tau": 0.5})]


def test_a_loss_that_is_not_finite_ends_training_and_names_clips() -> None:
    def broken(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return prediction.sum() / 0

    with mock.patch.dict(LOSSES, {"ut": broken}), pytest.raises(TrainingError, match=r"epoch 1.*\d+\.wav, \d+\.wav"):
        fit(CONFIG, TRAIN, DEV, HOW)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["training", "development"])
def test_features_that_are_not_finite_are_told_with_their_clips(value: float, where: str) -> None:
    parts = {"training": TRAIN, "development": DEV}
    inputs = parts[where].inputs.clone()
    inputs[41, 2] = value
    parts[where] = replace(parts[where], inputs=inputs)
    with pytest.raises(TrainingError, match=rf"1 {where} clips are not finite: 41\.wav$"):
        fit(CONFIG, parts["training"], parts["development"], HOW)


@pytest.mark.parametrize("lr", [1e18, 1e30])
def test_training_that_explodes_ends_with_an_error(lr: float, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss is (inf|nan)"):
        fit(CONFIG, TRAIN, DEV, replace(HOW, lr=lr, batch_size=200), tmp_path)


@pytest.mark.parametrize("missing", ["training", "development"])
def test_without_a_row_of_the_main_set_there_is_no_training(missing: str) -> None:
    other = table(20, 6, name="b")
    parts = (other, DEV) if missing == "training" else (TRAIN, other)
    with pytest.raises(TrainingError, match=f"no usable {missing} row"):
        fit(CONFIG, *parts, HOW)
    with pytest.raises(TrainingError, match="of the main set 'c'"):
        fit(CONFIG, TRAIN, DEV, replace(HOW, main_set="c"))


@pytest.mark.parametrize("field", ["loss", "other_loss"])
def test_an_unknown_loss_is_refused_with_the_names_there_are(field: str) -> None:
    with pytest.raises(UsageError, match=r"'mae'; there are con, ut, dcq, ccc"):
        fit(CONFIG, TRAIN, DEV, replace(HOW, **{field: "mae"}))
