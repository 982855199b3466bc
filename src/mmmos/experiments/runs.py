"""The runs of an experiment: extract features once, then train and evaluate each configuration with each seed.

    OUT/runs/<configuration>-<seed>/   a model folder; predictions.npz; result.json, written last
    OUT/ensembles/<strategy>/          an ensemble folder, of the first seed
    OUT/results.jsonl, tables.md, tables.csv, tables.html

Configurations that differ only in their table or row share a run. Calling again does the runs that are not done yet; a
failed run is reported and does not stop the others.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.data.manifest import label_array
from mmmos.ensemble import STRATEGIES
from mmmos.errors import UsageError
from mmmos.experiments.config import Configuration, Ensembles, Experiment
from mmmos.experiments.results import Result, results_of, write_results
from mmmos.experiments.sets import Sets
from mmmos.experiments.tables import write_tables
from mmmos.features.cache import Keep, file_digests
from mmmos.features.crops import name_of
from mmmos.features.extractor import Extraction, FeatureExtractor
from mmmos.features.source import EncoderSource
from mmmos.inference.selfcheck import check_scores
from mmmos.io.atomic import replacing
from mmmos.model.folder import load_folder, save_ensemble, save_model
from mmmos.model.info import ModelInfo
from mmmos.model.quality import ModelConfig, build_aggregator
from mmmos.model.system import ScoringModel, combine
from mmmos.processes import run_in_processes
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import AXES, LABEL_RANGE
from mmmos.training.checkpoint import best_epoch, drop_checkpoint
from mmmos.training.config import TrainConfig
from mmmos.training.dataset import TrainingSet, build_training_set
from mmmos.training.fit import rated_axes
from mmmos.training.identity import stable_hash
from mmmos.training.loop import fit, predict
from mmmos.training.settings import Settings
from mmmos.wording import agree, counted

RESULT, PREDICTIONS = "result.json", "predictions.npz"

logger = logging.getLogger(__name__)

IDS = "/ids"
"""Suffix of the arrays of clip ids in `PREDICTIONS`: "Dev/ids" [N] next to "Dev" [N, A]."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Run:
    """One model to train: a configuration and a seed."""

    folder: Path
    config: ModelConfig
    settings: Settings
    seed: int
    train: str  # key of a training set, as in the next two
    dev: str
    reports: dict[str, str]  # by set
    places: tuple[tuple[str, str], ...]  # the (table, row) pairs that show it
    cost: float  # approximate duration, in an arbitrary unit
    trained_on: tuple[str, ...] = ()  # files of `train` and `dev`, as in `ModelInfo`

    @property
    def is_done(self) -> bool:
        """Whether the run is complete."""
        return (self.folder / RESULT).is_file()


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
    plan = _Plan(experiment, sets, out, cache, source, progress)
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
    results = [result for run in plan.runs if run.is_done for result in _results(run, plan.tables)]
    if experiment.ensembles is not None:
        results += _ensembles(experiment, experiment.ensembles, plan, out)
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


def train_run(run: Run, tables: Mapping[str, TrainingSet]) -> None:
    """Train one model, save it with its predictions, and mark it done."""
    train, dev = tables[run.train], tables[run.dev]
    main_set = Counter(row.set for row in train.rows).most_common(1)[0][0] if train.rows else ""
    train_config = TrainConfig(run.settings, run.seed, main_set)
    member, history = fit(run.config, train, dev, train_config, run.folder)
    predictions: dict[str, NDArray[Any]] = {}
    rated = rated_axes(train)
    for name, key in run.reports.items():
        scores = member.scale.to_labels(predict(member.model, tables[key], train_config).double().numpy())
        scores = np.clip(scores, *LABEL_RANGE) if run.settings.clip_output else scores
        predictions[name] = np.where([axis in rated for axis in AXES], scores, np.nan)
        predictions[f"{name}{IDS}"] = np.array([name_of(row.clip) for row in tables[key].rows])
    best = best_epoch(history)
    training = {"settings": asdict(run.settings) | {"seed": run.seed, "main_set": main_set}, "best_epoch": best.epoch}
    info = ModelInfo.of_training(
        training,
        rated,
        clip_output=run.settings.clip_output,
        label_range=LABEL_RANGE,
        trained_on=run.trained_on,
    )
    save_model(run.folder, member, info, _card(run.folder.name, "One run of an experiment", info))
    with replacing(run.folder / PREDICTIONS) as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **predictions)
    drop_checkpoint(run.folder)
    with replacing(run.folder / RESULT) as partial:
        partial.write_text(json.dumps({"epochs": len(history), **asdict(best)}, allow_nan=False) + "\n")


