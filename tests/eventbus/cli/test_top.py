"""`eventbus top` for scripts: one look or many, as JSON or as tables in a pipe."""

import json
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from threading import Event
from typing import Any

import pytest

from eventbus import EventBusProxy
from eventbus.wire.numbering import Numbering
from tests.commands import Run, Start, complaint, output, ports, said
from tests.faults.proxies import running_proxy
from tests.support import PATIENCE, Bus, MyEventTopic, RawPeers, event, in_thread, json_of, run_script

PUBLISHER = b"\x01publish"


@pytest.fixture
def flowing(proxy: EventBusProxy) -> Iterator[None]:
    """Messages on two topics without end: `plant` packed by three and numbered, `other` plain, and now and then no event."""
    with flow(proxy.pub_port, proxy.sub_port):
        yield


@contextmanager
def flow(pub_port: int, sub_port: int) -> Iterator[None]:
    """The messages of `flowing`, at this proxy, as soon as a client has subscribed to all topics."""
    peers, stop, pause = RawPeers(pub_port, sub_port), Event(), Event()

    def publish() -> None:
        publisher = peers.publisher(b"")
        numbering = Numbering(PUBLISHER)
        packed = b"[%s]" % b",".join([json_of()] * 3)
        for number in count():
            if stop.is_set():
                return
            publisher.send_multipart([numbering.next(b"plant", 3), packed])
            numbering.taken(b"plant", 3)
            publisher.send_multipart([b"other", json_of()])
            publisher.send_multipart([b"plant", b"[no JSON"] if number % 2 else [b"one frame"])
            pause.wait(0.002)

    with in_thread(publish):
        try:
            yield
        finally:
            stop.set()
    peers.close()


