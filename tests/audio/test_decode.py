"""Audio in: every format in blocks against the same file read whole, and what damaged files get."""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.audio.decode import BLOCK_SECONDS, from_array, open_audio, probe
from mmmos.audio.source import AudioInfo, Source
from mmmos.audio.windows import cut
from mmmos.errors import AudioError
from tests.sounds import music

RATE = 48_000
SECONDS = 1.5
SOUND = np.stack([music(SECONDS, RATE, seed=0), 0.5 * music(SECONDS, RATE, seed=1)], axis=1)  # [S, C]

LIBSNDFILE = {
    "pcm16.wav": {"subtype": "PCM_16"},
    "pcm24.wav": {"subtype": "PCM_24"},
    "adpcm.wav": {"subtype": "MS_ADPCM"},
    "float.wav": {"subtype": "FLOAT"},
    "double.wav": {"subtype": "DOUBLE"},
    "a.flac": {},
    "a.aiff": {},
    "a.au": {},
    "a.ogg": {},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
    "constant.mp3": {"bitrate_mode": "CONSTANT", "compression_level": 0.9},
}
FFMPEG = {"a.m4a": "aac", "a.mp4": "aac", "lossless.m4a": "alac", "a.webm": "libopus", "a.wma": "wmav2"}
FORMATS = (*LIBSNDFILE, *FFMPEG)


def write_ffmpeg(path: Path, codec: str, samples: np.ndarray, rate: int) -> None:
    """Samples [S, C] as a file of the kind that its name says."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout = layout = "mono" if samples.shape[1] == 1 else "stereo"
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T, np.float32), "fltp", layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        to_codec = av.AudioResampler(stream.codec_context.codec.audio_formats[0].name, layout, rate)
        for part in (*to_codec.resample(frame), None):
            file.mux(stream.encode(part))


def write_streams(path: Path, streams: list[np.ndarray], rate: int) -> None:
    """Mono samples [S], each as an audio stream of its own of an MP4 file."""
    with av.open(str(path), "w", format="mp4") as file:
        encoders = [file.add_stream("alac", rate=rate, layout="mono", format="s16p") for _ in streams]
        for samples, encoder in zip(streams, encoders, strict=True):
            frame = av.AudioFrame.from_ndarray((samples[None] * 32767).astype(np.int16), "s16p", "mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
            for part in (frame, None):
                file.mux(encoder.encode(part))


def read_whole(path: Path) -> np.ndarray:
    """Samples [S, C] in one go, by the libraries alone."""
    if path.name in LIBSNDFILE:
        return soundfile.read(path, dtype="float32", always_2d=True)[0]
    with av.open(str(path)) as file:
        to_float = av.AudioResampler("fltp")
        frames = [even for frame in file.decode(audio=0) for even in to_float.resample(frame)]
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1).T


def read(path: str | Path, start: float = 0.0, end: float | None = None) -> tuple[np.ndarray, Source]:
    with open_audio(path) as source:
        return np.concatenate([np.zeros((0, source.info.channels)), *source.blocks(start, end)]), source


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of every format."""
    folder = tmp_path_factory.mktemp("formats")
    for name, options in LIBSNDFILE.items():
        soundfile.write(folder / name, SOUND, RATE, **options)
    for name, codec in FFMPEG.items():
        write_ffmpeg(folder / name, codec, SOUND, RATE)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_equal_the_file_read_whole(folder, name):
    samples, source = read(folder / name)
    np.testing.assert_array_equal(samples, read_whole(folder / name))
    assert source.seconds == len(samples) / RATE
    assert source.warnings == set()


