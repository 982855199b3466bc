"""Data sets of Hugging Face: the scores are those of the files, whatever form the audio has in the column."""

from __future__ import annotations

import doctest
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

import mmmos
from mmmos.encoders.table import ENCODERS
from mmmos.errors import UsageError
from mmmos.inference.predictor import Predictor
from mmmos.integrations import dataset as module
from mmmos.integrations.dataset import COLUMNS, score_dataset
from mmmos.scores import AXES
from tests.sounds import music
from tests.toys import CPU, ToyEncoder, toy_config, toy_member, toy_model

datasets = pytest.importorskip("datasets", reason="needs pip install 'mmmos[datasets]'")

RATE = 16_000


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Predictor]:
    monkeypatch.setitem(ENCODERS, "toy", ToyEncoder)
    with Predictor(toy_model(toy_member(0, toy_config())), CPU) as predictor:
        yield predictor


def wav(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, music(seconds, RATE), RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def samples(seconds: float) -> np.ndarray:
    return music(seconds, RATE).astype(np.float32)


def undecoded(*files: bytes | None) -> Any:
    rows = [{"bytes": data, "path": None if data is None else f"{i}.wav"} for i, data in enumerate(files)]
    given = datasets.Dataset.from_dict({"audio": rows, "number": list(range(len(rows)))})
    return given.cast_column("audio", datasets.Audio(sampling_rate=8000))


def expected(predictor: Predictor, *seconds: float) -> list[list[float]]:
    found = [predictor.score(samples(each), sample_rate=RATE) for each in seconds]
    return [[round(scores[axis], 6) for axis in AXES] for scores in found]


def found(scored: Any) -> list[list[float]]:
    return [[row[axis] for axis in AXES] for row in scored.select_columns([*AXES])]


@pytest.mark.slow
def test_audio_columns_give_the_scores_of_their_files(toys: Predictor, caplog: pytest.LogCaptureFixture):
    given = undecoded(wav(1.0), wav(2.0), None, b"no audio")
    scored = score_dataset(given, model=toys)
    assert found(scored) == [*expected(toys, 1.0, 2.0), [None] * 4, [None] * 4]
    assert scored["error_code"][:] == [None, None, "not_found", "unsupported_format"]
    assert scored["error_message"][2] == "the row has no audio"
    assert scored.features["audio"] == given.features["audio"]
    assert scored["number"][:] == [0, 1, 2, 3]
    assert scored.column_names == ["audio", "number", *COLUMNS]
    assert scored["model_sha256"][:] == [toys.model.sha256] * 4
    assert "2 of 4 clips could not be scored" in caplog.text


def decoder(seconds: float) -> Any:
    """As `torchcodec.decoders.AudioDecoder`: samples [C, S] and their rate."""
    import torch

    data = torch.from_numpy(samples(seconds))[None]
    return SimpleNamespace(get_all_samples=lambda: SimpleNamespace(data=data, sample_rate=RATE))


def test_decoded_values_are_scored_as_they_are(toys: Predictor, make_file: Callable[..., Path]):
    array = {"array": samples(1.0).tolist(), "sampling_rate": RATE}
    score = module._Scoring(toys, CPU, ("PQ", "error_message", "calibrated"), "", False)
    values = [array, decoder(1.0), {"array": samples(1.0)}, None, 5]
    columns = score(values, range(5))
    pq = expected(toys, 1.0)[0][AXES.index("PQ")]
    assert columns["PQ"] == [pytest.approx(pq), pq, None, None, None]
    assert columns["calibrated"] == [False] * 5
    assert "samples need sample_rate=" in columns["error_message"][2]
    assert columns["error_message"][3] == "the row has no audio"
    assert "not int" in columns["error_message"][4]


@pytest.mark.slow
def test_streams_are_scored_as_they_are_read(toys: Predictor):
    given = undecoded(wav(1.0), b"no audio", wav(1.5)).to_iterable_dataset()
    scored = score_dataset(given, model=toys, batch_size=1, prefix="toy_", columns=["PQ", "error_code"])
    assert scored.features["audio"] == given.features["audio"]
    rows = list(scored.remove_columns(["audio"]))
    first, last = (each[AXES.index("PQ")] for each in expected(toys, 1.0, 1.5))
    assert [row["toy_PQ"] for row in rows] == [first, None, last]
    assert [row["toy_error_code"] for row in rows] == [None, "unsupported_format", None]


def test_streams_without_features_and_dictionaries_are_scored(toys: Predictor):
    def rows() -> Iterator[dict[str, Any]]:
        yield {"sound": {"array": samples(1.0), "sampling_rate": RATE}}

    stream = datasets.IterableDataset.from_generator(rows)
    both = datasets.IterableDatasetDict({"train": stream, "test": stream})
    scored = score_dataset(both, "sound", model=toys)
    assert isinstance(scored, datasets.IterableDatasetDict)
    assert [[row[axis] for axis in AXES] for row in scored["test"]] == expected(toys, 1.0)


@pytest.mark.slow
def test_cache_of_datasets_finds_scores_of_the_same_model(toys: Predictor, tmp_path: Path, monkeypatch):
    undecoded(wav(1.0)).save_to_disk(tmp_path / "saved")
    first = score_dataset(datasets.load_from_disk(tmp_path / "saved"), model=toys)
    monkeypatch.setattr(Predictor, "stream", lambda *_, **__: pytest.fail("was scored again"))
    again = score_dataset(datasets.load_from_disk(tmp_path / "saved"), model=toys)
    assert again["PQ"][:] == first["PQ"][:]


@pytest.mark.slow
def test_processes_load_the_model_by_its_name(scorer: Predictor, make_file: Callable[..., Path]):
    paths = [str(make_file(f"{i}.wav", 1.0 + 0.2 * i)) for i in range(2)]
    given = datasets.Dataset.from_dict({"file": paths})
    scored = score_dataset(given, "file", num_proc=2, columns=[*AXES])
    assert scored["PQ"][:] == pytest.approx([scorer.score(path).PQ for path in paths], abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"column": "sound"}, "there is no column sound; the columns are audio, number"),
        ({"columns": ["PQ", "MOS"]}, "rows have no column MOS"),
        ({"columns": ["PQ"], "prefix": ""}, "the column PQ exists; give a prefix="),
        ({"num_proc": 0}, "from 1 on, not 0"),
        ({"num_proc": 2}, "not a predictor: each process loads its own"),
        ({"num_proc": 2, "model": "lite", "streams": True}, "a streaming data set has no num_proc"),
        ({"dataset": [1]}, "not list"),
    ],
)
def test_what_cannot_be_scored_is_refused(toys: Predictor, change: dict[str, Any], message: str):
    given = datasets.Dataset.from_dict({"audio": ["a.wav"], "number": [1]})
    if change.get("columns") == ["PQ"]:
        given = given.add_column("PQ", [1.0])
    given = given.to_iterable_dataset() if change.pop("streams", False) else given
    options = {"dataset": given, "model": toys} | change
    with pytest.raises(UsageError, match=message):
        score_dataset(**options)


def test_name_is_exported():
    assert mmmos.score_dataset is score_dataset


@pytest.mark.slow
def test_python_of_page_prints_its_output(monkeypatch: pytest.MonkeyPatch):
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    failed, tried = doctest.testfile(str(root / "docs" / "DATASETS.md"), module_relative=False)
    assert tried > 5
    assert not failed
