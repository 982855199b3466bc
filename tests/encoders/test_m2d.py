"""M2D: our network against PyTorch's own transformer layers and librosa's mels, published layouts, our promises."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from mmmos.encoders.m2d import M2D
from mmmos.encoders.m2d_checkpoint import NORM_STATS, M2DConfig, parse_folder
from mmmos.encoders.mel import mel_filters
from mmmos.errors import AudioError, ModelFormatError, ModelNotFoundError
from tests.references.m2d import Reference
from tests.sounds import music_noise_silence
from tests.toys import TRUSTED

FOLDER = "m2d_clap_vit_base-80x1001p16x16-240128_AS-FT_enconly"
TINY = M2DConfig(input_size=(32, 41), patch_size=(16, 4), width=128, depth=2, hidden=192)
TINY_FOLDER = "m2d_vit_tiny-32x41p16x4-250101"
TINY_32K = M2DConfig(input_size=(32, 41), patch_size=(16, 4), sample_rate=32_000, width=64, depth=1, hidden=64)
FINE_TUNED = "module.ar.runtime.backbone."

State = dict[str, Tensor]


def published(config: M2DConfig = TINY, norm_stats: tuple[float, float] | None = (-6.5, 3.9)) -> State:
    """Random weights by their published names, without prefix; none of them does nothing."""
    bands, steps = config.grid
    shapes = {key: value.shape for key, value in M2D(config).state_dict().items() if key != "front.norm_stats"}
    assert shapes["pos_embed"] == (1, 1 + bands * steps, config.width)
    state = {}
    for key, shape in shapes.items():
        fan_in = math.prod(shape[1:])
        norms, tokens = "norm" in key and key.endswith("weight"), key in ("cls_token", "pos_embed")
        spread = 0.3 if tokens or len(shape) == 1 else 1.5 * fan_in**-0.5
        state[key] = spread * torch.randn(shape) + float(norms)
    return state if norm_stats is None else state | {"norm_stats": torch.tensor(norm_stats)}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def layout(name: str, state: State) -> Any:
    """What a released file holds, as `torch.save` was given it."""
    spectrogram = {f"to_spec.stft.{key}": torch.zeros(1) for key in ("wsin", "wcos", "window_mask")}
    spectrogram |= {"to_spec.mel_basis": torch.zeros(1)}
    if name == "encoder only":
        return state
    if name == "fine-tuned":
        head = {"norm.running_mean": 8, "norm.running_var": 8, "mlp.mlp.0.weight": 8, "mlp.mlp.0.bias": 8}
        return (
            prefixed(state, FINE_TUNED)
            | prefixed(spectrogram, "module.ar.runtime.")
            | {f"module.head.{key}": torch.zeros(size) for key, size in head.items()}
            | {"module.head.norm.num_batches_tracked": torch.tensor(3)}
        )
    if name == "pre-trained":
        blocks = {key: value for key, value in state.items() if key.startswith("blocks.")}
        parts = {f"decoder_{key}": torch.zeros(1) for key in ("embed.weight", "pos_embed", "norm.bias", "pred.bias")}
        target = prefixed(blocks, "target_") | {"target_norm.weight": torch.zeros(1)}
        weights = state | parts | target | prefixed(blocks, "decoder_") | {"mask_token": torch.zeros(1, 1, 8)}
        weights |= {"offline_predictor.weight": torch.zeros(1), "offline_predictor.bias": torch.zeros(1)}
        run = {"optimizer": {"state": {}, "param_groups": []}, "epoch": 300, "scaler": {"scale": 65536.0}}
        return {"model": weights, "args": Namespace(model="m2d_vit_base", blr=3e-4, input_size=[80, 608]), **run}
    projection = {f"audio_proj.{i}.{key}": torch.zeros(1) for i in (0, 2) for key in ("weight", "bias")}
    if name == "clap 2024":
        return {"model": state | projection | {"text_proj.weight": torch.zeros(1)}}
    assert name == "clap 2025"
    semantic = {"audio_proj.sem_token": torch.zeros(1), "audio_proj.sem_blocks.0.norm1.weight": torch.zeros(1)}
    text = {"text_encoder.text_encoder.embeddings.word_embeddings.weight": torch.zeros(3, 2)}
    return {"model": prefixed(state | semantic, "backbone.") | spectrogram | text}


LAYOUTS = ("encoder only", "fine-tuned", "pre-trained", "clap 2024", "clap 2025")


def write(tmp_path: Path, held: Any, folder: str = TINY_FOLDER, name: str = "weights.pth") -> Path:
    path = tmp_path / folder / name
    path.parent.mkdir(exist_ok=True)
    torch.save(held, path.with_suffix(".part"))
    return path.with_suffix(".part").replace(path)  # encoders may have the one before in memory, by a map


def load(path: Path, **options: Any) -> M2D:
    return M2D.from_checkpoint(path, TRUSTED, **options)


def compare(encoder: M2D, reference: Reference, clip: Tensor) -> Tensor:
    """Frames of a clip [1, S], once they are the reference's to within 1e-4."""
    ours = encoder.encode(clip).frames
    torch.testing.assert_close(ours[0].double(), reference.frames(clip[0]), rtol=0, atol=1e-4)
    return ours


