"""Models that are malicious, misnamed, or asked for in another precision."""

from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import pytest
import torch

from tests.faults.conftest import Mmmos, axes

MakeFile = Callable[..., Path]


class Payload:
    """An object whose unpickling makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def torch_bytes(payload: Payload) -> bytes:
    file = io.BytesIO()
    torch.save({"heads": payload}, file)
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("to_bytes", [pickle.dumps, torch_bytes])
def test_28_malicious_checkpoint(
    mmmos: Mmmos, make_file: MakeFile, tmp_path: Path, to_bytes: Callable[[Payload], bytes]
) -> None:
    folder, marker = tmp_path / "model", tmp_path / "it ran"
    with as_file(files("mmmos") / "bundled" / "lite" / "member-0") as member:
        shutil.copytree(member, folder)
    sound = make_file("sound.wav")
    assert mmmos("score", sound, "--model", folder).status == 0

    content = to_bytes(Payload(marker))
    (folder / "model.safetensors").write_bytes(content)
    run = mmmos("score", sound, "--model", folder)
    assert run.rows == []
    assert run.status == 2
    assert str(folder / "model.safetensors") in run.notes
    assert not marker.exists()

    if to_bytes is torch_bytes:
        torch.load(io.BytesIO(content), weights_only=False)
    else:
        pickle.loads(content)
    assert marker.exists()  # so it would have run


def test_28_pickle_next_to_the_weights_is_not_read(mmmos: Mmmos, make_file: MakeFile, tmp_path: Path) -> None:
    folder, marker = tmp_path / "model", tmp_path / "it ran"
    with as_file(files("mmmos") / "bundled" / "lite" / "member-0") as member:
        shutil.copytree(member, folder)
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "checkpoint.ckpt"):
        (folder / name).write_bytes(torch_bytes(Payload(marker)))
    run = mmmos("score", make_file("sound.wav"), "--model", folder)
    assert run.rows == []
    assert run.status == 2
    assert "model.safetensors" in run.notes
    assert not marker.exists()


@pytest.mark.parametrize("name", ["./typo-dir", "ltie", "/no/such/model", "models/lite.safetensors", "", "."])
def test_29_typo_in_a_model_path(
    mmmos: Mmmos, make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = mmmos("score", make_file("sound.wav"), "--model", name)
    assert run.rows == []
    assert run.status == 2
    assert name in run.notes


@pytest.mark.slow
def test_30_precision_is_honoured_and_recorded(mmmos: Mmmos, make_file: MakeFile) -> None:
    sound = make_file("sound.wav")
    full, half = (mmmos("score", sound, "--dtype", dtype) for dtype in ("float32", "bfloat16"))
    assert [full.rows[0]["dtype"], half.rows[0]["dtype"]] == ["float32", "bfloat16"]
    assert axes(full.rows[0]) != axes(half.rows[0])
    assert axes(full.rows[0]) == pytest.approx(axes(half.rows[0]), abs=0.1)
    assert full.status == half.status == 0
