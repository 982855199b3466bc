"""The nine published lists of rated clips: found on disk, or downloaded once from their public sites.

Seven come from AES and the challenge based on it (CC BY 4.0); two are the paper's own lists.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from mmmos.errors import ManifestError
from mmmos.io.atomic import replacing

TIMEOUT_SECONDS = 30.0
"""Timeout of a connection or of a read."""


@dataclass(frozen=True)
class LabelFile:
    """A published list of clips with ratings."""

    rows: int
    sha256: str
    url: str  # where it is published

    @property
    def file_name(self) -> str:
        """Its name on disk."""
        return self.url.rpartition("/")[2]


def label_file(name: str, folder: str | Path | None = None) -> Path:
    """The path of a label file, which is downloaded to the user's cache if it is missing.

    Searches `folder`, MMMOS_DATA/labels and the user's cache. Raises `ManifestError` for an unknown name, without a
    network (or with HF_HUB_OFFLINE set), and for a download with unexpected content.
    """
    if name not in LABEL_FILES:
        raise ManifestError(f"no label file is called {name}; there are {', '.join(LABEL_FILES)}")
    found = find_label_file(name, folder)
    if found is None:
        content = _fetch(LABEL_FILES[name])
        found = _cache_folder() / LABEL_FILES[name].file_name
        with replacing(found) as partial:
            partial.write_bytes(content)
    return found


def find_label_file(name: str, folder: str | Path | None = None) -> Path | None:
    """The path of a label file, or None if it is missing; nothing is downloaded."""
    root = os.environ.get("MMMOS_DATA")
    places = (folder, root and Path(root) / "labels", _cache_folder())
    paths = (Path(place) / LABEL_FILES[name].file_name for place in places if place)
    return next((path for path in paths if path.is_file()), None)


def is_published(name: str, path: Path) -> bool:
    """Whether a file has exactly the published bytes; a file saved again by an editor may differ."""
    return hashlib.sha256(path.read_bytes()).hexdigest() == LABEL_FILES[name].sha256


def _fetch(label_list: LabelFile) -> bytes:
    advice = f"put {label_list.file_name} into a folder yourself and name it, or into MMMOS_DATA/labels"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ManifestError(f"{label_list.url} is not fetched while HF_HUB_OFFLINE is set; {advice}")
    try:
        with urllib.request.urlopen(label_list.url, timeout=TIMEOUT_SECONDS) as reply:
            content: bytes = reply.read()
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):  # the error is also the response
            error.close()
        raise ManifestError(f"{label_list.url} cannot be fetched: {error}; {advice}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != label_list.sha256:
        raise ManifestError(
            f"{label_list.url} has sha256 {found[:12]}, not {label_list.sha256[:12]}: not kept; {advice}"
        )
    return content


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmmos" / "labels"


_AES = "https://raw.githubusercontent.com/facebookresearch/audiobox-aesthetics/main"
_MMMOS = "https://raw.githubusercontent.com/robert0518/MMMOS/main"

LABEL_FILES = {
    "AES_natural_speech": LabelFile(
        950,
        "2bbb55e272445818d4557ce584866d3b7afdac745e22287a6bbe35e638a7992b",
        f"{_AES}/evaluation_data/AES_natural_speech.jsonl",
    ),
    "AES_natural_music": LabelFile(
        1000,
        "616fd44281bc31168d5779307761ba84799512ae0b6b133d81353b8ea157dccf",
        f"{_AES}/evaluation_data/AES_natural_music.jsonl",
    ),
    "AES_natural_sound": LabelFile(
        1000,
        "84350af272600b238942855781b0da15446c8b941a670bb4bf7998bf25d32853",
        f"{_AES}/evaluation_data/AES_natural_sound.jsonl",
    ),
    "AES_PAM": LabelFile(
        1000,
        "3cd83286944e9a7e3aeaecdb7c0476c06f52b9ee85ea5f11869781a2490ab75e",
        f"{_AES}/evaluation_data/AES_PAM.jsonl",
    ),
    "track2_train": LabelFile(
        2700,
        "1b45657b2cf39a13ea1a4ce5af95e5d2a582e0f23372094386e800b884ec2e55",
        f"{_AES}/audiomos2025_track2/audiomos2025-track2-train_list.csv",
    ),
    "track2_dev": LabelFile(
        250,
        "17c63bdc937fbd66d80654b262cf86537813a9a7bcba3b7a51b3a78b8b57b68f",
        f"{_AES}/audiomos2025_track2/audiomos2025-track2-dev_list.csv",
    ),
    "track2_test": LabelFile(
        3060,
        "19ce27dc7aebac13b4a4357da31d2d7fa57d7a01993a14ec5f091ea9f4d20cc0",
        f"{_AES}/audiomos2025_track2/audiomos2025_track2_human_annotations.jsonl",
    ),
    "combined_train": LabelFile(
        3500,
        "af0a7adbd5b82bd95b3acec52529f64ba505d3c48b91c8a0118890be8b827fae",
        f"{_MMMOS}/audiomos2025_track2/combined_train.csv",
    ),
    "combined_dev": LabelFile(
        450,
        "d4ed617d723ce467a3a54afa6c24abe243e9b8d062f93ac3e67e1a9fe436a65d",
        f"{_MMMOS}/audiomos2025_track2/combined_dev.csv",
    ),
}
"""Name in commands and functions -> label file."""