@pytest.fixture(scope="module")
def weights() -> State:
    torch.manual_seed(1)
    return published()


@pytest.fixture
def encoder(weights: State, tmp_path: Path) -> M2D:
    return load(write(tmp_path, weights))


# The network and its front end


@pytest.mark.slow
@pytest.mark.parametrize("frames", [11, 12, 13, 40, 41, 42, 43, 81, 82, 83, 200])
@pytest.mark.parametrize("rest", [0, 159])
def test_frames_equal_the_reference_at_every_turn_of_the_chunks(
    encoder: M2D, weights: State, frames: int, rest: int
) -> None:
    compare(encoder, Reference(weights, TINY), music_noise_silence(160 * (frames - 1) + rest))


@pytest.mark.slow
def test_frames_equal_the_reference_at_32_khz(tmp_path: Path) -> None:
    state = published(TINY_32K)
    encoder = load(write(tmp_path, state, "m2d_as_vit_tiny-32x41p16x4p32k-240413_AS-FT_enconly"))
    assert (encoder.sample_rate, encoder.min_samples, encoder.rate_hz) == (32_000, 3_200, 25.0)
    compare(encoder, Reference(state, TINY_32K), music_noise_silence(40_000, 32_000))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[M2D, Reference]:
    """ViT-B, through a file of the layout that the paper's code reads."""
    torch.manual_seed(2)
    state = published(M2DConfig())
    path = write(tmp_path_factory.mktemp("m2d"), layout("fine-tuned", state), FOLDER, "weights_ep67it3124-0.48558.pth")
    encoder = load(path)
    path.unlink()
    return encoder, Reference(state, M2DConfig())


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "steps"), [(0.3, 2), (2.5, 16), (10.01, 63)])
def test_full_size_equals_the_reference(full: tuple[M2D, Reference], seconds: float, steps: int) -> None:
    assert compare(*full, music_noise_silence(round(16_000 * seconds))).shape == (1, steps, 3840)


@pytest.mark.slow
def test_full_size_in_bfloat16_points_the_same_way(full: tuple[M2D, Reference]) -> None:
    encoder = full[0]
    clip = music_noise_silence(40_000)
    exact = encoder.encode(clip).frames
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder.encode(clip).frames
    assert F.cosine_similarity(exact, rough, dim=-1).min() > 0.999


def test_sizes_of_the_published_model() -> None:
    assert len(M2D(M2DConfig(width=64, hidden=64)).state_dict()) == 151  # 150 weights and norm_stats
    shapes = {key: tuple(value.shape) for key, value in M2D(M2DConfig(depth=1)).state_dict().items()}
    assert shapes["pos_embed"] == (1, 1 + 5 * 62, 768)
    assert shapes["patch_embed.proj.weight"] == (768, 1, 16, 16)
    assert shapes["blocks.0.attn.qkv.weight"] == (2304, 768)
    assert shapes["blocks.0.mlp.fc1.weight"] == (3072, 768)


