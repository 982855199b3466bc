"""The full system from end to end, with random weights: three encoders read as published, eight members, one pass."""

from __future__ import annotations

import json
import runpy
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mmmos import cli
from mmmos.encoders.table import ENCODERS, load_encoder
from mmmos.encoders.wavlm import WavLM
from mmmos.inference.predictor import from_pretrained
from mmmos.model.folder import load_folder
from mmmos.scores import AXES
from tests.sounds import SAMPLES, music

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "recipes" / "paper" / "random_weights.py"))
NAMES = ("wavlm", "muq", "m2d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("random")
    SCRIPT["write_model"](path, tiny=True)
    return path


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, float, int]]:
    """How often each encoder has encoded how many seconds, to a tenth, of how many clips at once."""
    seen: Counter[tuple[str, float, int]] = Counter()

    def spied(frames: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def spy(self: torch.nn.Module, waves: Tensor) -> Tensor:
            seen[self.name, round(waves.shape[1] / self.sample_rate, 1), len(waves)] += 1
            return frames(self, waves)

        return spy

    for name in NAMES:
        monkeypatch.setattr(ENCODERS[name], "frames", spied(ENCODERS[name].frames))
    return seen


@pytest.mark.slow
def test_score_encodes_each_window_once_for_all_members(folder, passes, make_file, capfd, monkeypatch):
    clips = [SAMPLES / "speech_clean.flac", make_file("a.wav", 3.2, 44_100, 2), make_file("b.wav", 25.0, 8_000)]
    words = ["mmmos", "score", *map(str, clips), "--model", str(folder), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [row["n_windows"] for row in rows] == [1, 1, 3]
    for row in rows:
        assert row["status"] == "ok"
        assert all(np.isfinite(row[axis]) and row[f"{axis}_std"] > 0 for axis in AXES)
        assert row["calibrated"] is False
    speech = round(rows[0]["end_time"], 1)
    windows = Counter([speech, 3.2, 10.0, 10.0, 5.0])
    assert passes == {(name, seconds, 1): n for name in NAMES for seconds, n in windows.items()}


@pytest.mark.slow
def test_a_score_is_the_mean_of_members_that_share_one_pass(folder, passes):
    predictor = from_pretrained(folder, device="cpu")
    scores = predictor.score(music(2.0), sample_rate=16_000)
    assert passes == {(name, 2.0, 1): 1 for name in NAMES}
    alone = [from_pretrained(folder / f"member-{i}", device="cpu") for i in range(8)]
    each = np.array([[one.score(music(2.0), sample_rate=16_000)[axis] for axis in AXES] for one in alone])
    np.testing.assert_allclose([scores[axis] for axis in AXES], each.mean(axis=0), rtol=1e-6)
    assert (np.ptp(each, axis=0) > 0.5).all()
    assert (abs(each - 5) < 8).all()


def test_the_system_is_the_papers(folder):
    model = load_folder("random", folder)
    assert [spec.name for spec in model.encoders] == list(NAMES)
    assert len(model.members) == 8
    config = model.members[0].model.config
    assert (config.fusion.pool, config.fusion.embed_norm, config.heads.head_layers) == ("mean", "l2", 1)
    assert json.loads((folder / "member-0" / "config.json").read_text())["model"]["encoders"][0]["checkpoint"] == (
        "../encoders/wavlm"
    )


@pytest.mark.slow
def test_a_folder_works_wherever_it_is_moved(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "moved")
    here = from_pretrained(folder, device="cpu").score(music(1.0), sample_rate=16_000)
    monkeypatch.chdir(tmp_path)
    moved = from_pretrained("moved", device="cpu").score(music(1.0), sample_rate=16_000)
    assert [moved[axis] for axis in AXES] == [here[axis] for axis in AXES]


@pytest.mark.slow
def test_the_seed_decides_every_byte(folder, tmp_path):
    for seed in (0, 1):
        SCRIPT["write_model"](tmp_path / str(seed), seed=seed, tiny=True)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors"))
    assert len(files) == 8 + 3
    for file in files:
        written = (folder / file).read_bytes()
        assert (tmp_path / "0" / file).read_bytes() == written
        assert (tmp_path / "1" / file).read_bytes() != written


def test_wavlm_comes_back_from_its_published_tensors():
    network = WavLM(SCRIPT["TINY_WAVLM"])
    state = {key: tensor.clone() for key, tensor in SCRIPT["unilm_state"](network).items()}
    given = {key: tensor.clone() for key, tensor in state.items()}
    back = WavLM(SCRIPT["TINY_WAVLM"])
    back.load(state, "tensors")
    assert all(torch.equal(state[key], tensor) for key, tensor in given.items())
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], tensor, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_random_features_have_usual_size_and_follow_the_sound(folder, name):
    (path,) = (folder / "encoders").glob(f"{name}*")
    encoder = load_encoder(name, path)
    quiet, loud = (
        encoder.encode(torch.from_numpy(music(2.0, encoder.sample_rate, seed) * gain)[None]).frames
        for seed, gain in ((0, 0.01), (1, 1.0))
    )
    for frames in (quiet, loud):
        assert 0.1 < frames.square().mean().sqrt() < 10
    assert (quiet.mean(dim=1) - loud.mean(dim=1)).abs().max() > 0.01


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not list mapped files")
@pytest.mark.parametrize(("name", "share"), [("wavlm", 0.4), ("muq", 0.5), ("m2d", 0.9)])
def test_weights_stay_in_their_file_for_all_processes_to_share(folder, tmp_path, name, share):
    (path,) = (folder / "encoders").glob(f"{name}*")
    path = shutil.copytree(path, tmp_path / path.name)
    encoder = load_encoder(name, path)
    (file,) = path.glob("*.safetensors")
    ranges = [
        line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if str(file) in line
    ]
    places = [(tensor.data_ptr(), tensor.nbytes) for tensor in encoder.parameters()]
    mapped = [size for place, size in places if any(int(a, 16) <= place < int(b, 16) for a, b in ranges)]
    assert sum(mapped) > share * sum(size for _, size in places)
    assert not any(tensor.requires_grad for tensor in encoder.parameters())
    assert not encoder.training


@pytest.fixture
def full_size(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "full"
    SCRIPT["write_model"](path)
    yield path
    shutil.rmtree(path)  # 2 GB, which pytest would keep


@pytest.mark.slow
def test_the_full_size_model_scores_a_clip(full_size, passes):
    predictor = from_pretrained(full_size, device="cpu")
    weights = {name: sum(map(torch.numel, encoder.parameters())) for name, encoder in predictor.encoders.items()}
    millions = {name: round(number / 1e6) for name, number in weights.items()}
    assert millions == {"wavlm": 94, "muq": 316, "m2d": 85}
    assert sum(encoder.dim for encoder in predictor.encoders.values()) == 5632
    scores = predictor.score(music(1.0), sample_rate=16_000)
    assert passes == {(name, 1.0, 1): 1 for name in NAMES}
    row = scores.row()
    assert all(-5 < row[axis] < 15 and row[f"{axis}_std"] > 0 for axis in AXES)


@pytest.mark.slow
def test_a_model_is_trained_on_checkpoints_of_ones_own(folder, make_file, tmp_path, capfd, monkeypatch):
    (m2d,) = (folder / "encoders").glob("m2d*")
    pickled = tmp_path / m2d.name / "weights.pth"
    pickled.parent.mkdir()
    torch.save({"model": load_file(next(m2d.glob("*.safetensors")))}, pickled)
    ratings = tmp_path / "ratings.csv"
    ratings.write_text(
        "\n".join(["path,PQ,group", *(f"{make_file(f'{i}.wav', rate=8000 + i)},{i},{i}" for i in range(8))])
    )

    def run(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["mmmos", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    encoders = f"wavlm={folder / 'encoders' / 'wavlm'},m2d={pickled}"
    words = ["train", ratings, "-o", tmp_path / "model", "--set", "epochs=2", "--encoders", encoders]
    assert run(*words) == 2
    assert "--trust-checkpoint" in capfd.readouterr().err
    assert run(*words, "--trust-checkpoint") == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    places = [spec["checkpoint"] for spec in config["model"]["encoders"]]
    assert not any(Path(place).is_absolute() for place in places)
    assert run("score", tmp_path / "0.wav", "--model", tmp_path / "model") == 2
    assert run("score", tmp_path / "0.wav", "--model", tmp_path / "model", "--trust-checkpoint") == 0
