"""Scores are matched to labelled clips by path, segment and stream, and by id only where one clip has it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.errors import ManifestError
from mmmos.evaluation.matching import matched
from mmmos.scores import Scores


def row(path: str, start: float = 0.0, end: float | None = None, name: str = "", origin: str = "") -> LabelledClip:
    return LabelledClip(Clip(name or path, path, start, end), (5.0,) * 4, origin=origin)


def scored(path: str | None, start: float = math.nan, value: float = 5.0, name: str = "", origin: str = "") -> Scores:
    return Scores(*(value,) * 4, id=name or path or "", path=path, start_time=start, origin=origin)


def test_path_goes_before_id_and_id_before_name():
    rows = [row("x/a.wav", name="one"), row("x/b.wav", name="two"), row("x/c.wav", name="three"), row("x/d.wav")]
    by_path, by_id = scored("x/b.wav", name="one"), scored("y/c.wav", name="one")
    by_name = scored("elsewhere/c.wav", name="another")
    assert matched(rows, [by_path]) == [None, by_path, None, None]
    assert matched(rows, [by_id]) == [by_id, None, None, None]
    assert matched(rows, [by_name]) == [None, None, by_name, None]


def test_a_test_id_matches_the_file_of_that_name():
    found = Scores(1, 1, 1, 1, id="sys1-utt1.x", start_time=math.nan)
    assert matched([row("test/sys1-utt1.x.wav")], [found]) == [found]
    assert matched([row("test/sys1-utt1.y.wav")], [found]) == [None]


def test_a_name_that_is_not_the_only_one_is_no_match():
    rows = [row("song1/bass.wav"), row("song2/bass.wav"), row("song3/drums.wav")]
    assert matched(rows, [scored("else/bass.wav"), scored("else/drums.wav"), scored("other/drums.wav")]) == [None] * 3


def test_segments_of_a_file_are_distinguished_by_their_start():
    rows = [row("a.wav", 0, 5), row("a.wav", 5, 10), row("a.wav", 10)]
    parts = [scored("a.wav", start, start) for start in (5.0, 0.0)]
    assert matched(rows, parts) == [parts[1], parts[0], None]
    assert matched(rows[1:], [scored("a.wav", 0.0)]) == [None, None]


def test_two_rows_of_a_clip_are_refused():
    windows = [scored("a.wav", start) for start in (0.0, 10.0)]
    with pytest.raises(ManifestError, match=r"2 rows have scores of a\.wav"):
        matched([row("a.wav")], windows)
    with pytest.raises(ManifestError, match=r"2 rows have scores of a\.wav from 10 s"):
        matched([row("a.wav", 10.0)], [windows[1], windows[1]])


def test_two_systems_that_share_ids_get_their_own_scores():
    rows = [row(f"/data/{system}/{i}.wav", name=f"u{i}") for system in "AB" for i in range(3)]
    for form in ("/data/{}/{}.wav", "{}/{}.wav", "/elsewhere/{}/{}.flac"):
        scores = [scored(form.format(system, i), name=f"u{i}") for i in range(3) for system in "BA"]
        assert [item and item.path for item in matched(rows, scores)] == [
            form.format(s, i) for s in "AB" for i in range(3)
        ]
        only_a = [item for item in scores if "A/" in (item.path or "")]
        assert [item and item.path for item in matched(rows, only_a)] == [
            *(form.format("A", i) for i in range(3)),
            *[None] * 3,
        ]


def test_ids_that_number_rows_do_not_go_before_paths():
    rows = [row(f"/data/A/{i}.wav", name=str(i)) for i in range(3)]
    scores = [scored(f"/copy/A/{2 - i}.wav", name=str(i)) for i in range(3)]
    assert matched(rows, scores) == scores[::-1]


def test_duplicate_id_without_paths_is_refused_with_both_places():
    rows = [row("A/1.wav", name="1", origin="l.csv, line 2"), row("B/1.wav", name="1", origin="l.csv, line 3")]
    with pytest.raises(
        ManifestError, match=r"the id 1 belongs to several clips \(l.csv, line 2 and l.csv, line 3\).*s.csv, line 9"
    ):
        matched(rows, [scored(None, name="1", origin="s.csv, line 9")])
    with pytest.raises(
        ManifestError, match=r"2 rows have scores of 1 \(l.csv, line 2\).*s.csv, line 2 and s.csv, line 5"
    ):
        matched(rows[:1], [scored(None, name="1", origin=f"s.csv, line {line}") for line in (2, 5)])


def test_short_path_of_two_clips_is_refused_with_both_places():
    rows = [row(f"/d/{name}/1.wav", origin=f"l.csv, line {line}") for line, name in enumerate("AB", 2)]
    with pytest.raises(
        ManifestError, match=r"scores of 1\.wav may belong to .*l.csv, line 2.*l.csv, line 3.*s.csv, line 4"
    ):
        matched(rows, [scored("1.wav", origin="s.csv, line 4")])
    with pytest.raises(
        ManifestError, match=r"2 paths with scores match .*l.csv, line 2.*s.csv, line 2 and s.csv, line 3"
    ):
        matched(rows[:1], [scored("A/1.wav", origin="s.csv, line 2"), scored("1.wav", origin="s.csv, line 3")])


def test_suffixes_distinguish_files_of_the_same_name():
    rows = [row("/d/x/a.wav"), row("/d/x/a.flac"), row("/d/x/b.mp3")]
    scores = [scored(f"/e/x/{name}") for name in ("b.ogg", "a.flac", "a.wav")]
    assert matched(rows, scores) == scores[::-1]


def test_streams_and_ends_distinguish_segments():
    rows = [
        row("a.mkv", 0, 5),
        row("a.mkv", 0, 8),
        replace(row("a.mkv", 0, 5), clip=Clip("a", "a.mkv", 0, 5, stream=1)),
    ]
    scores = [
        replace(scored("a.mkv", 0.0), end_time=end, stream=stream, duration=20.0)
        for end, stream in ((8.0, 0), (5.0, 0), (5.0, 1), (4.0, 1))
    ]
    assert matched(rows, scores) == [scores[1], scores[0], scores[2]]
    assert matched(rows[1:2], [replace(scores[1], duration=5.0)]) == [replace(scores[1], duration=5.0)]  # ends there
    assert matched(rows[1:2], [scores[1]]) == [None]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.sampled_from(["x", "y"]), st.integers(0, 3)), unique=True, max_size=20
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_every_clip_gets_the_scores_of_its_own_path(files, moved, random):
    """Whatever ids are shared, and in whatever order, where paths are alike but for the folder that they begin at."""
    rows = [row(f"/data/{a}/{b}/{i}.wav", name=str(random.randrange(4))) for a, b, i in files]
    root = "/moved/to" if moved else "/data"
    scores = [scored(f"{root}/{a}/{b}/{i}.wav", name=str(random.randrange(4))) for a, b, i in files]
    order = random.sample(range(len(files)), len(files))
    assert matched(rows, [scores[i] for i in order]) == scores


def test_links_to_here_and_dots_are_the_same_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    rows = [row(f"{tmp_path}/A/1.wav"), row(f"{tmp_path}/B/1.wav")]
    scores = [scored("./B/../B/1.wav"), scored("A/./1.wav")]
    assert matched(rows, scores) == scores[::-1]
