"""The decoder's process: what it gives, and that losing it costs no other clip."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmmos.audio.clip import Clip
from mmmos.audio.isolated import DEADLINE_SECONDS, MEMORY_BYTES, IsolatedDecoder
from mmmos.audio.windows import ClipReport, Window, cut, probe
from mmmos.errors import AudioError
from tests.broken_files import album, bomb, noise, sparse, wav, write_sounds
from tests.sounds import SAMPLES

RATES = (16_000, 24_000)


@pytest.fixture(scope="module")
def decoder():
    """One decoder for all tests: each finds it as the one before has left it."""
    with IsolatedDecoder() as decoder:
        yield decoder


@pytest.fixture
def clip(make_file):
    path = str(make_file("good.flac", seconds=12, rate=22_050))
    return Clip("good", path)


@pytest.fixture
def fifo(tmp_path):
    """A file that nobody writes: to open it is to wait forever."""
    path = tmp_path / "never.wav"
    os.mkfifo(path)
    return Clip("never", str(path))


def assert_decodes(decoder: IsolatedDecoder, clip: Clip) -> None:
    """The child gives what decoding in this process gives."""
    *theirs, their_report = decoder.cut(clip, RATES, 0.1)
    *ours, our_report = cut(clip, RATES, 0.1)
    assert their_report == our_report
    assert [replace(window, waves={}) for window in theirs] == [replace(window, waves={}) for window in ours]
    for one, other in zip(theirs, ours, strict=True):
        for rate in RATES:
            np.testing.assert_array_equal(one.waves[rate], other.waves[rate])


def error_of(decoder: IsolatedDecoder, clip: Clip, rates: tuple[int, ...] = RATES) -> AudioError:
    with pytest.raises(AudioError) as caught:
        list(decoder.cut(clip, rates, 0.1))
    return caught.value


@pytest.mark.slow
@pytest.mark.parametrize("name", ["speech_phone.wav", "music_lowrate.mp3", "music_tabla.m4a", "sound_clean.opus"])
def test_the_child_gives_what_this_process_gives(decoder, name):
    for start, end in [(0.0, None), (1.25, 3.5)]:
        assert_decodes(decoder, Clip(name, str(SAMPLES / name), start, end))


@pytest.mark.slow
def test_bytes_of_a_file_give_what_the_file_gives(decoder, clip):
    data = Path(clip.path).read_bytes()
    of_bytes = list(decoder.cut(Clip("bytes", data=data), RATES, 0.1))
    assert repr(of_bytes) == repr(list(decoder.cut(clip, RATES, 0.1)))


def test_error_in_bytes_does_not_name_the_temporary_file(decoder):
    error = error_of(decoder, Clip("upload.wav", data=wav(b"")))
    assert (error.code, "tmp" in str(error)) == ("no_samples", False)


def test_bytes_without_a_temporary_folder_are_one_clear_error(decoder, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    assert "TMPDIR" in str(error_of(decoder, Clip("upload.wav", data=b"RIFF")))


@pytest.mark.slow
def test_fork_starts_a_child_of_its_own(decoder, clip):
    assert_decodes(decoder, clip)
    child = decoder.process
    fork = os.fork()
    if not fork:
        with suppress(BaseException):
            assert_decodes(decoder, clip)
            assert decoder.process.pid != child.pid
            decoder.close()
            os._exit(0)
        os._exit(1)
    assert_decodes(decoder, clip)  # at the same time
    assert os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == 0
    assert_decodes(decoder, clip)
    assert decoder.process is child


@pytest.mark.slow
def test_default_timeout_of_sockets_does_not_count(clip):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(5)
    try:
        with IsolatedDecoder() as decoder:
            assert_decodes(decoder, clip)
    finally:
        socket.setdefaulttimeout(before)


@pytest.mark.slow
def test_one_child_serves_clip_after_clip(decoder, clip):
    assert_decodes(decoder, clip)
    child = decoder.process
    for start in range(5):
        assert_decodes(decoder, replace(clip, start_time=float(start)))
    assert decoder.process is child


@pytest.mark.slow
def test_cuts_under_way_at_once_do_not_mix(decoder, clip, make_file):
    other = Clip("other", str(make_file("other.wav", seconds=3, rate=8_000)))
    first = decoder.cut(clip, RATES, 0.1)
    next(first)
    assert_decodes(decoder, other)
    assert [type(item) for item in first] == [Window, ClipReport]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda item: assert_decodes(decoder, item), [clip, other, clip]))


def test_errors_come_through_with_their_code(decoder, clip, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound in here")
    assert_decodes(decoder, clip)
    child = decoder.process
    for name, code in {"none.wav": "not_found", "empty.wav": "empty_file", "text.wav": "unsupported_format"}.items():
        assert error_of(decoder, Clip(name, str(tmp_path / name))).code == code
    assert error_of(decoder, replace(clip, start_time=99.0)).code == "segment_out_of_range"
    assert_decodes(decoder, clip)
    assert decoder.process is child or decoder.process.poll() is None


def test_an_error_that_nobody_foresaw_costs_one_clip(decoder, clip):
    error = error_of(decoder, clip, rates=(-1,))
    assert (error.code, str(error).partition(":")[0]) == ("decode_failed", "ValueError")
    assert_decodes(decoder, clip)


@pytest.mark.parametrize("name", ["speech_phone.wav", "music_lowrate.mp3", "music_tabla.m4a", "sound_clean.opus"])
def test_the_child_process_reports_what_the_header_says(decoder, name):
    clip = Clip(name, str(SAMPLES / name))
    info = decoder.probe(clip)
    assert info == probe(clip)
    *_, report = cut(clip, RATES, 0.1)
    assert (info.sample_rate, info.channels) == (report.info.sample_rate, report.info.channels)
    assert info.duration == pytest.approx(report.duration, abs=0.1)
    assert decoder.probe(replace(clip, start_time=0.5, end_time=0.6)) == info  # of the file, not of the segment


def test_a_header_is_read_without_decoding(decoder, tmp_path):
    """Here of a file that cannot be decoded."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(12_000, np.nan, np.float32), 12_000, subtype="FLOAT")
    assert decoder.probe(Clip("a", str(path))).duration == 1.0
    assert error_of(decoder, Clip("a", str(path))).code == "non_finite_audio"