def test_silence_lies_under_the_mean_and_padding_on_it(encoder: M2D) -> None:
    encoder.front.norm_stats.copy_(torch.tensor(NORM_STATS))
    log_mel = encoder.front(torch.zeros(1, 1600))
    torch.testing.assert_close(log_mel, torch.full((1, 32, 11), (math.log(1.1920929e-07) + 7.1) / 4.2))
    log_mel = encoder.front(music_noise_silence(1600))
    torch.testing.assert_close(encoder._chunk(log_mel), encoder._chunk(F.pad(log_mel, (0, 1))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "fft", "mels", "low", "high"), [(16_000, 400, 80, 50, 8_000), (24_000, 2048, 128, 0, None)]
)
@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("unit_area", [False, True])
def test_mel_filters_equal_those_of_transformers(
    rate: int, fft: int, mels: int, low: float, high: float | None, htk: bool, unit_area: bool
) -> None:
    audio_utils = pytest.importorskip("transformers.audio_utils")
    ours = mel_filters(rate, fft, mels, low, high, htk=htk, unit_area=unit_area)
    scale = {"norm": "slaney" if unit_area else None, "mel_scale": "htk" if htk else "slaney"}
    theirs = audio_utils.mel_filter_bank(fft // 2 + 1, mels, low, high or rate / 2, rate, **scale)
    np.testing.assert_allclose(ours, theirs.T, rtol=0, atol=1e-12)


# How many steps


def steps_by_formula(frames: int) -> int:
    return 62 * (frames // 1001) + min(62, math.ceil(frames % 1001 / 16))


def steps_by_chunks(frames: int) -> int:
    """Pad what the chunks leave over to whole patches, slice, and let a convolution of stride 16 go over each slice."""
    starts = range(0, frames, 1001)
    padded = frames + -(frames % 1001) % 16
    return sum((min(start + 1001, padded) - start) // 16 for start in starts)


def test_formula_of_the_number_of_steps_holds_for_every_length() -> None:
    assert [steps_by_formula(frames) for frames in range(1, 5006)] == [steps_by_chunks(n) for n in range(1, 5006)]


FRAMES = (11, 16, 17, 992, 993, 1000, 1001, 1002, 1017, 1018, 1993, 2001, 2002, 2003, 3001)


@pytest.mark.slow
def test_steps_of_the_published_input_size() -> None:
    encoder = M2D(M2DConfig(width=64, depth=1, hidden=64))
    assert (encoder.dim, encoder.block_dims, encoder.rate_hz) == (320, (320,), 6.25)
    for frames in FRAMES:
        for samples in (160 * (frames - 1), 160 * frames - 1):
            assert encoder.encode(torch.zeros(1, samples)).frames.shape == (1, steps_by_formula(frames), 320)


# Checkpoints


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_published_layout_gives_the_same_encoder(encoder: M2D, weights: State, tmp_path: Path, name: str) -> None:
    read = load(write(tmp_path, layout(name, weights)))
    assert read.fingerprint() == encoder.fingerprint()
    assert read.config == TINY
    assert not any(parameter.requires_grad for parameter in read.parameters())
    clip = music_noise_silence(16_000)
    assert torch.equal(read.encode(clip).frames, encoder.encode(clip).frames)


def test_folder_and_safetensors_are_read_too(encoder: M2D, weights: State, tmp_path: Path) -> None:
    folder = tmp_path / f"{TINY_FOLDER}-copy"
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    assert M2D.from_checkpoint(folder).fingerprint() == encoder.fingerprint()


def test_checkpoint_is_found_under_the_name_of_a_link(weights: State, tmp_path: Path) -> None:
    """The hub's cache keeps files under their hashes and links to them."""
    target = write(tmp_path, weights, "blobs", "0f3a")
    link = tmp_path / TINY_FOLDER / "weights.pth"
    link.parent.mkdir()
    link.symlink_to(target)
    assert load(link).config == TINY


def test_statistics_are_those_of_the_checkpoint_or_of_audioset(tmp_path: Path) -> None:
    encoders = [load(write(tmp_path, published(norm_stats=stats))) for stats in ((-7.2618, 4.3512), NORM_STATS, None)]
    assert [encoder.front.norm_stats.tolist() for encoder in encoders] == [
        pytest.approx(stats) for stats in ((-7.2618, 4.3512), NORM_STATS, NORM_STATS)
    ]
    assert encoders[0].fingerprint() != load(write(tmp_path, published(norm_stats=(-7.26, 4.35)))).fingerprint()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (FOLDER, ((80, 1001), (16, 16), 16_000)),
        ("m2d_as_vit_base-80x1001p16x16p32k-240413_AS-FT_enconly", ((80, 1001), (16, 16), 32_000)),
        ("m2d_clap_vit_base-80x1001p16x16p16kpBpTI-2025", ((80, 1001), (16, 16), 16_000)),
        ("m2d_vit_base-80x1001p16x16-221006-mr7_as_46ab246d", ((80, 1001), (16, 16), 16_000)),
        ("msm_mae_vit_base-80x608p16x16-220924-mr75", ((80, 608), (16, 16), 16_000)),
        ("m2d_s_vit_base-80x608p80x2-230220", ((80, 608), (80, 2), 16_000)),
        ("m2d_vit_base-80x608p16x16p16k", ((80, 608), (16, 16), 16_000)),
    ],
)
def test_folder_names_as_released_are_understood(name: str, said: tuple[Any, ...]) -> None:
    assert parse_folder(name) == said


@pytest.mark.parametrize(
    "name",
    [
        "",
        "weights",
        "80x1001p16x16",
        "m2d-weights-2024",
        "m2d_vit_base-80x1001-240128",
        "m2d_vit_base-80p16x16-240128",
        "m2d_vit_base-80x1001p16-240128",
        "m2d_vit_base-80x1001p16x16p48k-240128",
        "m2d_vit_base-80x1001p16x16pB-240128",
        "m2d_vit_base-80x1001p16x16x2-240128",
        "m2d_vit_base-ax1001p16x16-240128",
    ],
)
def test_other_folder_names_are_refused_with_what_is_expected(weights: State, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFormatError, match=r"80x1001p16x16-DATE.*input_size=\(80, 1001\).*sample_rate=16000"):
        parse_folder(name)
    path = write(tmp_path, weights, name or "x")
    with pytest.raises(ModelFormatError, match="folder name"):
        load(path)


def test_options_go_before_the_name_and_settings_give_them_back(encoder: M2D, weights: State, tmp_path: Path) -> None:
    path = write(tmp_path, weights, "anything")
    with pytest.raises(ModelFormatError, match="folder name"):
        load(path, input_size=(32, 41), patch_size=(16, 4))
    assert load(path, **encoder.settings()).fingerprint() == encoder.fingerprint()
    assert load(path, input_size=[32, 41], patch_size=[16, 4], sample_rate=16_000).config == TINY  # as JSON has them
    other = load(tmp_path / TINY_FOLDER, sample_rate=32_000)
    assert other.sample_rate == 32_000
    assert other.fingerprint() != encoder.fingerprint()


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("m2d_vit_tiny-32x48p16x4-250101", r"positions for 20 patches.*\(32, 48\).*2 x 12"),
        ("m2d_vit_tiny-32x41p16x8-250101", r"positions for 20 patches.*2 x 5"),
        ("m2d_vit_tiny-64x41p32x4-250101", r"of another shape: patch_embed\.proj\.weight"),
        ("m2d_vit_tiny-30x41p16x4-250101", r"30 mels x 41 frames has no patches of 16 x 4"),
        ("m2d_vit_tiny-32x3p16x4-250101", r"32 mels x 3 frames has no patches"),
        ("m2d_vit_tiny-0x41p0x4-250101", r"0 mels x 41 frames has no patches"),
    ],
)
def test_name_that_contradicts_the_weights_is_refused(weights: State, tmp_path: Path, folder: str, words: str) -> None:
    with pytest.raises(ModelFormatError, match=words):
        load(write(tmp_path, weights, folder))


