"""Stratified splits: each stratum in proportion, no group in both parts, and a message where that cannot be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.data.labels import read_labels
from mmmos.data.manifest import LabelledClip
from mmmos.data.splits import split_stratified, stratum_columns
from mmmos.errors import ManifestError


def row(name: str, system: str, group: str = "", set_: str = "") -> LabelledClip:
    return LabelledClip(Clip(name, name), (5.0,) * 4, system=system, group=group, set=set_)


def systems(rows: list[LabelledClip]) -> Counter[str]:
    return Counter(row.system for row in rows)


def group_of(row: LabelledClip) -> str:
    return row.group or row.clip.id


fractions = st.integers(1, 9).map(lambda tenths: tenths / 10)
seeds = st.integers(0, 2**32)


@st.composite
def row_lists(draw: st.DrawFn, crossed: bool = True) -> list[LabelledClip]:
    """Clips of two large systems, some smaller ones, and groups that are of several systems if `crossed`."""
    drawn = draw(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["", *"abcdefgh"])), max_size=40))
    drawn += [("large", "")] * 10
    return [row(f"{i}.wav", s, g and (g if crossed else s + g)) for i, (s, g) in enumerate(drawn)]


@given(row_lists(), fractions, seeds, st.randoms(use_true_random=False))
def test_split_keeps_rows_once_and_groups_whole_in_any_order(rows, fraction, seed, random):
    first, second = split_stratified(rows, fraction, seed, "system")
    assert Counter(map(id, first + second)) == Counter(map(id, rows))
    assert {group_of(row) for row in first}.isdisjoint(map(group_of, second))
    shuffled = split_stratified(random.sample(rows, len(rows)), fraction, seed, "system")
    assert [{row.clip.id for row in part} for part in shuffled] == [
        {row.clip.id for row in part} for part in (first, second)
    ]


@given(row_lists(crossed=False), fractions, seeds)
def test_split_divides_every_system_to_half_of_a_group(rows, fraction, seed):
    _, second = split_stratified(rows, fraction, seed, "system")
    for system, size in systems(rows).items():
        largest = max(Counter(group_of(row) for row in rows if row.system == system).values())
        assert abs(systems(second)[system] - fraction * size) <= largest / 2 + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_split_holds_out_20_of_each_100_as_the_paper(seed):
    rows = [row(f"{system}/{i}.wav", system) for system in "abcde" for i in range(100)]
    first, second = split_stratified(rows, 0.2, seed, "system")
    assert systems(first) == Counter(dict.fromkeys("abcde", 80))
    assert systems(second) == Counter(dict.fromkeys("abcde", 20))


def test_split_of_prompts_that_every_system_has_cuts_no_prompt():
    rows = [row(f"{system}/{i}.wav", system, group=f"prompt {i}") for system in "abcd" for i in range(50)]
    _, second = split_stratified(rows, 0.2, 1, "system")
    assert systems(second) == Counter(dict.fromkeys("abcd", 10))
    assert len({row.group for row in second}) == 10


def test_split_divides_the_clips_of_each_set_too():
    rows = [row(f"{i}.wav", "x", set_="old" if i < 50 else "new") for i in range(100)]
    _, second = split_stratified(rows, 0.2, 0, "system")
    assert Counter(row.set for row in second) == {"old": 10, "new": 10}


def test_split_depends_on_the_seed_and_stays_the_same_for_good():
    rows = [row(f"{i}.wav", "xy"[i % 2]) for i in range(20)]
    parts = {tuple(row.clip.id for row in split_stratified(rows, 0.2, seed, "system")[1]) for seed in range(10)}
    assert len(parts) == 10
    assert [row.clip.id for row in split_stratified(rows, 0.2, 42, "system")[1]] == ["3.wav", "4.wav", "8.wav", "9.wav"]


def test_split_logs_strata_that_are_too_small(caplog):
    rows = [row(f"{i}.wav", "large") for i in range(10)]
    rows += [
        row("a.wav", "one"),
        *(row(f"b{i}.wav", "two speakers", "pq"[i % 2]) for i in range(10)),
    ]
    first, second = split_stratified(rows, 0.2, 0, "system")
    assert (systems(first)["large"], systems(second)["large"]) == (8, 2)
    assert systems(second).keys() == {"large"}
    (message,) = caplog.messages
    assert message.startswith(
        "2 of 3 values of system are too small to be divided: one (1 clip, 1 group; not held out), "
    )
    assert message.endswith("two speakers (10 clips, 2 groups; not held out)")


def test_split_refuses_what_cannot_be_divided_at_all():
    with pytest.raises(
        ManifestError, match=r"no value of system can be divided .*: a \(1 clip, 1 group; not held out\)"
    ):
        split_stratified([row("1.wav", "a"), row("2.wav", "b")], 0.2, 0, "system")
    with pytest.raises(ManifestError, match="no row has a value of system"):
        split_stratified([row("1.wav", ""), row("2.wav", "")], 0.5, 0, "system")


@pytest.mark.parametrize("column", ["system", "vocoder"])
def test_split_reads_any_column_of_a_list(tmp_path, column):
    lines = [f"{i}.wav,5,{'ab'[i % 2]}" for i in range(20)]
    (tmp_path / "r.csv").write_text("\n".join([f"path,PQ,{column}", *lines]))
    rows = read_labels(tmp_path / "r.csv", columns=stratum_columns(column))
    _, second = split_stratified(rows, 0.2, 0, column)
    assert Counter(int(row.clip.id.split(".")[0]) % 2 for row in second) == {0: 2, 1: 2}
    with pytest.raises(ManifestError, match=r"line 2 has no codec"):
        read_labels(tmp_path / "r.csv", columns=stratum_columns("codec"))
