"""docs/index.md: the smallest service runs as it is shown."""

from pathlib import Path

from tests.docs.pages import Reader, commands, section


def test_the_smallest_service(tmp_path: Path) -> None:
    """The program prints what the page shows below it, and ends well."""
    with section("index.md", "The smallest service") as part:
        part.write(tmp_path)
        (command,) = commands(part.one("console"))
    assert Reader(tmp_path, PYTHONWARNINGS="error").run(command.text) == command.output
