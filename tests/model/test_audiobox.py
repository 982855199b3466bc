"""The published baseline from its published files: its own package says what the scores are."""

from __future__ import annotations

import json
import shutil
import sys
import types
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmmos import cli
from mmmos.audio.windows import WINDOW_SECONDS
from mmmos.encoders.wavlm import WavLM
from mmmos.encoders.wavlm_checkpoint import SIZES, WavLMConfig
from mmmos.errors import ModelFormatError, ModelNotFoundError
from mmmos.hub.options import LoadOptions
from mmmos.inference.predictor import Predictor
from mmmos.model.audiobox import STATES, is_audiobox, load_audiobox
from mmmos.model.info import ModelInfo
from mmmos.model.system import ScoringModel
from mmmos.scores import AXES, Scores
from tests.sounds import Wave, music_and_sweep
from tests.toys import CPU, TRUSTED

# Of the package: its older weight norm, and its two kinds of mask.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask"),
]

RATE = 16_000
ATOL = 1e-4  # label units, of 10
TINY = WavLMConfig(
    convs=((8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2),
    width=16,
    heads=2,
    hidden=24,
    depth=STATES - 1,
    pos_conv_kernel=8,
    groups=2,
    buckets=32,
    max_distance=20,
)
SETTINGS = {"proj_num_layer": 5, "proj_ln": True, "normalize_embed": True, "precision": "bf16"}
TARGET = {
    "CE": {"mean": 5.1, "std": 1.2},
    "CU": {"mean": 5.7, "std": 1.4},
    "PC": {"mean": 3.0, "std": 0.7},
    "PQ": {"mean": 6.6, "std": 1.3},
}
SAVED = ("proj_num_layer", "proj_ln", "proj_act_fn", "proj_dropout", "nth_layer", "use_weighted_layer_sum")

Reference = Callable[[list[Wave]], NDArray[np.float64]]


@pytest.fixture(scope="module")
def package() -> Any:
    """The package's `infer`. What reads and resamples files, and what downloads, is not there."""
    pytest.importorskip("audiobox_aesthetics")
    torchaudio: Any = types.ModuleType("torchaudio")
    utils: Any = types.ModuleType("audiobox_aesthetics.utils")
    torchaudio.functional = types.SimpleNamespace(resample=lambda wave, orig_freq, new_freq: wave)
    utils.load_model = lambda path: path
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchaudio", torchaudio)
        patch.setitem(sys.modules, "audiobox_aesthetics.utils", utils)
        patch.setattr("torch.cuda.is_available", lambda: False)
        patch.setattr("torch.backends.mps.is_available", lambda: False)
        from audiobox_aesthetics import infer

        yield infer


@pytest.fixture
def tiny(package: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same with a small network, as long as the test lasts."""
    return shrink(package, monkeypatch)


def shrink(package: Any, patch: pytest.MonkeyPatch) -> Any:
    """The network's size is a setting of neither the package nor ours."""
    from audiobox_aesthetics.model import aes

    sizes = {theirs: getattr(TINY, ours) for ours, (theirs, _) in SIZES.items()}
    settings = vars(aes.DEFAULT_AUDIO_CFG) | sizes | {"conv_feature_layers": str(list(TINY.convs))}
    patch.setattr(aes, "DEFAULT_AUDIO_CFG", type(aes.DEFAULT_AUDIO_CFG)(settings))
    patch.setattr("mmmos.model.audiobox.WavLM", partial(WavLM, TINY))
    return package


def build(package: Any, **settings: Any) -> Any:
    """Numbers that no term can hide behind: no bias is 0, no scale is 1, no two weights are alike."""
    model = package.AesMultiOutput(**SETTINGS | {"target_transform": TARGET} | settings)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "relative_attention_bias" in name or name.startswith("layer_weights"):
                value.copy_(torch.randn_like(value))
            elif value.numel() == max(value.shape):
                value.add_(0.3 * torch.randn_like(value))
            elif name.startswith("proj_layer"):
                value.mul_(3)
    return model.eval()


def save_folder(model: Any, path: Path) -> Path:
    """As on the hub."""
    model.save_pretrained(path)
    return path


def save_file(model: Any, path: Path) -> Path:
    """As the package's own download; its settings are those of a whole training framework."""
    names = (*SAVED, "normalize_embed", "output_dim", "freeze_encoder")
    settings = {name: getattr(model, name) for name in names} | {"precision": "bf16", "_target_": "somewhere.Model"}
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, "model_cfg": settings, "target_transform": model.target_transform}, path)
    return path


