"""A run on disk: its best epoch, its end, and what it resumes from."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmmos.errors import UsageError
from mmmos.model.quality import QualityModel, build_model
from mmmos.training.checkpoint import CHECKPOINT, HISTORY, Epoch, Run, best_epoch, finished
from tests.toys import toy_config

losses = st.lists(st.sampled_from([-1.5, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12)


def history_of(values: list[float]) -> list[Epoch]:
    return [Epoch(i, 1.0, value, {"PQ": 0.5, "PC": None}) for i, value in enumerate(values, start=1)]


def run(folder: Path | None, run_id: str = "a") -> Run:
    model = build_model(toy_config())
    return Run(model, torch.optim.AdamW(model.parameters(), lr=0.1), run_id, folder)


def step(of: Run) -> None:
    """One step of training: moves the weights and the optimizer's memory."""
    of.optimizer.zero_grad()
    sum(parameter.square().sum() for parameter in of.model.parameters()).backward()
    of.optimizer.step()


def values(model: QualityModel) -> torch.Tensor:
    return torch.cat([value.detach().flatten().clone() for value in model.state_dict().values()])


@pytest.mark.slow
@given(losses)
def test_the_best_epoch_is_the_first_of_the_lowest_loss(values: list[float]) -> None:
    best = best_epoch(history_of(values))
    assert best.dev_loss == min(values)
    assert best.epoch == 1 + values.index(min(values))


@pytest.mark.slow
@given(losses, st.integers(1, 5))
def test_patience_counts_epochs_since_the_best(values: list[float], patience: int) -> None:
    history = history_of(values)
    worse = len(values) - 1 - values.index(min(values))
    assert finished(history, patience) == (worse >= patience)
    assert not finished(history, None)
    assert not finished([], patience)


def test_resumed_run_starts_at_the_latest_epoch(tmp_path: Path) -> None:
    first, history, seen = run(tmp_path), history_of([2.0, 1.0, 3.0]), []
    for i in range(1, 4):
        step(first)
        first.save(history[:i], is_best=i <= 2)
        seen.append(values(first.model))
    again = run(tmp_path)
    assert not torch.equal(values(again.model), seen[2])
    assert again.resume() == history
    assert torch.equal(values(again.model), seen[2])
    for one in (first, again):
        step(one)  # which depends on what the optimizer remembers
    assert torch.equal(values(again.model), values(first.model))
    again.restore_best()
    assert torch.equal(values(again.model), seen[1])


def test_the_history_is_a_line_an_epoch(tmp_path: Path) -> None:
    own, history = run(tmp_path / "new" / "folder"), history_of([2.0, 1.0])
    for i in (1, 2):
        own.save(history[:i], is_best=True)
        lines = (tmp_path / "new" / "folder" / HISTORY).read_text().splitlines()
        assert [json.loads(line) for line in lines] == [asdict(epoch) for epoch in history[:i]]


def test_run_without_folder_writes_nothing_and_keeps_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = run(None)
    assert own.resume() == []
    own.save(history_of([1.0]), is_best=True)
    best = values(own.model)
    step(own)
    own.save(history_of([1.0, 2.0]), is_best=False)
    assert not torch.equal(values(own.model), best)
    own.restore_best()
    assert torch.equal(values(own.model), best)
    assert os.listdir() == []


def test_an_empty_folder_is_the_beginning(tmp_path: Path) -> None:
    own = run(tmp_path)
    before = values(own.model)
    assert own.resume() == []
    assert torch.equal(values(own.model), before)


def test_the_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path).save(history_of([1.0]), is_best=True)
    own = run(tmp_path, "b")
    before = values(own.model)
    with pytest.raises(UsageError, match=f"{tmp_path.name} holds a run with other settings or rows; choose another"):
        own.resume()
    assert torch.equal(values(own.model), before)


@pytest.mark.parametrize("step_name", ["torch.save", "os.replace"])
def test_an_end_in_the_middle_of_saving_leaves_the_epoch_before(tmp_path: Path, step_name: str) -> None:
    own, history = run(tmp_path), history_of([2.0, 1.0])
    own.save(history[:1], is_best=True)
    kept = values(own.model)
    step(own)
    with mock.patch(step_name, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        own.save(history, is_best=True)
    again = run(tmp_path)
    assert again.resume() == history[:1]
    assert torch.equal(values(again.model), kept)


def test_a_later_epoch_does_not_reach_into_the_best(tmp_path: Path) -> None:
    own = run(tmp_path)
    own.save(history_of([1.0]), is_best=True)
    best = values(own.model)
    step(own)
    own.save(history_of([1.0, 2.0]), is_best=False)
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert torch.equal(torch.cat([value.flatten() for value in saved["best"].values()]), best)
    assert not torch.equal(torch.cat([value.flatten() for value in saved["model"].values()]), best)


def test_a_loss_that_json_does_not_know_is_not_written(tmp_path: Path) -> None:
    own = run(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        own.save([replace(history_of([1.0])[0], train_loss=float("nan"))], is_best=True)