@pytest.mark.parametrize("name", FORMATS)
def test_a_segment_equals_a_slice_of_the_whole(folder, name):
    whole, _ = read(folder / name)
    for start, end in [(0.0, 0.7), (0.1, 0.2), (0.50001, 0.60001), (0.7345, 1.4), (1.0, None), (1.4, 1.45)]:
        segment, source = read(folder / name, start, end)
        expected = whole[round(start * RATE) : None if end is None else round(end * RATE)]
        np.testing.assert_allclose(segment, expected, atol=2e-7)  # MP3 seeks to other roundings
        assert source.warnings == set()


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16"])
def test_unseekable_codecs_are_read_from_the_beginning(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", music(3, 8_000), 8_000, subtype=subtype)
    whole, _ = read(tmp_path / "a.wav")
    np.testing.assert_array_equal(read(tmp_path / "a.wav", 1.1, 2.0)[0], whole[8_800:16_000])


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_are_a_quarter_of_a_second(folder, name):
    with open_audio(folder / name) as source:
        sizes = [len(block) for block in source.blocks()]
    assert min(sizes[:-1]) >= BLOCK_SECONDS * RATE
    assert max(sizes) < 2 * BLOCK_SECONDS * RATE


@pytest.mark.parametrize("name", FORMATS)
def test_probe_reads_the_header_without_decoding(folder, name):
    info = probe(folder / name)
    assert (info.sample_rate, info.channels) == (RATE, 2)
    assert info.duration == pytest.approx(SECONDS, abs=0.05)
    assert info.decoder == ("libsndfile" if name in LIBSNDFILE else "ffmpeg")


@pytest.mark.parametrize(
    ("name", "step"),
    [("float.wav", 0), ("pcm24.wav", 2**-23), ("pcm16.wav", 2**-15), ("a.flac", 2**-15), ("lossless.m4a", 2**-15)],
)
def test_lossless_formats_give_back_what_was_written(folder, name, step):
    np.testing.assert_allclose(read(folder / name)[0], SOUND, atol=step)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.mp3", "a.m4a", "a.webm", "a.wma"])
def test_lossy_formats_begin_where_the_sound_does(folder, name):
    decoded = read(folder / name)[0][:RATE, 0]
    spectrum = np.fft.rfft(decoded, 2 * RATE).conj() * np.fft.rfft(SOUND[:RATE, 0], 2 * RATE)
    lag = np.fft.irfft(spectrum).argmax()
    assert lag == (2048 if name == "a.wma" else 0)  # ASF has no field for the encoder's delay


@pytest.mark.parametrize("name", ["pcm16.wav", "float.wav", "a.flac", "a.aiff", "a.au", "a.mp3", "a.webm"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_file_that_ends_too_early_is_truncated(folder, tmp_path, name, share):
    data = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(data[: round(share * len(data))])
    samples, source = read(tmp_path / name)
    assert source.warnings == {"truncated"}
    assert 0 < len(samples) <= share * len(SOUND) + RATE / 10
    whole = read_whole(folder / name)[: len(samples)]
    np.testing.assert_allclose(samples[: -RATE // 10], whole[: -RATE // 10], atol=1e-6)


@pytest.mark.parametrize("missing", [1, 2, 5_000])
def test_a_wav_with_missing_bytes_is_reported_as_truncated(folder, tmp_path, missing):
    (tmp_path / "a.wav").write_bytes((folder / "pcm16.wav").read_bytes()[:-missing])
    assert read(tmp_path / "a.wav")[1].warnings == {"truncated"}


@pytest.mark.parametrize(
    ("riff", "data", "warnings"),
    [
        (2**32 - 1, 2**32 - 1, set()),
        (2**32 - 1, 2**32 - 37, set()),
        (2**31 - 4060, 2**31 - 4096, set()),
        (2**31, 2**31 - 36, set()),
        (2**20, 2**20 - 36, {"truncated"}),
        (2**30, 2**30 - 36, {"truncated"}),
    ],
)
def test_sizes_that_writers_to_a_pipe_claim_are_no_sign_of_a_cut(folder, tmp_path, riff, data, warnings):
    written = bytearray((folder / "pcm16.wav").read_bytes())
    at = written.index(b"data")
    written[4:8], written[at + 4 : at + 8] = struct.pack("<I", riff), struct.pack("<I", data)
    (tmp_path / "a.wav").write_bytes(written)
    samples, source = read(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples, read_whole(folder / "pcm16.wav"))
    assert source.warnings == warnings


def test_damaged_packets_are_skipped_with_a_warning(folder, tmp_path):
    data = bytearray((folder / "a.m4a").read_bytes())
    middle = slice(len(data) // 3, len(data) // 3 + 2_000)
    data[middle] = bytes(byte ^ 0xFF for byte in data[middle])
    (tmp_path / "a.m4a").write_bytes(data)
    samples, source = read(tmp_path / "a.m4a")
    assert "decode_warnings" in source.warnings
    assert len(SOUND) // 2 < len(samples) <= len(SOUND) + 1024


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty.wav", b"", "empty_file"),
        ("text.wav", b"no sound in here\n" * 100, "unsupported_format"),
        ("text.mp3", b"no sound in here\n" * 100, "unsupported_format"),
        ("samples.raw", bytes(1000), "unsupported_format"),
    ],
)
def test_what_is_no_audio_is_refused(tmp_path, name, data, code):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AudioError) as caught:
        read(tmp_path / name)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["missing.wav", ".", "x" * 300 + ".wav", "nul\0.wav"])
def test_what_is_not_there_is_not_found(tmp_path, name):
    with pytest.raises(AudioError) as caught:
        read(tmp_path / name)
    assert caught.value.code == "not_found"


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user to whom locked files are locked: the superuser is somebody else meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("locked", ["f/a.wav", "f", "pipe.wav"])
def test_locked_files_and_folders_are_not_readable(locked):
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to others as a whole
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / ("pipe.wav" if locked == "pipe.wav" else "f/a.wav")
        (folder / "f").mkdir()
        soundfile.write(folder / "f/a.wav", SOUND, RATE)
        os.mkfifo(folder / "pipe.wav")
        (folder / locked).chmod(0)
        with without_privileges(), pytest.raises(AudioError, match=r"Permission denied; give .* read access") as caught:
            read(path)
        assert caught.value.code == "not_readable"
        assert str(path) in str(caught.value)
        (folder / "f").chmod(0o700)


def test_a_header_without_samples_has_no_samples(tmp_path):
    soundfile.write(tmp_path / "a.wav", SOUND[:0], RATE)
    with pytest.raises(AudioError) as caught:
        read(tmp_path / "a.wav")
    assert caught.value.code == "no_samples"


def test_a_film_without_sound_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for frame in (av.VideoFrame(16, 16, "yuv420p"), None):
            file.mux(stream.encode(frame))
    with pytest.raises(AudioError, match="no audio stream") as caught:
        read(tmp_path / "a.mp4")
    assert caught.value.code == "unsupported_format"


def test_named_pipe_is_read_to_its_end(make_file, tmp_path):
    file, pipe = make_file("a.wav"), tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()), daemon=True)
    writer.start()
    assert np.array_equal(read(pipe)[0], read(file)[0])


