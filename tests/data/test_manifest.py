"""Lists of clips of every kind, errors that name the line, and splits that cut no group."""

from __future__ import annotations

import csv
import json
import math
import os
import threading
from collections import Counter
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.data.labels import read_labels
from mmmos.data.manifest import LabelledClip, label_array, resolve, stream_clips
from mmmos.data.splits import check_disjoint, split_groups, split_present
from mmmos.errors import ManifestError
from mmmos.scores import AXES, AXIS_NAMES

NAN = math.nan
AES = {
    "Production_Quality": [8.0] * 9 + [7.0],
    "Production_Complexity": [0.0] * 10,
    "Content_Enjoyment": [4.0, 6.0] * 5,
    "Content_Usefulness": [10.0] * 10,
}


@pytest.fixture
def make_list(tmp_path):
    """`make_list("a.csv", "path,PQ", "a.wav,3")` writes such a list and gives its path."""

    def make(name: str, *lines: str, end: str = "\n", last: str = "\n", encoding: str = "utf-8"):
        path = tmp_path / name
        path.write_bytes((end.join(lines) + last).encode(encoding))
        return path

    return make


def read_clips(path, data_root=None) -> list[Clip]:
    return list(stream_clips(path, data_root))


def labelled(path, **options) -> list[tuple[str, tuple[float, ...]]]:
    return [(row.clip.id, row.labels) for row in read_labels(path, **options)]


def fails_at(path, line: int, what: str = "", read=read_clips) -> None:
    with pytest.raises(ManifestError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert f"line {line}" in str(caught.value)
    assert what in str(caught.value)


# ── kinds


def test_audiobox_jsonl(make_list):
    path = make_list(
        "a.jsonl",
        '{"path": "a.wav", "start_time": 1, "end_time": 2.5}',
        '{"path": "/b.wav"}',
        '{"path": "c.wav", "start_time": null, "end_time": null, "duration": 9, "more": [1]}',
    )
    assert read_clips(path) == [Clip("a.wav", "a.wav", 1.0, 2.5), Clip("/b.wav", "/b.wav"), Clip("c.wav", "c.wav")]


def test_nemo_jsonl(make_list):
    path = make_list(
        "a.jsonl",
        '{"audio_filepath": "a.wav", "offset": 0.5, "duration": 2, "text": "hello"}',
        '{"audio_filepath": "b.wav", "duration": 3}',
        '{"audio_filepath": "c.wav"}',
    )
    assert read_clips(path) == [
        Clip("a.wav", "a.wav", 0.5, 2.5),
        Clip("b.wav", "b.wav", 0.0, 3.0),
        Clip("c.wav", "c.wav"),
    ]


def test_aes_jsonl(make_list):
    path = make_list("a.jsonl", json.dumps({"data_path": "/your_path/EARS/a b.wav"} | AES))
    assert labelled(path, data_root="/data") == [("/your_path/EARS/a b.wav", (5.0, 10.0, 0.0, 7.9))]
    assert read_clips(path, "/data")[0].path == "/data/EARS/a b.wav"


def test_kaldi_scp(make_list):
    path = make_list("wav.scp", "u1 /data/a b.wav", "", "u2\tb.wav", "u3   c.wav  ")
    assert [(clip.id, clip.path) for clip in read_clips(path)] == [
        ("u1", "/data/a b.wav"),
        ("u2", "b.wav"),
        ("u3", "c.wav"),
    ]


@pytest.mark.parametrize("column", ["path", "data_path", "audio_filepath", "file"])
@pytest.mark.parametrize(("name", "comma"), [("a.csv", ","), ("a.tsv", "\t"), ("a.CSV", ","), ("a.TSV", "\t")])
def test_csv_columns_are_read_by_name(make_list, column, name, comma):
    lines = [["PC", column, "sample_id", "PQ", "remark"], ["1", "a.wav", "x", "2", "fine"], ["", "b.wav", "", "3", ""]]
    path = make_list(name, *map(comma.join, lines))
    ids = [("x", (NAN, NAN, 1.0, 2.0)), ("b.wav", (NAN, NAN, NAN, 3.0))]
    for (found, labels), (expected, wanted) in zip(labelled(path), ids, strict=True):
        assert found == expected
        np.testing.assert_array_equal(labels, wanted)


def test_the_challenge_lists_have_another_order_of_columns(make_list):
    path = make_list("a.csv", "sample_id,data_path,PQ,PC,CE,CU", "u1,/your_path/a.wav,1,2,3,4", end="\r\n")
    assert labelled(path) == [("u1", (3.0, 4.0, 2.0, 1.0))]


def test_csv_times_are_start_and_end(make_list):
    path = make_list("a.csv", "id,path,start_time,end_time", "1,a.wav,0.5,2", "2,a.wav,,3", "3,a.wav,1,")
    assert read_clips(path) == [
        Clip("1", "a.wav", 0.5, 2.0),
        Clip("2", "a.wav", 0.0, 3.0),
        Clip("3", "a.wav", 1.0, None),
    ]


def test_other_columns_say_system_domain_group_set_and_source(make_list):
    path = make_list("a.csv", "path,PQ,system,domain,group,set,source", "a.wav,1,s,music,g,one,EARS", "b.wav,2,,,,,")
    first, second = read_labels(path)
    assert (first.system, first.domain, first.group, first.set, first.source) == ("s", "music", "g", "one", "EARS")
    assert (second.system, second.domain, second.group, second.set, second.source) == ("", "", "", "", "")


def test_numbers_are_names_too(make_list):
    path = make_list("a.jsonl", '{"id": 0, "path": "a.wav", "PQ": 1, "group": 0, "system": 7, "domain": null}')
    (row,) = read_labels(path)
    assert (row.clip.id, row.group, row.system, row.domain) == ("0", "0", "7", "")


# ── text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.csv", ["path,PQ", "ä ☃.wav,3", "b.wav,4"]),
        ("a.tsv", ["path\tPQ", "ä ☃.wav\t3", "b.wav\t4"]),
        ("a.jsonl", ['{"path": "ä ☃.wav", "PQ": 3}', '{"path": "b.wav", "PQ": [3, 5]}']),
    ],
)
def test_line_ends_and_a_byte_order_mark_do_not_matter(make_list, name, lines, encoding):
    for end, last in product(["\n", "\r\n"], ["", "\n", "\n\n"]):
        rows = read_labels(make_list(name, *lines, end=end, last=last.replace("\n", end), encoding=encoding))
        assert [(row.clip.id, row.labels[3]) for row in rows] == [("ä ☃.wav", 3.0), ("b.wav", 4.0)], (end, last)


