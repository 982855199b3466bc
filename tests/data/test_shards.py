"""WebDataset shards: each audio file of an archive is a clip, and scores as the same file outside of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mmmos.audio.decode import open_audio
from mmmos.data.inputs import expand
from mmmos.errors import AudioError, ManifestError
from mmmos.inference.predictor import Predictor
from mmmos.io.shards import Members, list_members, split_member
from mmmos.scores import file_state


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_audio_members_are_clips_and_keys_their_ids(tmp_path, caplog):
    names = ["utt1.flac", "utt1.json", "dir/utt2.wav", "dir/utt2.txt", "two.left.wav", "two.right.wav", "none.txt"]
    shard = write_shard(tmp_path / "a.tar", dict.fromkeys(["._utt1.flac", *names], b"x"))
    clips = list(expand([str(shard)]))
    assert [clip.id for clip in clips] == ["utt1", "dir/utt2", "two.left.wav", "two.right.wav"]
    assert [clip.path for clip in clips] == [f"{shard}::{n}" for n in names if n.endswith((".flac", ".wav"))]
    assert "1 sample without an audio file is left out" in caplog.text


def test_patterns_match_shards_in_order(tmp_path):
    for name in ("b", "a"):
        write_shard(tmp_path / f"s-{name}.tar", {f"{name}.wav": b"x"})
    assert [clip.id for clip in expand([str(tmp_path / "s-*.tar")])] == ["a", "b"]


def test_missing_shard_is_a_clip_that_is_missing(tmp_path):
    (clip,) = expand([str(tmp_path / "none.tar")])
    assert clip.path == str(tmp_path / "none.tar")


def test_damaged_shard_gives_the_clips_before_the_damage(tmp_path):
    shard = write_shard(tmp_path / "a.tar", {"a.wav": bytes(2000), "b.wav": bytes(5000)})
    shard.write_bytes(shard.read_bytes()[:4000])
    errors: list[ManifestError] = []
    assert [clip.id for clip in expand([str(shard)], on_bad_row=errors.append)] == ["a", "b"]
    assert "damaged after b.wav" in str(errors[0])
    shard.write_bytes(b"no archive" * 100)
    with pytest.raises(ManifestError, match="is not a tar archive"):
        list(expand([str(shard)]))


def test_links_and_folders_in_shards_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("a.wav", tarfile.SYMTYPE), ("b.wav", tarfile.DIRTYPE), ("c.wav", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert list(list_members(str(tmp_path / "a.tar"))) == []


def test_members_have_the_bytes_and_the_state_of_the_archive(tmp_path):
    data = {"a.wav": b"first" * 300, "b.wav": b"second", "empty.wav": b""}
    shard, members = write_shard(tmp_path / "a.tar", data), Members()
    for name, expected in data.items():
        with members.copy(str(shard), name) as copy:
            assert copy.read_bytes() == expected
    write_shard(shard, {"a.wav": b"new" * 1000})
    with members.copy(str(shard), "a.wav") as copy:
        assert copy.read_bytes() == b"new" * 1000
    assert file_state(f"{shard}::a.wav") == file_state(str(shard)) != (None, None)


def test_members_that_are_missing_have_a_code(tmp_path):
    shard = write_shard(tmp_path / "a.tar", {"a.wav": b""})
    cases = {"b.wav": "not_found", "a.wav": "empty_file"}
    for name, code in cases.items():
        with pytest.raises(AudioError) as error, open_audio(f"{shard}::{name}"):
            pass
        assert error.value.code == code
    with pytest.raises(AudioError, match="no such file") as error, open_audio(tmp_path / "x.tar::a.wav"):
        pass
    assert error.value.code == "not_found"


def test_a_file_with_such_a_name_is_a_file(tmp_path, make_file):
    path = make_file("x.tar::a.wav")
    assert split_member(str(path)) is None
    with open_audio(path) as source:
        assert source.info.duration == 2.0


@pytest.mark.slow
def test_members_score_as_files(make_file: Callable[..., Path], scorer: Predictor, tmp_path: Path):
    files = {"a.wav": make_file("a.wav", 1.0), "b.flac": make_file("b.flac", 1.5, 44_100)}
    shard = write_shard(tmp_path / "s.tar", {name: path.read_bytes() for name, path in files.items()})
    *members, first, second = scorer.stream(expand([str(shard), *map(str, files.values())]))
    assert [row.id for row in members] == ["a", "b"]
    for member, row in zip(members, (first, second), strict=True):
        same = ("CE", "CU", "PC", "PQ", "duration", "sample_rate", "warnings")
        assert {name: getattr(member, name) for name in same} == {name: getattr(row, name) for name in same}


def test_shards_of_webdataset_are_read(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="WebDataset writes the shard")
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as sink:
        for i in range(2):
            sink.write({"__key__": f"sample{i:03d}", "wav": b"RIFF", "json": {"text": "x"}})
    assert [clip.id for clip in expand([str(tmp_path / "w.tar")])] == ["sample000", "sample001"]
