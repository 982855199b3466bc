"""Trainers log the scores of what their models generate, and choose by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmmos.errors import AudioError
from mmmos.inference.predictor import Predictor
from mmmos.integrations.lightning import ScoreCallback as LightningCallback
from mmmos.integrations.samples import SampleScores
from mmmos.integrations.statistics import audio_quality
from mmmos.integrations.trainer import ScoreCallback as TrainerCallback
from tests.integrations.batches import LENGTHS, RATE, clips, toy_scorer
from tests.toys import ToyEncoder

CPU = torch.device("cpu")


@pytest.fixture
def scorer(toy_encoder: ToyEncoder) -> Predictor:
    return toy_scorer()


class Gain(nn.Module):
    """A generator with one parameter: clips at a level."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        return {"loss": (self.gain * x).square().mean(), "logits": x}


def generate(model: Any) -> torch.Tensor:
    return model.gain * clips()


def test_samples_have_the_statistics_of_the_metric(scorer: Predictor) -> None:
    samples = SampleScores(lambda model: (generate(model), LENGTHS), RATE, scorer, True, "x/")
    values = samples.measure(Gain(), CPU)
    expected = audio_quality(clips(), LENGTHS, RATE, scorer)
    names = [f"{axis}_{part}" for axis in ("CE", "CU", "PC", "PQ") for part in ("mean", "std")]
    assert values == {f"x/{name}": expected[name].item() for name in (*names, "clips", "silent", "failed")}


def test_sample_that_fails_is_counted_or_stops(scorer: Predictor) -> None:
    model = Gain()
    model.gain.data.fill_(torch.nan)
    values = SampleScores(generate, RATE, scorer, False, "").measure(model, CPU)
    assert (values["clips"], values["failed"]) == (0, 6)
    assert torch.tensor(values["PQ_mean"]).isnan()
    with pytest.raises(AudioError, match="clip 0"):
        SampleScores(generate, RATE, scorer, True, "").measure(model, CPU)


def test_sample_model_is_loaded_when_it_is_needed(scorer: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(name: str, device: str) -> Predictor:
        loaded.append((name, device))
        return scorer

    monkeypatch.setattr("mmmos.integrations.samples.load", load)
    samples = SampleScores(generate, RATE, "some/model", True, "")
    assert not loaded
    samples.measure(Gain(), CPU)
    samples.measure(Gain(), CPU)
    assert loaded == [("some/model", "cpu")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightning_logs_scores_of_every_other_validation(scorer: Predictor, tmp_path: Path) -> None:
    pl = pytest.importorskip("lightning.pytorch", reason="needs lightning")

    class Module(pl.LightningModule):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = Gain()
            self.gain = self.inner.gain
            self.seen: list[float] = []

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            return self.inner(batch)["loss"]

        def validation_step(self, batch: torch.Tensor, index: int) -> None:
            pass

        def on_train_epoch_end(self) -> None:
            self.seen.append(self.trainer.callback_metrics["mmmos/PQ_mean"].item())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    module, data = Module(), torch.utils.data.DataLoader(torch.ones(4, 1))
    callback = LightningCallback(generate, RATE, scorer, every=2)
    trainer = pl.Trainer(
        max_epochs=3,
        callbacks=[callback],
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, data, data)
    assert callback.validations == 3  # without the sanity check
    assert module.seen[0] == module.seen[1] != module.seen[2]
    last = audio_quality(generate(module).detach(), None, RATE, scorer)
    assert module.seen[2] == pytest.approx(last["PQ_mean"].item(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the libraries' own
def test_hugging_face_trainer_logs_and_chooses_by_scores(scorer: Predictor, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs accelerate")
    transformers = pytest.importorskip("transformers")
    options = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="mmmos_PQ_mean",
        greater_is_better=True,
        learning_rate=0.2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    rows = [{"x": torch.ones(1)} for _ in range(4)]
    model = Gain()
    trainer = transformers.Trainer(model, options, train_dataset=rows, eval_dataset=rows)
    trainer.add_callback(TrainerCallback(trainer, generate, RATE, scorer))
    trainer.train()
    logged = [entry["eval_mmmos_PQ_mean"] for entry in trainer.state.log_history if "eval_mmmos_PQ_mean" in entry]
    assert len(logged) == 2
    assert logged[0] != logged[1]
    assert trainer.state.best_metric == max(logged)
    chosen = audio_quality(generate(model).detach(), None, RATE, scorer)
    assert chosen["PQ_mean"].item() == pytest.approx(max(logged), abs=1e-5)
