"""Scores as columns of a data set of Hugging Face `datasets`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmmos.audio.clip import Clip, to_clip
from mmmos.encoders.device import pick_device
from mmmos.errors import MissingExtraError, MmmosError, UsageError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions
from mmmos.inference.predictor import Predictor, open_predictor
from mmmos.inference.rows import table_row, table_schema
from mmmos.model.load import load_model
from mmmos.scores import AXES, ClipError, Scores
from mmmos.version import VERSION
from mmmos.wording import counted

logger = logging.getLogger(__name__)

COLUMNS = (*AXES, "scale", "domain", "warnings", "error_code", "error_message", "model", "model_sha256", "version")
"""The columns that are added by default; docs/ROWS.md has them all."""


def score_dataset(
    dataset: Any,
    column: str = "audio",
    *,
    model: str | Path | Predictor = "lite",
    columns: Sequence[str] = COLUMNS,
    prefix: str = "",
    batch_size: int = 16,
    num_proc: int | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
) -> Any:
    """The data set with the scores of its audio as further columns; a streaming one is scored as it is read.

    The files themselves are scored, at their own rates, whatever the rate that `Audio` decodes them to: no decoder of
    `datasets` is needed. Values that are already decoded are scored as they are. A row whose audio cannot be scored
    has null scores and an `error_code`.

    - dataset: a `Dataset`, `IterableDataset`, or a dictionary of either
    - column: of `Audio`, paths, the bytes of files, `{"bytes", "path"}`, `{"array", "sampling_rate"}` or decoders
    - model: as in `load`, or a predictor
    - columns: which columns of a row to add, as docs/ROWS.md names them, after the `prefix`
    - batch_size: rows per call of `map`
    - num_proc: processes of `map`, each with one thread; on a CPU only, and not for a streaming data set
    - options: device, precision and licences of a model that is given by its name

    Raises `MissingExtraError` without `datasets`; `UsageError` for a missing column, for new columns that exist, and
    for a `num_proc` that cannot be used.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtraError("score_dataset needs datasets: pip install 'mmmos[datasets]'") from error
    streams = isinstance(dataset, datasets.IterableDataset | datasets.IterableDatasetDict)
    if not streams and not isinstance(dataset, datasets.Dataset | datasets.DatasetDict):
        raise UsageError(f"score_dataset takes a data set of Hugging Face datasets, not {type(dataset).__name__}")
    if num_proc is not None:
        _check_processes(num_proc, streams, model, options)
    if unknown := [name for name in columns if name not in table_schema().names]:
        raise UsageError(f"rows have no column {unknown[0]}; docs/ROWS.md lists them")
    score = _Scoring(model, options, tuple(columns), prefix, one_thread=num_proc not in (None, 1))
    parts = dataset if isinstance(dataset, dict) else {"": dataset}
    for part in parts.values():
        _check_columns(part, column, score.names)
    apply = _stream if streams else _map
    scored = {name: apply(part, column, score, batch_size, num_proc) for name, part in parts.items()}
    return type(dataset)(scored) if isinstance(dataset, dict) else scored[""]


def _check_processes(num_proc: int, streams: bool, model: str | Path | Predictor, options: LoadOptions) -> None:
    if num_proc < 1:
        raise UsageError(f"num_proc is a number of processes from 1 on, not {num_proc}")
    if streams:
        raise UsageError("a streaming data set has no num_proc: read it with a DataLoader that has num_workers")
    if num_proc > 1 and isinstance(model, Predictor):
        raise UsageError("num_proc needs the name of a model, not a predictor: each process loads its own")
    if num_proc > 1 and pick_device(options.device).type != "cpu":
        raise UsageError("num_proc is for CPUs: on a GPU, one process scores batches; leave out num_proc")


def _check_columns(part: Any, column: str, names: Iterable[str]) -> None:
    if part.column_names is None:  # a stream that does not know them before it is read
        return
    if column not in part.column_names:
        raise UsageError(f"there is no column {column}; the columns are {', '.join(part.column_names)}")
    if there := [name for name in names if name in part.column_names]:
        raise UsageError(f"the column {there[0]} exists; give a prefix= for the new columns")


