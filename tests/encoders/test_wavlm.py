"""WavLM: the two published layouts against their own networks, and what every encoder promises."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmmos.encoders.padded import Padded
from mmmos.encoders.wavlm import WavLM
from mmmos.encoders.wavlm_checkpoint import WavLMConfig
from mmmos.encoders.wavlm_layers import buckets, valid_frames
from mmmos.errors import AudioError, ModelFormatError, ModelNotFoundError, UsageError
from tests.references.wavlm import hub_network, hub_states, unilm_network, unilm_settings, unilm_states
from tests.sounds import music_tensor
from tests.toys import TRUSTED

RATE = 16_000
TINY = WavLMConfig(
    convs=((32, 10, 5), *[(32, 3, 2)] * 4, *[(32, 2, 2)] * 2),
    width=48,
    heads=4,
    hidden=80,
    depth=3,
    pos_conv_kernel=16,
    groups=3,  # of 16 channels: with 12, oneDNN of torch 2.13 is wrong in bfloat16 on processors with AMX
    buckets=32,
    max_distance=20,
)
BASE_PLUS = WavLMConfig()
UNILM_LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True, "normalize": True}
HUB_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


def save_unilm(network: nn.Module, config: WavLMConfig, path: Path) -> Path:
    torch.save({"cfg": unilm_settings(config), "model": network.state_dict()}, path)
    return path


def old_spelling(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the weight norm, as in the files that older versions wrote."""
    spelling = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in spelling.items():
        state = {key.replace(new, old): value for key, value in state.items()}
    return state


@pytest.fixture(scope="module")
def unilm() -> nn.Module:
    torch.manual_seed(1)
    return unilm_network(TINY)


@pytest.fixture(scope="module")
def hub() -> nn.Module:
    torch.manual_seed(2)
    return hub_network(TINY)


@pytest.fixture
def unilm_file(unilm: nn.Module, tmp_path: Path) -> Path:
    return save_unilm(unilm, TINY, tmp_path / "WavLM-Base+.pt")


