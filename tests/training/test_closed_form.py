"""Heads in closed form: an ordinary folder that scores as it was fitted, on clips of one's own and their scale."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import EncoderSpec
from mmmos.errors import UsageError
from mmmos.features.source import EncoderSource
from mmmos.inference.predictor import from_pretrained
from mmmos.metrics import srcc
from mmmos.model.heads import HeadConfig
from mmmos.model.load import load_model
from mmmos.model.quality import ModelConfig, build_model
from mmmos.model.system import Member
from mmmos.scores import AXES, Scale
from mmmos.training.checkpoint import CHECKPOINT
from mmmos.training.closed_form import _with_heads
from mmmos.training.fit import train_folder
from mmmos.training.method import CLOSED_FORM_CLIPS, choose_fit
from mmmos.training.ridge import Linear
from mmmos.training.settings import PRESETS
from mmmos.training.summary import Fitted, agreement_lines, hardly_varying
from tests.sounds import music
from tests.toys import CPU, ToyEncoder

SMALL = PRESETS["small"]
NAN = float("nan")
TOY = EncoderSource(("toy",), CPU)
LITE = EncoderSource(("student", "yamnet"), CPU)  # in another order than lite's
Run = Callable[..., tuple[int, str, str]]


def make_rows(folder: Path, count: int, seconds: float = 0.3) -> list[LabelledClip]:
    """Clips whose PQ on 0-100 follows their loudness, two a group; CU has the opposite order."""
    rows = []
    for i in range(count):
        loudness = np.random.default_rng(i).uniform(-1, 1)
        path = folder / f"{i}.wav"
        soundfile.write(path, 10**loudness * music(seconds, seed=i) / 4, 16_000)
        labels = (NAN, 50 - 30 * loudness, NAN, 50 + 30 * loudness)
        rows.append(LabelledClip(Clip(path.name, str(path)), labels, group=f"song {i // 2}", origin=f"line {i + 2}"))
    return rows


@pytest.fixture
def rows(toy_encoder: ToyEncoder, tmp_path: Path) -> list[LabelledClip]:
    return make_rows(tmp_path, 24)


def train(folder: Path, rows: list[LabelledClip], source: EncoderSource = TOY, **options: object) -> Fitted:
    given = {"label_range": (0, 100), **options}
    dev = given.pop("dev", [])
    settings = given.pop("settings", SMALL)
    return train_folder(folder, rows, dev, source, settings, folder.parent / "cache", **given)


@pytest.mark.parametrize(
    ("fit", "changes", "clips", "expected"),
    [
        ("auto", {}, 60, "closed_form"),
        ("auto", {}, CLOSED_FORM_CLIPS - 1, "closed_form"),
        ("auto", {}, CLOSED_FORM_CLIPS, "gradient"),
        ("auto", {"clip_output": True, "pool": "mean"}, 60, "closed_form"),
        ("auto", {"epochs": 5}, 60, "gradient"),
        ("auto", {"head_layers": 2}, 60, "gradient"),
        ("auto", {"aggregator": "blstm_t"}, 60, "gradient"),
        ("gradient", {}, 60, "gradient"),
        ("closed_form", {}, 10**6, "closed_form"),
    ],
)
def test_fit_follows_size_and_settings(fit: str, changes: dict[str, object], clips: int, expected: str) -> None:
    assert choose_fit(fit, SMALL.replace(changes), clips) == expected


def test_fit_of_an_interrupted_folder_stays_gradient(tmp_path: Path) -> None:
    assert choose_fit("auto", SMALL, 60, tmp_path) == "closed_form"
    (tmp_path / CHECKPOINT).touch()
    assert choose_fit("auto", SMALL, 60, tmp_path) == "gradient"
    assert choose_fit("closed_form", SMALL, 60, tmp_path) == "closed_form"


@pytest.mark.parametrize("preset", ["paper", "official_code", "best"])
def test_presets_of_the_paper_keep_the_gradient_fit(preset: str) -> None:
    assert choose_fit("auto", PRESETS[preset], 60) == "gradient"
    with pytest.raises(UsageError, match=r"the closed form does not read .*epochs.*--fit gradient"):
        choose_fit("closed_form", PRESETS[preset], 60)


@pytest.mark.slow
def test_folder_scores_on_the_scale_of_the_labels(tmp_path: Path, rows: list[LabelledClip]) -> None:
    result = train(tmp_path / "m", rows)
    assert (result.fit, result.scale, result.train_clips, result.epochs) == ("closed_form", "0-100", 24, None)
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    model = load_model(tmp_path / "m")
    assert (model.info.scale, model.info.rated) == ("0-100", ("CU", "PQ"))
    assert model.info.training["agreement"] == result.agreement
    assert "on the scale 0-100" in (tmp_path / "m" / "README.md").read_text()
    with from_pretrained(tmp_path / "m", device="cpu") as scorer:
        scores = scorer.score([row.clip.path for row in rows])
    for axis in ("CU", "PQ"):
        labels = [row.labels[AXES.index(axis)] for row in rows]
        assert srcc(np.array([item[axis] for item in scores]), np.array(labels)) > 0.95
        assert result.agreement[axis]["SRCC"] > 0.9
        assert result.agreement[axis]["MSE"] < 0.2 * result.agreement[axis]["constant_MSE"]
    assert {item.scale for item in scores} == {"0-100"}
    assert all(np.isnan(item.CE) for item in scores)
    json.dumps(result.agreement, allow_nan=False)


@pytest.mark.slow
def test_same_run_twice_is_done_once_and_clips_may_have_moved(
    tmp_path: Path, rows: list[LabelledClip], caplog: pytest.LogCaptureFixture
) -> None:
    first = train(tmp_path / "m", rows)
    before = (tmp_path / "m" / "config.json").stat().st_mtime_ns
    caplog.clear()
    assert train(tmp_path / "m", rows) == first
    assert caplog.messages == [f"{tmp_path / 'm'} holds the finished model of this run already"]
    assert (tmp_path / "m" / "config.json").stat().st_mtime_ns == before
    trained_on = load_model(tmp_path / "m").info.trained_on
    assert len(trained_on) == len(set(trained_on)) == 24
    assert train(tmp_path / "other", rows) == replace(first, folder=str(tmp_path / "other"))


@pytest.mark.slow
def test_development_clips_are_reported_and_not_trained_on(tmp_path: Path, rows: list[LabelledClip]) -> None:
    result = train(tmp_path / "m", rows[:16], dev=rows[16:])
    assert (result.train_clips, result.dev_clips) == (16, 8)
    assert result.dev_srcc["PQ"] > 0.7
    assert result.agreement["PQ"]["n"] == 16
    assert len(load_model(tmp_path / "m").info.trained_on) == 16


@pytest.mark.slow
def test_labels_without_a_relation_are_warned_of(tmp_path: Path, rows: list[LabelledClip]) -> None:
    turned = np.random.default_rng(0).permutation(len(rows))
    mixed = [replace(row, labels=(NAN, NAN, NAN, float(turned[i]))) for i, row in enumerate(rows)]
    result = train(tmp_path / "m", mixed)
    lines = list(agreement_lines(result))
    assert lines[0].startswith("PQ on 24 clips, cross-validated in 5 folds that cut no group: SRCC ")
    assert hardly_varying(result.agreement) == ["PQ"]
    assert "warning: predictions of PQ hardly vary: their standard deviation is " in lines[1]
    assert lines[1] in (tmp_path / "m" / "README.md").read_text()


@pytest.mark.parametrize(("std", "label_std", "warned"), [(0.03, 0.95, True), (0.3, 0.95, False), (0.0, 0.0, True)])
def test_warning_of_either_fit_compares_spreads(std: float, label_std: float, warned: bool) -> None:
    figures = {"n": 12, "SRCC": None, "LCC": 0.1, "MSE": 0.9, "constant_MSE": 0.9, "std": std, "label_std": label_std}
    result = Fitted("m", "gradient", "1-5", 48, 12, [], agreement={"PQ": figures}, agreement_on="development clips")
    first, *others = agreement_lines(result)
    assert first == "PQ on 12 development clips: SRCC undefined, LCC 0.10, MSE 0.90 (a constant: 0.90)"
    assert len(others) == warned
    assert all("or --fit closed_form" in line for line in others)


def test_fitted_line_holds_for_a_prior_with_a_severity() -> None:
    torch.manual_seed(0)
    heads = HeadConfig(domains=("a", "b"), severity=True)
    model = build_model(ModelConfig((EncoderSpec("toy", (3,), "none"),), heads=heads)).eval()
    assert model.heads.severity is not None
    torch.nn.init.uniform_(model.heads.severity.drop)
    member = Member(model.requires_grad_(False), Scale((5.0, 6.0, 4.0, 7.0), (1.0, 0.5, 2.0, 0.8)))
    x, axis = torch.randn(20, 3), AXES.index("PQ")
    own = member.scale.to_labels(model.heads(x).double().numpy())[:, axis]
    line = Linear(np.array([0.3, -0.2, 0.1]), slope=0.4, intercept=1.0, prior_weight=0.5, decay=1.0)
    scale = Scale((0.0, 0.0, 0.0, 3.0), (1.0, 1.0, 1.0, 0.5))
    fitted = _with_heads(member, scale, {"PQ": line})
    found = scale.to_labels(fitted.model.heads(x).double().numpy())[:, axis]
    np.testing.assert_allclose(found, line.predict(x.double().numpy(), own), atol=1e-5)


@pytest.mark.slow
def test_training_from_a_model_corrects_its_scores(tmp_path: Path, rows: list[LabelledClip]) -> None:
    first = train(tmp_path / "first", rows)
    start = load_model(tmp_path / "first")
    moved = [replace(row, labels=(NAN, NAN, NAN, row.labels[3] / 2 + 1)) for row in rows]
    second = train(tmp_path / "second", moved, start=start)
    model = load_model(tmp_path / "second")
    assert model.info.training["warm"]
    assert model.info.training["prior"] == start.name
    assert set(start.info.trained_on) <= set(model.info.trained_on)
    assert (second.agreement["PQ"]["SRCC"] or 0) >= (first.agreement["PQ"]["SRCC"] or 0)
    assert train(tmp_path / "second", moved, start=start) == second  # finished
    with pytest.raises(UsageError, match="other settings or rows"):
        train(tmp_path / "second", moved)
    dev, others = moved[:4], [row for row in moved if row.group not in {other.group for other in moved[:4]}]
    with pytest.raises(UsageError, match="only the closed form begins with a model"):
        train(tmp_path / "third", others, start=start, fit="gradient", dev=dev)
    with pytest.raises(UsageError, match="has other encoders or settings"):
        train(tmp_path / "third", moved, start=start, settings=SMALL.replace({"pool": "mean"}))


@pytest.mark.slow
def test_on_the_encoders_of_lite_its_scores_are_the_prior(tmp_path: Path) -> None:
    """Labels that are lite's own scores on another scale come back, from a dozen clips."""
    rows = make_rows(tmp_path, 18, seconds=0.5)
    with from_pretrained("lite", device="cpu") as lite:
        own = [scores.PQ for scores in lite.score([row.clip.path for row in rows])]
    rows = [replace(row, labels=(NAN, NAN, NAN, 1 + 0.4 * score)) for row, score in zip(rows, own, strict=True)]
    result = train(tmp_path / "m", rows[:12], LITE, dev=rows[12:], label_range=(1, 5))
    model = load_model(tmp_path / "m")
    assert (len(model.members), model.info.training["prior"]) == (5, "lite")
    assert model.info.training["chosen"]["PQ"]["prior_weight"] == 1.0
    assert result.dev_srcc["PQ"] == 1.0
    with from_pretrained(tmp_path / "m", device="cpu") as scorer:
        scores = scorer.score([row.clip.path for row in rows[12:]])
    np.testing.assert_allclose([item.PQ for item in scores], [row.labels[3] for row in rows[12:]], atol=2e-3)
    assert all(item.PQ_std > 0 and item.domain for item in scores)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(
    not Path(os.environ.get("MMMOS_DATA", "/nowhere"), "codec_mushra").is_dir(),
    reason="MMMOS_DATA names no folder with codec_mushra",
)
def test_sixty_rated_clips_beat_a_line_through_lite(tmp_path: Path) -> None:
    """MUSHRA ratings of speech codecs: 60 clips to train on, the others' signals unseen."""
    folder = Path(os.environ["MMMOS_DATA"]) / "codec_mushra"
    with open(folder / "manifest.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    rows = [
        LabelledClip(Clip(row["path"], str(folder / row["path"])), (NAN, NAN, NAN, float(row["mushra"])), group=signal)
        for row in listed
        for signal in [row["signal"]]
    ]
    signals = sorted({row.group for row in rows})
    parts = [row for row in rows if row.group in signals[::2]][:60], [row for row in rows if row.group in signals[1::2]]
    result = train(tmp_path / "m", parts[0], LITE)
    found = {}
    for name in (tmp_path / "m", "lite"):
        with from_pretrained(name, device="cpu") as scorer:
            found[name] = np.array([item.PQ for item in scorer.score([row.clip.path for row in parts[1]])])
            if name == "lite":
                known = np.array([item.PQ for item in scorer.score([row.clip.path for row in parts[0]])])
    labels = [np.array([row.labels[3] for row in part]) for part in parts]
    slope, constant = np.polyfit(known, labels[0], 1)
    line = slope * found["lite"] + constant
    assert srcc(found[tmp_path / "m"], labels[1]) > srcc(line, labels[1]) - 0.02
    assert np.mean((found[tmp_path / "m"] - labels[1]) ** 2) < 1.05 * np.mean((line - labels[1]) ** 2)
    assert result.agreement["PQ"]["SRCC"] > 0.6
    assert found[tmp_path / "m"].std() > 0.6 * labels[1].std()


