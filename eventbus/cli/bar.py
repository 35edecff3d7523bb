"""A progress bar on one line of a terminal."""

from typing import IO, Self

from eventbus.cli.terminal import understands_codes

_WIDTH = 30  # columns
_CLEAR = "\r\x1b[K"


class Bar:
    """Shows how far something is, where there is a terminal; it is gone at the end of the block.

    Args:
        name: what is done.
        total: how much there is to do.
        stream: where to show it. If it is no terminal, nothing is written.
    """

    def __init__(self, name: str, total: int, stream: IO[str]) -> None:
        self._name = name
        self._total = total
        self._stream = stream
        self._shows = understands_codes(stream)

    def __call__(self, done: int) -> None:
        """Show that so much is done."""
        if self._shows:
            self._stream.write(_CLEAR + bar(self._name, done / self._total))
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows:
            self._stream.write(_CLEAR)
            self._stream.flush()


def bar(name: str, part: float) -> str:
    """The bar as text, when this part of all is done."""
    part = min(1.0, max(0.0, part))
    full = int(_WIDTH * part)
    return f"{name:24}{'█' * full}{'░' * (_WIDTH - full)} {100 * part:3.0f} %"
