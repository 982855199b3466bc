"""An installation that is sound, and ones that are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmmos.encoders.table import ENCODERS, load_encoder
from mmmos.errors import ModelFormatError, ModelNotFoundError
from mmmos.hub.options import LoadOptions
from mmmos.hub.published import PUBLISHED
from mmmos.inference import doctor
from mmmos.inference.doctor import Check, check_lite, examine
from mmmos.model.load import load_model
from mmmos.version import VERSION
from tests.toys import ToyEncoder


def found(check_model: Callable[[], str] = check_lite) -> dict[str, Check]:
    checks = list(examine(check_model))
    by_name = {check.name: check for check in checks}
    assert len(by_name) == len(checks)
    return by_name


@pytest.mark.slow
def test_a_sound_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMMOS_DATA", raising=False)
    checks = found()
    assert all(check.ok for check in checks.values())
    assert checks["mmmos"].finding.startswith(VERSION)
    for name in ("distillmos", "dnsmos", "musicnn", "yamnet"):
        assert load_encoder(name).fingerprint().startswith(checks[f"encoder {name}"].finding)
    assert "weights are not here" in checks["encoder m2d"].finding  # which is not a fault
    assert load_model("lite").sha256[:16] in checks["model lite"].finding
    assert all(check.finding and "\n" not in check.finding for check in checks.values())


def skipped() -> str:
    """In place of the check of the bundled model, which takes a second."""
    return "skipped"


@pytest.mark.slow
def test_doctor_reports_a_broken_encoder_and_checks_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(ToyEncoder):
        def __init__(self) -> None:
            raise ModelFormatError("weights are damaged")

    monkeypatch.setitem(ENCODERS, "musicnn", Broken)
    checks = found(skipped)
    assert [name for name, check in checks.items() if not check.ok] == ["encoder musicnn"]
    assert checks["encoder musicnn"].finding == "ModelFormatError: weights are damaged"
    assert list(checks)[-1] == "MMMOS_DATA"


@pytest.mark.slow
def test_a_look_fetches_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []

    def locate(name: str, options: LoadOptions) -> None:
        requested.append((name, options))
        raise ModelNotFoundError("not here")

    monkeypatch.setattr("mmmos.encoders.table.locate", locate)
    assert all(check.ok for check in found(skipped).values())
    assert requested == [(name, LoadOptions(local_files_only=True)) for name in ENCODERS if name in PUBLISHED]


@pytest.mark.slow
@pytest.mark.parametrize(("off", "ok"), [(0.002, True), (-0.02, False), (float("nan"), False)])
def test_check_scores_that_have_moved_are_reported(off: float, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("lite")
    monkeypatch.setattr(doctor, "check_scores", lambda model: model.info.check | {"PC": model.info.check["PC"] + off})
    monkeypatch.setattr(doctor, "load_model", lambda name: model)
    check = found()["model lite"]
    assert check.ok == ok
    assert ok or "off by" in check.finding


@pytest.mark.slow
def test_a_model_without_check_scores_is_not_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("lite")
    monkeypatch.setattr(doctor, "check_scores", lambda model: {})
    monkeypatch.setattr(doctor, "load_model", lambda name: replace(model, info=replace(model.info, check={})))
    assert not found()["model lite"].ok


@pytest.mark.slow
@pytest.mark.parametrize("there", [True, False])
def test_data_folder_must_be_one(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path if there else tmp_path / "nosuch"
    monkeypatch.setenv("MMMOS_DATA", str(folder))
    assert found(skipped)["MMMOS_DATA"] == Check("MMMOS_DATA", there, str(folder))
