"""From labelled files to a model folder that scores."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.table import ENCODERS
from mmmos.errors import ManifestError, ModelNotFoundError, UsageError
from mmmos.features.extractor import FeatureExtractor
from mmmos.features.source import EncoderSource
from mmmos.hub.options import LoadOptions
from mmmos.inference.predictor import from_pretrained
from mmmos.inference.selfcheck import check_scores
from mmmos.model.aggregators import AGGREGATORS
from mmmos.model.load import load_model
from mmmos.model.quality import build_aggregator
from mmmos.scores import AXES
from mmmos.training.dataset import build_training_set
from mmmos.training.fit import train_folder
from mmmos.training.loop import predict
from mmmos.training.settings import PRESETS, Settings
from mmmos.training.summary import Fitted, count_sets
from tests.recorded_progress import RecordedProgress
from tests.sounds import music
from tests.toys import CPU, ToyEncoder

pytestmark = pytest.mark.usefixtures("shared_decoder")

SETTINGS = PRESETS["small"].replace({"lr": 0.05, "weight_decay": 0.0, "epochs": 12, "batch_size": 8, "blstm_hidden": 4})
SETTINGS = SETTINGS.replace({"early_stop_patience": None})
TOY = EncoderSource(("toy",), CPU)


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
    def run(
        folder: str = "model",
        rows: list[LabelledClip] = rows,
        settings: Settings = SETTINGS,
        source: EncoderSource = TOY,
        **options: object,
    ) -> Fitted:
        cache = options.pop("cache", tmp_path / "cache")
        return train_folder(tmp_path / folder, rows[:16], rows[16:], source, settings, cache, **options)

    return run


def epochs_of(caplog: pytest.LogCaptureFixture) -> list[tuple[int, float, float]]:
    """Number, training loss and development loss of each epoch that was logged."""
    return [record.args for record in caplog.records if record.name == "mmmos.training.loop"]


@pytest.mark.slow
def test_train_folder_saves_a_model_that_scores(
    train: Callable[..., Fitted], tmp_path: Path, rows: list[LabelledClip], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mmmos.training.loop")
    events = RecordedProgress()
    result = train(progress=events)
    epochs = epochs_of(caplog)
    assert events.stages == [("encoding", 16, "clips", 0), ("encoding", 8, "clips", 0), ("training", 12, "epochs", 0)]
    assert events.total_clips == 16 + 8 + 12
    assert (result.folder, result.epochs, result.train_clips, result.dev_clips) == (str(tmp_path / "model"), 12, 16, 8)
    assert result.left_out == []
    assert [number for number, _, _ in epochs] == list(range(1, 13))
    assert result.best_epoch == min(epochs, key=lambda epoch: epoch[2])[0]
    assert result.dev_srcc["PQ"] > 0.9
    assert result.dev_srcc["PC"] is None
    json.dumps(asdict(result), allow_nan=False)
    scorer = from_pretrained(tmp_path / "model", device="cpu")
    scores = scorer.score([row.clip.path for row in rows])
    scorer.close()
    assert np.corrcoef([item.PQ for item in scores], [row.labels[3] for row in rows])[0, 1] > 0.9


@pytest.mark.slow
def test_the_folder_documents_its_training(train: Callable[..., Fitted], tmp_path: Path) -> None:
    result = train()
    model = load_model(tmp_path / "model")
    assert (model.info.calibrated, model.info.commercial_use) == (False, False)
    assert model.info.check == check_scores(model)
    assert set(model.info.check) == set(model.info.rated) == {"CE", "CU", "PQ"}
    training = model.info.training
    assert training["settings"] == asdict(SETTINGS) | {"seed": 42, "main_set": ""}
    assert training["train"] == {"clips": {"": 16}, "labels": {"CE": 16, "CU": 16, "PC": 0, "PQ": 16}}
    assert training["dev"]["clips"] == {"": 8}
    assert (training["best_epoch"], training["dev_srcc"]) == (result.best_epoch, result.dev_srcc)
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("# model\n")
    assert f"epoch {result.best_epoch} of 12" in card
    assert "Not calibrated" in card


@pytest.mark.slow
def test_train_folder_resumes_training_with_the_same_result(
    train: Callable[..., Fitted], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stop(RecordedProgress):
        def advance(self, count: float = 1) -> None:
            super().advance(count)
            if self.total_clips == 16 + 8 + 5:  # clips of both parts, then epochs
                raise KeyboardInterrupt

    train("undisturbed")
    with pytest.raises(KeyboardInterrupt):
        train("broken", progress=Stop())
    with pytest.raises(ModelNotFoundError):
        load_model(tmp_path / "broken")
    caplog.set_level(logging.DEBUG, "mmmos.training.loop")
    train("broken")
    assert [number for number, _, _ in epochs_of(caplog)] == list(range(6, 13))
    ours, expected = (load_model(tmp_path / name).members[0].model.state_dict() for name in ("broken", "undisturbed"))
    assert all(torch.equal(ours[key], value) for key, value in expected.items())


@pytest.mark.slow
def test_broken_off_in_encoding_it_goes_on_with_the_next_clip(train: Callable[..., Fitted]) -> None:
    class Stop(RecordedProgress):
        def advance(self, count: float = 1) -> None:
            super().advance(count)
            if self.total_clips == 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(progress=Stop())
    with mock.patch.object(ToyEncoder, "frames", autospec=True, side_effect=ToyEncoder.frames) as frames:
        train()
        assert frames.call_count == 14 + 1  # and the check clip
        train("another", settings=replace(SETTINGS, loss="ccc", epochs=1))
        assert frames.call_count == 15 + 1


@pytest.mark.slow
def test_train_folder_logs_missing_and_damaged_clips(
    train: Callable[..., Fitted], tmp_path: Path, rows: list[LabelledClip], caplog: pytest.LogCaptureFixture
) -> None:
    missing, damaged = rows[3].clip, rows[20].clip
    Path(missing.path).unlink()
    Path(damaged.path).write_text("no audio")
    result = train()
    assert result.left_out == [missing.path, damaged.id]
    assert (result.train_clips, result.dev_clips) == (15, 7)
    assert any(missing.path in message for message in caplog.messages)
    assert any(damaged.id in message and "unsupported_format" in message for message in caplog.messages)
    others = [row for row in rows if row.clip not in (missing, damaged)]
    train_folder(tmp_path / "others", others[:15], others[15:], TOY, SETTINGS, tmp_path / "cache")
    ours, expected = (load_model(tmp_path / name).members[0].model.state_dict() for name in ("model", "others"))
    assert all(torch.equal(ours[key], value) for key, value in expected.items())


@pytest.mark.slow
def test_a_folder_of_another_run_is_refused(train: Callable[..., Fitted], tmp_path: Path) -> None:
    train()
    before = load_model(tmp_path / "model").sha256
    for changed in ({"seed": 7}, {"label_range": (0, 20)}, {"fit": "closed_form", "settings": PRESETS["small"]}):
        with pytest.raises(UsageError, match="another folder"):
            train(**changed)
    assert load_model(tmp_path / "model").sha256 == before


def test_without_a_clip_there_is_no_training(train: Callable[..., Fitted], rows: list[LabelledClip]) -> None:
    for row in rows[:16]:
        Path(row.clip.path).unlink()
    with pytest.raises(UsageError, match=r"no training clip of the set '' is left \(16 were left out: .*0\.wav"):
        train()


def test_an_unknown_encoder_is_reported_before_encoding(train: Callable[..., Fitted], tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="'nosuch'"):
        train(source=EncoderSource(("toy", "nosuch")))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["lite", "audiobox"])
def test_the_name_of_a_bundled_model_is_refused(rows: list[LabelledClip], tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is the name of a model"):
        train_folder(Path(name), rows[:16], rows[16:], TOY, SETTINGS, tmp_path / "cache")


@pytest.mark.slow
def test_rows_meet_their_features(toy_encoder: ToyEncoder, tmp_path: Path, rows: list[LabelledClip]) -> None:
    events = RecordedProgress()
    extractor = FeatureExtractor.load(TOY, SETTINGS.encoder_options, tmp_path / "cache", "pooled")
    extracted = extractor.prepare([row.clip for row in rows], "windows", progress=events)
    config = SETTINGS.model(extractor.specs())
    table = build_training_set(rows, extracted.plans, extractor, build_aggregator(config))
    assert table.rows == tuple(rows)
    assert [plan.clip for plan in extracted.plans] == [row.clip for row in rows]
    assert extracted.left_out == []
    assert events.stages == [("encoding", 24, "clips", 0)]
    assert (events.total_clips, events.order[-2:]) == (24, "w.")
    assert config.encoders[0].fingerprint == toy_encoder.fingerprint()
    assert config.encoders[0].block_dims == ToyEncoder.block_dims
    assert config.aggregator == "mlp"
    assert count_sets(table) == {"clips": {"": 24}, "labels": {"CE": 24, "CU": 24, "PC": 0, "PQ": 24}}


def test_a_model_takes_the_encoders_it_names_in_their_order(
    toy_encoder: ToyEncoder, tmp_path: Path, rows: list[LabelledClip]
) -> None:
    class Other(ToyEncoder):
        name = "other"

    with mock.patch.dict(ENCODERS, {"other": Other}):
        source = EncoderSource(("toy", "other"), CPU)
        extractor = FeatureExtractor.load(source, SETTINGS.encoder_options, tmp_path / "cache")
    plans = extractor.prepare([row.clip for row in rows[:3]], "windows").plans
    for names, dims in ((None, 16), (["other", "toy"], 16), (["other"], 8)):
        config = SETTINGS.model(extractor.specs(names))
        assert [spec.name for spec in config.encoders] == (names or ["toy", "other"])
        assert build_training_set(rows, plans, extractor, build_aggregator(config)).inputs.frames.shape == (3, dims)


@pytest.mark.slow
@pytest.mark.parametrize("where", [0, 20])
def test_a_disk_without_room_is_reported_before_encoding(
    train: Callable[..., Fitted], tmp_path: Path, where: int
) -> None:
    """The cache's folder is not there yet: the disk is that of the first folder above it that is."""
    asked = []

    def disk_usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=where)

    cache = tmp_path / "not" / "yet" / "there"
    with (
        mock.patch.object(shutil, "disk_usage", disk_usage),
        mock.patch.object(ToyEncoder, "frames", side_effect=AssertionError),
        pytest.raises(UsageError, match=r"would take \d+ .B in .*there, where 0 MB are free"),
    ):
        train(cache=cache)
    assert asked == [tmp_path]
    assert not (tmp_path / "not").exists()
    train(cache=cache)
    with mock.patch.object(shutil, "disk_usage", disk_usage):
        train("another", settings=replace(SETTINGS, loss="ccc"), cache=cache)  # all of it is there already