@pytest.mark.parametrize("kind", ["m3u8", "ffconcat"])
def test_a_playlist_opens_no_other_file(folder, tmp_path, kind):
    other = folder / "a.m4a"
    text = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n",
        "ffconcat": f"ffconcat version 1.0\nfile {other}\n",
    }[kind]
    (tmp_path / f"a.{kind}").write_text(text)
    with pytest.raises(AudioError):
        read(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_sample_is_an_error_in_its_window(tmp_path, value):
    samples = SOUND.copy()
    samples[round(0.95 * RATE), 1] = value  # in the block where the segment ends
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError) as caught:
        read(tmp_path / "a.wav")
    assert caught.value.code == "non_finite_audio"
    assert len(read(tmp_path / "a.wav", end=0.9)[0]) == 0.9 * RATE


def failing(blocks: int) -> Source:
    """A decoder that gives some blocks of a second and then fails."""

    def decode():
        for _ in range(blocks):
            yield np.ones((8_000, 1), np.float32)
        raise OSError("disk error")

    return Source(AudioInfo(8_000, 1, 10.0, "test", "none"), decode())


def test_a_decoder_that_fails_at_once_is_an_error():
    with pytest.raises(AudioError, match="disk error") as caught:
        list(failing(0).blocks())
    assert caught.value.code == "decode_failed"


def test_a_decoder_that_fails_later_truncates():
    source = failing(3)
    assert len(list(source.blocks())) == 3
    assert (source.warnings, source.seconds) == ({"truncated"}, 3.0)


