"""From labelled files to a model folder that scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch

from conftest import ToyEncoder, music
from mmmos.aggregators import FusionConfig
from mmmos.clips import Clip
from mmmos.errors import ModelNotFoundError, TrainingError, UsageError
from mmmos.fitting import Fitted, count_sets, encode_rows, train_folder
from mmmos.heads import HeadConfig
from mmmos.manifest import LabelledClip
from mmmos.models import load_model
from mmmos.predictor import from_pretrained
from mmmos.scores import AXES
from mmmos.selfcheck import check_scores
from mmmos.train import Epoch, TrainConfig

FUSION, HEADS = FusionConfig("mean_std", "none", standardize=True), HeadConfig()
HOW = TrainConfig(lr=0.05, epochs=12, patience=None, batch_size=8)


@pytest.fixture
def rows(tmp_path: Path) -> list[LabelledClip]:
    """24 clips whose PQ follows their loudness; nobody was asked for PC."""
    folder = tmp_path / "audio"
    folder.mkdir()
    found = []
    for i in range(24):
        loudness = np.random.default_rng(i).uniform(-1, 1)
        path = folder / f"{i}.wav"
        soundfile.write(path, 10**loudness * music(0.3, seed=i) / 4, 16_000)
        found.append(LabelledClip(Clip(path.name, str(path)), (5.0, 5 + i / 10, float("nan"), 5 + 3 * loudness)))
    return found


@pytest.fixture
def train(toy_encoder: ToyEncoder, tmp_path: Path, rows: list[LabelledClip]) -> Callable[..., Fitted]:
    def run(folder: str = "model", rows: list[LabelledClip] = rows, how: TrainConfig = HOW, **hooks: object) -> Fitted:
        cache = hooks.pop("cache", tmp_path / "cache")
        return train_folder(tmp_path / folder, rows[:16], rows[16:], ["toy"], FUSION, HEADS, how, cache, **hooks)

    return run


def test_a_folder_comes_out_that_scores(train: Callable[..., Fitted], tmp_path: Path, rows: list[LabelledClip]) -> None:
    seen: list[Epoch] = []
    result = train(epoch_done=seen.append)
    assert (result.folder, result.epochs, result.train_clips, result.dev_clips) == (str(tmp_path / "model"), 12, 16, 8)
    assert result.left_out == []
    assert result.best_epoch == min(seen, key=lambda epoch: epoch.dev_loss).epoch
    assert result.dev_srcc == seen[result.best_epoch - 1].dev_srcc
    assert result.dev_srcc["PQ"] > 0.9
    assert result.dev_srcc["PC"] is None
    json.dumps(asdict(result), allow_nan=False)
    scorer = from_pretrained(tmp_path / "model", device="cpu")
    scores = scorer.score([row.clip.path for row in rows])
    scorer.close()
    assert np.corrcoef([item.PQ for item in scores], [row.labels[3] for row in rows])[0, 1] > 0.9


def test_the_folder_tells_how_it_came_about(train: Callable[..., Fitted], tmp_path: Path) -> None:
    result = train()
    model = load_model(tmp_path / "model")
    assert (model.about.calibrated, model.about.commercial_use) == (False, False)
    assert model.about.check == check_scores(model)
    assert set(model.about.check) == set(AXES)
    training = model.about.training
    assert training["settings"] == asdict(HOW)
    assert training["train"] == {"clips": {"": 16}, "labels": {"CE": 16, "CU": 16, "PC": 0, "PQ": 16}}
    assert training["dev"]["clips"] == {"": 8}
    assert (training["best_epoch"], training["dev_srcc"]) == (result.best_epoch, result.dev_srcc)
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("# model\n")
    assert f"epoch {result.best_epoch} of 12" in card
    assert "Not calibrated" in card


def test_broken_off_in_training_and_called_again_it_ends_the_same(train: Callable[..., Fitted], tmp_path: Path) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 5:
            raise KeyboardInterrupt

    train("undisturbed")
    with pytest.raises(KeyboardInterrupt):
        train("broken", epoch_done=stop)
    with pytest.raises(ModelNotFoundError):
        load_model(tmp_path / "broken")
    seen: list[Epoch] = []
    train("broken", epoch_done=seen.append)
    assert [epoch.epoch for epoch in seen] == list(range(6, 13))
    ours, expected = (load_model(tmp_path / name).members[0].model.state_dict() for name in ("broken", "undisturbed"))
    assert all(torch.equal(ours[key], value) for key, value in expected.items())


def test_broken_off_in_encoding_it_goes_on_with_the_next_clip(train: Callable[..., Fitted]) -> None:
    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(encoded=stop)
    with mock.patch.object(ToyEncoder, "frames", autospec=True, side_effect=ToyEncoder.frames) as frames:
        train()
        assert frames.call_count == 14 + 1  # and the check clip
        train("another", how=TrainConfig(loss="ccc", epochs=1))
        assert frames.call_count == 15 + 1


def test_clips_that_are_missing_or_damaged_are_left_out_and_told(
    train: Callable[..., Fitted], tmp_path: Path, rows: list[LabelledClip]
) -> None:
    missing, damaged = rows[3].clip, rows[20].clip
    Path(missing.path).unlink()
    Path(damaged.path).write_text("no audio")
    notes: list[str] = []
    result = train(note=notes.append)
    assert result.left_out == [missing.path, damaged.id]
    assert (result.train_clips, result.dev_clips) == (15, 7)
    assert any(missing.path in note for note in notes)
    assert any(damaged.id in note and "unsupported_format" in note for note in notes)
    others = [row for row in rows if row.clip not in (missing, damaged)]
    train_folder(tmp_path / "others", others[:15], others[15:], ["toy"], FUSION, HEADS, HOW, tmp_path / "cache")
    ours, expected = (load_model(tmp_path / name).members[0].model.state_dict() for name in ("model", "others"))
    assert all(torch.equal(ours[key], value) for key, value in expected.items())


def test_a_folder_of_another_run_is_refused(train: Callable[..., Fitted], tmp_path: Path) -> None:
    train()
    before = load_model(tmp_path / "model").sha256
    with pytest.raises(UsageError, match="another folder"):
        train(how=TrainConfig(seed=7))
    assert load_model(tmp_path / "model").sha256 == before


def test_without_a_clip_there_is_no_training(train: Callable[..., Fitted], rows: list[LabelledClip]) -> None:
    for row in rows[:16]:
        Path(row.clip.path).unlink()
    with pytest.raises(TrainingError, match="no usable training row"):
        train()


def test_an_unknown_encoder_is_told_before_anything_is_encoded(tmp_path: Path, rows: list[LabelledClip]) -> None:
    with pytest.raises(ModelNotFoundError, match="'nosuch'"):
        train_folder(tmp_path / "m", rows[:16], rows[16:], ["nosuch"], FUSION, HEADS, HOW, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_table_counts_what_there_is(toy_encoder: ToyEncoder, tmp_path: Path, rows: list[LabelledClip]) -> None:
    told: list[tuple[int, int]] = []
    table, config, left_out = encode_rows(
        rows, ["toy"], FUSION, HEADS, tmp_path / "cache", encoded=lambda *counts: told.append(counts)
    )
    assert table.rows == tuple(rows)
    assert left_out == []
    assert told == [(i, 24) for i in range(1, 25)]
    assert config.encoders[0].fingerprint == toy_encoder.fingerprint()
    assert config.encoders[0].columns == ToyEncoder.columns
    assert count_sets(table) == {"clips": {"": 24}, "labels": {"CE": 24, "CU": 24, "PC": 0, "PQ": 24}}
