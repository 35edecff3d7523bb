"""`eventbus history`, `record`, `replay` and `historian`, as their users meet them."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from eventbus import EventBusHistorian, EventBusProxy, current_delivery
from eventbus.cli.check_history import described
from eventbus.cli.historian_http import serving_historian
from eventbus.history.recording import Recorded
from eventbus.history.server import HistoryServer, Permits
from eventbus.history.store import Bounds
from eventbus.keys import reveal
from eventbus.transports.memory import MemoryHub, MemoryTransport
from eventbus.wire.history import Kept
from tests.commands import Run, Start, complaint, output, ports, said
from tests.container.support import free_ports
from tests.security import Guarded
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, RawPeers, client_of, event, eventually
from tests.web import ask, scrape

TOPIC, OTHER = MyEventTopic.my_service, MyEventTopic.other


@pytest.fixture
def keeping() -> Iterator[EventBusProxy]:
    """A proxy with a history."""
    with EventBusProxy(pub_port=0, sub_port=0, history=100) as proxy:
        yield proxy


@pytest.fixture
def bus(keeping: EventBusProxy) -> Iterator[Bus]:
    """A client that has emitted three events on one topic, and one on another."""
    with client_of(keeping) as client:
        client.emit_events([event(1), event(2)], TOPIC)
        client.emit_event(event(3), TOPIC)
        client.emit_event(event(4), OTHER)
        yield client


def values(lines: str) -> list[float]:
    return [json.loads(line)["event"]["value"] for line in lines.splitlines()]


def test_stored_events_are_printed(run: Run, keeping: EventBusProxy, bus: Bus) -> None:
    """Of some topics or of all, the newest, or those since a time; for programs or for people."""
    for arguments, expected in (
        ([], [1, 2, 3, 4]),
        (["my_service"], [1, 2, 3]),
        (["my_service", "--count=2"], [2, 3]),
        (["--count=3"], [2, 3, 4]),
        (["my_service,other", "--since", "10m"], [1, 2, 3, 4]),
        (["--since", "0s"], []),
        (["nobody"], []),
    ):
        done = run("history", *arguments, *ports(keeping))
        assert (done.returncode, values(done.stdout)) == (0, expected)
    done = run("history", "other", "--format=text", *ports(keeping))
    assert "other updated value=4" in done.stdout
    assert "is no time" in complaint(run("history", "--since=yesterday", *ports(keeping)), 2)


def test_stored_text_controls_no_terminal(run: Run, keeping: EventBusProxy, bus: Bus) -> None:
    """What is stored is escaped, for programs, too, and numbers that JSON does not have are null."""
    peers = RawPeers(keeping.pub_port, keeping.sub_port)
    try:
        publisher = peers.publisher(b"")  # the historian is subscribed to all topics
        publisher.send_multipart([b"plant", '{"type": "\u202e\x7f\x9b31m", "value": NaN, "text": "ü"}'.encode()])
    finally:
        peers.close()
    found: list[str] = []

    def printed() -> bool:
        found[:] = run("history", "plant", *ports(keeping)).stdout.splitlines()
        return bool(found)

    eventually(printed, PATIENCE)
    assert found[0].isprintable()
    assert json.loads(found[0])["event"] == {"type": "\u202e\x7f\x9b31m", "value": None, "text": "ü"}


def test_without_a_historian(run: Run, proxy: EventBusProxy) -> None:
    """The command says what to do."""
    assert "a proxy with EVENTBUS_HISTORY" in complaint(run("history", *ports(proxy)), 1)


@pytest.mark.process
def test_record_and_replay(run: Run, start: Start, keeping: EventBusProxy, bus: Bus, tmp_path: Path) -> None:
    """What was stored and what arrives is written, each event once; replayed, handlers get the same again, marked."""
    with start("record", "my_service", "--to", "plant.jsonl", "--since", "1h", "--count=5", *ports(keeping)) as process:
        assert process.stderr is not None
        assert "recording to plant.jsonl" in process.stderr.readline()
        bus.emit_events([event(5), event(6), event(7)], TOPIC)
        assert process.wait(PATIENCE) == 0
    assert values((tmp_path / "plant.jsonl").read_text()) == [1, 2, 3, 5, 6]
    found: list[tuple[float, Any]] = []

    def note(event: MyEvent) -> None:
        delivery = current_delivery()
        found.append((event.value, delivery and delivery.replayed))

    bus.subscribe(TOPIC)
    bus.attach_callback(MyEventType.updated, note)
    bus.start_consumer()
    done = run("replay", "plant.jsonl", "--rate=max", *ports(keeping))
    assert (done.returncode, done.stdout) == (0, "")
    assert "5 events in" in done.stderr
    eventually(lambda: len(found) >= 5, PATIENCE)
    assert found == [(value, True) for value in (1, 2, 3, 5, 6)]
    assert "--rate='fast'" in complaint(run("replay", "plant.jsonl", "--rate=fast", *ports(keeping)), 2)
    (tmp_path / "bad.jsonl").write_text("{}")
    assert "line 1 of bad.jsonl" in complaint(run("replay", "bad.jsonl", *ports(keeping)), 1)


@pytest.mark.process
def test_a_recording_of_one_topic(start: Start, proxy: EventBusProxy, raw: RawPeers, tmp_path: Path) -> None:
    """It tells what is no event there, and nothing of topics that only begin like it."""
    with start("record", "plant", "--to=plant.jsonl", "--count=1", *ports(proxy)) as process:
        publisher = raw.publisher(b"plant")
        for topic in (b"plant-2", b"plant"):
            for payload in (b"no JSON", b"\x78\x9cdamaged", b"[1, 2]", b'{"value": 2}'):
                publisher.send_multipart([topic, payload])
        assert process.wait(PATIENCE) == 0
        first, *lines = said(process).splitlines()
        assert first == "recording to plant.jsonl; Ctrl-C ends it"
        assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == 3 * ["not an event, on b'plant'"]
    assert values((tmp_path / "plant.jsonl").read_text()) == [2]


def open_files(process: int) -> set[str]:
    """The names of the files that a process has open."""
    found = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            found.add(link.readlink().name)
    return found


@pytest.mark.process
def test_a_replay_whose_proxy_goes_away(start: Start, raw: RawPeers, proxy: EventBusProxy, tmp_path: Path) -> None:
    """What was dropped is no success: status 1, and the number of those that were emitted."""
    lines = [f"{Recorded(1, 'plant', {'type': 'started'}).line()}\n" for _ in range(3)]
    os.mkfifo(tmp_path / "plant.jsonl")  # so that it waits for the rest of it
    arrived = raw.subscriber(b"plant")
    with start("replay", "plant.jsonl", "--rate=max", "--linger=0.1", *ports(proxy)) as process:
        (tmp_path / "plant.jsonl").write_text("".join(lines))  # which it reads to find mistakes
        eventually(lambda: "plant.jsonl" not in open_files(process.pid))  # or it would read on in what follows
        with (tmp_path / "plant.jsonl").open("w") as file:
            file.write(lines[0])
            file.flush()
            arrived.recv_multipart()
            proxy.stop()
            assert process.stderr is not None
            assert "degraded" in process.stderr.readline()
            file.writelines(lines[1:])
        assert process.wait(PATIENCE) == 1
        text = said(process)
    assert "dropped 2 emitted events" in text
    assert text.splitlines()[-1].startswith("1 event in ")


def test_a_recording_survives_a_failed_command(run: Run, dead_ports: tuple[int, int], tmp_path: Path) -> None:
    """Without a proxy nothing is recorded, and what an earlier command has recorded is still there."""
    (tmp_path / "plant.jsonl").write_text("earlier")
    flags = (f"--pub-port={dead_ports[0]}", f"--sub-port={dead_ports[1]}", "--connect-timeout=0.2")
    complaint(run("record", "--to=plant.jsonl", "--host=127.0.0.1", *flags), 1)
    assert (tmp_path / "plant.jsonl").read_text() == "earlier"


@pytest.mark.process
def test_what_could_not_be_replayed_is_not_recorded(
    start: Start, run: Run, proxy: EventBusProxy, raw: RawPeers, tmp_path: Path
) -> None:
    """A peer that is no client may send on what is no topic: that is logged, and what others send can be replayed."""
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # the file is UTF-8 all the same
    with start("record", "--to=all.jsonl", "--count=1", *ports(proxy), **ascii_only) as process:
        publisher = raw.publisher(b"")
        for topic in (b"", b"[x", b"plant"):
            publisher.send_multipart([topic, '{"type": "started", "text": "größer"}'.encode()])
        assert process.wait(PATIENCE) == 0
        assert said(process).count("not recorded: ") == 2
    assert "1 event in" in run("replay", "all.jsonl", "--rate=max", *ports(proxy)).stderr


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_recording_is_ended_by_a_signal(
    start: Start, bus: Bus, keeping: EventBusProxy, tmp_path: Path, number: signal.Signals
) -> None:
    """What has come is in the file."""
    with start("record", "--to", "all.jsonl", *ports(keeping)) as process:
        assert process.stderr is not None
        process.stderr.readline()
        bus.emit_event(event(8), OTHER)
        eventually(lambda: (tmp_path / "all.jsonl").read_text().endswith("\n"), PATIENCE)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert said(process) == ""
    assert values((tmp_path / "all.jsonl").read_text()) == [8]


@pytest.mark.process
def test_a_historian_with_a_file(start: Start, proxy: EventBusProxy) -> None:
    """It says what it keeps, answers, ends on a signal, and another one goes on with the file."""
    for value, number in ((1, signal.SIGTERM), (2, signal.SIGINT)):
        with start("historian", "--history=50", "--history-file=bus.db", *ports(proxy)) as process:
            assert "keeps 50 messages of each topic" in output(process).readline()
            with client_of(proxy) as client:
                client.emit_event(event(value), TOPIC)
                assert [found.value for found in client.history(TOPIC, timeout=PATIENCE)] == list(range(1, value + 1))
            process.send_signal(number)
            assert process.wait(PATIENCE) == 0
            assert said(process) == ""


def test_a_historian_that_is_to_keep_nothing(run: Run, dead_ports: tuple[int, int]) -> None:
    """It is refused with the remedy, rather than keep what it does without a number."""
    flags = (f"--pub-port={dead_ports[0]}", f"--sub-port={dead_ports[1]}", "--connect-timeout=0.2")
    for done in (run("historian", "--history=0", *flags), run("historian", *flags, EVENTBUS_HISTORY="0")):
        text = complaint(done, 2)
        assert text.startswith("EVENTBUS_HISTORY is 0, ")
        assert "leave it out to keep 1000" in text


@pytest.mark.process
def test_a_historian_serves_metrics_and_probes(start: Start, proxy: EventBusProxy) -> None:
    """What it keeps, and whether it answers over the bus; it is well, but not ready, while there is no proxy."""
    port, _ = free_ports()
    with start("historian", f"--http-port={port}", *ports(proxy)) as process:
        assert output(process).readline().endswith(f"; metrics and probes on http://127.0.0.1:{port}\n")
        url = f"http://127.0.0.1:{port}"
        with client_of(proxy) as client:
            client.emit_events([event(1), event(2)], TOPIC)
            client.emit_event(event(3), OTHER)
            assert client.last(OTHER, timeout=PATIENCE) is not None
        assert ask(f"{url}/healthz").facts == {"ok": True, "state": "ready", "messages": 2}
        eventually(lambda: ask(f"{url}/readyz").facts.get("behind", 0) > 0, PATIENCE)
        eventually(lambda: scrape(url).get("eventbus_historian_behind_seconds", 0) > 0, PATIENCE)
        samples = scrape(url)
        names = ("connected", "messages", "topics", "evicted_total", "unwritten_total")
        assert [samples[f"eventbus_historian_{name}"] for name in names] == [1, 2, 2, 0, 0]
        proxy.stop()
        eventually(lambda: ask(f"{url}/readyz").status == 503, PATIENCE)
        assert ask(f"{url}/healthz").status == 200
        assert "eventbus_historian_behind_seconds" not in scrape(url)


def test_a_historian_that_has_ended_is_not_well() -> None:
    """If a defect has ended it, `wait` raises what that was, so that the process ends."""
    transport = MemoryTransport(MemoryHub())

    def permits(owner: bytes) -> Permits:
        raise ValueError("a defect")

    historian = EventBusHistorian(transport, HistoryServer(Bounds(), permits))
    with serving_historian(historian, transport, None, 0, "127.0.0.1") as server, historian:
        assert ask(f"{server.url}/healthz").status == 200
        assert ask(f"{server.url}/readyz").status == 503
        with pytest.raises(ValueError, match="a defect"):
            historian.wait(PATIENCE)
        assert ask(f"{server.url}/healthz").facts["reason"] == "the historian has ended"


@pytest.mark.process
def test_a_proxy_with_a_history(start: Start) -> None:
    """The process of the proxy keeps events as it is told by a flag."""
    with start("proxy", "--history=10", "--pub-port=0", "--sub-port=0") as process:
        words = output(process).readline().replace(",", "").split()
        numbers = [int(word) for word in words if word.isdigit()]
        with Bus(MyEvent, "127.0.0.1", *numbers[:2], connect_timeout=PATIENCE) as client:
            client.emit_event(event(1), TOPIC)
            last = client.last(TOPIC, timeout=PATIENCE)
            assert last is not None
            assert last.value == 1


def test_a_historian_with_keys_needs_the_allow_list(run: Run, tmp_path: Path) -> None:
    """Without it, it could not tell who may read what."""
    guarded = Guarded(tmp_path)
    keys = guarded.admit("historian", publish=[], subscribe=["*"])
    done = run(
        "historian",
        EVENTBUS_SECURITY__SERVER_PUBLIC_KEY=keys.server_public_key,
        EVENTBUS_SECURITY__SECRET_KEY=reveal(keys.secret_key),
    )
    assert "EVENTBUS_SECURITY__ALLOW_LIST" in complaint(done, 2)


def test_check_knows_the_historian(run: Run, proxy: EventBusProxy, keeping: EventBusProxy, bus: Bus) -> None:
    """It says what is kept, or that nobody keeps anything, which is no failure."""
    done = run("check", *ports(keeping))
    assert (done.returncode, "a historian keeps 3 messages of 2 topics in " in done.stdout) == (0, True)
    assert "ms behind at most" in done.stdout
    done = run("check", *ports(proxy))
    assert (done.returncode, "no historian" in done.stdout) == (0, True)


def test_what_check_says_of_a_historian() -> None:
    """What it keeps, how far it is behind, what it dropped."""
    assert described(Kept(1, 1, 2_048), 0.0012) == (
        "a historian keeps 1 message of 1 topic in 2.0 KiB, is 1.2 ms behind at most"
    )
    assert described(Kept(messages=5, topics=2, bytes=3_145_728, dropped=4, unwritten=1, behind=9), 1.0) == (
        "a historian keeps 5 messages of 2 topics in 3.0 MiB, is 1000.0 ms behind at most, "
        "has not got 9 messages that passed: yet, or for good, "
        "dropped 4 messages because memory was full (EVENTBUS_HISTORY_BYTES), could not write 1 message to its file"
    )
