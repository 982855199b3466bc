"""The corpora of the paper: what a path says, where a clip is found, and what the published labels are."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mmmos.audio.clip import Clip
from mmmos.cli import app
from mmmos.data.corpora import STEMS, SUFFIXES, CorpusStatus, find_file, read_corpus, read_list, status
from mmmos.data.label_files import LABEL_FILES
from mmmos.data.manifest import LabelledClip, label_array
from mmmos.data.ratings import read_ratings
from mmmos.data.sources import SOURCES, TEST, ClipMetadata, is_suspect, metadata_from_path
from mmmos.data.splits import check_disjoint, split_groups, split_present
from mmmos.errors import ManifestError
from mmmos.scores import AXES

NATURAL = ("unbalanced_train_segments", "musiccaps", "MUSDB18", "EARS", "LibriTTS", "cv-corpus-13.0-2023-03-09")

DATA = Path(os.environ.get("MMMOS_DATA", "no-data"))
needs_labels = pytest.mark.skipif(not (DATA / "labels").is_dir(), reason="MMMOS_DATA names no folder with labels")

NAMES = {
    "PQ": "Production_Quality",
    "PC": "Production_Complexity",
    "CE": "Content_Enjoyment",
    "CU": "Content_Usefulness",
}
LABELS = {"PQ": 4.0, "PC": 3.0, "CE": 1.0, "CU": 2.0}
TEST_ID = "audiomos2025-track2-sys0v1wm-utt0dJodp"


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a test says is there."""
    monkeypatch.delenv("MMMOS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def make_labels(tmp_path: Path) -> Callable[..., Path]:
    """`make_labels("combined_dev", "EARS/p001/a.wav")` writes such a label file into tmp_path/labels."""

    def make(name: str, *paths: str) -> Path:
        file = tmp_path / "labels" / LABEL_FILES[name].file_name
        file.parent.mkdir(exist_ok=True)
        listed = [path if path == TEST_ID else f"/your_path/{path}" for path in paths]
        if file.suffix == ".csv":
            with open(file, "w", newline="") as out:
                head = ("sample_id", "data_path", *NAMES.values())
                csv.writer(out).writerows([head, *((f"id of {path}", path, *LABELS.values()) for path in listed)])
        else:
            ratings = {NAMES[axis]: [value - 1, value + 1] * 5 for axis, value in LABELS.items()}
            file.write_text("\n".join(json.dumps({"data_path": path} | ratings) for path in listed))
        return file

    return make


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


# ── what a path says


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "unbalanced_train_segments/audio/-9VPvTfV1_4_50000_60000.flac",
            ClipMetadata("unbalanced_train_segments", "", "sound", "youtube/-9VPvTfV1_4"),
        ),
        ("musiccaps/-0vPFx-wRRI.wav", ClipMetadata("musiccaps", "", "music", "youtube/-0vPFx-wRRI")),
        ("MUSDB18/train/St. A - B/vocals.wav", ClipMetadata("MUSDB18", "", "music", "MUSDB18/St. A - B")),
        ("EARS/p002/emo_cuteness_sentences.wav", ClipMetadata("EARS", "", "speech", "EARS/p002")),
        (
            "LibriTTS/train-clean-100/1363/139304/1363_139304_11_0.wav",
            ClipMetadata("LibriTTS", "", "speech", "LibriTTS/1363"),
        ),
        (
            "cv-corpus-13.0-2023-03-09/en/clips/common_voice_en_119647.mp3",
            ClipMetadata("cv-corpus-13.0-2023-03-09", "", "speech", ""),
        ),
        (
            "PAM/human_eval/audio/audiogen_m/generated_audio_index_387.wav",
            ClipMetadata("PAM", "audio/audiogen_m", "sound", "PAM/audio/generated_audio_index_387"),
        ),
        (
            "PAM/human_eval/music/real/-0vPFx-wRRI.wav",
            ClipMetadata("PAM", "music/real", "music", "youtube/-0vPFx-wRRI"),
        ),
        (TEST_ID, ClipMetadata(TEST, "0v1wm", "", "")),
        (f"{TEST}/{TEST_ID}.wav", ClipMetadata(TEST, "0v1wm", "", "")),
        ("PAM/a.wav", ClipMetadata("PAM")),
        ("EARS", ClipMetadata("EARS", "", "speech", "")),
        ("ears/p001/a.wav", None),
        ("a.wav", None),
        ("", None),
        (f"{TEST_ID}x", None),
    ],
)
def test_what_a_path_says(path, expected):
    assert metadata_from_path(path) == expected


