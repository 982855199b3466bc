"""Lhotse manifests: cuts are segments of files, and what is not a segment of one file is refused with the reason."""

from __future__ import annotations

import copy
import gzip
import json

import pytest

from mmmos.audio.clip import Clip
from mmmos.data.inputs import expand
from mmmos.errors import ManifestError

RECORDING = {
    "id": "rec-1",
    "sources": [{"type": "file", "channels": [0], "source": "/data/rec.wav"}],
    "sampling_rate": 16000,
    "num_samples": 320000,
    "duration": 20.0,
    "channel_ids": [0],
}
CUT = {
    "id": "cut-1",
    "start": 2.5,
    "duration": 7.25,
    "channel": 0,
    "supervisions": [{"id": "s", "recording_id": "rec-1", "start": 0.0, "duration": 7.25, "text": "x"}],
    "recording": RECORDING,
    "type": "MonoCut",
}


def clips(tmp_path, *rows: dict, name: str = "cuts.jsonl") -> list[Clip]:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    else:
        (tmp_path / name).write_text(text)
    return list(expand([str(tmp_path / name)]))


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_cuts_are_segments_and_recordings_are_files(tmp_path, name):
    found = clips(tmp_path, CUT, RECORDING, name=name)
    assert found == [Clip("cut-1", "/data/rec.wav", 2.5, 9.75), Clip("rec-1", "/data/rec.wav")]


def test_urls_and_relative_paths_are_kept(tmp_path):
    (tmp_path / "rec.wav").touch()
    local, remote = copy.deepcopy(CUT), copy.deepcopy(CUT)
    local["recording"]["sources"][0]["source"] = "rec.wav"
    remote["recording"]["sources"][0] |= {"type": "url", "source": "s3://bucket/rec.wav"}
    from mmmos.data.manifest import stream_clips

    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [local, remote])))
    assert [clip.path for clip in stream_clips(tmp_path / "a.jsonl")] == [
        str(tmp_path / "rec.wav"),
        "s3://bucket/rec.wav",
    ]


def test_channel_with_a_file_of_its_own_is_that_file(tmp_path):
    cut = copy.deepcopy(CUT) | {"channel": 1}
    cut["recording"]["sources"].append({"type": "file", "channels": [1], "source": "/data/right.wav"})
    assert [clip.path for clip in clips(tmp_path, cut)] == ["/data/right.wav"]


def changed(change: dict, recording: dict) -> dict:
    cut = copy.deepcopy(CUT)
    cut["recording"] |= recording
    return cut | change


STEREO = {"sources": [{"type": "file", "channels": [0, 1], "source": "/data/rec.wav"}]}
TWO = {"sources": [{"type": "file", "channels": [i], "source": f"/data/{i}.wav"} for i in (0, 1)]}


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (changed({}, STEREO), "channel 0 of 2 is chosen"),
        (changed({"channel": [0, 1]}, TWO), "the audio is in 2 files"),
        (changed({"channel": 5}, {}), "the audio is in 0 files"),
        (changed({}, {"transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}]}), "has transforms"),
        (changed({}, {"sources": [{"type": "command", "channels": [0], "source": "cat x"}]}), "is a command"),
        (changed({}, {"sources": [{"type": "memory", "channels": [0], "source": "UklGRg=="}]}), "is a memory"),
        (changed({}, {"sources": [{"type": "file"}]}), "not a cut or recording as Lhotse writes them"),
        (changed({"duration": "long"}, {}), "numbers of seconds"),
        ({"id": "mix", "tracks": [{"cut": CUT, "offset": 0.0}], "type": "MixedCut"}, "a mix of several tracks"),
    ],
)
def test_audio_that_is_not_a_segment_of_a_file_is_refused(tmp_path, cut, message):
    with pytest.raises(ManifestError, match=rf"cuts\.jsonl, line 2: .*{message}"):
        clips(tmp_path, CUT, cut)


def test_both_channels_of_a_stereo_cut_are_averaged(tmp_path):
    assert clips(tmp_path, changed({"channel": [0, 1]}, STEREO)) == [Clip("cut-1", "/data/rec.wav", 2.5, 9.75)]


def test_manifests_that_lhotse_writes_are_read(tmp_path, make_file):
    lhotse = pytest.importorskip("lhotse", reason="Lhotse writes the manifests")
    recording = lhotse.Recording.from_file(make_file("a.wav", 12.0))
    whole = lhotse.MonoCut("whole", 0, recording.duration, 0, recording=recording)
    cuts = lhotse.CutSet.from_cuts([whole, whole.truncate(offset=1.5, duration=4.0, preserve_id=True)])
    cuts.to_file(tmp_path / "c.jsonl.gz")
    lhotse.RecordingSet.from_recordings([recording]).to_file(tmp_path / "r.jsonl")
    path = str(tmp_path / "a.wav")
    assert list(expand([str(tmp_path / "c.jsonl.gz")])) == [
        Clip("whole", path, 0.0, 12.0),
        Clip("whole", path, 1.5, 5.5),
    ]
    assert list(expand([str(tmp_path / "r.jsonl")])) == [Clip("a", path)]
    speed = lhotse.CutSet.from_cuts([whole.perturb_speed(1.1)])
    speed.to_file(tmp_path / "s.jsonl")
    with pytest.raises(ManifestError, match="transforms"):
        list(expand([str(tmp_path / "s.jsonl")]))
