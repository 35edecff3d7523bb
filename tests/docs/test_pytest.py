"""docs/pytest.md: the tests that it shows pass under a pytest of their own."""

import sys
from pathlib import Path

from tests.docs.pages import section
from tests.docs.running import done, shell, surroundings


def write_all(folder: Path) -> list[str]:
    """Write the service and its tests, and return what runs them."""
    with section("pytest.md", "The service under test") as part:
        part.write(folder)
    with section("pytest.md", "With a hub in memory") as part:
        part.write(folder)
    with section("pytest.md", "With a real proxy") as part:
        part.write(folder)
        return shell(part.one("sh"))


def test_they_pass(tmp_path: Path) -> None:
    """They pass, with warnings as errors."""
    command = write_all(tmp_path)
    assert "5 passed" in done(command, tmp_path, surroundings(PYTEST_ADDOPTS="-W error")).stdout


def test_they_can_fail(tmp_path: Path) -> None:
    """The one that expects nothing to be emitted fails for a service that emits when it should not."""
    write_all(tmp_path)
    service = tmp_path / "service.py"
    service.write_text(service.read_text().replace("event.value < 20", "event.value > 20"))
    ended = done([sys.executable, "-m", "pytest", "-k", "warm"], tmp_path, surroundings(), status=1)
    assert "assert -3.0 == 1" in ended.stdout
