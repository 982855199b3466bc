"""HTML pages in one file: they load nothing, run only the scripts of this package, and send nothing anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmmos.errors import UsageError
from mmmos.io.atomic import check_parent

HTML_SUFFIXES = (".html", ".htm")


def check_page(path: Path) -> None:
    """Raise `UsageError` if no page can be written to a path: another suffix, or a missing folder."""
    if path.suffix.lower() not in HTML_SUFFIXES:
        raise UsageError(f"{path}: pages are written as {', '.join(HTML_SUFFIXES)}")
    check_parent(path)


def page(title: str, body: str, data: Any, styles: Sequence[str], scripts: Sequence[str]) -> str:
    """A page with the data as JSON in `#data`, and the named style sheets and scripts of `report/assets`.

    `body` is HTML: escape what users wrote. The content security policy allows no connection, no other script than
    these, and media only from the page itself and from files next to it.
    """
    script = "".join(map(asset, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:;"
        " media-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="MMMOS">
<title>{escape(title)}</title>
<style>
{"".join(map(asset, styles))}</style>
</head>
<body>
{body}
<script type="application/json" id="data">{json_block(data)}</script>
<script>{script}</script>
</body>
</html>
"""


def asset(name: str) -> str:
    """The text of a style sheet or script of the package."""
    return (files("mmmos.report") / "assets" / name).read_text(encoding="utf-8")


def json_block(data: Any) -> str:
    r"""JSON that cannot end the script element that it stands in.

    >>> json_block("</script>")
    '"\\u003c/script>"'
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace("&", "\\u0026")
