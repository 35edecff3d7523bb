"""Text that others have sent, for lines that people read: in a log, on a terminal."""


def printable(text: str, limit: int = 200) -> str:
    """Return the text with every character that does not print as an escape (``\\x1b``, ``\\n``, ``\\u202e``), on one line.

    What it returns it would return as it is.

    Args:
        text: any, lone surrogates too.
        limit: how many characters may come out; what is longer ends in ``…``.
    """
    text = text[: limit + 1]  # before anything is done to a megabyte
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
