"""Paths of the command line that may have a name, `NAME=PATH`."""

from __future__ import annotations

import os
import re


def split_name(text: str) -> tuple[str, str]:
    """Name and path of `NAME=PATH`; the name is "" if there is none, as in a path that exists or whose folder has a =.

    >>> split_name("old=runs/v1"), split_name("runs/v1"), split_name("s3://bucket/k=5/rows.csv")
    (('old', 'runs/v1'), ('', 'runs/v1'), ('', 's3://bucket/k=5/rows.csv'))
    """
    named = re.fullmatch(r"([^/=]+)=(.+)", text)
    return ("", text) if named is None or os.path.exists(text) else (named[1], named[2])
