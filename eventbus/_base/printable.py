"""Texts for people, in a log or on a terminal: what other processes have sent is escaped, and counts have their noun."""

import json


def printable(text: str, limit: int = 200) -> str:
    """Return the text on one line, with an escape for each unprintable character (``\\x1b``, ``\\n``, ``\\u202e``).

    Idempotent: it returns its own results unchanged.

    Args:
        text: any text, including lone surrogates.
        limit: the most characters to return; longer text ends in ``…``.
    """
    text = text[: limit + 1]  # first, because the text may have megabytes
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable_json(text: str) -> str:
    """Return JSON on one line, with JSON's escape for each unprintable character: outside of its strings there are none."""
    return text if text.isprintable() else "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: "1 event", "2 events".

    Args:
        count: how many.
        noun: what, for one.
        plural: for any other count; empty: the noun with an ``s``.
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
