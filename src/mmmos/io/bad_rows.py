"""Bad rows of a list: counted and logged, or refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmmos.errors import ManifestError
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)


class BadRows:
    """Counts the bad rows of a list, and logs the first ones."""

    NAMED = 5

    def __init__(self, name: str | Path, strict: bool) -> None:
        self.name, self.strict = name, strict
        self.reasons: list[str] = []

    def __call__(self, error: ManifestError) -> None:
        """Leave a row out. Raises the error if `strict`."""
        if self.strict:
            raise error
        self.reasons.append(str(error))
        if len(self.reasons) <= self.NAMED:
            logger.warning("%s: this row is left out", error)

    def report(self, used: int) -> dict[str, Any]:
        """How many rows are left out of how many, and why, with a warning if there are any; `used` are the others."""
        count = len(self.reasons)
        if count:
            rows = counted(count, "row", of=count + used)
            logger.warning("%s of %s %s left out", rows, self.name, agree(count, "is"))
        return {"list": str(self.name), "rows": count + used, "left_out": count, "why": self.reasons}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to a `ManifestError` about its rows."""
    try:
        yield
    except ManifestError as error:
        raise ManifestError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