SAVERS = {"folder": save_folder, "checkpoint.pt": save_file}


def reference(package: Any, path: Path) -> Reference:
    """The package's own way from a published checkpoint and clips to scores [N, A] in the order of `AXES`."""
    with pytest.MonkeyPatch.context() as patch:
        if path.is_dir():  # it reads a file's path, or else the hub
            hub = types.SimpleNamespace(from_pretrained=partial(_from_folder, package.AesMultiOutput, path))
            patch.setattr(package, "AesMultiOutput", hub)
        predictor = package.AesPredictor(None if path.is_dir() else str(path))

    def score(clips: list[Wave]) -> NDArray[np.float64]:
        rows = predictor.forward([{"path": torch.from_numpy(clip)[None], "sample_rate": RATE} for clip in clips])
        return np.array([[row[axis] for axis in AXES] for row in rows])

    return score


def _from_folder(kind: Any, path: Path, repository: str) -> Any:
    assert repository == "facebook/audiobox-aesthetics"
    return kind.from_pretrained(path)


def table(scores: Iterable[Scores]) -> NDArray[np.float64]:
    """[N, A] in the order of `AXES`."""
    return np.array([[one[axis] for axis in AXES] for one in scores])


def predict(model: ScoringModel, clips: list[Wave], **options: Any) -> NDArray[np.float64]:
    return table(Predictor(model, CPU, **options).score(clips, sample_rate=RATE))


@pytest.fixture(scope="module")
def published(package: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in both layouts."""
    path = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        model = build(shrink(package, patch))
    for layout, save in SAVERS.items():
        save(model, path / layout)
    return path


@pytest.fixture
def folder(tiny: Any, published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published / "folder", tmp_path / "folder"))


@pytest.fixture
def file(tiny: Any, published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(published / "checkpoint.pt", tmp_path))


@pytest.fixture(scope="module")
def one_tensor(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with its settings and one of its tensors, for what is refused before the others are looked for."""
    held = torch.load(published / "checkpoint.pt", weights_only=False)
    name, path = "model.layer_weights.CE", tmp_path_factory.mktemp("one") / "checkpoint.pt"
    torch.save(held | {"state_dict": {name: held["state_dict"][name]}}, path)
    return path


@pytest.fixture
def small_file(one_tensor: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(one_tensor, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "norm", "l2", "layout"),
    [
        (1, False, True, "folder"),
        (1, True, False, "checkpoint.pt"),
        (5, False, True, "checkpoint.pt"),
        (5, False, False, "folder"),
        (5, True, False, "folder"),
        (5, True, True, "checkpoint.pt"),
    ],
)
def test_every_kind_of_head_scores_as_published(
    tiny: Any, tmp_path: Path, layers: int, norm: bool, l2: bool, layout: str
) -> None:
    model = build(tiny, proj_num_layer=layers, proj_ln=norm, normalize_embed=l2)
    path = SAVERS[layout](model, tmp_path / layout)
    clips = [music_and_sweep(2.5, 1), music_and_sweep(7.0, 2)]
    expected = reference(tiny, path)(clips)
    found = predict(load_audiobox("audiobox", path, TRUSTED), clips)
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
    assert np.abs(expected[0] - expected[1]).min() > 10 * ATOL  # the scores do depend on the clip


@pytest.mark.slow
@pytest.mark.parametrize("layout", SAVERS)
def test_dropout_shifts_the_published_numbering_and_no_score(tiny: Any, tmp_path: Path, layout: str) -> None:
    path = SAVERS[layout](build(tiny, proj_num_layer=3, proj_dropout=0.2), tmp_path / layout)
    found = predict(load_audiobox("audiobox", path, TRUSTED), [music_and_sweep(1.0)])
    np.testing.assert_allclose(found, reference(tiny, path)([music_and_sweep(1.0)]), atol=ATOL, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 0.3, 2.5, 10.0, 23.7])
