"""What `mmmos --help` and `-h` print: the commands in sections, each with a line of its own."""

from __future__ import annotations

from typing import Any

import typer.core

SECTIONS = {
    "Score": ("score", "serve", "verify", "merge"),
    "Train": ("ratings", "train", "calibrate", "experiment", "ensemble", "extract", "push"),
    "Evaluate": ("evaluate", "compare", "leaderboard", "report"),
    "Data and installation": ("data", "doctor", "licenses"),
}
"""Commands by heading, in the order of the help."""

HELP_OPTIONS: dict[Any, Any] = {"help_option_names": ["-h", "--help"]}
"""Context settings of a group; its commands inherit them."""


class Sections(typer.core.TyperGroup):
    """A group whose help has the sections above, and does not cut the summary of a command."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write every command; those of no section come last."""
        names = self.list_commands(ctx)
        width = max(map(len, names), default=0)
        listed = {name for members in SECTIONS.values() for name in members}
        sections = {**SECTIONS, "Commands": tuple(name for name in names if name not in listed)}
        for title, members in sections.items():
            rows = [(name.ljust(width), self._summary(ctx, name)) for name in members if name in names]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _summary(self, ctx: Any, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit=10_000) if command else ""
