"""docs/watching.md: the commands print what is shown, and the table of exit statuses is complete."""

import re
from contextlib import ExitStack, closing
from enum import auto
from pathlib import Path

import zmq

from eventbus import BaseEventTopic, EventBusProxy
from eventbus.cli import main as cli
from tests.docs.pages import Reader, commands, needs, path_of, section
from tests.support import RawPeers, client_of

ALARM = b'{"type":"alarm","sensor":{"id":3},"level":0.93}'
OTHERS = (b'{"type":"alarm","sensor":{"id":4},"level":0.97}', b'{"type":"measured","sensor":{"id":3},"level":0.93}')


def test_check(tmp_path: Path, dead_ports: tuple[int, int]) -> None:
    """The output of `check` without a proxy is as shown."""
    with section("watching.md", "`eventbus check`: find the first problem") as part:
        (check,) = commands(part.one("console"))
    assert Reader(tmp_path, dead_ports).run(check.text, status=cli.FAILED) == check.output


def test_tail(tmp_path: Path, proxy: EventBusProxy) -> None:
    """On a terminal and in a pipe, `tail` prints what is shown of what it is to select."""
    needs("jq")
    with section("watching.md", "`eventbus tail`: print events") as part:
        selecting, piped = commands(part.one("console"))
    reader = Reader(tmp_path, (proxy.pub_port, proxy.sub_port))
    with reader.terminal(selecting.text) as terminal, closing(RawPeers(*reader.ports)) as peers:
        emit(peers.publisher(awaited=b"plant"), *OTHERS, ALARM)
        assert without_time(terminal.wait()) == without_time(selecting.output)
    with (
        reader.terminal(f"({piped.text}\n) | cat") as terminal,
        closing(RawPeers(*reader.ports)) as peers,
    ):  # without colours
        emit(peers.publisher(awaited=b""), ALARM)
        assert terminal.wait() == piped.output


def emit(publisher: "zmq.Socket[bytes]", *payloads: bytes) -> None:
    for payload in payloads:
        publisher.send_multipart([b"plant", payload])


def without_time(line: str) -> str:
    return re.sub(r"^\d\d:\d\d:\d\d\.\d{3} ", "", line)


def test_the_exit_statuses() -> None:
    """The table has those that commands end with."""
    statuses = re.findall(r"^\| (\d+) \|", path_of("watching.md").read_text(), flags=re.MULTILINE)
    assert [int(status) for status in statuses] == [cli.DONE, cli.FAILED, cli.BAD_ARGUMENTS, cli.INTERRUPTED]


class Topic(BaseEventTopic):
    orders = auto()
    agent = auto()
    alarms = auto()


def test_ps(tmp_path: Path, proxy: EventBusProxy) -> None:
    """The clients of the page are listed as shown, but for their numbers."""
    with section("watching.md", "`eventbus ps`: who is there") as part:
        (listing,) = commands(part.one("console"))
    services = {"agent": [Topic.orders], "plant": [Topic.agent, Topic.alarms]}
    with ExitStack() as stack:
        for name, topics in services.items():
            client = stack.enter_context(client_of(proxy, name=name, topics=topics))
            client.be_listed()
            client.start_consumer()
        reader = Reader(tmp_path, (proxy.pub_port, proxy.sub_port))
        shown = reader.run(listing.text)
        while shown.count("\n") < listing.output.count("\n"):  # somebody has answered too late
            shown = reader.run(listing.text)

    def words(text: str) -> list[list[str]]:
        """The name, the state and the topics of each line."""
        return [[line.split()[0], line.split()[4], *line.split()[9:]] for line in text.splitlines()]

    assert words(shown) == words(listing.output)