def test_recordings_and_recordings_may_be_one_system_of_pam():
    names = [f"PAM/human_eval/{kind}/{folder}/a.wav" for kind in ("audio", "music") for folder in ("real", "x")]
    assert [metadata_from_path(name).system for name in names] == ["audio/real", "audio/x", "music/real", "music/x"]
    assert [metadata_from_path(name, "folder").system for name in names] == ["real", "x", "real", "x"]


# ── where a clip is


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_clip_may_be_of_another_kind_than_listed(tmp_path, suffix):
    touch(tmp_path, f"a b.c{suffix}", "other.wav")
    clip = Clip("id", str(tmp_path / "a b.c.aiff"), 1.0, 2.0, stream=3)
    assert find_file(clip) == Clip("id", str(tmp_path / f"a b.c{suffix}"), 1.0, 2.0, stream=3)


def test_the_listed_file_comes_first(tmp_path):
    touch(tmp_path, "a.mp3", "a.wav", "a.stem.mp4")
    assert find_file(Clip("id", str(tmp_path / "a.mp3"))).path == str(tmp_path / "a.mp3")


def test_a_stem_is_a_stream_of_its_song(tmp_path):
    touch(tmp_path, "train/A. B - C.stem.mp4", "train/D/drums.wav", "train/D.stem.mp4")
    song = str(tmp_path / "train" / "A. B - C.stem.mp4")
    for stream, stem in enumerate(("mixture", "drums", "bass", "other", "vocals")):
        clip = Clip("id", str(tmp_path / "train" / "A. B - C" / f"{stem}.wav"))
        assert find_file(clip) == Clip("id", song, stream=stream)
    assert find_file(Clip("id", str(tmp_path / "train" / "D" / "drums.wav"))).stream == 0
    for gone in ("train/A. B - C/piano.wav", "train/E/drums.wav", "train/A. B - C.wav"):
        assert find_file(Clip("id", str(tmp_path / gone))) == Clip("id", str(tmp_path / gone))


# ── rows


def test_rows_have_what_their_paths_say(make_labels, tmp_path, caplog):
    make_labels("combined_dev", "EARS/p001/a.wav", "PAM/human_eval/music/musicldm/b.wav", "MUSDB18/test/S/bass.wav")
    touch(tmp_path, "EARS/p001/a.flac", "MUSDB18/test/S.stem.mp4", "PAM/human_eval/music/musicldm/b.wav")
    ears, pam, bass = read_corpus("combined_dev", tmp_path)
    assert ears == LabelledClip(
        Clip("id of /your_path/EARS/p001/a.wav", str(tmp_path / "EARS/p001/a.flac")),
        (1.0, 2.0, 3.0, 4.0),
        domain="speech",
        group="EARS/p001",
        source="EARS",
    )
    assert ears.origin == f"{tmp_path / 'labels' / 'combined_dev.csv'}, line 2"
    assert (pam.system, pam.domain, pam.source, pam.set) == ("music/musicldm", "music", "PAM", "")
    assert (bass.clip.path, bass.clip.stream) == (str(tmp_path / "MUSDB18/test/S.stem.mp4"), 2)
    assert [row.source in NATURAL for row in (ears, pam, bass)] == [True, False, True]
    assert caplog.messages == []


@pytest.mark.parametrize("way", ["argument", "environment", "labels"])
def test_data_root_and_labels_can_be_named_in_several_ways(make_labels, tmp_path, monkeypatch, way):
    make_labels("combined_dev", "EARS/p001/a.wav")
    touch(tmp_path, "EARS/p001/a.wav")
    where = {"argument": (tmp_path, None), "environment": (None, None), "labels": (None, tmp_path / "labels")}[way]
    if way == "environment":
        monkeypatch.setenv("MMMOS_DATA", str(tmp_path))
    (row,) = read_corpus("combined_dev", *where)
    expected = "/your_path/EARS/p001/a.wav" if way == "labels" else str(tmp_path / "EARS/p001/a.wav")
    assert (row.clip.path, row.group) == (expected, "EARS/p001")


