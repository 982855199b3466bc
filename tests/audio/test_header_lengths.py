"""Headers that are wrong about the length: all of the audio is read, in the right order, and the row says so."""

from __future__ import annotations

import io
import struct
import tarfile
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mmmos.audio.clip import Clip, to_clip
from mmmos.audio.decode import open_audio, probe
from mmmos.audio.isolated import IsolatedDecoder
from mmmos.audio.windows import ClipReport, cut
from mmmos.errors import AudioError
from tests.sounds import sweep

RATE = 16_000


def encoded(samples: np.ndarray, rate: int = RATE, **options: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **options)
    return file.getvalue()


def mp3(samples: np.ndarray, rate: int = RATE) -> bytes:
    return encoded(samples, rate, format="MP3", bitrate_mode="VARIABLE")


def without_xing(data: bytes) -> bytes:
    mark = max(data.find(b"Xing"), data.find(b"Info"))
    return data[data.index(data[:2], mark) :]


def read(data: bytes | Path, start: float = 0.0, end: float | None = None) -> tuple[np.ndarray, ClipReport]:
    """What becomes of a file, [S] at `RATE`."""
    with tempfile.NamedTemporaryFile() as file:
        if isinstance(data, bytes):
            file.write(data)
            file.flush()
        path = file.name if isinstance(data, bytes) else str(data)
        *windows, report = cut(Clip("a", path, start, end), (RATE,), 0.1)
    return np.concatenate([window.waves[RATE] for window in windows]), report


