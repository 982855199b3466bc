"""The runs of an experiment: encode once, train each configuration with each seed, keep what came of it.

    OUT/runs/<configuration>-<seed>/   a model folder; predictions.npz; result.json, written last
    OUT/ensembles/<strategy>/          an ensemble folder, of the first seed
    OUT/results.jsonl, tables.md, tables.csv, tables.html

Configurations that differ in nothing but their place in the tables are one run. The same call again does
what is not done yet; a run that fails is told and the others go on.
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
from mmmos.model.quality import ModelConfig, build_aggregator
from mmmos.model.system import ModelInfo, ScoringModel, combine, combined_info
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

RESULT, PREDICTIONS = "result.json", "predictions.npz"

logger = logging.getLogger(__name__)

IDS = "/ids"
"""Ends the name of an array of `PREDICTIONS` that has the clips' ids: "Dev/ids" [N] next to "Dev" [N, A]."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Run:
    """One model to train: a configuration and a seed."""

    folder: Path
    config: ModelConfig
    settings: Settings
    seed: int
    train: str  # key of a table, as the next two
    dev: str
    reports: dict[str, str]  # by set
    places: tuple[tuple[str, str], ...]  # tables and their rows that it stands in
    cost: float  # about how long it takes, in any unit
    trained_on: tuple[str, ...] = ()  # files of `train` and `dev`, as in `ModelInfo`

    @property
    def is_done(self) -> bool:
        """Whether all that it leaves is there."""
        return (self.folder / RESULT).is_file()


@dataclass(frozen=True)
class Finished:
    """What an experiment came to."""

    folder: str
    runs: int
    failed: dict[str, str]  # runs that failed, with the reason
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
    """Run all that is not done yet, then write the tables.

    `source` gives device, precision and consent; which encoders is the experiment's matter. `progress` gets a stage
    "encoding" of each set of clips, then "training" in percent of all runs, each by about how long it takes. Raises
    what encoding raises, before the first run.
    """
    if experiment.ensembles is not None and experiment.ensembles.dev not in sets.reports:
        there = ", ".join(sets.reports)
        raise UsageError(f"ensembles are to be chosen on {experiment.ensembles.dev!r}; reported are {there}")
    out.mkdir(parents=True, exist_ok=True)
    plan = _Plan(experiment, sets, out, cache, source, progress)
    missing = [run for run in plan.runs if not run.is_done]
    logger.info("%d runs, of which %d are done", len(plan.runs), len(plan.runs) - len(missing))
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
    asked: dict[str, list[str]] = {}
    for row in experiment.grid:
        asked.setdefault(row.table, []).append(row.row)
    if experiment.ensembles is not None:
        asked[experiment.ensembles.table] = list(experiment.ensembles.strategies)
    paper = experiment.compare_to_paper and experiment.has_paper_encoders
    roles = {row.row: row.paper_row for row in experiment.grid}
    write_tables(results, out, experiment.note, asked, paper, roles)
    return Finished(str(out), len(plan.runs), failed, plan.left_out)


def train_run(run: Run, tables: Mapping[str, TrainingSet]) -> None:
    """Train one model, save it with its predictions, and mark it done."""
    train, dev = tables[run.train], tables[run.dev]
    main_set = Counter(row.set for row in train.rows).most_common(1)[0][0] if train.rows else ""
    how = TrainConfig(run.settings, run.seed, main_set)
    member, history = fit(run.config, train, dev, how, run.folder)
    predictions: dict[str, NDArray[Any]] = {}
    rated = rated_axes(train)
    for name, key in run.reports.items():
        scores = member.scale.to_labels(predict(member.model, tables[key], how).double().numpy())
        scores = np.clip(scores, *LABEL_RANGE) if run.settings.clip_output else scores
        predictions[name] = np.where([axis in rated for axis in AXES], scores, np.nan)
        predictions[f"{name}{IDS}"] = np.array([name_of(row.clip) for row in tables[key].rows])
    best = best_epoch(history)
    training = {"settings": asdict(run.settings) | {"seed": run.seed, "main_set": main_set}, "best_epoch": best.epoch}
    info = ModelInfo(
        training=training,
        rated=rated,
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
    """The runs of an experiment and the tables that they are trained on; making it encodes what has to be."""

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
        # The longest first, so that none of them begins when the others have ended.
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
                # Seeds share their crops: another seed is another training, not another encoding.
                seed, clips = self._experiment.seeds[0], [row.clip for row in rows]
                extracted[request] = extractor.prepare(clips, mode, n_crops, seed, self._progress)
                self._left_out |= dict.fromkeys(extracted[request].left_out)
            # Clips that were extracted, not those listed: a clip that turns up later makes it another run.
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


def _ensembles(experiment: Experiment, asked: Ensembles, plan: _Plan, out: Path) -> list[Result]:
    """Results of the ensembles of each seed; those of the first seed are saved as models, too."""
    results: list[Result] = []
    for seed in experiment.seeds:
        runs = {
            row: run
            for run in plan.runs
            if run.is_done and run.seed == seed
            for table, row in run.places
            if table == asked.of
        }
        listed = {row.row: row.paper_row for row in experiment.grid if row.table == asked.of}
        if not runs:
            continue
        if absent := [row for row in listed if row not in runs]:
            logger.warning("ensembles with seed %d are made without %s, which failed", seed, ", ".join(absent))
        scores: dict[str, list[Array]] = {name: [] for name in next(iter(runs.values())).reports}
        for run in runs.values():
            for name, predictions in _predictions(run).items():
                scores[name].append(predictions)
        stacked = {name: np.stack(members) for name, members in scores.items()}
        rows = {name: plan.tables[key].rows for name, key in next(iter(runs.values())).reports.items()}
        # An axis without a score is not what a model is chosen by, whatever labels there are.
        chosen = {
            name: (values, np.where(np.isfinite(values).all(axis=0), label_array(rows[name]), np.nan))
            for name, values in stacked.items()
        }
        for strategy in asked.strategies:
            try:
                weights = STRATEGIES[strategy](
                    *chosen[asked.dev],
                    names=[listed[row] for row in runs],
                    pam=chosen.get(asked.pam),
                    rule=asked.rule,
                )
            except UsageError as error:
                logger.warning("%s with seed %d: %s", strategy, seed, error)
                continue
            for name in stacked:
                used = weights.any(axis=1)
                mean, _ = combine(stacked[name][used], weights[used])
                results += results_of(mean, rows[name], name, asked.table, strategy, seed)
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
        info = combined_info([model.info for model in loaded], {"members": [model.name for model in loaded]})
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
    """Configurations in groups that want the same of their encoders."""
    groups: dict[str, list[Configuration]] = {}
    names = [word.partition("=")[0] for word in experiment.encoders.values()]
    for row in experiment.grid:
        groups.setdefault(repr([row.settings.encoder_options(name) for name in names]), []).append(row)
    return list(groups.values())