@pytest.mark.slow
def test_extraction_logs_large_features(
    toy_encoder: ToyEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, music(100.0), 16_000)
    extractor = FeatureExtractor.load(TOY, SETTINGS.encoder_options, tmp_path / "cache")
    with (
        mock.patch.object(ToyEncoder, "rate_hz", 20_000.0),
        mock.patch("mmmos.features.extractor.FeatureExtractor.extract", return_value={}),
    ):
        extractor.prepare([Clip("long", str(path))], "windows")
    assert caplog.messages == [f"encoding 10 crops of 1 clip, about 16 MB in {tmp_path / 'cache'}"]


def test_a_clip_in_both_parts_is_refused_with_both_lines(
    train: Callable[..., Fitted], tmp_path: Path, rows: list[LabelledClip]
) -> None:
    first, again = replace(rows[2], origin="train.csv, line 4"), replace(rows[2], origin="dev.csv, line 9")
    with pytest.raises(
        ManifestError,
        match=r"2\.wav appears in both training and held-out data: train\.csv, line 4 and dev\.csv, line 9$",
    ):
        train(rows=[*rows[:2], first, *rows[3:20], again])
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_train_folder_logs_silent_clips(
    train: Callable[..., Fitted], rows: list[LabelledClip], caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(rows[5].clip.path, np.zeros(16_000), 16_000)
    result = train()
    assert result.left_out == [rows[5].clip.id]
    assert result.train_clips == 15
    assert any(rows[5].clip.id in message and "silent" in message for message in caplog.messages)


@pytest.mark.slow
def test_clip_that_fails_after_a_window_is_left_out_whole(
    train: Callable[..., Fitted], rows: list[LabelledClip]
) -> None:
    samples = music(12.0)
    samples[11 * 16_000] = np.nan
    soundfile.write(rows[5].clip.path, samples, 16_000, subtype="FLOAT")
    for name in ("first", "again"):  # when its first window is in the cache
        result = train(name)
        assert (result.left_out, result.train_clips) == ([rows[5].clip.id], 15)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("pad_mask", [True, False])
def test_a_saved_folder_scores_as_its_table_does(
    train: Callable[..., Fitted], tmp_path: Path, rows: list[LabelledClip], name: str, pad_mask: bool
) -> None:
    """What is trained on is what is scored with: a clip up to 10 s, and longer ones window by window."""
    lengths = (0.3, 0.5, 1.7, 9.9, 10.0, 14.0)
    for row, seconds in zip(rows, lengths, strict=False):
        soundfile.write(row.clip.path, music(seconds, seed=int(10 * seconds)) / 3, 16_000, subtype="FLOAT")
    settings = replace(SETTINGS, aggregator=name, pad_mask=pad_mask, epochs=3, offset_calibration="train_mean")
    train(settings=settings)
    keep = "frames" if name == "blstm_t" else "pooled"
    extractor = FeatureExtractor.load(TOY, settings.encoder_options, tmp_path / "cache", keep)
    plans = extractor.prepare([row.clip for row in rows[:8]], "windows").plans
    (member,) = load_model(tmp_path / "model").members
    aggregator = build_aggregator(settings.model(extractor.specs()))
    table = build_training_set(rows[:8], plans, extractor, aggregator)
    expected = member.scale.to_labels(predict(member.model, table).double().numpy())
    with from_pretrained(tmp_path / "model", device="cpu") as scorer:
        scores = scorer.score([row.clip.path for row in rows[:8]])
    found = np.array([[score[axis] for axis in AXES] for score in scores])
    expected[:, AXES.index("PC")] = np.nan  # nobody was asked
    # The cache keeps statistics in float32 and frames in float16.
    np.testing.assert_allclose(found, expected, atol=1e-3 if name == "blstm_t" else 1e-5)
    assert np.nanmax(np.ptp(found, axis=0)) > 0.1


@pytest.mark.slow
def test_silence_that_counts_as_audio_changes_scores(train: Callable[..., Fitted], tmp_path: Path) -> None:
    for name, pad_mask in (("masked", True), ("padded", False)):
        train(name, settings=replace(SETTINGS, pad_mask=pad_mask, epochs=1))
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("masked", "padded")]
    masked, padded = (config["model"]["encoders"][0] for config in configs)
    assert masked["options"] == {"gain": 1.0}
    assert padded["options"] == {"gain": 1.0, "pad_silence": 10.0}
    assert masked["fingerprint"] != padded["fingerprint"]
    assert configs[0]["about"]["check"] != configs[1]["about"]["check"]