def test_clips_of_every_length_score_as_published(tiny: Any, folder: Path, seconds: float) -> None:
    found = predict(load_audiobox("audiobox", folder), [music_and_sweep(seconds)])
    np.testing.assert_allclose(found, reference(tiny, folder)([music_and_sweep(seconds)]), atol=ATOL, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_batch_of_mixed_lengths_scores_as_published(tiny: Any, folder: Path, batch_size: int) -> None:
    clips = [music_and_sweep(seconds, seed) for seed, seconds in enumerate((12.5, 0.3, 10.0, 4.0))]
    found = predict(load_audiobox("audiobox", folder), clips, batch_size=batch_size)
    np.testing.assert_allclose(found, reference(tiny, folder)(clips), atol=ATOL, rtol=0)


@pytest.mark.slow
def test_each_window_scores_as_published(tiny: Any, folder: Path) -> None:
    clip = music_and_sweep(12.0)
    windows = Predictor(load_audiobox("audiobox", folder), CPU).segments(clip, sample_rate=RATE)
    expected = reference(tiny, folder)([clip[: 10 * RATE], clip[10 * RATE :]])
    np.testing.assert_allclose(table(windows), expected, atol=ATOL, rtol=0)


@pytest.mark.slow
def test_short_tail_is_left_out_unlike_the_package(tiny: Any, folder: Path) -> None:
    """10 ms are a thousandth of a window, and so is the difference of the scores."""
    clip = music_and_sweep(10.01)
    head, tail, whole = reference(tiny, folder)([clip[: 10 * RATE], clip[10 * RATE :], clip])
    np.testing.assert_allclose(predict(load_audiobox("audiobox", folder), [clip]), head[None], atol=ATOL, rtol=0)
    np.testing.assert_allclose(whole, (head + 0.001 * tail) / 1.001, atol=ATOL, rtol=0)


@pytest.mark.slow
def test_silent_windows_are_left_out_unlike_the_package(tiny: Any, folder: Path) -> None:
    audio, silence = music_and_sweep(10.0), np.zeros(10 * RATE, dtype=np.float32)
    predictor = Predictor(load_audiobox("audiobox", folder), CPU)
    scores = predictor.score([np.concatenate([audio, silence]), silence], sample_rate=RATE)
    expected = reference(tiny, folder)([audio, silence])
    np.testing.assert_allclose(table(scores[:1]), expected[:1], atol=ATOL, rtol=0)
    assert scores[0].warnings == ("partly_silent",)
    assert np.isfinite(expected).all()
    assert np.isnan(table(scores[1:])).all()


@pytest.mark.slow
def test_gradients_reach_the_wave_through_the_same_scores(tiny: Any, folder: Path) -> None:
    clips = [music_and_sweep(1.0, 0), music_and_sweep(2.0, 1)]
    waves = nn.utils.rnn.pad_sequence([torch.from_numpy(clip) for clip in clips], batch_first=True).requires_grad_()
    scores = Predictor(load_audiobox("audiobox", folder), CPU).module(waves, torch.tensor([RATE, 2 * RATE]))
    np.testing.assert_allclose(scores.detach().numpy(), reference(tiny, folder)(clips), atol=ATOL, rtol=0)
    scores.sum().backward()
    assert waves.grad is not None
    assert waves.grad[0, :RATE].abs().sum() > 0
    assert not waves.grad[0, RATE:].any()


@pytest.mark.slow
def test_full_size_scores_as_published(package: Any, tmp_path: Path) -> None:
    within = {axis: {"mean": 5.0 + i, "std": 0.1} for i, axis in enumerate(TARGET)}  # scores that no scale clips
    settings = {"proj_num_layer": 5, "proj_ln": True, "normalize_embed": True, "target_transform": within}
    path = save_file(build(package, **settings), tmp_path / "checkpoint.pt")
    clips = [music_and_sweep(4.0)]  # padded to a window
    expected = reference(package, path)(clips)
    model = load_audiobox("audiobox", path, TRUSTED)
    np.testing.assert_allclose(predict(model, clips), expected, atol=ATOL, rtol=0)
    assert np.abs(expected - [within[axis]["mean"] for axis in AXES]).min() > 10 * ATOL


@pytest.mark.slow
def test_padding_to_ten_seconds_keeps_own_frames() -> None:
    padding, plain = WavLM(TINY, "all", pad_seconds=WINDOW_SECONDS), WavLM(TINY, "all")
    padding.load_state_dict(plain.state_dict())
    long = torch.from_numpy(music_and_sweep(10.5))[None]
    assert torch.equal(padding.encode(long).frames, plain.encode(long).frames)
    for samples, frames in ((1600, 5), (1601, 6), (32_000, 100), (159_999, 499)):
        assert padding.encode(long[:, :samples]).frames.shape[1] == frames
    assert padding.fingerprint() != plain.fingerprint()


@pytest.mark.slow
def test_rows_say_which_model_it_was_and_what_it_may_be_used_for(folder: Path) -> None:
    info = ModelInfo(calibrated=True, commercial_use=True)
    predictor = Predictor(load_audiobox("audiobox", folder, info=info), CPU)
    assert load_audiobox("mine", folder).info == ModelInfo(training={"source": str(folder)})  # nobody knows what it is
    row = predictor.score(music_and_sweep(1.0), sample_rate=RATE).row()
    assert (row["model"], row["calibrated"], row["commercial_use"]) == ("audiobox", True, True)
    assert [row[f"{axis}_std"] for axis in AXES] == [None] * 4
    assert row["model_sha256"] == predictor.model.sha256


@pytest.mark.slow
def test_the_command_prints_the_keys_and_scores_of_the_package(
    tiny: Any,
    folder: Path,
    make_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = make_file("a.wav", seconds=2.0)
    words = ["mmmos", "score", path, "--model", folder, "--format", "audiobox", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    expected = reference(tiny, folder)([soundfile.read(path, dtype="float32")[0]])[0]
    assert tuple(row) == AXES
    np.testing.assert_allclose(list(row.values()), expected, atol=ATOL, rtol=0)


@pytest.mark.slow
def test_sha256_changes_with_weights_and_with_settings(tiny: Any, folder: Path, tmp_path: Path) -> None:
    seen = {load_audiobox("audiobox", folder).sha256}
    edit_config(folder, lambda config: config["target_transform"]["PQ"].update(mean=6.5))
    seen.add(load_audiobox("audiobox", folder).sha256)
    seen.add(load_audiobox("audiobox", save_folder(build(tiny), tmp_path / "another")).sha256)
    assert len(seen) == 3


def edit_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    state = safetensors.torch.load_file(path)
    change(state)
    safetensors.torch.save_file(state, path)


def edit_file(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    held = torch.load(file, weights_only=False)  # several times as fast
    change(held)
    torch.save(held, file)


HEAD = "proj_layer.PC.0.weight"
TENSOR = "wavlm_model.encoder.layers.7.fc1.bias"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("layer_weights.CU"), "missing aggregator.states.weights.CU"),
        (lambda state: state.pop(HEAD), "missing .*heads.axes.PC"),
        (lambda state: state.pop("proj_layer.CE.0.bias"), "missing .*heads.axes.CE"),
        (lambda state: [state.pop(key) for key in [*state] if key.startswith("proj_layer.PQ.4.")], "missing"),
        (lambda state: state.pop(TENSOR), "missing encoder.layers.7.fc1.bias"),
        (lambda state: state.update(extra=torch.ones(1)), "unknown extra"),
        (lambda state: state.update({"proj_layer.CE.99.weight": torch.ones(1)}), "unknown proj_layer.CE.99.weight"),
        (lambda state: state.update({"proj_layer.CE.last": torch.ones(1)}), "unknown proj_layer.CE.last"),
        (lambda state: state.update({f"{TENSOR}s": torch.ones(1)}), "unknown encoder.layers.7.fc1.biass"),
        (
            lambda state: state.update({"layer_weights.CE": torch.ones(12)}),
            "of another shape: aggregator.states.weights.CE",
        ),
        (lambda state: state.update({HEAD: state[HEAD][:-1].clone()}), "of another shape: heads.axes.PC"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder: Path, change: Callable[..., object], named: str) -> None:
    edit_tensors(folder, change)
    with pytest.raises(ModelFormatError, match=rf"model\.safetensors .*{named}"):
        load_audiobox("audiobox", folder)


SETTINGS_REFUSED = [
    ({"nth_layer": 12}, "nth_layer is 12"),
    ({"use_weighted_layer_sum": False}, "use_weighted_layer_sum is False"),
    ({"output_dim": 2}, "output_dim is 2"),
    ({"proj_act_fn": "relu"}, "proj_act_fn is 'relu'"),
    ({"proj_num_layer": "5"}, "proj_num_layer"),
    ({"proj_num_layer": 0}, "a layer"),
    ({"proj_ln": "false"}, "proj_ln"),
    ({"normalize_embed": None}, "normalize_embed"),
]


@pytest.mark.parametrize(("change", "named"), SETTINGS_REFUSED)
def test_settings_of_another_model_are_refused(
    folder: Path, small_file: Path, change: dict[str, Any], named: str
) -> None:
    edit_config(folder, lambda config: config.update(change))
    with pytest.raises(ModelFormatError, match=named):
        load_audiobox("audiobox", folder)
    edit_file(small_file, lambda held: held["model_cfg"].update(change))
    with pytest.raises(ModelFormatError, match=named):
        load_audiobox("audiobox", small_file, TRUSTED)


@pytest.mark.parametrize("name", ["proj_num_layer", "proj_ln", "normalize_embed", "target_transform"])
def test_a_setting_that_is_not_there_is_not_guessed(folder: Path, name: str) -> None:
    edit_config(folder, lambda config: config.pop(name))
    with pytest.raises(ModelFormatError, match=name):
        load_audiobox("audiobox", folder)


def test_an_unknown_setting_of_the_folder_is_refused(folder: Path) -> None:
    edit_config(folder, lambda config: config.update(pooling="max"))
    with pytest.raises(ModelFormatError, match=r"config\.json has unknown settings \['pooling'\]"):
        load_audiobox("audiobox", folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [None, {}, [1, 2], TARGET | {"PQ": None}, TARGET | {"PQ": {"mean": 5.0}}, TARGET | {"CE": {"mean": 5.0, "std": 0}}],
)
def test_a_target_transform_that_is_no_scale_is_refused(folder: Path, target: Any) -> None:
    edit_config(folder, lambda config: config.update(target_transform=target))
    with pytest.raises(ModelFormatError, match="target_transform"):
        load_audiobox("audiobox", folder)


@pytest.mark.parametrize("text", ["", "{", "5", "null", "[[]]", "[]", "\udcff"])
def test_a_damaged_config_is_refused_and_taken_for_no_other(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, errors="surrogateescape")
    assert not is_audiobox(folder)
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        load_audiobox("audiobox", folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_half_a_folder_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises((ModelFormatError, ModelNotFoundError), match=name):
        load_audiobox("audiobox", folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_refused(folder: Path, file: Path, share: float) -> None:
    weights = folder / "model.safetensors"
    for path, given in ((weights, folder), (file, file)):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ModelFormatError, match="cannot be read"):
            load_audiobox("audiobox", given, TRUSTED)


def test_a_pickle_is_not_read_without_trust(file: Path) -> None:
    with pytest.raises(ModelFormatError, match="trust_checkpoint=True"):
        load_audiobox("audiobox", file)


class Payload:
    """An object whose unpickling makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("place", ["state_dict", "model_cfg", "target_transform"])
def test_code_in_a_pickle_never_runs(small_file: Path, tmp_path: Path, place: str) -> None:
    file, marker = small_file, tmp_path / "it ran"
    edit_file(file, lambda held: held[place].update(payload=Payload(marker)))
    for trust in (False, True):
        with pytest.raises(ModelFormatError):
            load_audiobox("audiobox", file, LoadOptions(trust_checkpoint=trust))
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists()  # so it would have run


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held.pop("state_dict"),
        lambda held: held.pop("model_cfg"),
        lambda held: held.pop("target_transform"),
        lambda held: held.update(state_dict=[1, 2]),
        lambda held: held.update(model_cfg=None),
        lambda held: held.update(target_transform=5),
        lambda held: held["state_dict"].update({"model.layer_weights.CE": 5}),
    ],
)
def test_a_pickle_of_something_else_is_refused(small_file: Path, change: Callable[..., object]) -> None:
    edit_file(small_file, change)
    with pytest.raises(ModelFormatError, match=r"checkpoint\.pt (is not a checkpoint|holds no table)"):
        load_audiobox("audiobox", small_file, TRUSTED)


def test_a_tensor_without_a_name_is_refused(file: Path) -> None:
    edit_file(file, lambda held: held["state_dict"].update({5: torch.ones(1)}))
    with pytest.raises(ModelFormatError, match=r"checkpoint\.pt .*unknown 5"):
        load_audiobox("audiobox", file, TRUSTED)


@pytest.mark.parametrize("held", [5, [1, 2], {}])
def test_a_pickle_of_no_table_is_refused(tmp_path: Path, held: object) -> None:
    torch.save(held, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelFormatError, match="not a checkpoint of Audiobox Aesthetics"):
        load_audiobox("audiobox", tmp_path / "checkpoint.pt", TRUSTED)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "checkpoint.pt", tmp_path / "nowhere"):
        assert not is_audiobox(path)
        with pytest.raises(ModelNotFoundError):
            load_audiobox("audiobox", path, TRUSTED)
