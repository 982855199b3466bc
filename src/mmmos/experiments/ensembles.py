"""The ensembles of an experiment: their results, and one folder for each strategy.

OUT/ensembles/<strategy>/   an ensemble folder, of the first seed
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmmos.data.manifest import LabelledClip, label_array
from mmmos.ensemble import STRATEGIES
from mmmos.errors import UsageError
from mmmos.experiments.config import Ensembles, Experiment
from mmmos.experiments.plan import Plan
from mmmos.experiments.results import Result, results_of
from mmmos.experiments.single_run import Array, Run, read_predictions
from mmmos.model.folder import load_folder
from mmmos.model.system import combine
from mmmos.training.ensembles import join_models
from mmmos.training.saving import save_checked, short_card

logger = logging.getLogger(__name__)


def make_ensembles(experiment: Experiment, ensembles: Ensembles, plan: Plan, out: Path) -> list[Result]:
    """Results of the ensembles of each seed; those of the first seed are also saved as models."""
    results: list[Result] = []
    listed = {row.row: row.paper_row for row in experiment.grid if row.table == ensembles.of}
    for seed in experiment.seeds:
        runs = _finished_runs(plan, ensembles.of, seed)
        if not runs:
            continue
        if missing := [row for row in listed if row not in runs]:
            logger.warning("ensembles with seed %d are made without %s, which failed", seed, ", ".join(missing))
        members = list(runs.values())
        scores = _stacked_predictions(members)
        rows = {name: plan.tables[key].rows for name, key in members[0].reports.items()}
        for strategy, weights in _choose_weights(ensembles, [listed[row] for row in runs], scores, rows, seed):
            used = weights.any(axis=1)
            for name, values in scores.items():
                mean, _ = combine(values[used], weights[used])
                results += results_of(mean, rows[name], name, ensembles.table, strategy, seed)
            if seed == experiment.seeds[0]:
                _save_ensemble(out / "ensembles" / strategy, members, weights.astype(np.float64), plan)
    return results


def _finished_runs(plan: Plan, table: str, seed: int) -> dict[str, Run]:
    """Row of a table -> its finished run with this seed."""
    finished = (run for run in plan.runs if run.is_done and run.seed == seed)
    return {row: run for run in finished for name, row in run.shown_in if name == table}


def _stacked_predictions(runs: Sequence[Run]) -> dict[str, Array]:
    """Set -> the predictions of all runs [M, N, A]."""
    found = [read_predictions(run) for run in runs]
    return {name: np.stack([predictions[name] for predictions in found]) for name in runs[0].reports}


def _choose_weights(
    ensembles: Ensembles,
    names: Sequence[str],
    scores: Mapping[str, Array],
    rows: Mapping[str, Sequence[LabelledClip]],
    seed: int,
) -> Iterator[tuple[str, Array]]:
    """Each strategy that applies to the models, with its weights [M, A]; `names` are their rows in the paper."""
    # Models are not selected by an axis without scores, even if it has labels.
    labelled = {
        name: (values, np.where(np.isfinite(values).all(axis=0), label_array(rows[name]), np.nan))
        for name, values in scores.items()
    }
    for strategy in ensembles.strategies:
        try:
            yield (
                strategy,
                STRATEGIES[strategy](
                    *labelled[ensembles.dev], names=names, pam=labelled.get(ensembles.pam), rule=ensembles.rule
                ),
            )
        except UsageError as error:
            logger.warning("%s with seed %d: %s", strategy, seed, error)


def _save_ensemble(folder: Path, runs: Sequence[Run], weights: NDArray[np.float64], plan: Plan) -> None:
    if len(plan.extractors) > 1:
        logger.warning("%s is not saved: its members use different encoder options", folder.name)
        return
    used = [i for i, row in enumerate(weights) if row.any()]
    loaded = [load_folder(runs[i].folder.name, runs[i].folder) for i in used]
    try:
        model = join_models(folder.name, loaded, weights[used])
        card = short_card(folder.name, "An ensemble of an experiment", model.info)
        save_checked(folder, replace(model, loaded=plan.extractors[0].encoders), card)
    except UsageError as error:
        logger.warning("%s is not saved: %s", folder.name, error)