def assert_same(found: np.ndarray, sound: np.ndarray, delay: int = 0) -> None:
    """Whether a lossy copy is of that sound all along: no second of it is another's, or late by more than `delay`."""
    size = RATE // 2 if delay < 10 else RATE // 8
    for begin in range(0, len(sound) - size, RATE // 2):
        piece = found[begin : begin + size]
        others = [sound[begin + lag : begin + lag + len(piece)] for lag in range(-delay if begin else 0, delay + 1)]
        likeness = [np.corrcoef(piece, other)[0, 1] for other in others if len(other) == len(piece)]
        assert max(likeness) > 0.95


LOUD_THEN_QUIET = sweep(6.0)
LOUD_THEN_QUIET[RATE * 2 :] *= 0.001
LOUD_THEN_QUIET[: RATE * 2] += 0.2 * np.random.default_rng(0).standard_normal((RATE * 2, 1)).astype(np.float32)


def test_vbr_mp3_without_xing():
    data = without_xing(mp3(LOUD_THEN_QUIET))
    assert soundfile.SoundFile(io.BytesIO(data)).frames < 5 * RATE  # what the first frame's bit rate makes of it
    found, report = read(data)
    assert len(found) / RATE == pytest.approx(6, abs=0.15)
    assert report.duration == pytest.approx(6, abs=0.15)
    assert "truncated" not in report.warnings
    assert read(data, 3.0, 4.0)[1].duration == pytest.approx(6, abs=0.15)


@pytest.mark.parametrize("claimed", [1, 8, 40])
def test_xing_that_counts_too_few_frames(claimed):
    sound = sweep(3.0)
    whole = mp3(sound)
    mark = max(whole.find(b"Xing"), whole.find(b"Info"))
    found, report = read(whole[: mark + 8] + struct.pack(">I", claimed) + whole[mark + 12 :])
    np.testing.assert_allclose(found, read(whole)[0], atol=1e-6)
    assert report.duration == 3.0
    assert "header_mismatch" in report.warnings
    assert not {"truncated", "decode_warnings"} & set(report.warnings)


def test_xing_that_counts_too_many_frames_is_a_cut():
    whole = mp3(sweep(3.0))
    found, report = read(whole[: len(whole) // 2])
    assert 0.5 < len(found) / RATE < 2.5
    assert "truncated" in report.warnings


@pytest.mark.slow
@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("xing", [False, True])
def test_joined_mp3s(tagged, xing):
    sounds = [sweep(2.0), sweep(1.5, 900.0), sweep(2.0, 500.0)]
    parts = [mp3(sound) for sound in sounds]
    if not xing:
        parts[0] = without_xing(parts[0])
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x40" + bytes(64)
    found, report = read(b"".join((tag if tagged else b"") + part + b"TAG" + bytes(125) for part in parts))
    delay = 0 if xing else len(found) - 88_000
    assert 0 <= delay < 2_000
    assert_same(found[delay:], np.concatenate(sounds)[:, 0], 600 if delay else 0)
    assert "header_mismatch" in report.warnings
    assert not {"truncated", "decode_warnings", "format_change"} & set(report.warnings)


def test_joined_mp3s_of_other_rates_and_channels():
    parts = [sweep(2.0), sweep(2.0, 700.0, 44_100, 2), sweep(1.0, 400.0, 8_000)]
    data = b"".join(mp3(part, rate) for part, rate in zip(parts, (RATE, 44_100, 8_000), strict=True))
    found, report = read(data)
    assert report.duration == pytest.approx(5.0, abs=0.01)
    expected = [sweep(2.0), 0.75 * sweep(2.0, 700.0), sweep(1.0, 400.0)]
    assert_same(found, np.concatenate(expected)[:, 0], 4)
    assert {"header_mismatch", "format_change"} <= set(report.warnings)


OGG = {"vorbis": {"format": "OGG", "subtype": "VORBIS"}, "opus": {"format": "OGG", "subtype": "OPUS"}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OGG)
def test_chained_ogg(kind):
    sounds = [sweep(2.0), sweep(1.5, 900.0), sweep(2.0, 500.0)]
    data = b"".join(encoded(sound, **OGG[kind]) for sound in sounds)
    found, report = read(data)
    sound = np.concatenate(sounds)[:, 0]
    assert len(found) == len(sound)
    assert_same(found, sound, 1)
    assert report.duration == 5.5
    assert not {"truncated", "decode_warnings", "format_change", "header_mismatch"} & set(report.warnings)
    for start, end in [(0.5, 1.5), (1.5, 2.5), (2.5, 3.0), (3.0, 5.5), (4.0, None)]:
        part, report = read(data, start, end)
        np.testing.assert_allclose(part, found[round(start * RATE) : round((end or 5.5) * RATE)], atol=0.02)
        assert (report.duration, report.end_time) == (5.5, end or 5.5)
    with pytest.raises(AudioError, match=r"ends at 5\.500 s"):
        read(data, 7.0)


def test_chained_ogg_of_other_rates_and_channels():
    first, second, third = sweep(2.0), sweep(2.0, 700.0, 44_100, 2), sweep(1.0, 400.0)
    data = b"".join(encoded(s, rate, **OGG["vorbis"]) for s, rate in [(first, RATE), (second, 44_100), (third, RATE)])
    found, report = read(data)
    assert len(found) == 5 * RATE
    assert_same(found, np.concatenate([first, 0.75 * sweep(2.0, 700.0), third])[:, 0], 1)
    assert report.info.channels == 1
    assert "format_change" in report.warnings
    np.testing.assert_allclose(read(data, 4.25, 4.75)[0], found[4 * RATE + 4_000 : 4 * RATE + 12_000], atol=0.02)


def pcm_bytes(seconds: float) -> bytes:
    return (sweep(seconds) * 32767).astype("<i2").tobytes()


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 13) + b"Lavf59.27.100" + b"\0"
FMT = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
GUID = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00" + bytes(8) + b"wave" + GUID + b"fmt " + GUID
RF64 = b"RF64\xff\xff\xff\xffWAVEds64"
COMM = struct.pack(">IhIhHQ4s2s", 24, 1, 0, 16, 16396, RATE << 50, b"sowt", b"\0\0")
DESC = struct.pack(">qd4sIIIII", 32, RATE, b"lpcm", 2, 2, 1, 1, 16)
HEADERS = {
    "wav": lambda size: b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + FMT + b"data" + struct.pack("<I", size),
    "rf64": lambda size: (
        RF64
        + struct.pack("<IQQQI", 28, size + 72, size, size // 2, 0)
        + b"fmt \x10\0\0\0"
        + FMT
        + b"data\xff\xff\xff\xff"
    ),
    "w64": lambda size: W64 + struct.pack("<Q", 40) + FMT + b"data" + GUID + struct.pack("<Q", size + 24),
    "aifc": lambda size: b"FORM\0\0\0\0AIFCCOMM" + COMM + b"SSND" + struct.pack(">III", size + 8, 0, 0),
    "caf": lambda size: b"caff\0\1\0\0desc" + DESC + b"data" + struct.pack(">qI", size + 4, 0),
}
"""Format -> what stands before samples whose size, in bytes, is claimed."""


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.9])
def test_more_samples_than_the_header_claims(kind, seconds):
    samples = pcm_bytes(2.0)
    found, report = read(HEADERS[kind](round(seconds * 2 * RATE)) + samples)
    np.testing.assert_array_equal(found, np.frombuffer(samples, "<i2").astype(np.float32) / 32768)
    assert report.duration == 2.0
    assert "header_mismatch" in report.warnings
    assert "truncated" not in report.warnings
    part, report = read(HEADERS[kind](0) + samples, 0.5, 1.5)
    np.testing.assert_array_equal(part, found[RATE // 2 : 3 * RATE // 2])
    assert (report.duration, report.end_time) == (2.0, 1.5)


@pytest.mark.parametrize("kind", HEADERS)
def test_header_that_is_right(kind):
    samples = pcm_bytes(2.0)
    found, report = read(HEADERS[kind](len(samples)) + samples)
    np.testing.assert_array_equal(found, np.frombuffer(samples, "<i2").astype(np.float32) / 32768)
    assert not {"header_mismatch", "truncated"} & set(report.warnings)
    report = read(HEADERS[kind](len(samples)) + samples[:-4_000])[1]
    assert "truncated" in report.warnings
    assert "header_mismatch" not in report.warnings


@pytest.mark.parametrize("claimed", [2**32 - 1, 2**32 - 100, 2**31 - 1])
def test_size_of_a_writer_to_a_pipe(claimed):
    found, report = read(HEADERS["wav"](claimed) + pcm_bytes(2.0))
    assert len(found) == 2 * RATE
    assert not {"header_mismatch", "truncated"} & set(report.warnings)


def test_au_of_unknown_size():
    data = (
        b".snd"
        + struct.pack(">5I", 24, 2**32 - 1, 3, RATE, 1)
        + np.frombuffer(pcm_bytes(2.0), "<i2").astype(">i2").tobytes()
    )
    found, report = read(data)
    assert len(found) == 2 * RATE
    assert not {"header_mismatch", "truncated"} & set(report.warnings)
    np.testing.assert_array_equal(read(data[:8] + bytes(4) + data[12:])[0], found)


@pytest.mark.parametrize(
    "rest",
    [
        LIST,
        LIST + LIST,
        b"id3 " + struct.pack("<I", 8) + b"ID3\x03\0\0\0\0",
        b"TAG" + bytes(125),
        bytes(3_000),
        b"\0" * 3,
    ],
    ids=["LIST", "two", "id3", "ID3v1", "zeros", "few"],
)
def test_what_follows_the_samples(rest):
    samples = pcm_bytes(2.0)
    found, report = read(HEADERS["wav"](len(samples)) + samples + rest)
    assert len(found) == 2 * RATE
    assert not {"header_mismatch", "truncated"} & set(report.warnings)


def test_a_header_alone_has_no_samples():
    for rest in (b"", LIST):
        with pytest.raises(AudioError) as caught:
            read(HEADERS["wav"](0) + rest)
        assert caught.value.code == "no_samples"


@pytest.mark.parametrize(
    ("subtype", "format"),
    [("PCM_U8", "WAV"), ("PCM_24", "AIFF"), ("FLOAT", "WAV"), ("DOUBLE", "CAF"), ("ULAW", "AU"), ("PCM_32", "WAVEX")],
)
def test_every_kind_of_samples(tmp_path, subtype, format):
    data = encoded(sweep(2.0, channels=2), subtype=subtype, format=format)
    expected = read(data)[0]
    mark = {"AIFF": b"SSND", "AU": b".snd"}.get(format, b"data")
    place = data.index(mark) + {"AU": 8, "CAF": 8}.get(format, 4)
    found, report = read(data[:place] + bytes(4) + data[place + 4 :])
    assert len(found) == 2 * RATE
    np.testing.assert_array_equal(found, expected)
    assert "header_mismatch" in report.warnings


def test_wav_over_4_gib(tmp_path):
    """4 GiB and a little: all but the end is a hole in the file, which takes no room on the disk."""
    samples, path = pcm_bytes(2.0), tmp_path / "long.wav"
    hole = 2**32 - len(samples)
    with path.open("wb") as file:
        file.write(HEADERS["wav"](len(samples)) + samples + b"\1")
        file.seek(44 + hole)
        file.write(samples + samples + LIST)
    info = probe(path)
    assert info.duration == (2**32 + len(samples)) / 2 / RATE
    start = (hole + len(samples)) / 2 / RATE
    found, report = read(path, start, start + 2.0)
    np.testing.assert_array_equal(found, np.frombuffer(samples, "<i2").astype(np.float32) / 32768)
    assert "header_mismatch" in report.warnings


# ── FLAC


def test_flac_of_unknown_length():
    whole = encoded(sweep(2.0), format="FLAC")
    data = whole[:21] + bytes([whole[21] & 0xF0]) + bytes(4) + whole[26:]
    for rest in (b"", b"TAG" + bytes(125)):
        found, report = read(data + rest)
        np.testing.assert_array_equal(found, read(whole)[0])
        assert report.duration == 2.0
        assert not {"truncated", "decode_warnings"} & set(report.warnings)
        part, report = read(data + rest, 0.5, 1.0)
        np.testing.assert_array_equal(part, found[RATE // 2 : RATE])
        assert (report.duration, report.info.duration) == (2.0, 2.0)
        with pytest.raises(AudioError, match=r"ends at 2\.000 s"):
            read(data + rest, 3.0)


def test_flac_of_unknown_length_that_is_cut():
    whole = encoded(sweep(2.0), format="FLAC")
    data = whole[:21] + bytes([whole[21] & 0xF0]) + bytes(4) + whole[26:-900]
    found, report = read(data, 0.5)
    assert 0.5 < len(found) / RATE < 1.5
    np.testing.assert_array_equal(found, read(whole, 0.5, 0.5 + len(found) / RATE)[0])
    assert report.duration == 0.5 + len(found) / RATE
    assert "truncated" in report.warnings


def test_flac_with_id3v1_keeps_its_last_block():
    whole = encoded(sweep(1.9), format="FLAC")
    found, report = read(whole + b"TAG" + bytes(125))
    np.testing.assert_array_equal(found, read(whole)[0])
    assert not {"truncated", "decode_warnings"} & set(report.warnings)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("hole", [False, True])
def test_flac_with_a_damaged_block(place, hole):
    sound = sweep(4.0) + 0.02 * np.random.default_rng(0).standard_normal((4 * RATE, 1)).astype(np.float32)
    whole = encoded(sound, format="FLAC")
    at = round(place * len(whole))
    found, report = read(whole[:at] + (b"" if hole else bytes(200)) + whole[at + 200 :])
    assert len(found) == 4 * RATE
    lost = np.flatnonzero(np.abs(found - sound[:, 0]) > 1e-3)
    assert 0 < np.ptp(lost) <= 3 * 4096
    assert abs(np.mean(lost) / len(found) - place) < 0.1
    assert report.duration == 4.0
    assert "decode_warnings" in report.warnings
    assert "truncated" not in report.warnings


# ── FFmpeg


def write_track(path: Path, codec: str, sound: np.ndarray, container: str | None = None, **options: str) -> None:
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=RATE, layout="mono")
        encode(file, stream, sound)


def encode(file: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray) -> None:
    form = stream.codec_context.codec.audio_formats[0].name
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, :1].T), "fltp", "mono")
    frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 0
    for part in (*av.AudioResampler(form, "mono", RATE).resample(frame), None):
        file.mux(stream.encode(part))


@pytest.mark.parametrize(
    ("name", "codec", "container"), [("a.aac", "aac", "adts"), ("a.ts", "aac", "mpegts"), ("mp3.wav", "mp3", "wav")]
)
def test_lengths_that_ffmpeg_estimates(tmp_path, name, codec, container):
    write_track(tmp_path / name, codec, LOUD_THEN_QUIET, container)
    found, report = read(tmp_path / name)
    assert len(found) / RATE == pytest.approx(6, abs=0.2)
    assert report.info.duration == pytest.approx(report.duration, abs=0.15)
    assert not {"truncated", "header_mismatch"} & set(report.warnings)
    assert read(tmp_path / name, 1.0, 2.0)[1].duration == pytest.approx(6, abs=0.2)


def write_mkv(path: Path, sounds: list[np.ndarray], default: int | None, seconds: float) -> None:
    """A film of so many seconds, with audio tracks of which one is flagged."""
    with av.open(str(path), "w", format="matroska") as file:
        video = file.add_stream("mjpeg", rate=2, width=32, height=32, pix_fmt="yuvj420p")
        tracks = [file.add_stream("flac", rate=RATE, layout="mono") for _ in sounds]
        for number, track in enumerate(tracks):
            track.disposition = av.stream.Disposition.default if number == default else 0
        for sound, track in zip(sounds, tracks, strict=True):
            encode(file, track, sound)
        for number in range(round(2 * seconds)):
            frame = av.VideoFrame(32, 32, "yuvj420p")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))


