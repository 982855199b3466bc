"""The scores of systems for a comparison: files of rows, folders of runs, and folders of audio that a model scores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from mmmos.audio.clip import Clip
from mmmos.bulk.finished import finished_rows
from mmmos.bulk.plan import RUN
from mmmos.bulk.stores import open_store
from mmmos.data.inputs import expand
from mmmos.errors import UsageError
from mmmos.evaluation.predictions import parse_rows, read_fields
from mmmos.evaluation.verdict import SystemComparison, compare_scores
from mmmos.io.bad_rows import BadRows
from mmmos.io.remote import is_url
from mmmos.report.systems import System, column_of, named, split_by
from mmmos.scores import Scores

ScoreFolder = Callable[[Sequence[Clip]], Iterable[Scores]]
"""Scores the clips of a folder of audio."""


def read_system(name: str, path: str, strict: bool = False, score: ScoreFolder | None = None) -> System:
    """The rows of a file, the finished ones of a run's folder, or those that `score` makes of a folder of audio.

    A bad row is left out, logged and counted, or refused if `strict`. Raises `ManifestError`, and `UsageError` for a
    folder that is neither of a run nor, if there is `score`, of audio.
    """
    if score and os.path.isdir(path) and not os.path.isfile(os.path.join(path, RUN)):
        clips = list(expand([path]))
        if not clips:
            raise UsageError(f"{path} has no audio and is not the folder of a run; give rows of scores or audio")
        return System(name, [(scores, scores.row()) for scores in score(clips)])
    bad = BadRows(path, strict)
    if is_url(path) or os.path.isdir(path):
        store = open_store(path)
        rows = parse_rows(lambda _: finished_rows(store), path, bad)
    else:
        rows = parse_rows(partial(read_fields, Path(path)), path, bad)
    bad.report(len(rows))
    return System(name, rows)


def read_systems(
    results: Sequence[str], split: str | None = None, strict: bool = False, score: ScoreFolder | None = None
) -> list[System]:
    """The systems of results, each given as PATH or NAME=PATH, or those of the values of the column `split`."""
    systems = [read_system(name, path, strict, score) for name, path in named(results)]
    return split_by(systems, split) if split else systems


def compare_results(
    systems: Sequence[System], detect: float | None = None, group: str | None = None, seed: int = 0
) -> SystemComparison:
    """Compare systems; rows with the same value of the column `group` count as one clip. Raises `UsageError`."""
    groups = {system.name: column_of(system, group) for system in systems} if group else None
    return compare_scores({item.name: item.scores for item in systems}, detect=detect, groups=groups, seed=seed)


def compare(
    systems: Sequence[str | Path] | Mapping[str, str | Path | Sequence[Scores]],
    *,
    model: str | Path = "lite",
    detect: float | None = None,
    split: str | None = None,
    group: str | None = None,
    seed: int = 0,
) -> SystemComparison:
    """Compare systems by their scores, without labels: which has the higher ones, by how much, and how certain.

    - systems: files of rows, folders of runs or folders of audio; or a name for each of them, or for a list of `Scores`
    - model: scores the folders of audio
    - detect: the difference, in points, whose sample size is given; by default 2 % of the scale
    - split: a column of the rows whose values are the systems
    - group: a column of the rows (song, speaker): rows with the same value count as one clip

    As text, the result is one sentence; `differences` has every figure. Raises `UsageError` for scores of several
    models or scales.
    """
    from mmmos.inference.predictor import load

    def score(clips: Sequence[Clip]) -> list[Scores]:
        with load(model) as predictor:
            return list(predictor.stream(clips))

    if not isinstance(systems, Mapping):
        return compare_results(read_systems([str(path) for path in systems], split, score=score), detect, group, seed)
    found = []
    for name, given in systems.items():
        if isinstance(given, str | Path):
            found.append(read_system(name, str(given), score=score))
        else:
            found.append(System(name, [(scores, scores.row()) for scores in given]))
    return compare_results(split_by(found, split) if split else found, detect, group, seed)
