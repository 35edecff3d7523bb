"""README.md: its commands and its example run, and its table of settings is true."""

import re
from pathlib import Path

from eventbus.settings import EventBusSettings
from tests.docs.pages import ROOT, Reader, commands, path_of, python, section

INSTALLED = "pip install uv && uv run "  # has been done already, for the suite to run at all


def test_the_commands(tmp_path: Path) -> None:
    """The demonstration runs as it is shown; the tests are run by .ci/run as they are shown."""
    with section("README.md", "eventbus") as part:
        demo, tests = commands(part.one("console"))
    assert demo.text.startswith(f"{INSTALLED}eventbus demo")
    said = Reader(tmp_path).run(demo.text.removeprefix(INSTALLED))
    assert re.search(r"received (\d+) of \1 readings", said)
    command, _, _ = tests.text.partition("  ")
    assert f"\ntests='{command}'\n" in (ROOT / ".ci" / "run").read_text()


def test_the_example(tmp_path: Path) -> None:
    """The service runs as a program of its own with an embedded proxy, and its handler is called."""
    with section("README.md", "A service") as part:
        (tmp_path / "service.py").write_text(part.one("python"))
    environment = Reader(tmp_path, EVENTBUS_EMBEDDED_PROXY="true").environment
    done = python("service.py", folder=tmp_path, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("started at 20")


def test_the_example_to_copy_from() -> None:
    """Its command is the one of the example's own README, which is executed where the example is tested."""
    with section("README.md", "An example to copy from") as part:
        command = part.one("sh")
    assert f"```sh\n{command}```\n" in (ROOT / "examples" / "rl_plant" / "README.md").read_text()


def test_the_table_of_settings() -> None:
    """It has every variable with its default and meaning, and no other."""
    page = path_of("README.md").read_text()
    rows = re.findall(r"^\| `(EVENTBUS_\w+)` \| (?:`(.*?)`)? ?\| (.*) \|$", page, flags=re.MULTILINE)
    fields = list(EventBusSettings.fields())
    assert [name for name, _, _ in rows] == [EventBusSettings.variable(*path) for path, _ in fields]
    for (name, default, meaning), (_, field) in zip(rows, fields, strict=True):
        expected = "" if field.default in ((), None) else str(field.default)
        assert default == (expected.lower() if isinstance(field.default, bool) else expected), name
        assert meaning.replace("`", "") == (field.description or "").replace("`", ""), name
