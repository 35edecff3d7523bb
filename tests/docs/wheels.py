"""Wheels of what is installed here: with them an installation needs no index, hence neither a network nor a cache."""

import csv
import io
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_WRITTEN_BY_INSTALLERS = {"INSTALLER", "REQUESTED", "direct_url.json"}


def write_wheels(folder: Path, requirements: Iterable[str]) -> None:
    """Write a wheel of each distribution that meets these requirements, and of all that those require, to the folder."""
    for installed in _closure(requirements):
        _write_wheel(folder, installed)


def _closure(requirements: Iterable[str]) -> list[Distribution]:
    """The installed distributions that meet these requirements, and those that they require, without extras."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and name not in found:
            found[name] = distribution(name)
            waiting += [Requirement(text) for text in found[name].requires or ()]
    return list(found.values())


def _write_wheel(folder: Path, installed: Distribution) -> None:
    """Write the files of a distribution as a wheel, without its scripts: an installer makes those from its entry points."""
    files = installed.read_text("RECORD")
    assert files is not None, f"{installed.name} was not installed from a wheel"
    rows = [row for row in csv.reader(files.splitlines()) if _is_of_a_wheel(row[0])]
    record = io.StringIO()
    csv.writer(record, lineterminator="\n").writerows(rows)
    # The tag claims more than is true of compiled code, but only the Python that runs here gets to see these wheels.
    name = f"{installed.name.replace('-', '_')}-{installed.version}-py3-none-any.whl"
    with ZipFile(folder / name, "w") as wheel:
        for path, *_ in rows:
            if path.endswith(".dist-info/RECORD"):
                wheel.writestr(path, record.getvalue())
            else:
                wheel.write(str(installed.locate_file(path)), path)


def _is_of_a_wheel(path: str) -> bool:
    """Whether a file of an installed distribution came out of its wheel, rather than from its installer or from Python."""
    parts = PurePosixPath(path).parts
    return parts[0] != ".." and "__pycache__" not in parts and parts[-1] not in _WRITTEN_BY_INSTALLERS
