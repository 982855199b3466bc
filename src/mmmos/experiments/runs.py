"""An experiment from its plan to its tables: extract features once, then train and evaluate each configuration.

    OUT/runs/<configuration>-<seed>/   one run (`single_run`)
    OUT/ensembles/<strategy>/          an ensemble folder, of the first seed (`ensembles`)
    OUT/results.jsonl, tables.md, tables.csv, tables.html

Calling again does the runs that are not done yet; a failed run is reported and does not stop the others.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from mmmos.errors import UsageError
from mmmos.experiments.config import Experiment
from mmmos.experiments.ensembles import make_ensembles
from mmmos.experiments.plan import Plan
from mmmos.experiments.results import write_results
from mmmos.experiments.sets import Sets
from mmmos.experiments.single_run import results_of_run, train_run
from mmmos.experiments.tables import write_tables
from mmmos.features.source import EncoderSource
from mmmos.processes import run_in_processes
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """The summary of an experiment."""

    folder: str
    runs: int
    failed: dict[str, str]  # failed run -> reason
    left_out: list[str]  # paths of clips that are missing, ids of those that are broken or silent


def run_experiment(
    experiment: Experiment,
    sets: Sets,
    out: Path,
    cache: Path,
    source: EncoderSource,
    *,
    workers: int = 1,
    progress: Progress = NO_PROGRESS,
) -> Finished:
    """Do all runs that are not done yet, then write the tables.

    `source` gives device, precision and consent; the experiment names the encoders. `progress` gets a stage "encoding"
    for each set of clips, then "training" in percent, with runs weighted by their approximate duration. Raises the
    errors of encoding, before the first run.
    """
    if experiment.ensembles is not None and experiment.ensembles.dev not in sets.reports:
        there = ", ".join(sets.reports)
        raise UsageError(f"ensembles select models on {experiment.ensembles.dev!r}, but the reported sets are {there}")
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(experiment, sets, out, cache, source, progress)
    missing = [run for run in plan.runs if not run.is_done]
    done = len(plan.runs) - len(missing)
    runs = counted(len(plan.runs), "run")
    logger.info("%s, of which %d %s done", runs, done, agree(done, "is"))
    total = sum(run.cost for run in plan.runs)
    progress.start("training", 100, "%", 100 - 100 * sum(run.cost for run in missing) / total if total else 100)
    failed = {}
    for run, error in run_in_processes(train_run, missing, plan.tables, workers):
        progress.advance(100 * run.cost / total)
        if error is not None:
            failed[run.folder.name] = error
            logger.warning("%s failed: %s", run.folder.name, error)
    results = [result for run in plan.runs if run.is_done for result in results_of_run(run, plan.tables)]
    if experiment.ensembles is not None:
        results += make_ensembles(experiment, experiment.ensembles, plan, out)
    write_results(results, out / "results.jsonl")
    requested: dict[str, list[str]] = {}
    for row in experiment.grid:
        requested.setdefault(row.table, []).append(row.row)
    if experiment.ensembles is not None:
        requested[experiment.ensembles.table] = list(experiment.ensembles.strategies)
    paper = experiment.compare_to_paper and experiment.has_paper_encoders
    roles = {row.row: row.paper_row for row in experiment.grid}
    write_tables(results, out, experiment.note, requested, paper, roles)
    return Finished(str(out), len(plan.runs), failed, plan.left_out)
