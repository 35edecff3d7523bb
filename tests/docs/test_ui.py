"""docs/ui.md: the command prints the address of a page, which shows what the documentation says."""

import re
from pathlib import Path

import pytest

from eventbus import EventBusProxy
from eventbus.proxy.serving import serving
from tests.docs.pages import Reader, commands, path_of, section
from tests.eventbus.ui.serving import Page


def shown(reader: Reader, command: str, expected: str) -> None:
    """The command prints this, and answers at the address. It is told the port that it has by default, to get a free one."""
    with reader.terminal(f"{command.rstrip()} --port 5561") as terminal:
        text = terminal.wait_for(lambda written: written.endswith("\n"))
        assert without_token(text) == without_token(expected)
        url = reader._as_run(text).partition("  watches")[0].replace("0.0.0.0", "127.0.0.1")
        base, _, query = url.rpartition("/")
        assert Page(base).get(f"/{query}").status == (303 if query else 200)
        terminal.press_ctrl_c()
        assert terminal.wait().replace("^C", "") == text


def without_token(text: str) -> str:
    return re.sub(r"token=[\w-]{22}", "token=", text)


@pytest.fixture
def reader(tmp_path: Path, proxy: EventBusProxy) -> Reader:
    return Reader(tmp_path, (proxy.pub_port, proxy.sub_port))


def test_the_page(reader: Reader) -> None:
    """It is served at loopback without further ado."""
    with section("ui.md", "A bus in the browser") as part:
        (command,) = commands(part.one("console"))
    shown(reader, command.text, command.output)


def test_probes(reader: Reader, proxy: EventBusProxy) -> None:
    """With a probe it shows the proxy's health."""
    with section("ui.md", "Probes of the proxy and of services") as part:
        (command,) = commands(part.one("console"))
    with serving(proxy, int(reader._ports["9464"])):
        shown(reader, command.text, command.output)


def test_a_token(reader: Reader) -> None:
    """Elsewhere it makes a token and prints it."""
    with section("ui.md", "Who may see it") as part:
        (command,) = commands(part.one("console"))
    shown(reader, command.text, command.output)


@pytest.mark.parametrize("part", ["Topics", "What happens", "Who talks to whom", "Health", "Events"])
def test_the_parts_of_the_page(part: str) -> None:
    """The table names the parts as the page does."""
    page = (path_of("README.md").parent / "eventbus" / "ui" / "page" / "index.html").read_text()
    assert f">{part}</h2>" in page
    assert f"| {part} |" in path_of("ui.md").read_text()