def test_a_data_root_may_be_relative(make_labels, tmp_path, monkeypatch):
    make_labels("combined_dev", "EARS/p001/a.wav")
    monkeypatch.chdir(tmp_path)
    for root in (".", "./", "../" + tmp_path.name):
        assert read_corpus("combined_dev", root)[0].group == "EARS/p001"


def test_missing_clips_are_kept_and_counted(make_labels, tmp_path, caplog):
    make_labels("combined_train", "EARS/p001/a.wav", "EARS/p001/b.wav", "musiccaps/c.wav", "musiccaps/d.wav")
    touch(tmp_path, "EARS/p001/b.wav")
    rows = read_corpus("combined_train", tmp_path)
    assert len(rows) == 4
    assert caplog.messages == ["combined_train: 3 of 4 clips are missing (EARS 1, musiccaps 2)"]
    assert split_present(rows)[1] == [
        str(tmp_path / gone) for gone in ("EARS/p001/a.wav", "musiccaps/c.wav", "musiccaps/d.wav")
    ]


def test_read_corpus_counts_and_drops_suspect_labels(make_labels, tmp_path, caplog):
    songs = {
        "Music Delta - Rock": True,
        "Music Delta - Rockabilly": True,
        "Music Delta - Disco": False,
        "A - Rock": False,
    }
    paths = [f"MUSDB18/train/{song}/drums.wav" for song in songs]
    make_labels("AES_natural_music", *paths)
    touch(tmp_path, *paths)
    rows = read_corpus("AES_natural_music", tmp_path)
    assert [is_suspect(row) for row in rows] == list(songs.values())
    kept = read_corpus("AES_natural_music", tmp_path, drop_suspect=True)
    assert kept == rows[2:]
    message = "AES_natural_music: 2 rows have suspect labels and are"
    assert caplog.messages == [f"{message} kept", f"{message} left out"]


def test_the_test_set_lies_in_its_folder_or_in_another(make_labels, tmp_path):
    make_labels("track2_test", TEST_ID)
    folder = tmp_path / TEST
    (row,) = read_corpus("track2_test", tmp_path)
    assert row == LabelledClip(
        Clip(TEST_ID, str(folder / f"{TEST_ID}.wav")), (1.0, 2.0, 3.0, 4.0), system="0v1wm", source=TEST
    )
    touch(tmp_path, f"{TEST}/{TEST_ID}.flac", f"wav/{TEST_ID}.wav")
    assert read_corpus("track2_test", tmp_path)[0].clip.path == str(folder / f"{TEST_ID}.flac")
    (row,) = read_corpus("track2_test", tmp_path, test_audio=tmp_path / "wav")
    assert row.clip.path == str(tmp_path / "wav" / f"{TEST_ID}.wav")


