"""`mmmos doctor` and `mmmos licenses`: what this installation is and may be used for."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Check this installation, and that the bundled model gives the scores it should."""
    from mmmos.doctor import examine

    healthy = True
    for check in examine():
        print(f"{'ok ' if check.ok else 'BAD'}  {check.name:<18} {check.finding}")
        healthy &= check.ok
    raise typer.Exit(0 if healthy else 3)


def licenses() -> None:
    """List the licences of all weights, bundled or downloaded, and of the data they learned from."""
    from mmmos.licenses import LICENSES

    for item in LICENSES:
        print(f"{item.name}\n    {item.license}\n    commercial use: {item.commercial_use}")
        print(f"    {item.note}\n    {item.source}")
