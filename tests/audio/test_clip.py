"""Whatever can be scored as a clip, and what cannot as an error that says why."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile
import torch

from mmmos.audio.clip import MAX_CHANNELS, Clip, to_clip
from mmmos.errors import SampleRateError

STEREO = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)  # [S, C]


@pytest.mark.parametrize("path", ["a/b.wav", Path("a/b.wav")])
def test_a_path_is_a_clip_whose_id_is_the_path(path):
    assert to_clip(path, start_time=1.0, end_time=2.0) == Clip("a/b.wav", "a/b.wav", 1.0, 2.0)


def test_a_file_says_its_own_sample_rate():
    with pytest.raises(SampleRateError, match="its own"):
        to_clip("a.wav", sample_rate=16_000)


@pytest.mark.parametrize("rate", [None, 0, -1, 16_000.5, float("nan"), float("inf"), True, "16000", [16_000]])
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
        [0.0, 0.1],
        {"array": STEREO, "sampling_rate": 16_000},
        range(3),
        np.float32(0.5),
        np.zeros(()),
        np.zeros((2, 3, 4)),
        np.zeros(10, bool),
        np.zeros(10, complex),
        np.zeros(10, np.uint16),
        np.zeros(10, np.int64),
        np.zeros(10, [("left", np.float32)]),
        np.array([0.5, "a"], object),
        torch.zeros(10, dtype=torch.complex64),
        torch.zeros(10, device="meta"),
        torch.zeros(10).to_sparse(),
        np.array(["a.wav"]),
        np.zeros((0, 10)),
    ],
    ids=repr,
)
def test_anything_else_is_refused_by_its_type(audio):
    with pytest.raises(TypeError, match=r"audio is|samples are"):
        to_clip(audio, 16_000)


@pytest.mark.parametrize(
    ("audio", "remedy"),
    [
        (np.ma.masked_greater(STEREO, 0.5), "array.filled"),
        (np.zeros(10, np.int64), "array / 32768"),
        (0.5, "numpy.array"),
        (np.array(["a.wav", "b.wav"]), "array.tolist"),
        (pyarrow.array(["a.wav"]), "to_pylist"),
        (pyarrow.scalar("a.wav"), "as_py"),
        ([["a.wav"]], "one flat list"),
        (Clip("a.wav"), "stream"),
        (io.StringIO("text"), "'rb'"),
        (io.FileIO(os.devnull, "w"), "'rb'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_type_error_names_a_remedy(audio, remedy):
    with pytest.raises(TypeError, match=remedy):
        to_clip(audio, None if hasattr(audio, "read") else 16_000)


@pytest.mark.parametrize("dtype", [">i2", ">f4", "<f8", ">f8", "f2", np.longdouble, torch.float16, torch.bfloat16])
def test_byte_order_and_width_do_not_change_samples(dtype):
    exact = np.array([-1.0, -0.5, 0.0, 0.25], np.float32)  # in every one of these types
    if isinstance(dtype, torch.dtype):
        samples = torch.from_numpy(exact).to(dtype)
    else:
        samples = (exact * (32_768 if dtype == ">i2" else 1)).astype(dtype)
    kept = to_clip(samples, 16_000).samples
    assert kept.dtype == np.dtype(np.float32)
    assert kept.dtype.isnative
    assert kept[:, 0].tolist() == exact.tolist()


def test_masked_array_without_masked_values_is_an_array():
    np.testing.assert_array_equal(to_clip(np.ma.array(STEREO.T), 16_000).samples, STEREO)


def test_array_subclass_becomes_a_plain_array():
    class Recording(np.ndarray):
        pass

    kept = to_clip(STEREO.T.view(Recording), 16_000).samples
    assert type(kept) is np.ndarray
    np.testing.assert_array_equal(kept, STEREO)


def test_float64_overflow_is_infinite_under_any_error_state():
    with np.errstate(all="raise"):
        assert np.isinf(to_clip(np.array([1e300, 1e-300]), 16_000).samples[0, 0])


@pytest.mark.parametrize("rate", [44_100, 44_100.0, np.int64(44_100), np.float32(44_100), torch.tensor(44_100)])
def test_whole_sample_rates_of_any_type(rate):
    rate = to_clip(STEREO.T, rate).sample_rate
    assert (type(rate), rate) == (int, 44_100)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_the_content_of_a_file(kind):
    clip = to_clip(kind(b"RIFF"), start_time=1.0)
    assert (clip.id, clip.path, clip.data, clip.start_time) == ("bytes", None, b"RIFF", 1.0)


def test_open_file_is_read_whole_and_left_as_it_was(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF and more")
    with open(tmp_path / "a.wav", "rb") as file:
        file.seek(4)
        clip = to_clip(file)
        assert (clip.id, clip.data) == (str(tmp_path / "a.wav"), b"RIFF and more")
        assert file.read() == b" and more"
    buffer = io.BytesIO()
    buffer.write(b"RIFF")  # and so at its end
    assert to_clip(buffer).data == b"RIFF"
    assert (buffer.tell(), buffer.closed) == (4, False)


@pytest.mark.parametrize("name", ["start_time", "end_time"])
def test_times_are_numbers(name):
    with pytest.raises(TypeError, match=f"{name} is a number of seconds, not '1.5'"):
        to_clip("a.wav", **{name: "1.5"})


def test_pipe_is_read_to_its_end():
    read, write = os.pipe()
    os.write(write, b"RIFF")
    os.close(write)
    with open(read, "rb") as file:
        assert to_clip(file).data == b"RIFF"
        assert not file.closed


@pytest.mark.parametrize("audio", [b"RIFF", io.BytesIO(b"RIFF")], ids=["bytes", "file"])
def test_content_of_a_file_says_its_own_sample_rate(audio):
    with pytest.raises(SampleRateError, match="its own"):
        to_clip(audio, sample_rate=16_000)


def test_clip_of_samples_needs_their_rate():
    with pytest.raises(SampleRateError, match="sample_rate="):
        Clip("a", samples=STEREO)


def test_clip_converts_its_samples():
    assert Clip("a", samples=STEREO[:, 0].astype(np.float64), sample_rate=16_000).samples.shape == (100, 1)
    with pytest.raises(TypeError, match="samples are"):
        Clip("a", samples=STEREO.T, sample_rate=16_000)


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