def test_mkv_with_a_longer_film(tmp_path):
    write_mkv(tmp_path / "a.mkv", [sweep(2.0)], None, 6.0)
    found, report = read(tmp_path / "a.mkv")
    assert len(found) == 2 * RATE
    assert report.info.duration == pytest.approx(2.0, abs=0.1)
    assert "truncated" not in report.warnings


@pytest.mark.parametrize(("default", "order"), [(None, [0, 1, 2]), (0, [0, 1, 2]), (1, [1, 0, 2]), (2, [2, 0, 1])])
def test_mkv_with_a_default_track(tmp_path, default, order):
    sounds = [sweep(1.0), sweep(1.0, 600.0), sweep(1.0, 900.0)]
    write_mkv(tmp_path / "a.mkv", sounds, default, 1.0)
    for stream, track in enumerate(order):
        with open_audio(tmp_path / "a.mkv", stream) as source:
            found = np.concatenate(list(source.blocks()))
        np.testing.assert_allclose(found, sounds[track], atol=1e-3)


def test_adts_whose_channels_change(tmp_path):
    write_track(tmp_path / "a.aac", "aac", sweep(2.0), "adts")
    with av.open(str(tmp_path / "b.aac"), "w", format="adts") as file:
        stream = file.add_stream("aac", rate=32_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sweep(2.0, 700.0, 32_000, 2).T), "fltp", "stereo")
        frame.sample_rate, frame.time_base, frame.pts = 32_000, Fraction(1, 32_000), 0
        for part in (frame, None):
            file.mux(stream.encode(part))
    found, report = read((tmp_path / "a.aac").read_bytes() + (tmp_path / "b.aac").read_bytes())
    assert len(found) / RATE == pytest.approx(4.0, abs=0.25)
    assert np.abs(found[3 * RATE :]).max() > 0.1
    assert "format_change" in report.warnings
    assert "truncated" not in report.warnings


# ── archives


def test_archives_are_to_be_unpacked(tmp_path):
    sound = mp3(sweep(1.0))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("a.mp3")
        entry.size = len(sound)
        archive.addfile(entry, io.BytesIO(sound))
    with pytest.raises(AudioError, match="tar archive: unpack it") as caught:
        read(tmp_path / "a.tar")
    assert caught.value.code == "unsupported_format"


# ── open files and bytes


@pytest.mark.slow
def test_bytes_and_open_files_are_read_as_files_are(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(HEADERS["wav"](0) + pcm_bytes(2.0))
    with path.open("rb") as file, IsolatedDecoder() as decoder:
        clips = [
            Clip("a", str(path)),
            to_clip(path.read_bytes()),
            to_clip(file),
            to_clip(io.BytesIO(path.read_bytes())),
        ]
        for clip in clips:
            *windows, report = decoder.cut(clip, (RATE,), 0.1)
            assert sum(len(window.waves[RATE]) for window in windows) == 2 * RATE
            assert (report.duration, "header_mismatch" in report.warnings) == (2.0, True)
