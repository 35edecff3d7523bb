"""docs/request-reply.md: the service answers all that the page asks it, and the page knows all errors of requests."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus import EventBusProxy, errors
from tests.docs.pages import Reader, commands, path_of, section
from tests.docs.running import running, shell
from tests.support import RawPeers


@pytest.fixture
def reader(proxy: EventBusProxy, raw: RawPeers, tmp_path: Path) -> Iterator[Reader]:
    """A reader with the service, which runs and has subscribed."""
    with section("request-reply.md", "A service that answers") as part:
        part.write(tmp_path)
    found = Reader(tmp_path, (proxy.pub_port, proxy.sub_port), PYTHONWARNINGS="error")
    with running(shell("python shop.py"), tmp_path, found.environment) as service:
        raw.publisher(b"prices").close(linger=0)
        yield found
        assert service.end() == 0


def show(reader: Reader, code: str) -> None:
    """Run the commands; they write what is shown."""
    for command in commands(code):
        assert reader.run(command.text) == command.output


def test_asking(reader: Reader) -> None:
    """Both programs print what is shown, and so does the command."""
    with section("request-reply.md", "Ask") as part:
        part.write(reader.folder)
        show(reader, part.one("console"))
    with section("request-reply.md", "Ask on an event loop") as part:
        part.write(reader.folder)
        show(reader, part.one("console"))
    with section("request-reply.md", "Ask on the command line") as part:
        show(reader, part.one("console"))


def test_the_errors() -> None:
    """The table names errors that there are."""
    named = re.findall(r"^\| `(\w+)` \|", path_of("request-reply.md").read_text(), flags=re.MULTILINE)
    assert named == ["NobodyAnswers", "NoAnswer", "RequestFailed", "InvalidAnswer", "NotConnected"]
    assert all(issubclass(getattr(errors, name), errors.EventBusError) for name in named)
