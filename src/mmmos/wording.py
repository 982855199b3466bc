"""Counts in messages: nouns and verbs in the singular or plural."""

from __future__ import annotations

PLURALS = {"is": "are", "has": "have", "was": "were"}
"""Verb in the singular -> in the plural."""


def counted(count: int, noun: str, of: int | None = None) -> str:
    """A count and its noun, whose plural ends in s; with `of`, a part of so many.

    >>> counted(1, "clip"), counted(2000, "clip"), counted(1, "clip", of=3), counted(1, "clip", of=1)
    ('1 clip', '2,000 clips', '1 of 3 clips', '1 of 1 clip')
    """
    total = count if of is None else of
    return f"{count:,}{'' if of is None else f' of {of:,}'} {noun}{'' if total == 1 else 's'}"


def agree(count: int, verb: str) -> str:
    """A verb of `PLURALS` that agrees with a count.

    >>> agree(1, "is"), agree(3, "has"), agree(0, "was")
    ('is', 'have', 'were')
    """
    return verb if count == 1 else PLURALS[verb]
