"""Escaping text from other processes before a person reads it, in a log or on a terminal."""


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