def test_rate_that_no_model_has_is_refused(encoder: M2D, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="not at 44100 Hz"):
        load(tmp_path / TINY_FOLDER, sample_rate=44_100)


@pytest.mark.parametrize("prefix", ["", FINE_TUNED])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks.1.attn.qkv.bias": None}, r"missing blocks\.1\.attn\.qkv\.bias"),
        ({"norm.weight": None, "norm.bias": None}, r"missing norm\.bias, norm\.weight"),
        ({"cls_token": None}, r"missing .*cls_token"),
        ({"blocks.0.mlp.fc1.bias": None}, r"missing blocks\.0\.mlp\.fc1\.bias"),
        ({"blocks.3.norm1.weight": (128,)}, r"missing blocks\.2\.|unknown blocks\.3"),
        ({"blocks.0.attn.relative": (1,)}, r"unknown blocks\.0\.attn\.relative"),
        ({"register_tokens": (1,)}, r"unknown register_tokens"),
        ({"blocks.0.ls1.gamma": (128,)}, r"unknown blocks\.0\.ls1\.gamma"),
        ({"norm.weight": (1,)}, r"of another shape: norm\.weight"),
        ({"norm_stats": (3,)}, r"of another shape: front\.norm_stats"),
        ({"cls_token": (1, 1, 100)}, r"multiple of 64, not 100"),
        ({"cls_token": (0,)}, r"multiple of 64, not 0"),
    ],
)
def test_every_key_is_mapped_ignored_by_name_or_refused(
    weights: State, tmp_path: Path, changes: dict[str, tuple[int, ...] | None], words: str, prefix: str
) -> None:
    state = weights | {key: torch.zeros(shape) for key, shape in changes.items() if shape is not None}
    state = {prefix + key: value for key, value in state.items() if changes.get(key, ()) is not None}
    path = write(tmp_path, state)
    with pytest.raises(ModelFormatError, match=words) as caught:
        load(path)
    if "multiple" not in words:
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("stray", ["cls_token", "norm.weight", "module.ar.runtime.extra", "blocks.0.norm1.weight"])
def test_weights_next_to_the_encoder_are_known_or_refused(weights: State, tmp_path: Path, stray: str) -> None:
    held = layout("fine-tuned", weights) | {stray: torch.zeros(1)}
    with pytest.raises(ModelFormatError, match=rf"unknown {stray} next to module\.ar\.runtime\.backbone\.\*"):
        load(write(tmp_path, held))


