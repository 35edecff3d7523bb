"""docs/handlers.md: the program without a container attaches, handles and ends. docs/handler-options.md: its tests pass."""

from pathlib import Path

from eventbus import EventBusProxy
from tests.docs.pages import section, write_events
from tests.docs.running import done, running, shell, surroundings
from tests.support import RawPeers


def test_without_a_container(proxy: EventBusProxy, raw: RawPeers, tmp_path: Path) -> None:
    """It prints what is measured with its topic, and ends at an alarm."""
    write_events(tmp_path)
    with section("handlers.md", "Without a container") as part:
        part.write(tmp_path)
    with running(shell("python plain.py"), tmp_path, surroundings(proxy)) as program:
        publisher = raw.publisher(b"readings")  # when the program has subscribed
        for value in (b"1.5", b"2.5"):
            publisher.send_multipart([b"readings", b'{"type":"measured","value":%s}' % value])
        program.wait_for("readings: 2.5")
        publisher.send_multipart([b"readings", b'{"type":"alarm","value":0}'])
        assert program.wait() == 0
        assert program.text == "readings: 1.5\nreadings: 2.5\n"


def test_options(tmp_path: Path) -> None:
    """The service of the page passes the tests of all its sections, with warnings as errors."""
    with section("handler-options.md", "Handlers that fit") as part:
        part.write(tmp_path)
    with section("handler-options.md", "Several at once") as part:
        part.write(tmp_path)
    with section("handler-options.md", "Only some events") as part:
        part.write(tmp_path)
    with section("handler-options.md", "Middleware around one handler") as part:
        part.write(tmp_path)
    with section("handler-options.md", "Periodically") as part:
        part.write(tmp_path)
    with section("handler-options.md", "What a handler returns") as part:
        command = shell(part.one("sh"))
    assert "4 passed" in done(command, tmp_path, surroundings(PYTEST_ADDOPTS="-W error")).stdout
