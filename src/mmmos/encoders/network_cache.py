"""Networks on disk: what was converted or quantised once on this machine.

    CACHE/networks/distillmos-convolve-float-1a2b3c.../   key.json   network.xml   network.bin

The key names the weights, the part, the form and all versions, and its sha256 is in the folder's name, so a network of
other weights is never used. A folder appears when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mmmos.errors import BackendError
from mmmos.io.atomic import hash_file
from mmmos.version import VERSION

FILES = ("network.xml", "network.bin")

Form = Literal["float", "int8"]


@dataclass(frozen=True)
class NetworkKey:
    """All that determines a network."""

    encoder: str
    fingerprint: str  # of the encoder: its weights and settings
    part: str
    form: Form
    calibration: str  # sha256 of the windows that int8 ranges were taken from; "" for float
    openvino: str
    instructions: str = ""  # of the CPU that an int8 network was compared on; "" for float
    mmmos: str = VERSION

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        digest = hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()
        return cache_folder() / "networks" / f"{self.encoder}-{self.part}-{self.form}-{digest[:16]}"


def cache_folder() -> Path:
    """The folder of what is computed once on a machine: MMMOS_CACHE, else mmmos in the user's cache folder."""
    own, user = os.environ.get("MMMOS_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(user or Path.home() / ".cache") / "mmmos"


@contextmanager
def saving(key: NetworkKey) -> Iterator[Path]:
    """A folder to write `FILES` to, which becomes the key's folder; another process's folder is kept if it is first.

    Raises `BackendError` if the disk is full or may not be written to.
    """
    folder = key.folder
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        partial.mkdir(parents=True)
        yield partial
        stored = {"key": asdict(key), "sha256": {name: hash_file(partial / name) for name in FILES}}
        (partial / "key.json").write_text(json.dumps(stored, indent=1) + "\n")
        if not is_saved(key):
            shutil.rmtree(folder, ignore_errors=True)  # damaged
            os.replace(partial, folder)
    except OSError as error:
        raise BackendError(f"networks cannot be kept in {folder.parent}: {error}; set MMMOS_CACHE") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_saved(key: NetworkKey) -> bool:
    """Whether the network of this key is on disk, complete and undamaged."""
    try:
        stored = json.loads((key.folder / "key.json").read_text())
        return stored["key"] == asdict(key) and all(
            hash_file(key.folder / name) == stored["sha256"][name] for name in FILES
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