@pytest.mark.parametrize("held", [[], {"model": 3}, {"a": 3}, torch.zeros(3), {"model": {"cls_token": [0.0]}}])
def test_file_without_a_table_of_tensors_is_refused(tmp_path: Path, held: Any) -> None:
    with pytest.raises(ModelFormatError, match="holds no table of tensors"):
        load(write(tmp_path, held))


def test_another_network_and_no_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="missing blocks"):
        load(write(tmp_path, nn.Linear(2, 3).state_dict()))
    path = tmp_path / TINY_FOLDER / "weights.pth"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelFormatError, match="cannot be read"):
        load(path)


def test_pickle_is_read_only_when_trusted_and_runs_no_code(weights: State, tmp_path: Path) -> None:
    path = write(tmp_path, weights)
    with pytest.raises(ModelFormatError, match="trust"):
        M2D.from_checkpoint(path)
    torch.save({"model": weights, "args": Path("/")}, path)  # a class that is not a plain value
    with pytest.raises(ModelFormatError, match="cannot be read"):
        load(path)


def test_folder_holds_one_checkpoint_or_the_file_is_named(weights: State, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such checkpoint"):
        load(tmp_path / "unnamed" / "weights.pth")
    write(tmp_path, weights)
    write(tmp_path, weights, name="checkpoint-300.pth")
    with pytest.raises(ModelNotFoundError, match="holds 2 checkpoints"):
        load(tmp_path / TINY_FOLDER)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="holds 0 checkpoints"):
        load(tmp_path / "empty")


# What every encoder promises


def test_too_short_clip_is_refused_and_the_shortest_is_not(encoder: M2D) -> None:
    with pytest.raises(AudioError, match=r"m2d needs 0\.100 s"):
        encoder.encode(torch.zeros(1, 1599))
    assert encoder.encode(torch.zeros(1, 1600), sample_rate=16_000).frames.shape == (1, 3, 256)


def test_neighbours_and_padding_change_nothing(encoder: M2D) -> None:
    clips = [music_noise_silence(samples, seed=i)[0] for i, samples in enumerate((1600, 6560, 20_000, 20_000))]
    waves = nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=0.5)  # would change the features
    together = encoder.encode(waves, torch.tensor([len(clip) for clip in clips]))
    for clip, frames, mask in zip(clips, together.frames, together.mask, strict=True):
        torch.testing.assert_close(frames[mask], encoder.encode(clip[None]).frames[0], rtol=0, atol=1e-5)
        assert (frames[~mask] == 0).all()


def test_end_of_a_whole_chunk_is_not_encoded(encoder: M2D) -> None:
    """Of 41 frames, 10 patches of 4 cover 40; the window of frame 39 ends 200 samples behind its centre."""
    clip = music_noise_silence(6559)
    louder = clip.clone()
    louder[:, 39 * 160 + 200 :] += 0.5
    assert not torch.equal(encoder.front(clip), encoder.front(louder))
    assert torch.equal(encoder.encode(clip).frames, encoder.encode(louder).frames)


@pytest.mark.parametrize("level", [1.0, 0.0])
def test_gradient_reaches_the_waveform(encoder: M2D, level: float) -> None:
    clip = (level * music_noise_silence(12_000)).requires_grad_()
    encoder(clip).frames.square().mean().backward()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()
    assert bool(clip.grad.any()) == (level > 0)
    assert not encoder.encode(clip).frames.requires_grad


def test_stays_frozen(encoder: M2D) -> None:
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("way", ["to", "autocast"])
def test_bfloat16_leaves_the_front_end_float32(encoder: M2D, way: str) -> None:
    clip = music_noise_silence(16_000)
    exact, log_mel = encoder.encode(clip).frames, encoder.front(clip)
    if way == "to":
        encoder.to(torch.bfloat16)
        assert encoder.norm.weight.dtype == torch.bfloat16
        assert encoder.front.norm_stats.tolist() == pytest.approx([-6.5, 3.9], abs=1e-6)
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        rough = encoder.encode(clip).frames
        assert torch.equal(encoder.front(clip), log_mel)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.2
    assert F.cosine_similarity(exact, rough, dim=-1).min() > 0.999