@pytest.mark.slow
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), min_size=1, max_size=9),
        min_size=1,
        max_size=5,
    )
)
def test_any_name_survives_csv_and_jsonl(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("lists")
    with open(folder / "a.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path",), *((f"./{name}",) for name in names)])
    for ascii_only in (True, False):
        lines = [json.dumps({"path": f"./{name}"}, ensure_ascii=ascii_only) for name in names]
        (folder / f"{ascii_only}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for path in folder.iterdir():
        assert [clip.path for clip in read_clips(path)] == [f"./{name}" for name in names]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.scp"])
def test_an_empty_list_has_no_clips(make_list, name):
    assert read_clips(make_list(name, "")) == []
    assert read_labels(make_list(name, "", last="")) == []


def test_a_header_alone_has_no_clips(make_list):
    assert read_clips(make_list("a.csv", "path,PQ")) == []


# ── errors


@pytest.mark.parametrize("bad", ["{", "not json", "[1]", "3", '{"path": "a.wav"'])
def test_a_line_that_is_no_json_object_is_named(make_list, bad):
    fails_at(make_list("a.jsonl", '{"path": "a.wav"}', "", bad, '{"path": "b.wav"}'), 3, "not")


@pytest.mark.parametrize("bad", ["{}", '{"path": ""}', '{"path": null}', '{"path": 3}', '{"name": "a.wav"}'])
def test_a_row_without_a_path_is_named(make_list, bad):
    fails_at(make_list("a.jsonl", '{"path": "a.wav"}', bad), 2, "path")


def test_a_table_without_a_path_column_is_refused(make_list):
    fails_at(make_list("a.csv", "name,PQ", "a.wav,3"), 1, "no column is called path")
    fails_at(make_list("a.csv", "a.wav", "b.wav"), 1)


def test_an_empty_path_in_a_table_is_named(make_list):
    fails_at(make_list("a.csv", "id,path", "1,a.wav", "2,"), 3, "path")


@pytest.mark.parametrize(("bad", "what"), [("b.wav,3,4", "more"), ("b.wav", "fewer")])
def test_a_row_of_another_width_is_named(make_list, bad, what):
    fails_at(make_list("a.csv", "path,PQ", '"a\nb.wav",3', bad), 4, what)


def test_a_table_that_is_none_is_refused(make_list):
    fails_at(make_list("a.csv", "path", "a" * 200_000), 2, "field larger than")


@pytest.mark.parametrize("bad", ["u1", "u1 sph2pipe -f wav a.sph |"])
def test_an_scp_line_without_a_file_is_named(make_list, bad):
    fails_at(make_list("a.scp", "u0 a.wav", bad), 2)


@pytest.mark.parametrize("column", ["start_time", "end_time", "offset"])
@pytest.mark.parametrize("value", ["soon", [1], {}])
def test_a_time_that_is_no_number_is_named(make_list, column, value):
    row = json.dumps({"path": "a.wav", column: value})
    fails_at(make_list("a.jsonl", '{"path": "a.wav"}', row), 2, column)


@pytest.mark.parametrize("value", [-0.1, 10.1, [5] * 9 + [11], 1e400, -math.inf])
def test_a_label_outside_the_scale_is_named(make_list, value):
    rows = [json.dumps({"path": path, "PQ": label}) for path, label in [("a.wav", 0), ("b.wav", 10), ("c.wav", value)]]
    fails_at(make_list("a.jsonl", *rows), 3, "PQ is", read=read_labels)


@pytest.mark.parametrize("value", ["good", {"mean": 3}, [3, "four"], [[1], [2, 3]], 10**400])
def test_a_label_that_is_no_number_is_named(make_list, value):
    fails_at(
        make_list("a.jsonl", json.dumps({"path": "a.wav", "CE": value})), 1, "CE is not a number", read=read_labels
    )


@pytest.mark.parametrize("value", [NAN, None, "", [], [5.0, NAN]])
def test_a_label_that_is_missing_is_nan_and_one_axis_is_enough(make_list, value):
    path = make_list("a.jsonl", json.dumps({"path": "a.wav", "CE": value, "PQ": 3}))
    np.testing.assert_array_equal(label_array(read_labels(path)), [[NAN, NAN, NAN, 3]])
    fails_at(make_list("a.jsonl", json.dumps({"path": "a.wav", "CE": value})), 1, "no label", read=read_labels)


def test_labels_in_a_table_may_be_missing(make_list):
    path = make_list("a.csv", "path,CE,PQ", "a.wav,nan,3", "b.wav,4,")
    np.testing.assert_array_equal(label_array(read_labels(path)), [[NAN, NAN, NAN, 3], [4, NAN, NAN, NAN]])


def test_no_rows_are_an_array_of_no_rows():
    assert label_array([]).shape == (0, len(AXES))


@pytest.mark.parametrize("again", ["a.wav", "./a.wav", "b/../a.wav"])
def test_a_clip_listed_twice_is_named_with_both_lines(make_list, again):
    path = make_list("a.csv", "id,path,PQ", "1,a.wav,3", "2,b.wav,3", "3,c/a.wav,3", f"4,{again},4")
    fails_at(path, 5, "line 2", read=read_labels)
    assert len(read_clips(path)) == 4


def test_segments_and_streams_of_a_file_are_separate_clips(make_list):
    rows = ["a.mp4,3,0,1,", "a.mp4,3,1,2,0", "a.mp4,3,1,3,", "a.mp4,3,1,2,1", "a.mp4,3,1,2,4"]
    path = make_list("a.csv", "path,PQ,start_time,end_time,stream", *rows)
    assert [row.clip.stream for row in read_labels(path)] == [0, 0, 0, 1, 4]
    fails_at(
        make_list("b.csv", "path,PQ,stream", "a.mp4,3,2", "a.mp4,3,1", "a.mp4,4,2.0"), 4, "line 2", read=read_labels
    )


@pytest.mark.parametrize("value", [-1, 1.5, "two", 1e400, [1], 2**31, 2**63, 10**400])
def test_a_stream_that_is_no_count_is_named(make_list, value):
    fails_at(make_list("a.jsonl", '{"path": "a.wav"}', json.dumps({"path": "a.mp4", "stream": value})), 2, "stream is")


def test_rows_know_where_they_stand(make_list):
    path = make_list("a.jsonl", '{"path": "a.wav", "PQ": 3}', "", '{"path": "b.wav", "PQ": 3}')
    assert [row.origin for row in read_labels(path)] == [f"{path}, line 1", f"{path}, line 3"]
    assert LabelledClip(Clip("a"), (5.0,) * 4, origin="here") == LabelledClip(Clip("a"), (5.0,) * 4)


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_that_is_asked_for_needs_labels(make_list, axis):
    other = AXES[AXES.index(axis) - 1]
    for column in (axis, AXIS_NAMES[axis].replace(" ", "_")):
        path = make_list("a.csv", f"path,{other},{column}", "a.wav,3,", "b.wav,4,5")
        assert len(read_labels(path, axes=[axis, other])) == 2
        empty = make_list("b.csv", f"path,{other},{column}", "a.wav,3,", "b.wav,4,nan")
        assert len(read_labels(empty, axes=[other])) == 2
        fails_at(empty, 3, f"no row up to here has a label of {axis}", read=partial(read_labels, axes=[other, axis]))
    without = make_list("c.csv", f"path,{other}", "a.wav,3", "b.wav,4")
    fails_at(without, 1, f"no column is called {axis} or", read=partial(read_labels, axes=[other, axis]))


@pytest.mark.parametrize(("name", "lines"), [("a.csv", ["path,PQ"]), ("a.csv", []), ("a.jsonl", [""])])
def test_no_row_has_no_axis(make_list, name, lines):
    path = make_list(name, *lines)
    assert read_labels(path) == []
    fails_at(path, 1, "no row", read=partial(read_labels, axes=["PQ"]))


def test_clip_in_training_and_held_out_is_named_with_both_places(make_list, tmp_path):
    train = make_list("train.csv", "path,PQ,stream", "a.wav,3,", "b.wav,4,", "c.mp4,4,1", "d.wav,4,")
    dev = make_list("dev.jsonl", *(json.dumps({"path": path, "PQ": 5}) for path in ("x.wav", "c.mp4")))
    check_disjoint(read_labels(train), read_labels(dev))
    held_out = [str(tmp_path / "b.wav"), "./d.wav", "e.wav"]
    dev = make_list("dev.jsonl", *(json.dumps({"path": path, "PQ": 5}) for path in ("x.wav", *held_out)))
    with pytest.raises(ManifestError) as caught:
        check_disjoint(read_labels(train), read_labels(dev))
    for said in (f"{train}, line 3", f"{dev}, line 2", f"{tmp_path / 'b.wav'} ", "and 1 more"):
        assert said in str(caught.value)
    with pytest.raises(ManifestError) as caught:
        check_disjoint(read_labels(train)[:2], read_labels(dev))
    assert "more" not in str(caught.value)


def test_segments_of_one_file_may_be_in_both_parts():
    one, other = (LabelledClip(Clip("a", "a.wav", start, start + 1), (5.0,) * 4) for start in (0.0, 1.0))
    check_disjoint([one], [other])
    with pytest.raises(ManifestError, match=r"a\.wav appears in both training and held-out data"):
        check_disjoint([one], [other, one])


def test_a_list_that_is_not_there_or_not_text_is_refused(tmp_path, make_list):
    latin = make_list("latin.csv", "path", "é.wav", encoding="latin-1")
    for path in (tmp_path / "none.csv", tmp_path, latin):
        with pytest.raises(ManifestError, match="cannot be read"):
            read_clips(path)


# ── places


@pytest.mark.parametrize(
    ("path", "data_root", "environment", "expected"),
    [
        ("/your_path/x/a.wav", "/data", "/other", "/data/x/a.wav"),
        ("/your_path/x/a.wav", None, "/other", "/other/x/a.wav"),
        ("/your_path/x/a.wav", None, None, "/your_path/x/a.wav"),
        ("x/a.wav", "/data", "/other", "/data/x/a.wav"),
        ("x/a.wav", None, "/other", "/lists/x/a.wav"),
        ("/x/a.wav", "/data", "/other", "/x/a.wav"),
        ("y/your_path/a.wav", "/data", None, "/data/y/your_path/a.wav"),
    ],
)
def test_where_a_listed_path_lies(monkeypatch, path, data_root, environment, expected):
    monkeypatch.delenv("MMMOS_DATA", raising=False)
    if environment:
        monkeypatch.setenv("MMMOS_DATA", environment)
    assert resolve(path, data_root, folder="/lists") == expected


def test_labels_are_relative_to_their_list_and_clips_to_cwd(make_list, tmp_path):
    path = make_list("a.csv", "path,PQ", "a.wav,3")
    assert read_labels(path)[0].clip == Clip("a.wav", str(tmp_path / "a.wav"))
    assert read_clips(path)[0].path == "a.wav"


@pytest.mark.parametrize("where", ["here", "lists"])
def test_removed_clip_leaves_other_splits_unchanged(tmp_path, monkeypatch, where):
    for folder in ("here", "lists"):
        (tmp_path / folder).mkdir()
    names = ["/none/z.wav", "s3://bucket/y.wav", "a.wav", "b.wav", "c.wav"]
    (tmp_path / "lists" / "l.scp").write_text("".join(f"{name} {name}\n" for name in names))
    for name in names[2:]:
        (tmp_path / where / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    clips = read_clips("../lists/l.scp")
    begin = "" if where == "here" else "../lists/"
    assert [clip.path for clip in clips] == [*names[:2], *(f"{begin}{name}" for name in names[2:])]
    for gone in ("a.wav", "c.wav"):  # so that b.wav says where they were
        (tmp_path / where / gone).unlink()
        assert read_clips("../lists/l.scp") == clips
    (tmp_path / where / "b.wav").unlink()
    assert [clip.path for clip in read_clips("../lists/l.scp")] == names


def test_a_list_that_comes_through_a_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "l.jsonl")
    writer = threading.Thread(target=(tmp_path / "l.jsonl").write_text, args=('{"path": "a.wav"}\n',))
    writer.start()
    assert read_clips(tmp_path / "l.jsonl") == [Clip("a.wav", "a.wav")]
    writer.join()


def test_rows_without_audio_are_reported(make_list, make_file, tmp_path):
    make_file("a.wav")
    (tmp_path / "folder.wav").mkdir()
    rows = read_labels(make_list("a.csv", "path,PQ", "a.wav,3", "b.wav,4", "folder.wav,5"))
    present, missing = split_present(rows)
    assert present == rows[:1]
    assert missing == [str(tmp_path / "b.wav"), str(tmp_path / "folder.wav")]


# ── splits


@st.composite
def row_lists(draw, sets=("", "pam")):
    named = st.tuples(st.sampled_from("abcdefghij"), st.sampled_from(sets))
    alone = st.tuples(st.just(""), st.sampled_from(sets))
    return [
        LabelledClip(Clip(f"{i}.wav", f"{i}.wav"), (5.0,) * 4, group=group, set=name)
        for i, (group, name) in enumerate(draw(st.lists(named | alone, max_size=40)))
    ]


def groups_of(rows: list[LabelledClip]) -> set[str]:
    return {row.group or row.clip.id for row in rows}


fractions, seeds = st.integers(0, 100).map(lambda percent: percent / 100), st.integers(0, 2**32)


@given(row_lists(), fractions, seeds)
def test_split_keeps_rows_in_order_and_groups_whole(rows, fraction, seed):
    first, second = split_groups(rows, fraction, seed)
    place = {row.clip.id: i for i, row in enumerate(rows)}
    assert sorted(first + second, key=lambda row: place[row.clip.id]) == rows
    for part in (first, second):
        assert part == sorted(part, key=lambda row: place[row.clip.id])
    assert groups_of(first).isdisjoint(groups_of(second))


@pytest.mark.slow
@given(row_lists(), fractions, seeds, st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_the_rows(rows, fraction, seed, random):
    shuffled = random.sample(rows, len(rows))
    for one, other in zip(split_groups(rows, fraction, seed), split_groups(shuffled, fraction, seed), strict=True):
        assert {row.clip.id for row in one} == {row.clip.id for row in other}


@given(row_lists(sets=("",)), fractions, seeds)
def test_the_second_part_has_its_fraction_within_one_group(rows, fraction, seed):
    _, second = split_groups(rows, fraction, seed)
    largest = max(Counter(row.group or row.clip.id for row in rows).values(), default=0)
    assert fraction * len(rows) <= len(second) + 1e-9
    assert len(second) <= fraction * len(rows) + largest


@given(row_lists(), fractions, seeds)
def test_every_set_has_its_fraction(rows, fraction, seed):
    _, second = split_groups(rows, fraction, seed)
    for name in {row.set for row in rows}:
        assert sum(row.set == name for row in second) >= fraction * sum(row.set == name for row in rows) - 1e-9


@given(row_lists(sets=("",)), st.integers(0, 40), fractions, seeds)
def test_rows_added_later_move_groups_at_the_border_only(rows, count, fraction, seed):
    before = groups_of(split_groups(rows[:count], fraction, seed)[1])
    after = groups_of(split_groups(rows, fraction, seed)[1]) & groups_of(rows[:count])
    assert before <= after or after <= before


def test_seeds_split_in_different_ways():
    rows = [LabelledClip(Clip(f"{i}.wav"), (5.0,) * 4) for i in range(100)]
    parts = {tuple(row.clip.id for row in split_groups(rows, 0.2, seed)[1]) for seed in range(10)}
    assert len(parts) == 10
    assert {len(part) for part in parts} == {20}


def test_a_split_stays_the_same_for_good():
    rows = [LabelledClip(Clip(f"{i}.wav"), (5.0,) * 4) for i in range(10)]
    assert [row.clip.id for row in split_groups(rows, 0.3, 42)[1]] == ["3.wav", "4.wav", "8.wav"]