def _map(part: Any, column: str, score: _Scoring, batch_size: int, num_proc: int | None) -> Any:
    """The scores in a data set of their own, next to the columns that are there: those are not written again."""
    import datasets

    scores = _undecoded(part.select_columns([column]).with_format(None), column).map(
        score,
        with_indices=True,
        input_columns=[column],
        batched=True,
        batch_size=batch_size,
        remove_columns=[column],
        features=score.features(),
        num_proc=num_proc,
        desc="scoring",
    )
    if "error_code" in score.columns:
        name = f"{score.prefix}error_code"
        if failed := sum(code is not None for code in scores[name]):
            logger.warning(
                "%s could not be scored; the column %s says why", counted(failed, "clip", of=len(part)), name
            )
    return datasets.concatenate_datasets([part, scores], axis=1)


def _stream(part: Any, column: str, score: _Scoring, batch_size: int, num_proc: int | None) -> Any:
    known = part.features
    features = None if known is None else type(known)({**_plain(known, column), **score.features()})
    scored = _undecoded(part, column).map(
        score, with_indices=True, input_columns=[column], batched=True, batch_size=batch_size, features=features
    )
    return scored if known is None else scored.cast_column(column, known[column])


def _undecoded(part: Any, column: str) -> Any:
    """The data set with the files' bytes or paths in place of a decoder."""
    if part.features is None:
        return part
    return part.cast_column(column, _plain(part.features, column)[column])


def _plain(features: Any, column: str) -> dict[str, Any]:
    """The features, without decoding the column."""
    from datasets import Audio

    feature = features[column]
    return {**features, column: Audio(decode=False) if isinstance(feature, Audio) else feature}


class _Scoring:
    """The function of `map`. Copies in other processes load the model themselves.

    Its pickle identifies the scores, so that `datasets` finds them in its cache.
    """

    def __init__(
        self,
        model: str | Path | Predictor,
        options: LoadOptions,
        columns: tuple[str, ...],
        prefix: str,
        one_thread: bool,
    ) -> None:
        self._predictor = model if isinstance(model, Predictor) else None
        self._model = model.model.name if isinstance(model, Predictor) else os.fspath(model)
        self._options, self.columns, self.prefix, self._one_thread = options, columns, prefix, one_thread
        if isinstance(model, Predictor):
            by = model.provenance
            self._identity = by.model_sha256, VERSION, by.dtype, by.backend
        else:
            sha256 = load_model(self._model, options).sha256
            self._identity = sha256, VERSION, options.precision, options.running_backend

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_predictor": None}

    @property
    def names(self) -> list[str]:
        """The names of the new columns."""
        return [self.prefix + name for name in self.columns]

    def features(self) -> Any:
        """The types of the new columns."""
        import pyarrow
        from datasets import Features

        schema = table_schema()
        return Features.from_arrow_schema(
            pyarrow.schema([(self.prefix + name, schema.field(name).type) for name in self.columns])
        )

    def __call__(self, values: Sequence[Any], indices: Sequence[int]) -> dict[str, list[Any]]:
        """The new columns of a batch."""
        predictor = self._open()
        given = [_to_clip(value, f"row {index}") for value, index in zip(values, indices, strict=True)]
        scored = predictor.stream([clip for clip in given if isinstance(clip, Clip)])
        made_by: dict[str, Any] = {"scale": predictor.model.info.scale, "provenance": predictor.provenance}
        rows = [table_row(next(scored) if isinstance(clip, Clip) else replace(clip, **made_by)) for clip in given]
        return {self.prefix + name: [row[name] for row in rows] for name in self.columns}

    def _open(self) -> Predictor:
        if self._predictor is None:
            if self._one_thread:  # the threads of a process that was forked are gone, and waiting for them would hang
                torch.set_num_threads(1)
            self._predictor = open_predictor(self._model, self._options)
        return self._predictor


def _to_clip(value: Any, name: str) -> Clip | Scores:
    """A value of the column as a clip, or as the scores of one that cannot be read."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("bytes", "path") if value.get(key) is not None), value)
    if value is None or (isinstance(value, dict) and value.get("array") is None):
        return Scores(id=name, error=ClipError("not_found", "the row has no audio"))
    try:
        if isinstance(value, dict):
            clip = to_clip(_array(value["array"]), value.get("sampling_rate"))
        elif hasattr(value, "get_all_samples"):  # a decoder of torchcodec
            samples = value.get_all_samples()
            clip = to_clip(samples.data, samples.sample_rate)
        else:
            clip = to_clip(value)
    except (TypeError, MmmosError, RuntimeError) as error:
        return Scores(id=name, error=ClipError("decode_failed", str(error)))
    return Clip(name, clip.path, samples=clip.samples, sample_rate=clip.sample_rate, data=clip.data)


def _array(samples: Any) -> Any:
    """Samples as an array: Arrow gives lists."""
    if not isinstance(samples, list):
        return samples
    return torch.tensor(samples)
