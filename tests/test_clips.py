"""Whatever can be scored as a clip, and what cannot as an error that says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mmmos.clips import MAX_CHANNELS, Clip, to_clip
from mmmos.errors import SampleRateError

STEREO = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)  # [S, C]


@pytest.mark.parametrize("path", ["a/b.wav", Path("a/b.wav")])
def test_a_path_is_a_clip_whose_id_is_the_path(path):
    assert to_clip(path, start_time=1.0, end_time=2.0) == Clip("a/b.wav", "a/b.wav", 1.0, 2.0)


def test_a_file_says_its_own_sample_rate():
    with pytest.raises(SampleRateError, match="its own"):
        to_clip("a.wav", sample_rate=16_000)


@pytest.mark.parametrize("rate", [None, 0, -1])
def test_samples_need_their_sample_rate(rate):
    with pytest.raises(SampleRateError, match="sample_rate="):
        to_clip(STEREO.T, rate)


@pytest.mark.parametrize(
    ("samples", "layout"),
    [(STEREO.T, "channels_first"), (STEREO, "channels_last"), (torch.from_numpy(STEREO.T), "channels_first")],
)
def test_samples_end_up_with_channels_last_whatever_the_layout(samples, layout):
    clip = to_clip(samples, 16_000, layout=layout)
    np.testing.assert_array_equal(clip.samples, STEREO)
    assert (clip.path, clip.sample_rate) == (None, 16_000)


def test_one_dimension_is_one_channel():
    assert to_clip(STEREO[:, 0], 16_000).samples.shape == (100, 1)


def test_a_tensor_may_want_a_gradient():
    tensor = torch.from_numpy(STEREO.T.copy()).requires_grad_()
    np.testing.assert_array_equal(to_clip(tensor, 16_000).samples, STEREO)


@pytest.mark.parametrize(
    ("dtype", "subtype"), [(np.int16, "PCM_16"), (np.int32, "PCM_32"), (np.uint8, "PCM_U8"), (np.float64, "DOUBLE")]
)
def test_numbers_mean_what_they_mean_in_a_wav_file(tmp_path, dtype, subtype):
    limits = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(np.float32)
    low, high = (limits.min, limits.max) if np.issubdtype(dtype, np.integer) else (-1, 1)
    values = np.linspace(low, high, 1001).astype(dtype)
    soundfile.write(tmp_path / "a.wav", STEREO, 16_000, subtype=subtype)  # for its header
    data = (tmp_path / "a.wav").read_bytes()
    head = data[: len(data) - STEREO.size * values.itemsize]
    (tmp_path / "a.wav").write_bytes(head + values[: STEREO.size].tobytes())
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_allclose(to_clip(values[: STEREO.size], 16_000).samples[:, 0], expected.ravel(), atol=1e-7)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_the_lowest_integer_is_minus_one(dtype):
    assert to_clip(np.array([np.iinfo(dtype).min, 0], dtype), 16_000).samples.ravel().tolist() == [-1.0, 0.0]


@pytest.mark.parametrize(
    "audio",
    [
        None,
        b"a.wav",
        [0.0, 0.1],
        np.float32(0.5),
        np.zeros(()),
        np.zeros((2, 3, 4)),
        np.zeros(10, bool),
        np.zeros(10, complex),
        np.zeros(10, np.uint16),
        np.array(["a.wav"]),
        np.zeros((0, 10)),
    ],
    ids=repr,
)
def test_anything_else_is_refused_by_its_type(audio):
    with pytest.raises(TypeError, match=r"audio is|samples are"):
        to_clip(audio, 16_000)


def test_samples_in_the_wrong_layout_are_refused_with_advice():
    to_clip(np.zeros((MAX_CHANNELS, 100)), 16_000)
    with pytest.raises(TypeError, match="layout='channels_last'"):
        to_clip(np.zeros((MAX_CHANNELS + 1, 2)), 16_000)


def test_an_unknown_layout_is_refused():
    with pytest.raises(TypeError, match="'channels_first'"):
        to_clip(STEREO, 16_000, layout="[S, C]")


def test_the_array_that_was_given_is_not_touched():
    samples = np.array([-32768, 0, 32767], np.int16)
    to_clip(samples, 16_000).samples[:] = 0
    assert samples.tolist() == [-32768, 0, 32767]
