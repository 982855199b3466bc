"""MuQ: our network against transformers' conformer under a stem and a front end written here; layout; promises."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmmos import from_pretrained
from mmmos.audio.clip import Clip, to_clip
from mmmos.audio.windows import MIN_SECONDS, Window, cut
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import encode_windows
from mmmos.encoders.muq import MuQ
from mmmos.encoders.muq_checkpoint import MuQConfig, read_config
from mmmos.encoders.resample import resample
from mmmos.errors import AudioError, ModelFormatError, ModelNotFoundError, SampleRateError, UsageError
from mmmos.features.source import EncoderSource
from mmmos.model.load import load_model
from mmmos.scores import AXES
from mmmos.training.fit import train_folder
from mmmos.training.settings import PRESETS
from tests.references.muq import STAT, Published, spectra
from tests.sounds import faded_sine, music, music_noise_silence
from tests.toys import CPU, TRUSTED

RATE = 24_000
INNER = {
    "model_type": "wav2vec2-conformer",
    "position_embeddings_type": "rotary",
    "hidden_act": "swish",
    "layer_norm_eps": 1e-4,  # not what the other norms have
    "rotary_embedding_base": 100,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_depthwise_kernel_size": 7,
    # Of no effect on features, or overridden:
    "num_hidden_layers": 24,
    "hidden_size": 1024,
    "conv_dim": [512] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "attention_dropout": 0.1,
    "layerdrop": 0.2,
    "vocab_size": 32,
    "torch_dtype": "float32",
}
OUTER: dict[str, Any] = {
    "label_rate": 25,
    "num_codebooks": 1,
    "codebook_dim": 16,
    "codebook_size": 20,
    "features": ["melspec_2048"],
    "hop_length": 240,
    "n_mels": 128,
    "conv_dim": 6,
    "encoder_dim": 32,
    "encoder_depth": 2,
    "mask_hop": 0.4,
    "mask_prob": 0.6,
    "is_flash": False,
    "stat": STAT,
    "w2v2_config": INNER,
    "use_rvq_target": True,
    "use_vq_target": False,
    "use_encodec_target": False,
    "rvq_ckpt_path": None,
    "recon_loss_ratio": None,
    "resume_checkpoint": None,
    "rvq_n_codebooks": 8,
    "rvq_multi_layer_num": 1,
}
FULL = OUTER | {
    "conv_dim": 512,
    "encoder_dim": 1024,
    "encoder_depth": 12,
    "w2v2_config": INNER
    | {"num_attention_heads": 16, "intermediate_size": 4096, "conv_depthwise_kernel_size": 31}
    | {"rotary_embedding_base": 10_000, "layer_norm_eps": 1e-5},
}
NEEDLESS = (
    "model.conformer.embed_positions.inv_freq",
    "model.conformer.pos_conv_embed.conv.bias",
    "model.conformer.pos_conv_embed.conv.weight_g",
    "model.conformer.pos_conv_embed.conv.parametrizations.weight.original1",
    "model.linear.weight",
    "model.linear.bias",
    "model.cls_token",
    "model.rvq.quantizers.7.codebook.weight",
    "model.quantizer_melspec_2048.codebook",
    "model.recon_proj.weight",
)

State = dict[str, Tensor]


def write(folder: Path, outer: dict[str, Any], state: State | None = None, name: str = "model.safetensors") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps(outer))
    if state is not None and name.endswith(".safetensors"):
        save_file(state, folder / name)
    elif state is not None:
        torch.save(state, folder / name)
    return folder


@pytest.fixture(scope="module")
def published() -> Published:
    torch.manual_seed(1)
    return Published(OUTER)


@pytest.fixture(scope="module")
def folder(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("hub") / "muq", OUTER, published.state_dict())


@pytest.fixture(scope="module")
def encoder(folder: Path) -> MuQ:
    return MuQ.from_checkpoint(folder)


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """`changed(extra=tensor, gone=None)` writes the tiny checkpoint with such changes and gives its folder."""

    def change(changes: dict[str, Tensor | None], outer: dict[str, Any] = OUTER) -> Path:
        state = load_file(folder / "model.safetensors") | changes
        return write(tmp_path / "muq", outer, {key: value for key, value in state.items() if value is not None})

    return change


# The same numbers as the published network


@pytest.mark.slow
@pytest.mark.parametrize("samples", [2400, 7200, 24_000, 60_119, 240_000])
def test_frames_are_those_of_the_published_network(published: Published, encoder: MuQ, samples: int) -> None:
    clip = music_noise_silence(samples, RATE)
    expected = published(spectra(clip))
    assert expected.std() > 0.5
    torch.testing.assert_close(encoder.encode(clip).frames, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outer", "inner", "stat"),
    [
        ({"label_rate": 50}, {}, {}),
        ({"hop_length": 320}, {"hidden_act": "silu"}, {}),
        ({}, {"num_attention_heads": 2, "rotary_embedding_base": 10_000}, {}),
        ({}, {}, {"melspec_2048_mean": -3.5, "melspec_2048_std": 9.25}),
        ({"encoder_depth": 1, "encoder_dim": 24, "conv_dim": 5}, {"conv_depthwise_kernel_size": 1}, {}),
    ],
)
def test_every_field_that_matters_is_heeded(
    tmp_path: Path, outer: dict[str, Any], inner: dict[str, Any], stat: dict[str, float]
) -> None:
    config = OUTER | outer | {"w2v2_config": INNER | inner, "stat": STAT | stat}
    network, clip = Published(config), music_noise_silence(30_000, RATE)
    ours = MuQ.from_checkpoint(write(tmp_path / "muq", config, network.state_dict()))
    expected = network(spectra(clip, STAT | stat, config["hop_length"]))
    torch.testing.assert_close(ours.encode(clip).frames, expected, atol=1e-4, rtol=0)
    assert ours.rate_hz == RATE / config["hop_length"] / {25: 4, 50: 2}[config["label_rate"]]
    assert ours.block_dims == (ours.dim,) == (config["encoder_dim"],)


def test_spectra_are_the_published_ones(encoder: MuQ) -> None:
    clip = music_noise_silence(50_000, RATE)
    ours = encoder.front(clip)
    assert ours.shape == (1, 128, 208)
    torch.testing.assert_close(ours, spectra(clip), atol=2e-5, rtol=0)
    floor = (-100 - STAT["melspec_2048_mean"]) / STAT["melspec_2048_std"]
    torch.testing.assert_close(ours[..., -1], torch.full((1, 128), floor))


@pytest.mark.slow
def test_full_size_frames_are_those_of_the_published_network(tmp_path: Path) -> None:
    network = Published(FULL)
    clips = [music_noise_silence(round(seconds * RATE), RATE) for seconds in (0.3, 1.0)]
    expected = [network(spectra(clip)) for clip in clips]
    folder = write(tmp_path / "muq", FULL, network.state_dict())
    del network
    gc.collect()
    ours = MuQ.from_checkpoint(folder)
    (folder / "model.safetensors").unlink()  # 1.2 GB
    for clip, frames in zip(clips, expected, strict=True):
        torch.testing.assert_close(ours.encode(clip).frames, frames, atol=1e-4, rtol=0)
    assert ours.config == MuQConfig()
    halves = ours.to(torch.bfloat16).encode(clips[1]).frames
    assert F.cosine_similarity(halves, expected[1], dim=-1).min() > 0.999


# The published layout, strictly


@pytest.mark.slow
def test_every_published_tensor_is_used_or_known_as_unused(published: Published, changed: Callable[..., Path]) -> None:
    for key in published.state_dict():
        if key.startswith("model.conformer.layers.1."):
            continue  # as layer 0
        if key.startswith(NEEDLESS) or ".pos_conv_embed." in key:
            MuQ.from_checkpoint(changed({key: None}))
            continue
        with pytest.raises(ModelFormatError, match=rf"model\.safetensors does not fit MuQ: missing {key}$"):
            MuQ.from_checkpoint(changed({key: None}))


def test_what_only_training_needs_changes_nothing(encoder: MuQ, changed: Callable[..., Path]) -> None:
    more = MuQ.from_checkpoint(changed({key: torch.full((3,), torch.nan) for key in NEEDLESS}))
    assert more.fingerprint() == encoder.fingerprint()


@pytest.mark.parametrize(
    "key",
    [
        "model.conformer.layers.2.ffn1.output_dense.bias",  # of a third layer
        "model.conv.conv.0.bn4.weight",
        "model.conv.linear.weight_scale",
        "model.conformer.layers.0.self_attn.pos_bias_u",
        "model.conformer.embed_positions.pe",
        "model.quantizers",
        "conv.linear.weight",  # without the prefix
        "optimizer",
    ],
)
def test_an_unknown_tensor_is_refused(changed: Callable[..., Path], key: str) -> None:
    with pytest.raises(ModelFormatError, match=rf"model\.safetensors does not fit MuQ: unknown {key}$"):
        MuQ.from_checkpoint(changed({key: torch.zeros(1)}))


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("model.conv.conv.1.bn2.running_var", (1,)),  # would broadcast
        ("model.conformer.layers.1.conv_module.batch_norm.bias", ()),
        ("model.conformer.layers.1.conv_module.pointwise_conv1.weight", (64, 32)),
        ("model.conv.linear.weight", (192, 32)),
    ],
)
def test_a_tensor_of_another_shape_is_refused(changed: Callable[..., Path], key: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelFormatError, match=rf"does not fit MuQ: of another shape: {key}$"):
        MuQ.from_checkpoint(changed({key: torch.ones(shape)}))


def test_pickle_needs_trust_and_safetensors_come_first(published: Published, encoder: MuQ, tmp_path: Path) -> None:
    path = write(tmp_path, OUTER, published.state_dict(), "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match=r"pytorch_model\.bin is a pickle.*--trust-checkpoint"):
        MuQ.from_checkpoint(path)
    assert MuQ.from_checkpoint(path, TRUSTED).fingerprint() == encoder.fingerprint()
    write(tmp_path, OUTER, published.state_dict())
    assert MuQ.from_checkpoint(path).fingerprint() == encoder.fingerprint()


@pytest.mark.parametrize("held", [[], {"model": {"linear": torch.zeros(1)}}, {0: torch.zeros(1)}, torch.zeros(1)])
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, held: Any) -> None:
    path = write(tmp_path, OUTER, held, "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match=r"pytorch_model\.bin holds no flat table of tensors"):
        MuQ.from_checkpoint(path, TRUSTED)


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"nowhere/model\.safetensors"):
        MuQ.from_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match=r"half/model\.safetensors"):
        MuQ.from_checkpoint(write(tmp_path / "half", OUTER))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(ModelFormatError, match=r"config\.json does not fit MuQ: .*No such file"):
        MuQ.from_checkpoint(tmp_path)


def test_half_precision_weights_are_widened(published: Published, tmp_path: Path) -> None:
    state = {key: value.half() if value.is_floating_point() else value for key, value in published.state_dict().items()}
    ours = MuQ.from_checkpoint(write(tmp_path, OUTER, state))
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    assert ours.encode(music_noise_silence(24_000, RATE)).frames.isfinite().all()


# config.json


def test_left_out_fields_have_the_published_codes_defaults(tmp_path: Path) -> None:
    least = write(tmp_path, {"stat": STAT, "w2v2_config": FULL["w2v2_config"]})
    assert read_config(least / "config.json") == MuQConfig()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample_rate": 24_000}, "does not fit MuQ: unknown sample_rate"),
        ({"stat": None}, "does not fit MuQ"),
        ({"stat": {}}, "does not say 'melspec_2048_mean'"),
        ({"stat": STAT | {"melspec_2048_std": 0}}, "no network has such sizes or constants"),
        ({"stat": STAT | {"melspec_2048_mean": math.nan}}, "no network has such sizes or constants"),
        ({"stat": STAT | {"melspec_2048_mean": "6.77"}}, "does not fit MuQ"),
        ({"label_rate": 100}, "no network has such sizes or constants"),
        ({"encoder_dim": 30}, "no network has such sizes or constants"),  # 4 heads
        ({"encoder_dim": 32.0}, "no network has such sizes or constants"),
        ({"encoder_depth": 0}, "no network has such sizes or constants"),
        ({"encoder_depth": True}, "no network has such sizes or constants"),
        ({"hop_length": None}, "no network has such sizes or constants"),
        ({"w2v2_config": {}}, "does not say 'hidden_act'"),
        ({"w2v2_config": INNER | {"hidden_act": "gelu"}}, "'gelu'"),
        ({"w2v2_config": INNER | {"position_embeddings_type": "relative"}}, "'relative'"),
        ({"w2v2_config": INNER | {"conv_depthwise_kernel_size": 8}}, "no network has such sizes or constants"),
        ({"w2v2_config": INNER | {"rotary_embedding_base": -1}}, "no network has such sizes or constants"),
    ],
)
def test_a_config_of_another_network_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = write(tmp_path, OUTER | changes)
    with pytest.raises(ModelFormatError, match=rf"config\.json.*{words}"):
        read_config(folder / "config.json")


@pytest.mark.parametrize("missing", ["stat", "w2v2_config"])
def test_a_config_without_a_part_is_refused(tmp_path: Path, missing: str) -> None:
    folder = write(tmp_path, {key: value for key, value in OUTER.items() if key != missing})
    with pytest.raises(ModelFormatError, match=rf"config\.json does not say '{missing}'"):
        read_config(folder / "config.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"muq"'])
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelFormatError, match=r"config\.json does not fit MuQ"):
        read_config(path)


def test_sizes_that_the_weights_do_not_have_are_refused(changed: Callable[..., Path]) -> None:
    with pytest.raises(ModelFormatError, match=r"does not fit MuQ: missing model\.conformer\.layers\.2\."):
        MuQ.from_checkpoint(changed({}, OUTER | {"encoder_depth": 3}))
    with pytest.raises(ModelFormatError, match=r"does not fit MuQ: of another shape: .*intermediate_dense"):
        MuQ.from_checkpoint(changed({}, OUTER | {"w2v2_config": INNER | {"intermediate_size": 32}}))


# What every encoder promises


@pytest.mark.parametrize(("seconds", "frames"), [(0.1, 3), (1, 25), (2.5, 63), (5, 125), (10, 250), (10.01, 251)])
def test_frame_count(encoder: MuQ, seconds: float, frames: int) -> None:
    samples = round(seconds * RATE)
    assert encoder.encode(music_noise_silence(samples, RATE), sample_rate=RATE).frames.shape == (1, frames, 32)
    assert frames == math.ceil(samples // 240 / 4)


@pytest.mark.slow
def test_via_16k_is_the_same_network_at_another_rate(folder: Path, encoder: MuQ) -> None:
    slow = MuQ.from_checkpoint(folder, muq_sample_rate=16_000)
    assert (encoder.sample_rate, encoder.rate_hz, encoder.min_samples) == (24_000, 25, 2400)
    assert (slow.sample_rate, slow.rate_hz, slow.min_samples) == (16_000, 16_000 / 960, 1600)
    assert [encoder.settings(), slow.settings()] == [{"muq_sample_rate": rate} for rate in (24_000, 16_000)]
    assert slow.fingerprint() != encoder.fingerprint()
    clip = music_noise_silence(160_000, RATE)
    assert torch.equal(slow.encode(clip, sample_rate=16_000).frames, encoder.encode(clip).frames)
    assert slow.encode(clip).frames.shape[1] == 167
    with pytest.raises(SampleRateError):
        slow.encode(clip, sample_rate=24_000)
    with pytest.raises(UsageError, match="44100"):
        MuQ.from_checkpoint(folder, muq_sample_rate=44_100)


@pytest.fixture(scope="module")
def via(folder: Path) -> MuQ:
    return MuQ.from_checkpoint(folder, muq_via_16k=True)


def hiss(samples: int) -> np.ndarray:
    """What keeps the bands that a tone is not in above the floor."""
    return np.random.default_rng(0).normal(0, 1e-3, samples).astype(np.float32)


def window_of(samples: np.ndarray, encoder: MuQ, rate: int = 48_000) -> Window:
    """The only window of samples, as files are cut."""
    found = next(iter(cut(to_clip(samples, rate), [encoder.sample_rate], MIN_SECONDS)))
    assert isinstance(found, Window)
    return found


def frames_of(samples: np.ndarray, encoder: MuQ) -> Tensor:
    return encode_windows({"muq": encoder}, [window_of(samples, encoder)])["muq"].frames


def test_via_16k_takes_16_khz_at_the_right_speed(encoder: MuQ, via: MuQ, folder: Path) -> None:
    assert (via.sample_rate, via.rate_hz, via.min_samples) == (16_000, 25, 1600)
    assert via.settings() == {"muq_sample_rate": 24_000, "muq_via_16k": True}
    assert encoder.settings() == {"muq_sample_rate": 24_000}  # so that what was encoded before is found
    fast = MuQ.from_checkpoint(folder, muq_sample_rate=16_000)
    assert len({network.fingerprint() for network in (via, encoder, fast)}) == 3
    for samples in (1600, 16_000, 16_001):
        expected = math.ceil(math.ceil(samples * 1.5) // 240 / 4)
        assert via.encode(torch.randn(1, samples), sample_rate=16_000).frames.shape[1] == expected
    with pytest.raises(SampleRateError):
        via.encode(music_noise_silence(24_000, RATE), sample_rate=24_000)
    with pytest.raises(UsageError, match="muq_via_16k is for muq_sample_rate 24000, not 16000"):
        MuQ.from_checkpoint(folder, muq_sample_rate=16_000, muq_via_16k=True)


def test_via_16k_removes_a_tone_of_10_khz(encoder: MuQ, via: MuQ) -> None:
    low = faded_sine(1000) + hiss(48_000)
    both = low + faded_sine(10_000)
    torch.testing.assert_close(frames_of(both, via), frames_of(low, via), atol=5e-2, rtol=0)
    assert (frames_of(both, encoder) - frames_of(low, encoder)).abs().max() > 0.3
    alone = via.front(torch.from_numpy(window_of(faded_sine(10_000), via).waves[16_000])[None])
    direct = encoder.front(torch.from_numpy(window_of(faded_sine(10_000), encoder).waves[24_000])[None])
    assert 18.4 * (direct.max() - alone.max()) > 60  # dB


def test_via_16k_keeps_pitch_and_length_of_a_tone_of_1_khz(encoder: MuQ, via: MuQ) -> None:
    spectra = [
        network.front(torch.from_numpy(window_of(faded_sine(1000, 2.0), network).waves[network.sample_rate])[None])[0]
        for network in (encoder, via)
    ]
    assert spectra[0].shape == spectra[1].shape == (128, 200)
    assert len({int(spectrum.max(dim=1).values.argmax()) for spectrum in spectra}) == 1
    strong = spectra[0] > spectra[0].max() - 40 / 18.4  # what is within 40 dB of the loudest
    torch.testing.assert_close(spectra[1][strong], spectra[0][strong], atol=0.02, rtol=0)


def test_via_16k_resamples_as_the_package_does(encoder: MuQ, via: MuQ) -> None:
    waves = torch.randn(2, 8000, requires_grad=True)
    found = via(waves)
    resampled = torch.cat([resample(wave, 16_000, 24_000) for wave in waves.split(1)])  # a batch is rounded otherwise
    torch.testing.assert_close(found.frames, encoder(resampled).frames)
    (slope,) = torch.autograd.grad(found.frames.sum(), waves)
    assert slope.isfinite().all()
    assert slope.abs().max() > 0


@pytest.mark.slow
def test_via_16k_is_trained_saved_and_scored_like_its_encoder(folder: Path, via: MuQ, tmp_path: Path) -> None:
    rows = []
    high = 0.1 * faded_sine(11_000, 0.4) + hiss(19_200)
    for i in range(12):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, faded_sine(300 + 40 * i, 0.4) * (i + 1) / 13 + high, 48_000)
        rows.append(LabelledClip(Clip(path.name, str(path)), (5.0, 3.0 + i / 4, float("nan"), 2 + i / 2)))
    paths = [row.clip.path for row in rows]
    source, cache, found = EncoderSource((f"muq={folder}",), CPU), tmp_path / "cache", {}
    for on in (True, False):
        settings = PRESETS["small"].replace({"muq_via_16k": on, "epochs": 3, "lr": 0.05})
        train_folder(tmp_path / f"{on}", rows[:8], rows[8:], source, settings, cache, fit="gradient")
        with from_pretrained(tmp_path / f"{on}", device="cpu") as scorer:
            found[on] = np.array([[scores[axis] for axis in AXES] for scores in scorer.score(paths)])
            if on:
                assert scorer.module.sample_rate == 16_000
                mono = torch.from_numpy(faded_sine(300, 0.4) / 13 + high)
                reward = scorer.module(mono, sample_rate=48_000, bounded=False)[0].numpy()
                assert reward == pytest.approx(found[on][0], abs=0.05, nan_ok=True)
    # Caches of the two are apart, and a model has the option in its config.
    assert {path.name for path in cache.iterdir() if path.name != "tables"} == {
        MuQ.from_checkpoint(folder, **options).fingerprint()[:16] for options in ({}, {"muq_via_16k": True})
    }
    model = load_model(tmp_path / "True")
    assert model.members[0].model.config.encoders[0].options == via.settings()
    member = model.members[0]
    for path, scores in zip(paths, found[True], strict=True):
        (window, _) = cut(Clip(path, path), [16_000], MIN_SECONDS)
        z = member.model(encode_windows({"muq": via}, [window]))
        assert member.scale.to_labels(z.detach().double().numpy())[0][:2] == pytest.approx(scores[:2], abs=1e-5)
    assert np.abs(found[True] - found[False])[:, :2].max() > 1e-3


@pytest.mark.parametrize("rate", [24_000, 16_000])
def test_too_short_clip_is_refused(folder: Path, rate: int) -> None:
    ours = MuQ.from_checkpoint(folder, muq_sample_rate=rate)
    assert ours.encode(torch.randn(1, rate // 10)).frames.isfinite().all()
    with pytest.raises(AudioError, match=r"muq needs 0\.100 s"):
        ours.encode(torch.zeros(1, rate // 10 - 1))


def test_features_ignore_neighbours_and_padding(encoder: MuQ) -> None:
    clips = [music_noise_silence(samples, RATE, seed)[0] for seed, samples in enumerate((24_000, 31_111, 24_000))]
    waves = nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=0.7)
    batch = encoder.encode(waves, torch.tensor([len(clip) for clip in clips]))
    for clip, frames, mask in zip(clips, batch.frames, batch.mask, strict=True):
        torch.testing.assert_close(frames[mask], encoder.encode(clip[None]).frames[0], atol=2e-5, rtol=0)


@pytest.mark.slow
def test_fingerprint_is_of_weights_and_config(encoder: MuQ, folder: Path, changed: Callable[..., Path]) -> None:
    assert MuQ.from_checkpoint(folder).fingerprint() == encoder.fingerprint()
    prints = {encoder.fingerprint()}
    for weights, config in (
        ({"model.conv.linear.bias": torch.zeros(32)}, {}),
        ({}, {"stat": STAT | {"melspec_2048_mean": 6.8}}),
        ({}, {"w2v2_config": INNER | {"num_attention_heads": 2}}),
    ):
        prints.add(MuQ.from_checkpoint(changed(weights, OUTER | config)).fingerprint())
    assert len(prints) == 4


def test_batch_norms_are_folded_and_the_rest_is_frozen(encoder: MuQ) -> None:
    encoder.train().requires_grad_()
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in encoder.modules())
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("variant", ["to", "autocast", "waves"])
def test_bfloat16_stays_close_and_the_front_end_stays_float32(folder: Path, encoder: MuQ, variant: str) -> None:
    clip = music_noise_silence(48_000, RATE)
    ours, given = MuQ.from_checkpoint(folder), clip
    if variant != "autocast":
        ours.to(torch.bfloat16)
    if variant == "waves":
        given = clip.to(torch.bfloat16)
        clip = given.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=variant == "autocast"):
        frames = ours.encode(given).frames
        assert torch.equal(ours.front(given), encoder.front(clip))
    assert frames.dtype == given.dtype
    expected = encoder.encode(clip).frames
    assert not torch.equal(frames.float(), expected)
    assert F.cosine_similarity(frames.float(), expected, dim=-1).min() > 0.998


@pytest.mark.parametrize("kind", ["music", "silence", "half"])
def test_gradient_is_finite(encoder: MuQ, kind: str) -> None:
    clip = torch.from_numpy(music(0.5, RATE))[None]
    if kind != "music":
        clip[:, 0 if kind == "silence" else 6000 :] = 0
    clip.requires_grad_()
    encoder(clip).frames[..., 0].sum().backward()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()
    assert kind == "silence" or clip.grad.abs().max() > 0


def test_gradient_points_uphill(encoder: MuQ) -> None:
    clip = torch.from_numpy(music(0.5, RATE))[None].requires_grad_()
    (slope,) = torch.autograd.grad(encoder(clip).frames[..., 0].sum(), clip)
    step = 1e-3 * slope / slope.norm()
    with torch.no_grad():
        rise = (encoder(clip + step).frames[..., 0].sum() - encoder(clip - step).frames[..., 0].sum()).item() / 2
    assert rise == pytest.approx(1e-3 * slope.norm().item(), rel=0.1)
