"""Files that are damaged, missing, misnamed, or stuck."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmmos.audio.clip import Clip
from mmmos.audio.decoder import SequentialDecoder
from mmmos.audio.isolated import IsolatedDecoder
from mmmos.errors import AudioError
from mmmos.inference.predictor import Predictor
from tests.faults.conftest import TOLERANCE, Mmmos, WriteWave, axes, check_row, strict_json
from tests.sounds import SAMPLES, music
from tests.toys import toy_member, toy_model

MakeFile = Callable[..., Path]


def damaged(source: Path, name: str, change: Callable[[bytearray], object]) -> Path:
    """A copy of a file with its bytes changed in place."""
    content = bytearray(source.read_bytes())
    change(content)
    path = source.with_name(name)
    path.write_bytes(content)
    return path


def cut_to(size: int) -> Callable[[bytearray], object]:
    return lambda content: content.__delitem__(slice(size, None))


@pytest.mark.slow
def test_01_empty_file_in_a_batch(score_between: Mmmos, tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    run = score_between(path)
    assert run.codes == ["empty_file"]
    assert run.status == 1
    assert "1 of 3 clips could not be scored" in run.notes


@pytest.mark.slow
def test_02_header_without_samples(score_between: Mmmos, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("header.wav", "header.aiff")]
    for path in paths:
        soundfile.write(path, np.zeros(0), 16_000)
        assert path.stat().st_size > 0
    run = score_between(*paths)
    assert run.codes == ["no_samples"] * 2
    assert run.status == 1


@pytest.mark.slow
def test_03_text_with_the_name_of_audio(score_between: Mmmos, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("text.wav", "text.mp3", "text.raw")]
    for path in paths:
        path.write_text("Not a sound file. " * 100)
    run = score_between(*paths)
    assert run.codes == ["unsupported_format"] * 3
    assert run.status == 1


@pytest.mark.slow
def test_03_text_that_names_another_file_does_not_get_its_score(
    score_between: Mmmos, make_file: MakeFile, tmp_path: Path
) -> None:
    other = make_file("other.wav")
    playlists = {
        "concat.wav": f"ffconcat version 1.0\nfile {other.name}\n",
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other.name}\n#EXT-X-ENDLIST\n",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
    run = score_between(*(tmp_path / name for name in playlists))
    assert run.codes == ["unsupported_format", "unsupported_format"]
    assert run.status == 1


@pytest.mark.slow
def test_04_truncated_flac(score_between: Mmmos, make_file: MakeFile) -> None:
    whole = make_file("whole.flac", seconds=3.0)
    size = whole.stat().st_size
    half = damaged(whole, "half.flac", cut_to(size // 2))
    header = damaged(whole, "header.flac", cut_to(100))
    run = score_between(whole, half, header)
    assert run.codes == [None, None, "decode_failed"]
    assert run.status == 1
    assert "truncated" not in run.rows[0]["warnings"]
    assert "truncated" in run.rows[1]["warnings"]
    assert 1.0 < run.rows[1]["duration"] < 1.6


@pytest.mark.slow
def test_05_truncated_wav(score_between: Mmmos, make_file: MakeFile, write_wave: WriteWave) -> None:
    whole = make_file("whole.wav", seconds=4.0)
    size = whole.stat().st_size
    cut = damaged(whole, "cut.wav", cut_to(44 + (size - 44) // 2))
    half = write_wave("half.wav", soundfile.read(whole)[0][:32_000])
    run = score_between(cut, half)
    assert [row["warnings"] for row in run.rows] == [["truncated"], []]
    assert axes(run.rows[0]) == pytest.approx(axes(run.rows[1]), abs=TOLERANCE)
    assert run.rows[0]["duration"] == 2.0
    assert run.status == 0


@pytest.mark.slow
def test_06_bit_rotted_mp3(score_between: Mmmos, make_file: MakeFile) -> None:
    rng = np.random.default_rng(0)

    def flip(content: bytearray) -> None:
        for position in rng.integers(2_000, len(content), 60):
            content[position] ^= 1 << int(rng.integers(8))

    def scramble(content: bytearray) -> None:
        content[1_000:] = rng.bytes(len(content) - 1_000)

    sound = make_file("sound.mp3", seconds=4.0, rate=44_100)
    run = score_between(sound, damaged(sound, "flipped.mp3", flip), damaged(sound, "scrambled.mp3", scramble))
    assert run.codes == [None, None, "decode_failed"]
    assert run.rows[0]["warnings"] == []
    assert "decode_warnings" in run.rows[1]["warnings"]
    assert run.status == 1


@pytest.mark.slow
def test_07_missing_path(score_between: Mmmos, tmp_path: Path) -> None:
    path = tmp_path / "gone.wav"
    run = score_between(path)
    assert run.codes == ["not_found"]
    assert str(path) in run.rows[0]["error"]["message"]
    assert run.rows[0]["id"] == run.rows[0]["path"] == str(path)
    assert run.status == 1


@pytest.mark.slow
def test_07_directory_is_walked(score_between: Mmmos, make_file: MakeFile, tmp_path: Path) -> None:
    for folder in ("album", "album/e", "album/b.wav", "album/empty"):
        (tmp_path / folder).mkdir()
    names = ["album/e/f.ogg", "album/c.wav", "album/a.WAV", "album/b.wav/d.flac"]
    for name in names:
        make_file(name, seconds=0.5)
    (tmp_path / "album/notes.txt").write_text("not audio")
    run = score_between(tmp_path / "album")
    assert [row["path"] for row in run.rows] == [
        str(tmp_path / name) for name in (names[2], names[1], names[3], names[0])
    ]
    assert run.codes == [None] * 4
    assert run.status == 0


@pytest.mark.slow
def test_07_directory_in_a_list_is_no_file(score_between: Mmmos, tmp_path: Path) -> None:
    listed = tmp_path / "clips.jsonl"
    listed.write_text(json.dumps({"path": str(tmp_path)}))
    run = score_between(listed)
    assert run.codes == ["not_found"]
    assert run.status == 1


@pytest.mark.slow
def test_08_one_bad_file_of_eight(mmmos: Mmmos, make_file: MakeFile) -> None:
    paths = [make_file(f"{number}.wav", seconds=0.3) for number in range(8)]
    paths[3].write_bytes(b"no audio")
    run = mmmos("score", *paths)
    assert [row["path"] for row in run.rows] == [str(path) for path in paths]
    for row in run.rows:
        check_row(row)
    assert [number for number, code in enumerate(run.codes) if code] == [3]
    assert run.status == 1


@pytest.mark.slow
def test_32_fresh_install_without_ffmpeg(tmp_path: Path) -> None:
    sound = SAMPLES / "music_tabla.m4a"
    listed = tmp_path / "part.jsonl"
    listed.write_text(json.dumps({"path": str(sound), "start_time": 1.5, "end_time": 4}))
    nothing = {"PATH": "", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "mmmos", "score", sound, tmp_path / "gone.m4a", listed]
    done = subprocess.run(words, env=nothing, capture_output=True, text=True, check=False)
    rows = [strict_json(line) for line in done.stdout.splitlines()]
    for row in rows:
        check_row(row)
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert (rows[2]["start_time"], rows[2]["end_time"]) == (1.5, 4.0)
    assert done.returncode == 1
    assert all(line.startswith("mmmos: ") for line in done.stderr.splitlines())


@pytest.fixture
def stuck(tmp_path: Path) -> Path:
    """A file whose decoder waits for ever: a pipe that nobody writes to."""
    path = tmp_path / "stuck.wav"
    os.mkfifo(path)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("toy_encoder")
def test_33_decoder_that_hangs(stuck: Path, make_file: MakeFile) -> None:
    good = str(make_file("good.wav"))
    predictor = Predictor(toy_model(toy_member(0)))
    children = []

    def clips() -> Iterator[Clip]:
        yield Clip("before", good)
        children.append(predictor.decoder.isolated.process)  # type: ignore[attr-defined]
        predictor.decoder.isolated.deadline = 0.05  # type: ignore[attr-defined]
        yield Clip("stuck", str(stuck))
        predictor.decoder.isolated.deadline = 60.0  # type: ignore[attr-defined]
        yield Clip("after", good)

    before, hung, after = predictor.stream(clips())
    predictor.close()
    assert hung.error is not None
    assert hung.error.code == "decode_timeout"
    assert "0.05 s" in hung.error.message
    assert before.error is None
    assert (before.PQ, before.CE) == (after.PQ, after.CE)
    assert children[0] is not None
    assert children[0].returncode is not None  # ended, and waited for


@pytest.mark.usefixtures("toy_encoder")
def test_33_deadline_is_the_predictors(stuck: Path) -> None:
    with pytest.raises(AudioError, match=r"0\.01 s") as raised:
        Predictor(toy_model(toy_member(0)), decoder=SequentialDecoder(0.01)).score(stuck)
    assert raised.value.code == "decode_timeout"


@pytest.mark.slow
def test_33_decoder_that_crashes(score_between: Mmmos, stuck: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoders: list[IsolatedDecoder] = []
    start = IsolatedDecoder.start
    monkeypatch.setattr(IsolatedDecoder, "start", lambda self: (start(self), decoders.append(self))[0])

    def kill_while_it_reads() -> None:
        with open(stuck, "wb"):  # waits until the decoder has opened the other end
            assert decoders[-1].process is not None
            decoders[-1].process.kill()

    threading.Thread(target=kill_while_it_reads, daemon=True).start()
    run = score_between(stuck)
    assert run.codes == ["decode_crashed"]
    assert "-9" in run.rows[0]["error"]["message"]
    assert run.status == 1


AWKWARD = [
    *("two\nlines.wav", "tab\t.wav", "café 音楽 🎵.wav", "n" * 246 + ".wav", "n*.wav", 'quo"te,comma.wav'),
    b"latin-\xe9.wav".decode("utf-8", "surrogateescape"),
]


@pytest.mark.slow
def test_34_awkward_file_names(mmmos: Mmmos, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in AWKWARD]
    for path in paths:
        with open(path, "wb") as file:
            soundfile.write(file, music(0.5), 16_000, format="WAV")
    assert max(len(os.path.basename(path)) for path in paths) == 250

    named = mmmos("score", *paths)
    assert [row["path"] for row in named.rows] == [path.encode("utf-8", "backslashreplace").decode() for path in paths]
    assert named.codes == [None] * len(paths)
    assert named.status == 0

    table = tmp_path / "rows.csv"
    assert mmmos("score", tmp_path, "-o", table).status == 0
    with open(table, newline="", encoding="utf-8") as file:
        walked = [row["path"] for row in csv.DictReader(file)]
    assert walked == [path.encode("utf-8", "backslashreplace").decode() for path in sorted(paths)]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--segments"], ["--format", "audiobox"]], ids=" ".join)
def test_38_every_line_is_strict_json(
    mmmos: Mmmos, write_wave: WriteWave, make_file: MakeFile, tmp_path: Path, options: list[str]
) -> None:
    broken = music(1.0)
    broken[7] = np.nan
    listed = tmp_path / "clips.jsonl"
    listed.write_text(f'{{"path": "{make_file("good.wav")}", "start_time": NaN, "end_time": Infinity}}\n')
    silent = write_wave("silent.wav", np.zeros(16_000))
    words = [silent, write_wave("nan.wav", broken), tmp_path / "gone.wav", listed, make_file("fine.wav")]
    run = mmmos("score", *words, *options)
    assert [row["PQ"] is None for row in run.rows] == [True, True, True, True, False]
    assert run.status == 1


@pytest.mark.slow
def test_38_rows_in_a_file_are_those_of_stdout(mmmos: Mmmos, make_file: MakeFile, tmp_path: Path) -> None:
    words, output = [make_file("fine.wav"), tmp_path / "gone.wav"], tmp_path / "rows.jsonl"
    printed = mmmos("score", *words)
    saved = mmmos("score", *words, "-o", output)
    assert saved.rows == []
    assert saved.status == printed.status == 1
    assert [strict_json(line) for line in output.read_text().splitlines()] == printed.rows