@pytest.mark.slow
def test_a_probe_that_fails_costs_no_other_clip(decoder, clip, fifo, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound in here")
    child = decoder.start() and decoder.process
    for name, code in {"none.wav": "not_found", "empty.wav": "empty_file", "text.wav": "unsupported_format"}.items():
        with pytest.raises(AudioError) as caught:
            decoder.probe(Clip(name, str(tmp_path / name)))
        assert caught.value.code == code
        assert decoder.probe(clip).duration == 12
    decoder.deadline = 0.1
    with pytest.raises(AudioError) as caught:
        decoder.probe(fifo)
    decoder.deadline = DEADLINE_SECONDS
    assert caught.value.code == "decode_timeout"
    assert child.poll() is not None
    assert decoder.probe(clip).duration == 12
    assert_decodes(decoder, clip)


@pytest.mark.slow
def test_one_child_answers_probes_and_cuts_in_turn(decoder, clip):
    assert_decodes(decoder, clip)
    child = decoder.process
    for _ in range(3):
        assert decoder.probe(clip).sample_rate == 22_050
        assert_decodes(decoder, clip)
    assert decoder.process is child


@pytest.mark.parametrize("name", [b"caf\xe9 \xff.flac", "new\nline ☃.flac".encode()], ids=repr)
def test_names_reach_the_child_whatever_they_are(decoder, clip, name):
    path = os.fsdecode(os.path.join(os.path.dirname(os.fsencode(clip.path)), name))
    os.rename(clip.path, path)
    assert_decodes(decoder, Clip(path, path))


@pytest.mark.slow
def test_a_decoder_that_hangs_is_given_up(decoder, clip, fifo):
    assert_decodes(decoder, clip)
    child = decoder.process
    decoder.deadline = 0.1
    error = error_of(decoder, fifo)
    decoder.deadline = DEADLINE_SECONDS
    assert (error.code, str(error)) == ("decode_timeout", "the decoder gave nothing for 0.1 s")
    assert child.returncode is not None
    assert_decodes(decoder, clip)


@pytest.mark.slow
def test_a_decoder_that_crashes_is_replaced(decoder, clip, fifo):
    decoder.start()

    def crash() -> None:
        with open(fifo.path, "wb"):  # opens as soon as the child does
            os.kill(decoder.process.pid, signal.SIGSEGV)

    killer = threading.Thread(target=crash)
    killer.start()
    error = error_of(decoder, fifo)
    killer.join()
    assert (error.code, str(error)) == ("decode_crashed", f"the decoder's process died with status {-signal.SIGSEGV}")
    assert_decodes(decoder, clip)


@pytest.mark.slow
def test_a_child_lost_between_two_clips_is_no_fault_of_the_next(decoder, clip):
    assert_decodes(decoder, clip)
    decoder.process.kill()
    decoder.process.wait()
    assert_decodes(decoder, clip)


@pytest.mark.slow
def test_a_clip_left_midway_does_not_reach_into_the_next(decoder, clip):
    windows = decoder.cut(clip, RATES, 0.1)
    assert next(windows).end_time == 10
    windows.close()
    assert_decodes(decoder, replace(clip, start_time=1.0, end_time=2.0))


def test_a_report_that_is_taken_ends_the_clip(decoder, clip):
    items = decoder.cut(clip, RATES, 0.1)
    while not isinstance(next(items), ClipReport):
        pass
    child = decoder.process
    items.close()
    assert_decodes(decoder, clip)
    assert decoder.process is child


@pytest.mark.slow
def test_ctrl_c_is_not_for_the_child(decoder, clip):
    assert_decodes(decoder, clip)
    child = decoder.process
    child.send_signal(signal.SIGINT)
    assert_decodes(decoder, clip)
    assert decoder.process is child


def test_damage_that_an_mp3_decoder_only_logs_is_reported(decoder, make_file):
    path = make_file("a.mp3", seconds=4)
    sound = Clip("sound", str(path))
    damaged = Clip("damaged", str(path.with_name("damaged.mp3")))
    data = bytearray(path.read_bytes())
    middle = slice(len(data) // 2, len(data) // 2 + 1_000)
    data[middle] = bytes(byte ^ 0x55 for byte in data[middle])
    Path(damaged.path).write_bytes(data)
    # After a seek some frames lack the bits that they borrow from earlier ones; these are not used.
    segments = [replace(sound, start_time=tenth / 10) for tenth in range(3, 37, 2)]
    for clip, warned in [(sound, False), (damaged, True), *((segment, False) for segment in segments)]:
        *windows, report = decoder.cut(clip, RATES, 0.1)
        assert all(isinstance(window, Window) for window in windows)
        assert ("decode_warnings" in report.warnings) == warned


@pytest.mark.slow
def test_decoder_messages_on_other_formats_are_not_warnings(decoder, tmp_path):
    (tmp_path / "a.mp3").write_bytes((SAMPLES / "music_tabla.m4a").read_bytes())
    *_, report = decoder.cut(Clip("a", str(tmp_path / "a.mp3")), RATES, 0.1)
    *_, same = decoder.cut(Clip("a", str(SAMPLES / "music_tabla.m4a")), RATES, 0.1)
    assert report.warnings == same.warnings
    assert "decode_warnings" not in report.warnings


@pytest.mark.slow
def test_the_child_is_gone_once_closed(clip):
    with IsolatedDecoder() as decoder:
        assert_decodes(decoder, clip)
        child = decoder.process
        assert child.poll() is None
    assert child.returncode is not None
    assert decoder.process is None
    decoder.close()


@pytest.mark.slow
def test_a_closed_decoder_can_be_used_again(clip):
    decoder = IsolatedDecoder()
    decoder.start()
    decoder.close()
    assert_decodes(decoder, clip)
    decoder.close()


@pytest.mark.slow
def test_a_decoder_that_is_forgotten_leaves_no_child(clip):
    decoder = IsolatedDecoder()
    assert_decodes(decoder, clip)
    child = decoder.process
    del decoder
    assert child.returncode is not None


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no memory limit on this system")


@pytest.mark.slow
@needs_proc
def test_a_file_that_takes_all_memory_costs_itself_alone(decoder, clip, tmp_path):
    """Each asks for gigabytes, the first in a few kilobytes."""
    assert_decodes(decoder, clip)
    child = decoder.process
    sounds = write_sounds()
    (tmp_path / "bomb.m4a").write_bytes(bomb(sounds["m4a"]))
    (tmp_path / "size.wav").write_bytes(wav(noise(2**16), channels=1024, rate=768_000, claimed=2**29))
    os.truncate(tmp_path / "size.wav", 2**29)  # a block of it is 0.8 GB in float32
    for name, message in {
        "bomb.m4a": "the decoder stopped before any audio",
        "size.wav": "the file makes its decoder take more than 1024 MiB of memory",
    }.items():
        error = error_of(decoder, Clip(name, str(tmp_path / name)))
        assert (error.code, str(error)) == ("decode_failed", message)
        assert_decodes(decoder, clip)
    assert decoder.process is child
    assert decoder.peak_bytes() < 1.2 * MEMORY_BYTES


@pytest.mark.slow
@needs_proc
def test_the_limit_of_memory_is_the_decoders(clip, tmp_path):
    path = tmp_path / "album.flac"
    sparse(path, *album(write_sounds()["flac"], pictures=12))  # 200 MB
    pictures = Clip("album", str(path))
    with IsolatedDecoder(memory=128 << 20) as strict:
        error = error_of(strict, pictures)
        assert (error.code, str(error)) == (
            "decode_failed",
            "the file makes its decoder take more than 128 MiB of memory",
        )
        assert_decodes(strict, clip)
    with IsolatedDecoder() as decoder:
        assert_decodes(decoder, pictures)


@pytest.mark.slow
def test_no_limit_of_memory_is_in_the_way_of_a_sound(tmp_path):
    soundfile.write(tmp_path / "hall.wav", np.full((192_000, 32), 0.1, np.float32), 384_000)
    header = wav(b"", channels=2, rate=48_000, claimed=3 * 3600 * 48_000 * 4)
    sparse(tmp_path / "hours.wav", [(0, header)], len(header) + 3 * 3600 * 48_000 * 4)
    with IsolatedDecoder(memory=MEMORY_BYTES // 4) as decoder:
        for path in sorted(SAMPLES.glob("*.*")):
            if path.suffix != ".md":
                assert_decodes(decoder, Clip(path.name, str(path)))
        assert_decodes(decoder, Clip("hall", str(tmp_path / "hall.wav")))
        hours = Clip("hours", str(tmp_path / "hours.wav"), start_time=10_700.0)
        assert decoder.probe(hours).duration == 3 * 3600
        assert_decodes(decoder, hours)


@pytest.mark.slow
@needs_proc
def test_the_most_memory_of_a_child_is_known(clip, tmp_path):
    decoder = IsolatedDecoder()
    assert decoder.peak_bytes() == 0
    assert_decodes(decoder, clip)
    small = decoder.peak_bytes()
    assert 2**24 < small < 2**28
    soundfile.write(tmp_path / "wide.wav", np.full((48_000, 512), 0.1, np.float32), 192_000)
    assert_decodes(decoder, Clip("wide", str(tmp_path / "wide.wav")))
    large = decoder.peak_bytes()
    assert large > small + 2**25
    decoder.close()
    assert decoder.peak_bytes() == large  # of one that is gone, too
    assert_decodes(decoder, clip)
    assert decoder.peak_bytes() == large
    decoder.close()


@pytest.mark.slow
def test_a_child_can_be_ended_from_another_thread(decoder, clip, fifo):
    decoder.start()
    killer = threading.Timer(0.1, decoder.kill)
    killer.start()
    assert error_of(decoder, fifo).code == "decode_crashed"
    killer.join()
    assert_decodes(decoder, clip)


@pytest.mark.slow
def test_a_process_that_ends_without_closing_says_nothing(clip):
    script = (
        "import sys\n"
        "from mmmos.audio.clip import Clip\n"
        "from mmmos.audio.isolated import IsolatedDecoder\n"
        "sys.kept = IsolatedDecoder()\n"
        "list(sys.kept.cut(Clip('good', sys.argv[1]), [16000], 0.1))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, clip.path], capture_output=True, timeout=180)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


@pytest.mark.slow
def test_hanging_child_ends_with_its_killed_parent(clip, fifo):
    script = (
        "import os, signal, sys\n"
        "from mmmos.audio.clip import Clip\n"
        "from mmmos.audio.isolated import IsolatedDecoder\n"
        "decoder = IsolatedDecoder()\n"
        "list(decoder.cut(Clip('good', sys.argv[1]), [16000], 0.1))\n"
        "decoder.start().send((Clip('never', sys.argv[2]), [16000], 0.1))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # The child holds the other end of stdout, too: reading ends when both processes have.
    ended = subprocess.run([sys.executable, "-c", script, clip.path, fifo.path], stdout=subprocess.PIPE, timeout=180)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")


@pytest.mark.slow
def test_the_child_does_without_torch():
    script = "import sys, mmmos.audio.isolated; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
