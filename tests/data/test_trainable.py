"""What cannot be trained on is refused with one clear sentence, and the scale of labels is seen."""

from __future__ import annotations

import math

import pytest

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.data.trainable import check_range, check_trainable, choose_range, find_primary_dataset, infer_range
from mmmos.errors import ManifestError, MmmosError, UsageError
from mmmos.scores import LabelRange

NAN = math.nan


def rows(labels: list[float], groups: str = "", name: str = "") -> list[LabelledClip]:
    """Clips with these labels of PQ, their groups letter by letter."""
    return [
        LabelledClip(Clip(f"{i}.wav"), (NAN, NAN, NAN, label), group=groups[i : i + 1], set=name, origin=f"r.csv:{i}")
        for i, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1.0, 5.0], (1, 5)),
        ([1.5, 4.2], (1, 5)),
        ([0.9, 4.2], (0, 10)),
        ([1.0, 5.1], (0, 10)),
        ([10.0, 0.0], (0, 10)),
        ([10.1, 3.0], (0, 100)),
        ([100.0], (0, 100)),
        ([-1.0, 2.0], None),
        ([101.0], None),
        ([], None),
        ([NAN, 3.0], (1, 5)),
    ],
)
def test_scale_is_the_narrowest_common_one(labels: list[float], expected: LabelRange | None) -> None:
    assert infer_range(rows(labels)) == expected


def test_choose_range_logs_an_inferred_scale(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_range(rows([2.0, 3.0]), (0, 10)) == (0, 10)
    assert caplog.messages == []
    assert choose_range(rows([20.0, 3.0]), None) == (0, 100)
    assert caplog.messages == ["labels lie between 3 and 20: their scale is taken to be 0-100 (else --scale)"]
    with pytest.raises(UsageError, match="labels lie between -3 and 2; give their scale with --scale LOW HIGH"):
        choose_range(rows([-3.0, 2.0]), None)


def test_label_outside_the_scale_is_named_with_its_line() -> None:
    check_range(rows([1.0, 5.0, NAN]), (1, 5))
    with pytest.raises(ManifestError, match=r"^r\.csv:1: PQ is 5\.5, outside the scale 1-5$"):
        check_range(rows([1.0, 5.5, 9.0]), (1, 5))


@pytest.mark.parametrize("wrong", [(5, 1), (1, 1), (0, math.inf), (NAN, 1)])
def test_scale_that_is_none_is_refused(wrong: LabelRange) -> None:
    with pytest.raises(UsageError, match="two numbers, the lower first"):
        check_range([], wrong)


def test_primary_dataset_is_the_only_one_or_must_be_named() -> None:
    one, two = rows([1.0], name="one"), rows([1.0], name="two")
    assert find_primary_dataset(rows([1.0]), "") == ""
    assert find_primary_dataset(one, "") == "one"
    assert find_primary_dataset([*one, *two], "two") == "two"
    with pytest.raises(UsageError, match=r"name the set .* with --main-set; the column `set` has one, two"):
        find_primary_dataset([*one, *two], "")
    with pytest.raises(UsageError, match=r"no row is of the set 'three' \(--main-set\)"):
        find_primary_dataset(one, "three")


SPREAD = [1.0, 2.0, 3.0, 4.0, 5.0, 2.5]


@pytest.mark.parametrize(
    ("train", "dev", "words"),
    [
        ([], None, "there is no labelled clip to train on"),
        (rows([3.0]), None, "1 clip has a label of PQ; at least 5 are needed"),
        (rows(SPREAD[:4]), None, "4 clips have a label of PQ; at least 5 are needed"),
        (rows(SPREAD, "aaaaaa"), None, "the 6 clips with a label of PQ are of 1 group (column `group`); at least 3"),
        (rows(SPREAD, "aaabbb"), None, "are of 2 groups (column `group`); at least 3 are needed"),
        (rows([4.0] * 6), None, "all clips have the same labels (PQ is always 4), so there is nothing to learn"),
        (rows(SPREAD), [], "no development clip of the set '' is left; add clips, or change the split"),
        ([], rows(SPREAD), "no training clip of the set '' is left"),
    ],
)
def test_too_little_to_train_on_is_one_sentence(
    train: list[LabelledClip], dev: list[LabelledClip] | None, words: str
) -> None:
    with pytest.raises(MmmosError) as caught:
        check_trainable(train, dev, "")
    assert words in str(caught.value)


def test_clips_that_were_left_out_are_counted_and_named() -> None:
    with pytest.raises(UsageError, match=r"3 clips have a label of PQ \(2 were left out: a\.wav, b\.wav\); at least 5"):
        check_trainable(rows(SPREAD[:3]), None, "", ["a.wav", "b.wav"])


def test_constant_axis_next_to_another_and_enough_clips_pass() -> None:
    found = [LabelledClip(row.clip, (5.0, NAN, NAN, row.labels[3]), group=row.group) for row in rows(SPREAD)]
    check_trainable(found, None, "")
    check_trainable(rows(SPREAD[:5]), rows(SPREAD[5:]), "")