def test_a_failure_after_the_segment_is_not_reported():
    source = failing(3)
    assert sum(map(len, source.blocks(0.5, 2.5))) == 16_000
    assert source.warnings == set()


def test_a_flac_cut_in_its_first_frame_is_an_error(folder, tmp_path):
    (tmp_path / "a.flac").write_bytes((folder / "a.flac").read_bytes()[:4_000])
    with pytest.raises(AudioError) as caught:
        read(tmp_path / "a.flac")
    assert caught.value.code == "decode_failed"


@pytest.mark.parametrize("kind", ["pcm16.wav", "a.mp3", "a.m4a"])
@pytest.mark.parametrize(
    "name",
    [b"caf\xe9 \xff", "new\nline ☃ 🎵".encode(), b"x" * 246, b"-", b"pipe:0", b"file:x", b"%d?a=#b"],
    ids=["latin-1", "unicode", "250 bytes", "dash", "pipe", "protocol", "pattern"],
)
def test_files_open_whatever_their_name(folder, tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    path = os.fsdecode(name + kind[-4:].encode())
    os.link(folder / kind, path)
    assert len(read(path, end=0.1)[0]) == RATE // 10


@given(rate=st.integers(1, 400_000), seconds=st.floats(0, 3), start=st.floats(0, 3), length=st.none() | st.floats(0, 3))
def test_samples_in_memory_are_a_source_at_any_rate(rate, seconds, start, length):
    samples = np.arange(round(rate * seconds), dtype=np.float32)[:, None]
    end = None if length is None else start + length
    blocks = list(from_array(samples, rate).blocks(start, end))
    expected = samples[round(start * rate) : None if end is None else round(end * rate)]
    np.testing.assert_array_equal(np.concatenate([samples[:0], *blocks]), expected)
    assert all(len(block) <= max(1, BLOCK_SECONDS * rate + 1) for block in blocks)


# ── one file, several streams


@pytest.fixture(scope="module")
def stems(tmp_path_factory):
    """Five different sounds in one file, as MUSDB18 has a song, and the sounds."""
    path = tmp_path_factory.mktemp("stems") / "song.stem.mp4"
    sounds = [music(seconds, 16_000, seed) for seed, seconds in enumerate((2.0, 2.0, 1.5, 2.0, 2.5))]
    write_streams(path, sounds, 16_000)
    return path, sounds


def test_each_stream_of_a_file_can_be_read(stems):
    path, sounds = stems
    for number, sound in enumerate(sounds):
        with open_audio(path, number) as source:
            found = np.concatenate(list(source.blocks()))
        assert (source.info.channels, source.info.sample_rate, source.info.decoder) == (1, 16_000, "ffmpeg")
        assert source.info.duration == pytest.approx(len(sound) / 16_000, abs=0.01)
        np.testing.assert_allclose(found[: len(sound), 0], sound, atol=1e-4)
        assert not source.warnings
        assert probe(path, number) == source.info


def test_the_first_stream_is_read_unless_another_is_asked_for(stems):
    path, sounds = stems
    np.testing.assert_allclose(read(path)[0][: len(sounds[0]), 0], sounds[0], atol=1e-4)


@pytest.mark.parametrize("number", [5, 99, -1])
def test_a_missing_stream_is_reported(stems, number):
    with pytest.raises(AudioError, match=f"audio streams 0 to 4 and none of {number}") as caught:
        probe(stems[0], number)
    assert caught.value.code == "unsupported_format"


def test_a_file_of_one_stream_has_no_second(make_file):
    with pytest.raises(AudioError, match="none of 1"):
        probe(make_file("a.wav"), 1)


def test_a_clip_names_its_stream(stems):
    path, sounds = stems
    for number in (0, 2, 4):
        *windows, report = cut(Clip("a", str(path), 0.25, 1.25, stream=number), [16_000], 0.1)
        (window,) = windows
        np.testing.assert_allclose(window.waves[16_000], sounds[number][4_000:20_000], atol=1e-4)
        assert report.info.decoder == "ffmpeg"