def test_a_list_of_ones_own_keeps_its_columns(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text(
        "path,PQ,system,domain,group,set,stream\n/your_path/EARS/p001/a.wav,1,s,d,g,one,0\nmine/b.mp3,2,,,,,4\n"
    )
    ears, mine = read_list(own, tmp_path)
    assert read_corpus(own, tmp_path) == [ears, mine]
    assert (ears.system, ears.domain, ears.group, ears.set, ears.source) == ("s", "d", "g", "one", "EARS")
    assert mine.clip == Clip("mine/b.mp3", str(tmp_path / "mine/b.mp3"), stream=4)
    assert (mine.system, mine.domain, mine.group, mine.source) == ("", "", "", "")


@pytest.mark.parametrize("read", [read_corpus, read_list])
def test_missing_list_names_label_files(read: Any, tmp_path: Path):
    with pytest.raises(ManifestError, match=r"combined\.csv cannot be read: there is no such file.*combined_train"):
        read(tmp_path / "combined.csv")
    (tmp_path / "Combined.csv").touch()
    with pytest.raises(ManifestError, match=r"is .*/Combined\.csv meant\?"):
        read(tmp_path / "combined.csv")


def test_split_keeps_pam_with_its_source_video(make_labels, tmp_path):
    videos = [f"video{i:06}" for i in range(10)]
    paths = [f"PAM/human_eval/music/{system}/{video}.wav" for video in videos for system in ("real", "musicldm")]
    make_labels("combined_train", *paths, *(f"musiccaps/{video}.wav" for video in videos))
    first, second = split_groups(read_corpus("combined_train", tmp_path), 0.3, seed=0)
    assert (len(first), len(second)) == (21, 9)
    assert {row.group for row in first}.isdisjoint(row.group for row in second)


# ── what is there


def test_status_counts_what_is_there(make_labels, make_file, tmp_path):
    make_labels("combined_train", "EARS/p001/a.wav", "EARS/p001/b.wav", "MUSDB18/train/S/bass.wav")
    make_labels("combined_dev", "EARS/p002/c.wav", "PAM/human_eval/audio/real/d.wav")
    touch(tmp_path, "EARS/p001/b.wav")
    make_file("a.flac").rename(tmp_path / "EARS/p001/a.flac")
    found = {item.source: item for item in status(tmp_path)}
    assert list(found) == list(SOURCES)
    gone = str(tmp_path / "EARS/p002/c.wav")
    assert found["EARS"] == CorpusStatus("EARS", 3, 2, (gone,), None)
    assert found["PAM"].missing == (str(tmp_path / "PAM/human_eval/audio/real/d.wav"),)
    assert found["musiccaps"] == CorpusStatus("musiccaps", 0, 0, (), None)
    assert found[TEST] == CorpusStatus(TEST, 3060, None, None, None)  # its label file is not here
    opened = {item.source: item for item in status(tmp_path, open_files=True)}
    assert opened["EARS"] == CorpusStatus("EARS", 3, 2, (gone,), (str(tmp_path / "EARS/p001/b.wav"),))


def test_without_label_files_status_knows_what_to_expect(tmp_path):
    assert [(item.expected, item.found) for item in status(tmp_path)] == [
        (info.train + info.dev + info.test, None) for info in SOURCES.values()
    ]
    assert sum(info.train for info in SOURCES.values()) == LABEL_FILES["combined_train"].rows
    assert sum(info.dev for info in SOURCES.values()) == LABEL_FILES["combined_dev"].rows


def test_the_command_writes_json_into_a_pipe(make_labels, tmp_path):
    make_labels("combined_train", "EARS/p001/a.wav")
    make_labels("combined_dev")
    done = CliRunner().invoke(app, ["data", "status", "--data-root", str(tmp_path)])
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report["data_root"] == str(tmp_path)
    files = {item["name"]: item for item in report["labels"]}
    assert list(files) == list(LABEL_FILES)
    assert files["combined_train"]["path"] == str(tmp_path / "labels" / "combined_train.csv")
    assert (files["combined_train"]["as_published"], files["AES_PAM"]["as_published"]) == (False, None)
    corpora = {item["source"]: item for item in report["corpora"]}
    assert (corpora["EARS"]["expected"], corpora["EARS"]["found"], corpora["EARS"]["unreadable"]) == (1, 0, None)
    assert corpora["EARS"]["missing"] == [str(tmp_path / "EARS/p001/a.wav")]
    assert corpora["EARS"]["home"].startswith("https://")


def test_the_command_fetches_nothing_offline(tmp_path):
    done = CliRunner().invoke(app, ["data", "status", "--fetch", "--labels", str(tmp_path)])
    assert isinstance(done.exception, ManifestError)


@pytest.mark.slow
def test_a_terminal_gets_a_table(make_labels, make_file, tmp_path):
    make_labels("combined_train", "EARS/p001/a.wav", "EARS/p001/b.wav")
    make_labels("combined_dev")
    (tmp_path / "EARS" / "p001").mkdir(parents=True)
    make_file("a.wav").rename(tmp_path / "EARS/p001/a.wav")
    end, terminal = pty.openpty()
    words = [sys.executable, "-m", "mmmos", "data", "status", "--probe", "--data-root", str(tmp_path)]
    process = subprocess.Popen(words, stdout=terminal)
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(end, 4096):
            shown += chunk
    except OSError:  # how Linux says that the other end has closed
        pass
    assert process.wait() == 0
    lines = [line.split() for line in shown.decode().splitlines()]
    assert ["AES_PAM", "1000", "not", "here;", "--fetch", "gets", "it"] in lines
    assert ["EARS", "2", "1", "1", "0"] in lines
    assert [TEST, "3060", "-", "-", "-"] in lines
    assert ["EARS:", SOURCES["EARS"].home] in lines
    assert ["PAM:", SOURCES["PAM"].home] not in lines


# ── the published files


@cache
def published(name: str, **options: Any) -> list[LabelledClip]:
    """The rows of the file at hand."""
    return read_corpus(name, labels=DATA / "labels", **options)


@pytest.mark.data
@needs_labels
@pytest.mark.parametrize("name", LABEL_FILES)
def test_every_file_has_the_rows_it_should_in_either_form(tmp_path, name):
    rows = published(name)
    assert len(rows) == LABEL_FILES[name].rows
    assert len({row.clip.path for row in rows}) == len(rows)
    assert np.isfinite(label_array(rows)).all()
    text = (DATA / "labels" / LABEL_FILES[name].file_name).read_text(encoding="utf-8-sig").rstrip("\r\n")
    other = tmp_path / LABEL_FILES[name].file_name
    for mark in ("", "\ufeff"):
        for end in ("\n", "\r\n"):
            other.write_bytes(f"{mark}{text}".replace("\r\n", "\n").replace("\n", end).encode())
            assert read_corpus(other) == rows


@pytest.mark.data
@needs_labels
def test_the_counts_of_every_source():
    train, dev = (Counter(row.source for row in published(name)) for name in ("combined_train", "combined_dev"))
    for source, info in SOURCES.items():
        assert (train[source], dev[source]) == (info.train, info.dev)
    assert {row.source for row in published("track2_test")} == {TEST}


@pytest.mark.data
@needs_labels
@pytest.mark.parametrize(
    ("name", "pam", "mean", "std"),
    [
        ("combined_train", None, (4.960057, 5.672429, 3.500057, 6.093629), (1.693786, 1.430606, 1.739823, 1.312092)),
        ("combined_dev", None, (4.690889, 5.491778, 3.775556, 5.938889), (1.657226, 1.399013, 1.534119, 1.281659)),
        ("track2_train", None, (5.183556, 5.853407, 3.350593, 6.280148), (1.642190, 1.417152, 1.826166, 1.300465)),
        ("track2_dev", None, (5.082000, 5.796800, 3.558800, 6.261200), (1.603020, 1.399595, 1.678288, 1.297377)),
        ("combined_train", False, (5.183556, 5.853407, 3.350593, 6.280148), (1.642190, 1.417152, 1.826166, 1.300465)),
        ("combined_dev", False, (5.082000, 5.796800, 3.558800, 6.261200), (1.603020, 1.399595, 1.678288, 1.297377)),
        ("combined_train", True, (4.205750, 5.061625, 4.004500, 5.464125), (1.647858, 1.301685, 1.288577, 1.145432)),
        ("combined_dev", True, (4.202000, 5.110500, 4.046500, 5.536000), (1.596540, 1.304626, 1.285711, 1.143038)),
        ("track2_test", None, (4.3015, 5.2653, 3.0986, 6.0233), (1.7762, 1.8619, 1.5396, 1.4639)),
    ],
)
def test_means_and_deviations(name, pam, mean, std):
    labels = label_array([row for row in published(name) if pam in (None, row.source == "PAM")])
    tolerance = 6e-5 if name == "track2_test" else 6e-7
    np.testing.assert_allclose(labels.mean(axis=0), mean, atol=tolerance)
    np.testing.assert_allclose(labels.std(axis=0, ddof=1), std, atol=tolerance)


@pytest.mark.data
@needs_labels
def test_every_label_of_the_lists_is_the_mean_of_ten_ratings():
    ratings = {}
    for name in ("AES_natural_speech", "AES_natural_music", "AES_natural_sound", "AES_PAM"):
        paths, rated = read_ratings(DATA / "labels" / LABEL_FILES[name].file_name)
        assert rated.shape == (LABEL_FILES[name].rows, len(AXES), 10)
        ratings |= dict(zip(paths, rated.mean(axis=2), strict=True))
    rows = [*published("combined_train"), *published("combined_dev")]
    assert {row.clip.path for row in rows} == set(ratings)
    np.testing.assert_allclose(label_array(rows), [ratings[str(row.clip.path)] for row in rows], atol=1e-12)


@pytest.mark.data
@needs_labels
def test_training_and_development_share_no_clip():
    for kind in ("track2", "combined"):
        train, dev = published(f"{kind}_train"), published(f"{kind}_dev")
        check_disjoint(train, dev)
        with pytest.raises(
            ManifestError, match=f"{LABEL_FILES[f'{kind}_dev'].file_name}, line 2.*and {len(dev) - 1} more"
        ):
            check_disjoint([*train, *dev], dev)
    for part, count in (("train", 2700), ("dev", 250)):
        combined = published(f"combined_{part}")
        assert combined[:count] == published(f"track2_{part}")
        assert {row.source for row in combined[count:]} == {"PAM"}


@pytest.mark.data
@needs_labels
def test_the_systems_of_the_test_set_and_of_pam():
    assert set(Counter(row.system for row in published("track2_test")).values()) == {85}
    assert len({row.system for row in published("track2_test")}) == 36
    pam = [row for row in published("combined_dev") if row.source == "PAM"]
    counts = Counter(row.system for row in pam)
    assert (counts.pop("audio/real"), counts.pop("music/real")) == (22, 18)
    assert sorted(counts.values()) == [20] * 8
    assert Counter(row.system for row in published("AES_PAM")) == dict.fromkeys({row.system for row in pam}, 100)
    merged = Counter(row.system for row in published("combined_dev", pam_system="folder") if row.source == "PAM")
    assert (merged["real"], len(merged)) == (40, 9)
    assert not any(row.system for row in published("combined_dev") if row.source in NATURAL)


@pytest.mark.data
@needs_labels
def test_the_published_split_of_pam_cuts_every_prompt():
    train, dev = (
        {row.group for row in published(f"combined_{part}") if row.source == "PAM"} for part in ("train", "dev")
    )
    assert dev <= train
    assert Counter(group.startswith("youtube/") for group in dev) == {False: 71, True: 67}
    captioned = {row.group for row in published("track2_train") if row.source == "musiccaps"}
    assert len(captioned & {row.group for row in published("AES_PAM")}) == 9


@pytest.mark.data
@needs_labels
def test_suspect_songs_have_a_mixture_rated_like_speech():
    rows = published("AES_natural_music")
    suspect = [row for row in rows if is_suspect(row)]
    assert len(suspect) == 55
    complexity = AXES.index("PC")
    mixtures = [row for row in rows if str(row.clip.path).endswith("/mixture.wav")]
    assert {row.group for row in suspect} == {row.group for row in mixtures if row.labels[complexity] < 3}
    assert max(row.labels[complexity] for row in mixtures if is_suspect(row)) == 2.0
    assert min(row.labels[complexity] for row in mixtures if not is_suspect(row)) == 4.8
    assert [sum(map(is_suspect, published(f"combined_{part}"))) for part in ("train", "dev")] == [46, 9]
    assert len(published("AES_natural_music", drop_suspect=True)) == 945


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "musdb18_aes").is_dir(), reason="MMMOS_DATA names no folder with musdb18_aes")
def test_suspect_songs_are_those_of_the_marked_excerpts():
    with open(DATA / "musdb18_aes" / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        group = metadata_from_path(row["data_path"].removeprefix("/your_path/")).group
        assert is_suspect(LabelledClip(Clip(""), (), group=group)) == (row["label_suspect"] == "1")
    assert sum(row["label_suspect"] == "1" for row in rows) == 20


def test_the_order_of_the_stems_is_that_of_the_stem_format():
    assert STEMS == ("mixture", "drums", "bass", "other", "vocals")