class States(ToyEncoder):
    """A network of three states, the last of them or all."""

    name = "wavlm"

    def __init__(self, layers: str = "last") -> None:
        super().__init__()
        self.layers = layers
        self.block_dims = (4, 4, 4) if layers == "all" else (4,)
        self.dim = sum(self.block_dims)

    @classmethod
    def from_checkpoint(cls, path: Path, *args: object, **settings: str) -> States:
        assert path.read_text() == "weights"
        return cls(**settings)

    def settings(self) -> dict[str, str]:
        return {"layers": self.layers}

    def frames(self, waves: torch.Tensor) -> torch.Tensor:
        last = super().frames(waves)
        return torch.cat([last.sin(), last.square(), last], dim=-1) if self.layers == "all" else last


class Rates(States):
    """A network that can be given another rate than its own."""

    name = "muq"

    def __init__(self, muq_sample_rate: int = 24_000) -> None:
        super().__init__()
        self.sample_rate = muq_sample_rate

    def settings(self) -> dict[str, int]:
        return {"muq_sample_rate": self.sample_rate}


@pytest.mark.slow
@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_published_codes_settings_train_a_model_that_scores(
    train: Callable[..., Fitted],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    rows: list[LabelledClip],
    name: str,
) -> None:
    for kind in (States, Rates):
        monkeypatch.setitem(ENCODERS, kind.name, kind)
    (tmp_path / "weights").write_text("weights")
    settings = PRESETS["official_code"].replace({"aggregator": name, "lr": 0.05, "epochs": 3, "blstm_hidden": 4})
    names = tuple(f"{name}={tmp_path / 'weights'}" for name in ("wavlm", "muq"))
    result = train(settings=settings, source=EncoderSource(names, CPU))
    assert result.epochs == 3
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert [spec["options"] for spec in config["model"]["encoders"]] == [
        {"layers": "all", "pad_silence": 10.0},
        {"muq_sample_rate": 16_000, "pad_silence": 10.0},
    ]
    assert [spec["checkpoint"] for spec in config["model"]["encoders"]] == [os.path.join("..", "weights")] * 2
    with from_pretrained(tmp_path / "model", device="cpu") as scorer:
        found = np.array([[scores[axis] for axis in AXES] for scores in scorer.score([row.clip.path for row in rows])])
    assert np.isfinite(found).all(axis=0).tolist() == [axis != "PC" for axis in AXES]
    states = load_model(tmp_path / "model").members[0].model.aggregator.states
    assert states.weights["all"].shape == (3,)
    assert states.weights["all"].std() > 0  # it has learned which states to listen to


