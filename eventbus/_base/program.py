"""The names of a client and of the program that runs in this process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from eventbus._base.printable import printable

_MAX_NAME_CHARACTERS = 100

_given: str | None = None


@contextmanager
def program_named(name: str) -> Iterator[None]:
    """Call the program of this process so within the block; for a program that runs another one."""
    global _given
    before, _given = _given, printable(name, _MAX_NAME_CHARACTERS)
    try:
        yield
    finally:
        _given = before


def program_name() -> str:
    """Return the name of the script or package that was started; "python" if it was neither."""
    if _given is not None:
        return _given
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.parent and spec.name.endswith("__main__"):  # python -m package
        return printable(spec.parent, _MAX_NAME_CHARACTERS)
    path = PurePath(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.name == "__main__.py" else path.stem
    return printable(name, _MAX_NAME_CHARACTERS) if name not in ("", "-", "-c", "-m") else "python"


def client_name(given: str) -> str:
    """Return the name of a client as everybody is shown it: the one that is given, or else that of the program."""
    return printable(given, _MAX_NAME_CHARACTERS) if given else program_name()
