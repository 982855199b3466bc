"""Every weight that can be used has its licence on the list, and the list agrees with the model's own words."""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import files

import pytest

from mmmos.encoders.table import ENCODERS
from mmmos.hub.licenses import LICENSES
from mmmos.model.load import load_model


def find(word: str) -> list[int]:
    return [i for i, item in enumerate(LICENSES) if word in item.name.lower()]


WITHOUT_WEIGHTS = {"spectrum"}


@pytest.mark.parametrize("name", sorted({*ENCODERS, "lite", "audiobox"} - WITHOUT_WEIGHTS))
def test_each_encoder_and_model_has_one_entry(name: str) -> None:
    assert len(find(name)) == 1


def test_nothing_is_left_blank() -> None:
    assert all(all(value.strip() for value in asdict(item).values()) for item in LICENSES)
    assert len({item.name for item in LICENSES}) == len(LICENSES)


def test_bundled_model_allows_what_its_licence_does() -> None:
    (entry,) = find("lite")
    assert load_model("lite").info.commercial_use == (LICENSES[entry].commercial_use == "yes")


def test_what_is_bundled_brings_its_notice() -> None:
    notices = (files("mmmos") / "bundled" / "NOTICES.md").read_text().lower()
    weights = [
        file.name.split(".")[0] for file in (files("mmmos") / "bundled").iterdir() if ".safetensors" in file.name
    ]
    bundled = [item for item in LICENSES if "bundled" in item.name]
    assert len(bundled) == 1 + len(weights)  # lite and its encoders
    for name in weights:
        assert len(find(name)) == 1
        assert name in notices
    for item in bundled:
        if item.note.startswith("Copyright"):
            assert item.note.removeprefix("Copyright ").rstrip(".").split(",")[0].lower() in notices