@pytest.mark.slow
def test_training_takes_another_crop_each_epoch(train: Callable[..., Fitted], rows: list[LabelledClip]) -> None:
    for row in (rows[0], rows[20]):
        soundfile.write(row.clip.path, music(31.0), 16_000)
    settings = replace(SETTINGS, train_crop="random", eval_crop="windows", epochs=3)
    with (
        mock.patch("mmmos.training.fit.train_loop", side_effect=KeyboardInterrupt) as fit,
        pytest.raises(KeyboardInterrupt),
    ):
        train(settings=settings)
    tables = fit.call_args.args[1:3]
    assert [len(crops) for crops in tables[0].crops] == [3] + 15 * [1]
    assert [len(crops) for crops in tables[1].crops] == [1] * 4 + [4] + [1] * 3
    with (
        mock.patch("mmmos.training.fit.train_loop", side_effect=KeyboardInterrupt) as again,
        pytest.raises(KeyboardInterrupt),
    ):
        train(settings=settings, seed=7)
    frames = [call.call_args.args[1].inputs.frames[:3] for call in (fit, again)]
    assert len(torch.cat(frames).unique(dim=0)) == 6  # another seed, other crops


@pytest.mark.slow
def test_the_cache_keeps_frames_only_for_aggregators_over_time(train: Callable[..., Fitted], tmp_path: Path) -> None:
    for name, suffix in (("mlp", "pooled"), ("blstm_h", "pooled"), ("blstm_t", "frames")):
        cache = tmp_path / name
        train(f"model-{name}", settings=replace(SETTINGS, aggregator=name, epochs=1), cache=cache)
        kinds = {file.name.split(".")[1] for file in cache.rglob("*.safetensors")}
        assert kinds == {suffix}


@pytest.mark.slow
def test_features_in_bfloat16_train_a_model_too(train: Callable[..., Fitted], tmp_path: Path) -> None:
    train("exact", settings=replace(SETTINGS, epochs=2))
    train("rough", settings=replace(SETTINGS, epochs=2), source=replace(TOY, options=LoadOptions("cpu", "bfloat16")))
    exact, rough = (load_model(tmp_path / name).members[0].model.state_dict() for name in ("exact", "rough"))
    centers = [state["aggregator.standardizer.mean"] for state in (exact, rough)]
    assert not torch.equal(*centers)
    torch.testing.assert_close(*centers, rtol=0.05, atol=0.05)
    assert sorted(path.name[16:] for path in (tmp_path / "cache").iterdir() if path.name != "tables") == [
        "",
        "-bfloat16",
    ]