def looks(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """The printed lines."""
    while line := output(process).readline():
        yield json.loads(line)


def shown(run: Run, proxy: EventBusProxy, words: Collection[str], *arguments: str) -> str:
    """What `eventbus top --once` prints, once it has all of these: on a busy machine there may be none in an interval."""
    while True:
        done = run("top", "--once", "--interval=0.3", *arguments, *ports(proxy))
        assert (done.returncode, done.stderr) == (0, "")
        if all(word in done.stdout for word in words):
            return done.stdout


def test_listed_publishers_have_their_names(run: Run, proxy: EventBusProxy, connected: Callable[..., Bus]) -> None:
    """A publisher that numbers its messages is shown with the name by which `eventbus ps` lists it."""
    client = connected(name="plant", numbered=True, topics=[MyEventTopic.other])
    client.be_listed()
    client.start_consumer()
    stop, pause = Event(), Event()

    def publish() -> None:
        while not stop.is_set():
            client.emit_event(event(), MyEventTopic.my_service)
            pause.wait(0.002)

    with in_thread(publish):
        try:
            look = json.loads(shown(run, proxy, ['"publisher"', '"plant"'], "--json", "my_service"))
        finally:
            stop.set()
    (publisher,) = look["publishers"]
    assert publisher["name"] == "plant"
    assert len(publisher["publisher"]) == 16


def test_one_look_as_json(run: Run, proxy: EventBusProxy, flowing: None) -> None:
    """`--once --json` prints one object after one interval, with the documented keys, and ends with status 0."""
    [line] = shown(run, proxy, ['"plant"', '"other"'], "--json").splitlines()
    look = json.loads(line)
    figures = {"events_per_second", "bytes_per_second", "events", "bytes", "last_seen"}
    assert look.keys() == figures | {
        "time", "state", "interval", "malformed", "topics", "other_topics", "publishers", "not_numbered", "other_publishers",
    }  # fmt: skip
    assert look["state"] == "ready"
    assert 0.3 <= look["interval"] < PATIENCE
    assert datetime.fromisoformat(look["time"]).tzinfo is not None
    assert [topic["topic"] for topic in look["topics"]] == ["plant", "other"]
    assert all(topic.keys() == figures | {"topic"} for topic in look["topics"])
    plant, other = look["topics"]
    assert plant["events"] >= 3
    assert plant["events"] % 3 == 0
    assert plant["events_per_second"] == pytest.approx(plant["events"] / look["interval"], rel=1e-3)
    assert look["events"] == plant["events"] + other["events"]
    assert look["bytes"] == plant["bytes"] + other["bytes"]
    assert [(line["publisher"], line["events"]) for line in look["publishers"]] == [(PUBLISHER.hex(), plant["events"])]
    assert look["not_numbered"]["events"] == other["events"]
    assert look["other_topics"] is look["other_publishers"] is None
    assert look["malformed"] > 0


@pytest.mark.process
def test_json_until_interrupted(start: Start, proxy: EventBusProxy, flowing: None) -> None:
    """`--json` prints a line for each interval, in which sums grow; Ctrl-C ends it with status 130 and without a word."""
    with start("top", "--json", "--interval=0.2", *ports(proxy)) as process:
        lines = looks(process)
        first, second, third = next(lines), next(lines), next(lines)
        assert first["events"] <= second["events"] <= third["events"]
        assert any(line["events"] > third["events"] for line in lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert said(process) == ""


def test_only_some_topics(run: Run, proxy: EventBusProxy, raw: RawPeers, flowing: None) -> None:
    """With topics, only those count."""
    raw.subscriber(b"")  # or nothing would flow
    look = json.loads(shown(run, proxy, ['"other"'], "--json", "other"))
    assert [topic["topic"] for topic in look["topics"]] == ["other"]
    assert look["events"] > 0
    assert look["publishers"] == []


@pytest.mark.process
def test_one_look_as_tables(run_process: Run, proxy: EventBusProxy, flowing: None) -> None:
    """`--once` prints tables in a pipe too, without any codes, and ends with status 0."""
    tables = shown(run_process, proxy, ["plant", "other"])
    assert "\x1b" not in tables
    heading, summary, *rows = [line.split() for line in tables.splitlines() if line]
    assert (heading[0], heading[-1], summary[1]) == ("127.0.0.1,", "ready", "events/s,")
    assert [words[0] for words in rows] == ["TOPIC", "plant", "other", "PUBLISHER", PUBLISHER.hex(), "not"]
    assert {words[-1] for words in rows} == {"TREND", "█"}


@pytest.mark.process
def test_tables_in_a_pipe(start: Start, proxy: EventBusProxy, flowing: None) -> None:
    """Without `--once` tables follow each other in a pipe; when nobody reads them any more it ends with status 0."""
    with start("top", "--interval=0.1", *ports(proxy)) as process:
        for _ in range(2):
            while not output(process).readline().startswith("PUBLISHER"):
                pass
        output(process).close()
        assert process.wait(PATIENCE) == 0
        assert said(process) == ""


@pytest.mark.process
def test_while_the_proxy_is_away(start: Start) -> None:
    """It goes on while the proxy is away, and says so; afterwards it counts again."""

    def wait_for(lines: Iterator[dict[str, Any]], condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return next(line for line in lines if condition(line))

    with running_proxy() as proxy:
        flags = f"--host={proxy.host}", f"--pub-port={proxy.pub_port}", f"--sub-port={proxy.sub_port}"
        with flow(proxy.pub_port, proxy.sub_port), start("top", "--json", "--interval=0.1", *flags) as process:
            lines = looks(process)
            wait_for(lines, lambda line: line["events"] > 0)
            proxy.kill()
            away = wait_for(lines, lambda line: line["state"] == "degraded" and line["events_per_second"] == 0)
            proxy.start()
            wait_for(lines, lambda line: line["state"] == "ready" and line["events"] > away["events"])
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
            degraded, *ready = said(process).splitlines()  # it may also say that its last request was dropped at the end
            assert "event bus degraded" in degraded
            assert any("ready again" in line for line in ready)


@pytest.mark.process
def test_a_proxy_that_stays_away(start: Start) -> None:
    """Once no more attempts to reconnect are made, it ends with status 1 and the reason."""
    with running_proxy() as proxy:
        flags = f"--host={proxy.host}", f"--pub-port={proxy.pub_port}", f"--sub-port={proxy.sub_port}"
        with start("top", "--json", "--interval=0.1", "--reconnect-attempts=2", *flags) as process:
            next(looks(process))
            proxy.kill()
            assert process.wait(PATIENCE) == 1
            assert said(process).count("no event bus proxy came back") == 1


def test_without_a_proxy(run: Run, dead_ports: tuple[int, int]) -> None:
    """Without a proxy it gives one line and status 1."""
    flags = ("--host=127.0.0.1", f"--pub-port={dead_ports[0]}", f"--sub-port={dead_ports[1]}", "--connect-timeout=0.2")
    assert "no event bus proxy answered" in complaint(run("top", *flags), 1)


@pytest.mark.parametrize("flags", [("--interval=0",), ("--interval=nan",), ("--format=xml",), ("--where=a=1",)])
def test_bad_arguments(run: Run, flags: tuple[str, ...]) -> None:
    """A bad argument gives one line, and status 2."""
    complaint(run("top", *flags), 2)


@pytest.mark.process
def test_without_rich() -> None:
    """Without rich, tables are refused with the remedy and status 2; nothing else needs it."""
    done = run_script(
        "import sys\n"
        "sys.modules['rich'] = None\n"
        "from eventbus.cli.main import main\n"
        "assert main(['top', '--json', '--connect-timeout=0.1', '--pub-port=1', '--sub-port=2']) == 1\n"
        "sys.exit(main(['top']))\n"
    )
    assert done.returncode == 2
    *_, line = done.stderr.splitlines()
    assert line.startswith("eventbus: rich is not installed: pip install 'eventbus[top]'")