@pytest.fixture
def hub_folder(hub: nn.Module, tmp_path: Path) -> Path:
    hub.save_pretrained(tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def encoder(unilm: nn.Module) -> WavLM:
    wavlm = WavLM(TINY, "all")
    wavlm.load(unilm.state_dict(), "unilm")
    return wavlm


def check_states(encoder: WavLM, waves: Tensor, expected: list[Tensor]) -> None:
    """All states of one clip, as frames of 'all' layers."""
    torch.testing.assert_close(encoder.encode(waves).frames, torch.cat(expected, dim=-1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seconds", [0.025, 0.3, 1.0, 2.37])
def test_unilm_checkpoint_gives_the_published_states(unilm: nn.Module, unilm_file: Path, seconds: float) -> None:
    encoder = WavLM.from_checkpoint(unilm_file, TRUSTED, layers="all")
    check_states(encoder, music_tensor(seconds), unilm_states(unilm, music_tensor(seconds)))


@pytest.mark.parametrize("seconds", [0.025, 0.3, 1.0, 2.37])
def test_hub_folder_gives_the_published_states(hub: nn.Module, hub_folder: Path, seconds: float) -> None:
    encoder = WavLM.from_checkpoint(hub_folder, layers="all")
    check_states(encoder, music_tensor(seconds), hub_states(hub, music_tensor(seconds)))


@pytest.mark.slow
def test_full_size_unilm_checkpoint_gives_the_published_states(tmp_path: Path) -> None:
    network = unilm_network(BASE_PLUS)
    encoder = WavLM.from_checkpoint(save_unilm(network, BASE_PLUS, tmp_path / "WavLM-Base+.pt"), TRUSTED, layers="all")
    assert encoder.config == BASE_PLUS
    for seconds in (0.3, 1.0):
        check_states(encoder, music_tensor(seconds), unilm_states(network, music_tensor(seconds)))


@pytest.mark.slow
def test_full_size_hub_folder_gives_the_published_states(tmp_path: Path) -> None:
    network = hub_network(BASE_PLUS)
    network.save_pretrained(tmp_path)
    encoder = WavLM.from_checkpoint(tmp_path)
    assert encoder.config == BASE_PLUS
    for seconds in (0.3, 1.0):
        expected = network(music_tensor(seconds)).last_hidden_state
        torch.testing.assert_close(encoder.encode(music_tensor(seconds)).frames, expected, atol=1e-4, rtol=0)


def test_odd_kernel_of_the_long_convolution(tmp_path: Path) -> None:
    config = WavLMConfig(**{**vars(TINY), "pos_conv_kernel": 15})
    network = unilm_network(config)
    path = save_unilm(network, config, tmp_path / "odd.pt")
    encoder = WavLM.from_checkpoint(path, TRUSTED, layers="all")
    check_states(encoder, music_tensor(1.0), unilm_states(network, music_tensor(1.0)))


def test_every_layout_of_hub_weights_gives_the_same_encoder(hub_folder: Path, tmp_path: Path) -> None:
    known = WavLM.from_checkpoint(hub_folder).fingerprint()
    state = load_file(hub_folder / "model.safetensors")
    assert any("parametrizations" in key for key in state)
    older = old_spelling(state)
    assert older.keys() != state.keys()
    folder = tmp_path / "older"
    folder.mkdir()
    (folder / "config.json").write_bytes((hub_folder / "config.json").read_bytes())
    torch.save(older, folder / "pytorch_model.bin")
    assert WavLM.from_checkpoint(folder, TRUSTED).fingerprint() == known
    save_file({key: value for key, value in older.items() if key != "masked_spec_embed"}, folder / "any.safetensors")
    assert WavLM.from_checkpoint(folder / "any.safetensors").fingerprint() == known


def test_both_spellings_of_the_weight_norm_in_unilm_layout(unilm: nn.Module, encoder: WavLM) -> None:
    spelling = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    state = unilm.state_dict()
    for old, new in spelling.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    other = WavLM(TINY, "all")
    other.load(state, "newer")
    assert other.fingerprint() == encoder.fingerprint()


def test_missing_settings_of_config_json_are_those_of_base_plus(hub_folder: Path) -> None:
    config = json.loads((hub_folder / "config.json").read_text())
    kept = {key: value for key, value in config.items() if key not in ("add_adapter", "layer_norm_eps", "model_type")}
    (hub_folder / "config.json").write_text(json.dumps(kept))
    assert WavLM.from_checkpoint(hub_folder).config == TINY
    (hub_folder / "config.json").write_text("{}")
    with pytest.raises(ModelFormatError, match=r"model\.safetensors does not fit"):
        WavLM.from_checkpoint(hub_folder)


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
@pytest.mark.parametrize("samples", [32_000, 20_001, 700])
def test_padded_clip_has_the_valid_frames_of_the_published_mask(unilm: nn.Module, encoder: WavLM, samples: int) -> None:
    padding_encoder = WavLM(TINY, "all", pad_seconds=2.0)
    padding_encoder.load_state_dict(encoder.state_dict())
    wave = music_tensor(2.0)
    padding = torch.arange(32_000)[None] >= samples
    expected = unilm_states(unilm, wave.masked_fill(padding, 0), padding)
    _, frame_padding = unilm.extract_features(wave, padding)
    valid = int((~frame_padding).sum())
    found = padding_encoder.encode(wave[:, :samples]).frames
    torch.testing.assert_close(found, torch.cat(expected, dim=-1)[:, :valid], atol=1e-4, rtol=0)
    assert found.shape[1] == valid == valid_frames(samples, 32_000, frame_padding.shape[1])


def test_buckets_are_the_published_ones(unilm: nn.Module, hub: nn.Module) -> None:
    distance = torch.arange(-3000, 3001)
    ours = buckets(distance, 320, 800)
    for attention in (unilm.encoder.layers[0].self_attn, hub.encoder.layers[0].attention):
        attention.num_buckets, attention.max_distance = 320, 800
        assert torch.equal(attention._relative_positions_bucket(distance), ours)
        attention.num_buckets, attention.max_distance = TINY.buckets, TINY.max_distance
    assert sorted(set(ours.tolist())) == [n for n in range(320) if n != 160]  # 160: after the query by 0 frames


def test_group_norm_is_exact_where_kernels_are_deaf_to_the_sound() -> None:
    """Second differences of a 30 Hz tone are a ten-thousandth of it; of their variance, float32 would keep no digit."""
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    clip = (0.5 + 0.4 * torch.sin(2 * math.pi * 30 * time))[None].float()
    first = WavLM(TINY).conv0
    kernel = 1000 * torch.tensor([0.0, 0, 0, 1, -2, 1, 0, 0, 0, 0])
    first.weight.copy_(kernel[:, None])
    output = nn.functional.conv1d(clip.double()[:, None], kernel.double().expand(32, 1, 10), stride=5)
    expected = nn.functional.gelu(nn.functional.group_norm(output, 32)).transpose(1, 2).float()
    torch.testing.assert_close(first(clip), expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize("kind", ["music", "silence", "half", "constant"])
def test_gradient_is_the_published_one(unilm: nn.Module, encoder: WavLM, kind: str) -> None:
    clip = music_tensor(0.3)
    if kind == "constant":
        clip[:] = 0.25
    elif kind != "music":
        clip[:, 0 if kind == "silence" else 2400 :] = 0
    clip.requires_grad_()
    direction = torch.randn(14, TINY.width)
    (expected,) = torch.autograd.grad((unilm_states(unilm, clip)[-1] * direction).sum(), clip)
    (found,) = torch.autograd.grad((encoder.frames(clip)[..., -TINY.width :] * direction).sum(), clip)
    assert found.isfinite().all()
    # The published network lets a tenth of the gradient through to the convolutions: it was trained so.
    torch.testing.assert_close(found, 10 * expected, atol=1e-3 * found.abs().max().item(), rtol=0)


def test_sizes_of_base_plus() -> None:
    with torch.device("meta"):
        last, every = WavLM(), WavLM(layers="all")
    assert (last.dim, last.block_dims, last.settings()) == (768, (768,), {"layers": "last", "pad_seconds": 0})
    assert (every.dim, every.block_dims, every.settings()) == (
        13 * 768,
        (768,) * 13,
        {"layers": "all", "pad_seconds": 0},
    )
    assert (last.sample_rate, last.rate_hz, last.min_samples) == (16_000, 50, 400)


@pytest.mark.parametrize(("samples", "frames"), [(400, 1), (719, 1), (720, 2), (16_000, 49), (40_000, 124)])
def test_frame_count(encoder: WavLM, samples: int, frames: int) -> None:
    features = encoder.encode(music_tensor(samples / RATE), sample_rate=RATE)
    assert features.frames.shape == (1, frames, encoder.dim)
    assert features.rate_hz == 50


def test_too_short_clip_is_refused(encoder: WavLM) -> None:
    with pytest.raises(AudioError, match=r"0\.025 s"):
        encoder.encode(torch.zeros(1, 399))


def test_last_layer_is_the_last_of_all(unilm: nn.Module, encoder: WavLM) -> None:
    last = WavLM(TINY, "last")
    last.load(unilm.state_dict(), "unilm")
    frames = last.encode(music_tensor(1.0)).frames
    assert torch.equal(frames, encoder.encode(music_tensor(1.0)).frames[..., -TINY.width :])
    assert last.fingerprint() != encoder.fingerprint()


def test_numbers_are_weights_of_the_states(unilm: nn.Module, encoder: WavLM) -> None:
    numbers = [0.5, -1.0, *[0.25] * (TINY.depth - 1)]
    mixed = WavLM(TINY, numbers)
    mixed.load(unilm.state_dict(), "unilm")
    every = encoder.encode(music_tensor(1.0)).frames.unflatten(-1, (-1, TINY.width))
    expected = torch.einsum("btsd,s->btd", every, torch.tensor(numbers))
    torch.testing.assert_close(mixed.encode(music_tensor(1.0)).frames, expected, atol=1e-5, rtol=0)
    assert mixed.dim == TINY.width


@pytest.mark.parametrize("layers", ["weighted", "x" * (TINY.depth + 1), [1.0]])
def test_unknown_layers_are_refused(layers: object) -> None:
    with pytest.raises(UsageError, match=f"'last' or 'all' or {TINY.depth + 1} weights, not "):
        WavLM(TINY, layers=layers)  # type: ignore[arg-type]


def test_features_ignore_neighbours_and_padding(encoder: WavLM) -> None:
    clips = [music_tensor(1.0, seed=1)[0], music_tensor(2.0, seed=2)[0], music_tensor(1.0, seed=3)[0]]
    waves = nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=0.7)
    batch = encoder.encode(waves, torch.tensor([len(clip) for clip in clips]))
    for clip, frames, mask in zip(clips, batch.frames, batch.mask, strict=True):
        torch.testing.assert_close(frames[mask], encoder.encode(clip[None]).frames[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("way", ["to", "autocast"])
def test_bfloat16_stays_near_float32(unilm: nn.Module, encoder: WavLM, way: str) -> None:
    lower = WavLM(TINY, "all")
    lower.load(unilm.state_dict(), "unilm")
    clip = music_tensor(2.0)
    if way == "to":
        lower.to(torch.bfloat16)
        assert lower.project.weight.dtype == torch.bfloat16
        frames = lower.encode(clip).frames
    else:
        with torch.autocast("cpu", torch.bfloat16):
            frames = lower.encode(clip).frames
    with torch.no_grad():  # the convolution under the GroupNorm keeps its precision
        assert torch.equal(lower.conv0(clip), encoder.conv0(clip))
    assert frames.dtype == torch.float32
    expected = encoder.encode(clip).frames
    error = (frames - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < 0.02


def test_stays_frozen(encoder: WavLM) -> None:
    assert not encoder.train().training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def dropped(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {other: value for other, value in state.items() if other != key}


def swapped_sizes(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    """One row of k given to q: side by side, q, k and v are as tall as they should be."""
    other = key.replace("q_proj", "k_proj")
    return {**state, key: torch.cat([state[key], state[key][:1]]), other: state[other][1:]}


DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor], str], dict[str, Tensor]], str]] = {
    "missing": (dropped, r"missing {key}"),
    "unknown": (lambda state, key: {**state, "head.weight": torch.zeros(1)}, r"unknown head\.weight"),
    "reshaped": (lambda state, key: {**state, key: state[key][:, :-1]}, r"of another shape: {key}"),
    "swapped": (swapped_sizes, r"of another shape: .*{key}"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("layout", ["unilm", "hub"])
def test_weights_that_do_not_fit_are_refused(
    unilm: nn.Module, hub: nn.Module, unilm_file: Path, hub_folder: Path, layout: str, damage: str
) -> None:
    harm, message = DAMAGE[damage]
    if layout == "unilm":
        key, path = "encoder.layers.1.self_attn.q_proj.weight", unilm_file
        torch.save({"cfg": unilm_settings(TINY), "model": harm(unilm.state_dict(), key)}, path)
    else:
        key, path = "encoder.layers.1.attention.q_proj.weight", hub_folder / "model.safetensors"
        save_file({name: value.contiguous() for name, value in harm(hub.state_dict(), key).items()}, path)
    with pytest.raises(ModelFormatError, match=message.format(key=key)) as refusal:
        WavLM.from_checkpoint(path, TRUSTED)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    "key",
    [
        "feature_extractor.conv_layers.0.2.bias",
        "feature_extractor.conv_layers.6.0.weight",
        "encoder.pos_conv.0.weight_g",
        "encoder.layers.0.self_attn.relative_attention_bias.weight",
        "encoder.layers.2.self_attn.grep_a",
        "encoder.layers.2.self_attn.grep_linear.bias",
    ],
)
def test_every_kind_of_tensor_is_needed(unilm: nn.Module, key: str) -> None:
    with pytest.raises(ModelFormatError, match=f"it does not fit WavLMCheckpoint: missing {key}"):
        WavLM(TINY).load(dropped(unilm.state_dict(), key), "it")


@pytest.mark.parametrize("held", [[1, 2], {"encoder": 3}, {1: 2}, None])
def test_anything_but_a_table_of_tensors_is_refused(held: Any, hub_folder: Path) -> None:
    torch.save(held, hub_folder / "other.bin")
    with pytest.raises(ModelFormatError, match="holds no table of tensors"):
        WavLM.from_checkpoint(hub_folder / "other.bin", TRUSTED)


def test_pickle_is_not_read_without_trust(unilm_file: Path) -> None:
    with pytest.raises(ModelFormatError, match="trust-checkpoint"):
        WavLM.from_checkpoint(unilm_file)


@pytest.mark.parametrize("layout", ["unilm", "hub"])
def test_truncated_file_is_refused(unilm_file: Path, hub_folder: Path, layout: str) -> None:
    path = unilm_file if layout == "unilm" else hub_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelFormatError, match="cannot be read"):
        WavLM.from_checkpoint(path, TRUSTED)


def test_layout_is_detected_by_content_and_not_by_name(unilm_file: Path, hub_folder: Path, encoder: WavLM) -> None:
    renamed = unilm_file.rename(hub_folder / "pytorch_model.bin")
    loaded = WavLM.from_checkpoint(renamed, TRUSTED, layers="all")
    assert loaded.fingerprint() == encoder.fingerprint()


def test_file_renamed_to_another_format_is_refused(unilm_file: Path, hub_folder: Path) -> None:
    with pytest.raises(ModelFormatError, match="cannot be read"):
        WavLM.from_checkpoint(unilm_file.rename(unilm_file.with_suffix(".safetensors")), TRUSTED)
    renamed = (hub_folder / "model.safetensors").rename(hub_folder / "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match="cannot be read"):
        WavLM.from_checkpoint(renamed, TRUSTED)


def test_weights_without_settings_are_refused(unilm: nn.Module, hub_folder: Path, tmp_path: Path) -> None:
    (hub_folder / "config.json").unlink()
    with pytest.raises(ModelFormatError, match=r"config\.json is missing"):
        WavLM.from_checkpoint(hub_folder)
    torch.save(unilm.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(ModelFormatError, match=r"config\.json is missing"):
        WavLM.from_checkpoint(tmp_path / "bare.pt", TRUSTED)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        WavLM.from_checkpoint(tmp_path)
    with pytest.raises(ModelNotFoundError, match="no such checkpoint"):
        WavLM.from_checkpoint(tmp_path / "WavLM-Base+.pt")


@pytest.mark.parametrize("change", [*UNILM_LARGE.items(), ("gru_rel_pos", False), ("conv_bias", True)])
def test_another_network_in_unilm_layout_is_refused(unilm: nn.Module, tmp_path: Path, change: tuple[str, Any]) -> None:
    settings = {**unilm_settings(TINY), **dict([change])}
    torch.save({"cfg": settings, "model": unilm.state_dict()}, tmp_path / "WavLM-Large.pt")
    with pytest.raises(ModelFormatError, match=f"another network than WavLM Base.*: {change[0]} is {change[1]!r}, not"):
        WavLM.from_checkpoint(tmp_path / "WavLM-Large.pt", TRUSTED)


@pytest.mark.parametrize("change", [*HUB_LARGE.items(), ("model_type", "wav2vec2"), ("add_adapter", True)])
def test_another_network_in_hub_layout_is_refused(hub_folder: Path, change: tuple[str, Any]) -> None:
    config = json.loads((hub_folder / "config.json").read_text())
    (hub_folder / "config.json").write_text(json.dumps({**config, **dict([change])}))
    with pytest.raises(ModelFormatError, match=f"another network than WavLM Base.*: {change[0]} is {change[1]!r}, not"):
        WavLM.from_checkpoint(hub_folder)


@pytest.mark.parametrize(
    "change",
    [
        {"conv_feature_layers": "__import__('os').abort()"},
        {"conv_feature_layers": [[32, 10, 5]]},
        {"conv_feature_layers": "[(32,10)]"},
        {"encoder_attention_heads": 5},
        {"encoder_attention_heads": 0},
        {"encoder_layers": None},
        {"max_distance": 8},
    ],
)
def test_settings_that_make_no_network_are_refused(unilm: nn.Module, tmp_path: Path, change: dict[str, Any]) -> None:
    torch.save({"cfg": unilm_settings(TINY) | change, "model": unilm.state_dict()}, tmp_path / "x.pt")
    with pytest.raises(ModelFormatError, match=r"x\.pt holds no cfg of WavLM"):
        WavLM.from_checkpoint(tmp_path / "x.pt", TRUSTED)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"conv_dim": [32]}', '{"hidden_size": "wide"}', '{"conv_stride": 5}', "\0"]
)
def test_damaged_config_json_is_refused(hub_folder: Path, text: str) -> None:
    (hub_folder / "config.json").write_text(text)
    with pytest.raises(ModelFormatError, match=r"not a config\.json of WavLM"):
        WavLM.from_checkpoint(hub_folder)


def test_fingerprint_is_that_of_earlier_versions() -> None:
    """Models and caches name their encoder by its fingerprint, of 577577c here: attributes have other names now."""
    encoder = WavLM(WavLMConfig(convs=((8, 10, 5), (8, 3, 2)), width=16, heads=2, hidden=24, depth=1, groups=4))
    for parameter in encoder.parameters():
        parameter.fill_(0.5)
    assert encoder.fingerprint() == "01ed2ec0a9b36583afcdf23daae05d63e3552c52e3a5bd8df014b74793dd4f67"
    assert Padded(encoder, 2.0).fingerprint() == "e7737feaa57131c7e213698ef9e76c0f019a4d448d9598f5d21060e27c1254e0"


def test_no_random_weights_are_drawn_before_those_of_a_file(hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For which torch imports its compiler on the meta device, in two seconds."""
    for owner, name in ((torch, "randn"), (Tensor, "normal_")):
        monkeypatch.setattr(owner, name, None)
    assert WavLM.from_checkpoint(hub_folder).config == TINY