class _Plan:
    """The runs of an experiment and their training sets; construction extracts missing features."""

    def __init__(
        self,
        experiment: Experiment,
        sets: Sets,
        out: Path,
        cache: Path,
        source: EncoderSource,
        progress: Progress,
    ) -> None:
        self.tables: dict[str, TrainingSet] = {}
        self.extractors: list[FeatureExtractor] = []
        self._experiment, self._sets, self._out = experiment, sets, out
        self._progress = progress
        self._left_out: dict[str, None] = {}
        runs: dict[Path, Run] = {}
        keep: Keep = "frames" if any(row.settings.aggregator == "blstm_t" for row in experiment.grid) else "pooled"
        source = replace(source, names=tuple(experiment.encoders.values()))
        for group in _by_encoder_options(experiment):
            extractor = FeatureExtractor.load(source, group[0].settings.encoder_options, cache, keep)
            self.extractors.append(extractor)
            extracted: dict[tuple[str, str, int], Extraction] = {}
            for row in group:
                for run in self._runs(row, extractor, extracted):
                    known = runs.get(run.folder)
                    runs[run.folder] = replace(known, places=known.places + run.places) if known else run
        # The longest run first, so that it does not start when all others have finished.
        self.runs = sorted(runs.values(), key=lambda run: -run.cost)

    @property
    def left_out(self) -> list[str]:
        """Clips that are missing, broken or silent."""
        return list(self._left_out)

    def _runs(
        self, row: Configuration, extractor: FeatureExtractor, extracted: dict[tuple[str, str, int], Extraction]
    ) -> Iterator[Run]:
        names = [self._experiment.encoders[name].partition("=")[0] for name in row.encoders]
        config = row.settings.model(extractor.specs(names))
        keys = {}
        for part, rows in {"train": self._sets.train, "dev": self._sets.dev, **self._sets.reports}.items():
            mode, n_crops = row.settings.eval_crop, 1
            if part == "train":
                mode, n_crops = row.settings.train_crop, row.settings.epochs
            request = part, mode, n_crops
            if request not in extracted:
                # All seeds use the same crops: the seed changes the training, not the features.
                seed, clips = self._experiment.seeds[0], [row.clip for row in rows]
                extracted[request] = extractor.prepare(clips, mode, n_crops, seed, self._progress)
                self._left_out |= dict.fromkeys(extracted[request].left_out)
            # Extracted clips, not listed clips: a clip that becomes available later must give a new run.
            planned = {plan.clip for plan in extracted[request].plans}
            used = [(item.clip.id, item.labels, item.set) for item in rows if item.clip in planned]
            keys[part] = stable_hash(request, used, config.encoders, config.aggregator, config.fusion)
            if keys[part] not in self.tables:
                plans, aggregator = extracted[request].plans, build_aggregator(config)
                self.tables[keys[part]] = build_training_set(rows, plans, extractor, aggregator)
        train = self.tables[keys["train"]]
        unit = len(train.inputs.frames) * (row.settings.blstm_hidden if row.settings.aggregator != "mlp" else 1)
        trained_on = file_digests(clip.clip for part in ("train", "dev") for clip in self.tables[keys[part]].rows)
        for seed in self._experiment.seeds:
            contents = [self.tables[key].content for key in keys.values()]
            digest = stable_hash(row.settings, config, seed, keys, contents)[:8]
            yield Run(
                self._out / "runs" / f"{'+'.join(names)}-{row.settings.aggregator}-{row.settings.loss}-{seed}-{digest}",
                config,
                row.settings,
                seed,
                keys["train"],
                keys["dev"],
                {part: key for part, key in keys.items() if part not in ("train", "dev")},
                ((row.table, row.row),),
                row.settings.epochs * (len(train.rows) + unit / 50),
                trained_on,
            )


