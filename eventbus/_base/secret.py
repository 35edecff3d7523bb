"""Text that no output may show."""

from typing import Self


class Secret:
    """Holds a secret text. It is not part of `repr`, `str`, formatted text, `vars()` or JSON; only `reveal` returns it.

    Equal if the texts are. Pickling keeps the text, because a process that is handed a secret needs it.

    Args:
        text: the secret, or another `Secret`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | Self) -> None:
        self._text: str = text._text if isinstance(text, Secret) else text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return f"{type(self).__name__}('**********')"

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __bool__(self) -> bool:
        return bool(self._text)


def reveal(text: str | Secret) -> str:
    """Return a text that may be held as a secret."""
    return text.reveal() if isinstance(text, Secret) else text
