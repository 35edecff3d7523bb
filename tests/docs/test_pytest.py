"""docs/pytest.md: the tests that it shows pass under a pytest of their own."""

import sys
from pathlib import Path

from tests.docs.pages import section
from tests.docs.running import done, shell, surroundings


def write_all(folder: Path) -> list[str]:
    """Write the service and its tests, and return what runs them."""
    with section("pytest.md", "The service under test") as part:
        part.write(folder)
    with section("pytest.md", "A test") as part:
        part.write(folder)
    with section("pytest.md", "Standing in for others") as part:
        part.write(folder)
    with section("pytest.md", "The clock") as part:
        part.write(folder)
    with section("pytest.md", "Faults on purpose") as part:
        part.write(folder)
    with section("pytest.md", "On an event loop") as part:
        part.write(folder)
    with section("pytest.md", "Without a container") as part:
        part.write(folder)
    with section("pytest.md", "A transport of your own") as part:
        part.write(folder)
    with section("pytest.md", "Fixtures") as part:
        part.write(folder)
        return shell(part.one("sh"))


def test_they_pass(tmp_path: Path) -> None:
    """They pass, with warnings as errors."""
    command = write_all(tmp_path)
    ended = done(command, tmp_path, surroundings(PYTEST_ADDOPTS="-W error"))
    assert "3 skipped" in ended.stdout  # the suite's tests of a bounded send
    assert "failed" not in ended.stdout


def test_they_can_fail(tmp_path: Path) -> None:
    """A service that emits when it should not is found, and pytest explains the assertion."""
    write_all(tmp_path)
    service = tmp_path / "service.py"
    service.write_text(service.read_text().replace("event.value < 20", "event.value > 20"))
    ended = done([sys.executable, "-m", "pytest", "-k", "warm"], tmp_path, surroundings(), status=1)
    assert "value=-3.0" in ended.stdout