def _ensembles(experiment: Experiment, ensembles: Ensembles, plan: _Plan, out: Path) -> list[Result]:
    """Results of the ensembles of each seed; those of the first seed are also saved as models."""
    results: list[Result] = []
    for seed in experiment.seeds:
        runs = {
            row: run
            for run in plan.runs
            if run.is_done and run.seed == seed
            for table, row in run.places
            if table == ensembles.of
        }
        listed = {row.row: row.paper_row for row in experiment.grid if row.table == ensembles.of}
        if not runs:
            continue
        if missing := [row for row in listed if row not in runs]:
            logger.warning("ensembles with seed %d are made without %s, which failed", seed, ", ".join(missing))
        scores: dict[str, list[Array]] = {name: [] for name in next(iter(runs.values())).reports}
        for run in runs.values():
            for name, predictions in _predictions(run).items():
                scores[name].append(predictions)
        stacked = {name: np.stack(members) for name, members in scores.items()}
        rows = {name: plan.tables[key].rows for name, key in next(iter(runs.values())).reports.items()}
        # Models are not selected by an axis without scores, even if it has labels.
        chosen = {
            name: (values, np.where(np.isfinite(values).all(axis=0), label_array(rows[name]), np.nan))
            for name, values in stacked.items()
        }
        for strategy in ensembles.strategies:
            try:
                weights = STRATEGIES[strategy](
                    *chosen[ensembles.dev],
                    names=[listed[row] for row in runs],
                    pam=chosen.get(ensembles.pam),
                    rule=ensembles.rule,
                )
            except UsageError as error:
                logger.warning("%s with seed %d: %s", strategy, seed, error)
                continue
            for name in stacked:
                used = weights.any(axis=1)
                mean, _ = combine(stacked[name][used], weights[used])
                results += results_of(mean, rows[name], name, ensembles.table, strategy, seed)
            if seed == experiment.seeds[0]:
                _save_ensemble(out / "ensembles" / strategy, list(runs.values()), weights.astype(np.float64), plan)
    return results


def _save_ensemble(folder: Path, runs: Sequence[Run], weights: NDArray[np.float64], plan: _Plan) -> None:
    if len(plan.extractors) > 1:
        logger.warning("%s is not saved: its members use different encoder options", folder.name)
        return
    used = [i for i, row in enumerate(weights) if row.any()]
    loaded = [load_folder(runs[i].folder.name, runs[i].folder) for i in used]
    try:
        info = ModelInfo.of_ensemble([model.info for model in loaded], {"members": [model.name for model in loaded]})
    except UsageError as error:
        logger.warning("%s is not saved: %s", folder.name, error)
        return
    members = [model.members[0] for model in loaded]
    model = ScoringModel(folder.name, tuple(members), weights[used], info, "", plan.extractors[0].encoders)
    checked = replace(info, check=check_scores(model))
    save_ensemble(folder, members, weights[used], checked, _card(folder.name, "An ensemble of an experiment", info))


def _card(name: str, what: str, info: ModelInfo) -> str:
    """The model's README.md."""
    unrated = [axis for axis in AXES if axis not in info.rated]
    missing = f" {', '.join(unrated)}: not rated in training, so without a score." if unrated else ""
    return f"# {name}\n\n{what}: {', '.join(info.rated)} on the scale {info.scale}.{missing} Not calibrated.\n"


def _results(run: Run, tables: Mapping[str, TrainingSet]) -> Iterator[Result]:
    for name, scores in _predictions(run).items():
        for table, row in run.places:
            yield from results_of(scores, tables[run.reports[name]].rows, name, table, row, run.seed)


def _predictions(run: Run) -> dict[str, Array]:
    with np.load(run.folder / PREDICTIONS) as file:
        return {name: file[name] for name in file.files if not name.endswith(IDS)}


def _by_encoder_options(experiment: Experiment) -> list[list[Configuration]]:
    """Groups of configurations with the same encoder options."""
    groups: dict[str, list[Configuration]] = {}
    names = [word.partition("=")[0] for word in experiment.encoders.values()]
    for row in experiment.grid:
        groups.setdefault(repr([row.settings.encoder_options(name) for name in names]), []).append(row)
    return list(groups.values())