@pytest.mark.parametrize(
    ("lines", "words", "message"),
    [
        (["a.wav,3,x"], (), "1 clip has a label of PQ; at least 5 are needed"),
        ([f"{i}.wav,{i},x" for i in range(9)], (), "are of 1 group (column `group`); at least 3 are needed"),
        ([f"{i}.wav,4,{i}" for i in range(9)], (), "all clips have the same labels (PQ is always 4)"),
        ([f"{i}.wav,{i},{i}" for i in range(9)], ("--scale", 1, 5), "line 2: PQ is 0, outside the scale 1-5"),
        ([f"{i}.wav,{-i},{i}" for i in range(9)], (), "labels lie between -8 and 0; give their scale with --scale"),
        ([f"{i}.wav,{i},{i}" for i in range(9)], (), "there is no labelled clip to train on (9 were left out: "),
    ],
)
def test_train_says_in_one_sentence_why_it_cannot(
    run_mmmos: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], words: tuple, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ratings.csv").write_text("\n".join(["path,PQ,group", *lines]))
    status, out, err = run_mmmos("train", "ratings.csv", "-o", "m", "--encoders", "spectrum", *words)
    assert (status, out) == (2, "")
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not Path("m").exists()


@pytest.mark.slow
def test_evaluate_warns_of_training_clips_and_knows_the_scale(
    run_mmmos: Run, tmp_path: Path, rows: list[LabelledClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "m", rows[:16])
    (tmp_path / "moved").mkdir()
    for i, row in enumerate(rows):
        os.rename(row.clip.path, tmp_path / "moved" / f"renamed-{i}.wav")
    lines = [f"moved/renamed-{i}.wav,{row.labels[3]}" for i, row in enumerate(rows)]
    for name, part in (("all.csv", lines), ("unseen.csv", lines[16:])):
        (tmp_path / name).write_text("\n".join(["path,PQ", *part]))
    monkeypatch.chdir(tmp_path)
    status, out, err = run_mmmos("evaluate", "all.csv", "--model", "m", "--axis", "PQ")
    assert (status, json.loads(out)["trained_on"]) == (0, 16)
    assert "warning: m was trained on 16 of these 24 clips" in err.replace("\n", " ")
    status, out, err = run_mmmos("evaluate", "unseen.csv", "--model", "m", "--axis", "PQ")
    report = json.loads(out)
    assert (status, report["trained_on"], report["scale"], report["label_scale"]) == (0, 0, "0-100", "0-100")
    assert report["agreement"][0]["MSE"] > 0
    assert "was trained on" not in err
    words = ("--scale", 0, 200)
    assert (
        json.loads(run_mmmos("evaluate", "unseen.csv", "--model", "m", "--axis", "PQ", *words)[1])["label_scale"]
        == "0-200"
    )
