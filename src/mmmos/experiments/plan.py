"""The plan of an experiment: its runs and their training sets.

Configurations that differ only in their table or row share a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mmmos.data.manifest import LabelledClip
from mmmos.experiments.config import Configuration, Experiment
from mmmos.experiments.sets import Sets
from mmmos.experiments.single_run import Run
from mmmos.features.cache import Keep, file_digests
from mmmos.features.extractor import Extraction, FeatureExtractor
from mmmos.features.source import EncoderSource
from mmmos.model.quality import ModelConfig, build_aggregator
from mmmos.progress import Progress
from mmmos.training.dataset import TrainingSet, build_training_set
from mmmos.training.identity import stable_hash
from mmmos.training.settings import Settings


class Plan:
    """The runs of an experiment and their training sets; construction extracts missing features.

    Runs are sorted by cost, the longest first, so that it does not start when all others have finished.
    """

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
                    runs[run.folder] = replace(known, shown_in=known.shown_in + run.shown_in) if known else run
        self.runs = sorted(runs.values(), key=lambda run: -run.cost)

    @property
    def left_out(self) -> list[str]:
        """Clips that are missing, broken or silent."""
        return list(self._left_out)

    def _runs(
        self, row: Configuration, extractor: FeatureExtractor, extracted: dict[tuple[str, str, int], Extraction]
    ) -> Iterator[Run]:
        """The runs of a configuration, one per seed."""
        names = [self._experiment.encoders[name].partition("=")[0] for name in row.encoders]
        config = row.settings.model(extractor.specs(names))
        keys = {
            part: self._training_set(part, rows, row.settings, config, extractor, extracted)
            for part, rows in {"train": self._sets.train, "dev": self._sets.dev, **self._sets.reports}.items()
        }
        train, dev = self.tables[keys["train"]], self.tables[keys["dev"]]
        unit = len(train.inputs.frames) * (row.settings.blstm_hidden if row.settings.aggregator != "mlp" else 1)
        trained_on = file_digests(clip.clip for table in (train, dev) for clip in table.rows)
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

    def _training_set(
        self,
        part: str,
        rows: Sequence[LabelledClip],
        settings: Settings,
        config: ModelConfig,
        extractor: FeatureExtractor,
        extracted: dict[tuple[str, str, int], Extraction],
    ) -> str:
        """The key in `tables` of the training set of a part; the set is built if it is new."""
        mode, n_crops = (settings.train_crop, settings.epochs) if part == "train" else (settings.eval_crop, 1)
        request = part, mode, n_crops
        if request not in extracted:
            # All seeds use the same crops: the seed changes the training, not the features.
            clips, seed = [row.clip for row in rows], self._experiment.seeds[0]
            extracted[request] = extractor.prepare(clips, mode, n_crops, seed, self._progress)
            self._left_out |= dict.fromkeys(extracted[request].left_out)
        plans = extracted[request].plans
        # Extracted clips, not listed clips: a clip that becomes available later must give a new run.
        planned = {plan.clip for plan in plans}
        used = [(row.clip.id, row.labels, row.set) for row in rows if row.clip in planned]
        key = stable_hash(request, used, config.encoders, config.aggregator, config.fusion)
        if key not in self.tables:
            self.tables[key] = build_training_set(rows, plans, extractor, build_aggregator(config))
        return key


def _by_encoder_options(experiment: Experiment) -> list[list[Configuration]]:
    """Groups of configurations with the same encoder options."""
    groups: dict[str, list[Configuration]] = {}
    names = [word.partition("=")[0] for word in experiment.encoders.values()]
    for row in experiment.grid:
        groups.setdefault(repr([row.settings.encoder_options(name) for name in names]), []).append(row)
    return list(groups.values())
