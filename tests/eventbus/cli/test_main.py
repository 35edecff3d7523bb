"""The command line, as its users meet it: its output and its exit statuses."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest

import eventbus
from eventbus import EventBusProxy
from eventbus.cli.main import main
from eventbus.cli.spec import BY_NAME
from eventbus.settings import EventBusSettings
from eventbus.wire.compression import is_compressed
from tests.commands import Run, Start, command, complaint, lines_of, log_lines, output, ports, said
from tests.container.support import free_ports
from tests.faults import zmtp
from tests.support import PATIENCE, Bus, MyEventTopic, RawPeers, event, eventually, json_of, run_script
from tests.web import ask, scrape

# Help and bad arguments


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(run: Run, arguments: tuple[str, ...]) -> None:
    """Without arguments, or with --help, all commands are listed; status 0."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == [*BY_NAME, "--help", "--version"]


@pytest.mark.parametrize("columns", [36, 59, 60, 80])
def test_help_fits_the_terminal(run: Run, columns: int) -> None:
    """No meaning of a flag is wider than the terminal."""
    lines = run("tail", "--help", COLUMNS=str(columns)).stdout.splitlines()
    assert max(len(line) for line in lines if line.startswith("    ")) <= columns


def test_version(run: Run) -> None:
    """`eventbus --version` prints the version of the package, which programs find as `__version__`."""
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"eventbus {version('eventbus')}\n", "")
    assert eventbus.__version__ == version("eventbus")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("chek",), "there is no command 'chek': did you mean check?"),
        (("nonsense",), "there is no command 'nonsense': `eventbus --help` lists them"),
        (("--pub-port=1", "check"), "--pub-port=1 stands before the command: write `eventbus COMMAND --pub-port=1 …`"),
        (("--verison",), "there is no flag --verison: did you mean --version?"),
        (("replay", "none.jsonl"), "none.jsonl: No such file or directory"),
        (("check", "--hots", "x"), "there is no flag --hots: did you mean --host?"),
        (("check", "--xyzzy"), "there is no flag --xyzzy: `eventbus check --help` lists them"),
        (("emit", "plant"), "EVENT is missing: eventbus emit [OPTIONS] TOPIC EVENT"),
        (("emit", '{"type": "started"}', "plant"), "the topic comes before the event: eventbus emit TOPIC EVENT"),
        (("emit", "", '{"type": "started"}'), "the topic is empty"),
        (("tail", ""), "a topic is empty: leave it out to get all topics"),
    ],
)
def test_mistakes_are_told_with_their_remedy(run: Run, arguments: tuple[str, ...], expected: str) -> None:
    """A mistake in the arguments is explained in the words of a person who typed them."""
    assert complaint(run(*arguments), 1 if arguments[0] == "replay" else 2) == expected


def test_help_tells_the_exit_statuses(run: Run) -> None:
    """The exit statuses that scripts can rely on stand in the help."""
    text = " ".join(run("--help").stdout.split())
    for status in ("0 done", "1 the bus failed", "2 bad arguments or settings", "130 interrupted"):
        assert status in text


@pytest.mark.process
@pytest.mark.parametrize("name", ["tail", "demo"])
def test_each_command_has_help(run: Run, name: str) -> None:
    """COMMAND --help describes it and its flags, even where the variables are wrong."""
    done = run(name, "--help", EVENTBUS_PUB_PORT="many")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: eventbus {name} [OPTIONS]")


def test_own_flags_come_first(run: Run) -> None:
    """Help begins with what only this command has; of the settings it names the usual ones, --help-all all of them."""
    short, long = run("tail", "--help").stdout, run("tail", "--help-all").stdout
    for text in (short, long):
        assert text.index("--where") < text.index("--help") < text.index("--pub-port")
        assert max(map(len, text.splitlines())) <= 80
    assert "--linger" not in short
    assert "--linger SECONDS" in long
    assert "--enabled true|false" in long
    assert len(short.splitlines()) < 50


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nonsense",), "nonsense"),
        (("check", "--nonsense", "1"), "nonsense"),
        (("check", "--pub-port"), "--pub-port"),
        (("check", "--pub-port", "many"), "EVENTBUS_PUB_PORT"),
        (("check", "--pub-port", "70000"), "EVENTBUS_PUB_PORT"),
        (("check", "extra"), "extra"),
        (("emit",), "topic"),
        (("emit", "plant"), "event"),
        (("bench", "--events", "1"), "events"),
        (("demo", "--seconds", "-1"), "seconds"),
    ],
)
def test_bad_arguments(run: Run, arguments: tuple[str, ...], named: str) -> None:
    """A bad argument gives one line that names it, and status 2."""
    assert named.lower() in complaint(run(*arguments), 2).lower()


@pytest.mark.process
@pytest.mark.parametrize("name", ["check", "proxy"])
def test_bad_variables(run: Run, name: str) -> None:
    """Bad and unknown variables give one line that names each, and status 2, for every command."""
    line = complaint(run(name, EVENTBUS_SUB_PORT="many", EVENTBUS_HOTS="x"), 2)
    assert "EVENTBUS_SUB_PORT='many'" in line
    assert "EVENTBUS_HOTS is unknown: did you mean EVENTBUS_HOST?" in line


@pytest.mark.parametrize(
    "text", ["{", "", "[1]", '{"typ": "started"}', '{"type": 1}', '{"type": "a", "x": 1e999}', '{"type": "\udcff"}']
)
def test_what_is_no_event(run: Run, text: str) -> None:
    """A text that is not a JSON object with a type gives one line and status 2, before anything is connected."""
    complaint(run("emit", "plant", text), 2)


@pytest.mark.process
def test_standard_input_that_is_no_text(proxy: EventBusProxy) -> None:
    """Bytes that are not UTF-8 are no JSON either, whatever the locale makes of them."""
    for errors in ("strict", "surrogateescape"):
        environment = os.environ | {"PYTHONIOENCODING": f"utf-8:{errors}"}
        done = subprocess.run(
            command("emit", "plant", "-", *ports(proxy)), input=b"\xff", capture_output=True, env=environment
        )
        assert done.returncode == 2
        assert done.stderr.startswith(b"eventbus: the event is not JSON")
        assert done.stderr.count(b"\n") == 1


def test_what_is_no_topic(run: Run) -> None:
    """An empty topic would stand for all of them, and cannot be emitted to: one line, status 2."""
    assert "topic" in complaint(run("emit", "", '{"type": "started"}'), 2)


@pytest.mark.parametrize("name", ["EVENTBUS_COUNT", "EVENTBUS_FORMAT"])
def test_flags_of_a_command_are_no_variables(run: Run, name: str) -> None:
    """Settings are variables; the flags of one command are not, and would be unknown to the others."""
    assert f"{name} is unknown" in complaint(run("tail", **{name: "1"}), 2)


def test_a_bad_flag_is_named(run: Run) -> None:
    """An error about a command's own flag names the flag, not a variable."""
    assert complaint(run("tail", "--count", "0"), 2) == "--count='0': it must be a whole number, at least 1"


# settings


@pytest.mark.process
def test_settings_prints_every_variable(run_process: Run) -> None:
    """`settings` prints each variable with its effective value, and before it what it means."""
    done = run_process("settings")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    fields = list(EventBusSettings.fields())
    for path, field in fields:
        start = f"{EventBusSettings.variable(*path)}="
        place = next(number for number, line in enumerate(lines) if line.startswith(start))
        assert lines[place - 1] == f"# {field.description}"
    assert len(lines) == 2 * len(fields)


def test_settings_honours_flags_before_variables_before_the_file(run: Run, tmp_path: Path) -> None:
    """A flag comes before its variable, and that before .env."""
    (tmp_path / ".env").write_text("EVENTBUS_HOST=file\nEVENTBUS_PUB_PORT=1\nEVENTBUS_SUB_PORT=1\nOTHER=2\n")
    done = run("settings", "--host", "flag", EVENTBUS_HOST="variable", EVENTBUS_PUB_PORT="2", EVENTBUS_TOPICS="a,b")
    printed = dict(line.split("=", 1) for line in done.stdout.splitlines() if not line.startswith("#"))
    assert printed["EVENTBUS_HOST"] == "flag"
    assert printed["EVENTBUS_PUB_PORT"] == "2"
    assert printed["EVENTBUS_SUB_PORT"] == "1"
    assert printed["EVENTBUS_TOPICS"] == "a,b"


@pytest.mark.parametrize("topics", ["a,b", '["a b", "it\'s", "[c", "d,e", "grün"]'])
def test_printed_settings_can_be_the_file(run: Run, tmp_path: Path, topics: str) -> None:
    """The output of `settings` is a .env file that means the same."""
    first = run("settings", "--topics", topics, "--enabled", "false", "--linger", "0.25", "--host", "bus.example")
    (tmp_path / ".env").write_text(first.stdout)
    assert run("settings").stdout == first.stdout


@pytest.mark.parametrize("name", ["pump #3", " pump ", '"pump"', "'pump'", "pump's #3 \\'", "pump\n#3", "#3", "`3`", "\\n"])
def test_a_printed_name_stays_the_same(run: Run, tmp_path: Path, name: str) -> None:
    """Whatever signs are in it."""
    first = run("settings", f"--name={name}")
    (tmp_path / ".env").write_text(first.stdout)
    assert EventBusSettings(_env_file=tmp_path / ".env").name == name
    assert run("settings").stdout == first.stdout


# proxy


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_proxy_runs_until_a_signal(run: Run, start: Start, number: signal.Signals) -> None:
    """`proxy` prints the ports that it has bound and works; SIGTERM and SIGINT end it with status 0, and it says so."""
    with start("proxy", "--pub-port", "0", "--sub-port", "0") as process:
        line = output(process).readline()
        pub_port, sub_port = [int(word.strip(",")) for word in line.split() if word.strip(",").isdigit()]
        assert run("check", "--pub-port", pub_port, "--sub-port", sub_port).returncode == 0
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert output(process).read() == ""
        [(level, message)] = log_lines(said(process))
        assert (level, message.rpartition(" after ")[0]) == ("INFO", f"proxy on ports {pub_port} and {sub_port} stopped")


@pytest.mark.process
def test_the_proxy_is_a_lean_process(start: Start) -> None:
    """The process of `proxy` holds only what a proxy needs: a killed process keeps its ports as long as its memory."""
    with start("proxy", "--pub-port", "0", "--sub-port", "0") as process:
        assert output(process).readline().startswith("proxy on")
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libzmq" in maps
        assert "pydantic" not in maps


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_proxy_serves_metrics_and_probes(start: Start, number: signal.Signals) -> None:
    """With --http-port `proxy` says where it serves metrics and probes, and does; a signal ends it."""
    http_port, _ = free_ports()
    with start("proxy", "--pub-port", "0", "--sub-port", "0", "--http-port", http_port) as process:
        url = f"http://127.0.0.1:{http_port}"
        assert output(process).readline().endswith(f"; metrics and probes on {url}\n")
        assert ask(f"{url}/healthz").status == ask(f"{url}/readyz").status == 200
        assert scrape(url)["eventbus_proxy_running"] == 1
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert output(process).read() == ""
        ((level, message),) = log_lines(said(process))
        assert (level, " stopped after " in message) == ("INFO", True)


@pytest.mark.process
def test_the_proxy_and_a_taken_http_port(run: Run) -> None:
    """If metrics and probes cannot be served, the proxy does not run: one line that names the variable, status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        line = complaint(run("proxy", "--pub-port", "0", "--sub-port", "0", "--http-port", number), 1)
    assert f"port {number} is taken" in line
    assert "EVENTBUS_HTTP_PORT" in line


@pytest.mark.process
def test_the_proxy_and_an_impatient_person(start: Start) -> None:
    """Pressing Ctrl-C again and again ends the proxy as pressing it once: status 0, and nothing but that it has stopped."""
    with start("proxy", "--pub-port", "0", "--sub-port", "0") as process:
        assert output(process).readline()

        def ended() -> bool:
            process.send_signal(signal.SIGINT)
            return process.poll() is not None

        eventually(ended)
        assert process.wait() == 0
        assert output(process).read() == ""
        [(level, message)] = log_lines(said(process))
        assert (level, " stopped after " in message) == ("INFO", True)


@pytest.mark.process
def test_the_proxy_refuses_what_is_too_large(start: Start) -> None:
    """A publisher that sends more than --max-event-bytes is disconnected."""
    with start("proxy", "--pub-port", "0", "--sub-port", "0", "--max-event-bytes", "2000") as process:
        pub_port = int(re.findall(r"publishers connect to port (\d+)", output(process).readline())[0])
        with zmtp.peer(pub_port, b"PUB") as connection:
            connection.sendall(zmtp.announcement(2_001))
            zmtp.await_end(connection)


@pytest.mark.process
def test_a_failed_proxy_ends_the_command() -> None:
    """If libzmq's proxy fails, the command ends with status 1 and says so, so that a supervisor can start another."""
    done = run_script(
        "import zmq\n"
        "from eventbus.options import ProxyOptions\n"
        "from eventbus.proxy.process import command, run\n"
        "*_, arguments = command('127.0.0.1', 0, 0, ProxyOptions(settle=0))\n"
        "def fail(*sockets):\n"
        "    raise zmq.ZMQError(zmq.EFAULT)\n"
        "zmq.proxy_steerable = fail\n"
        "raise SystemExit(run(arguments))\n"
    )
    assert done.returncode == 1
    assert "Bad address" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("eventbus: the proxy has failed")


@pytest.mark.process
def test_a_proxy_without_descriptors() -> None:
    """If the process may not open enough sockets, the command gives one line with the remedy, and status 1."""
    done = run_script(
        "import resource\n"
        "from eventbus.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))\n"
        "raise SystemExit(main(['proxy', '--pub-port', '0', '--sub-port', '0']))\n"
    )
    assert "ulimit -n" in complaint(done, 1)


@pytest.mark.process
def test_the_proxy_takes_its_ports_from_variables(start: Start) -> None:
    """`proxy` is configured by the same variables as everybody else."""
    with start("proxy", EVENTBUS_PUB_PORT="0", EVENTBUS_SUB_PORT="0") as process:
        assert " 127.0.0.1:" in output(process).readline()


@pytest.mark.process
@pytest.mark.parametrize("flag", ["--pub-port", "--sub-port"])
def test_a_taken_port(run: Run, flag: str) -> None:
    """A taken port gives one line that names port and variable, and status 1."""
    other = {"--pub-port": "--sub-port", "--sub-port": "--pub-port"}[flag]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = complaint(run("proxy", flag, port, other, 0), 1)
        assert f"port {port} is taken" in line
        assert f"EVENTBUS_{flag.strip('-').replace('-', '_').upper()}" in line


@pytest.mark.process
def test_a_proxy_elsewhere(run: Run) -> None:
    """A host that is not this machine cannot be bound: one line, status 1."""
    assert "192.0.2.1" in complaint(run("proxy", "--host", "192.0.2.1", "--pub-port", "0", "--sub-port", "0"), 1)


# emit and tail


@pytest.mark.process
def test_from_emit_to_tail(run_process: Run, proxy: EventBusProxy, tailing: Start) -> None:
    """An event that `emit` emits, `tail` prints: one JSON object with topic and event per line."""
    first = {"type": "started", "text": 'quotes " and ümläut', "number": 1.5, "nested": {"a": [1, None]}}
    with tailing() as process:
        assert run_process("emit", "plant", json.dumps(first), *ports(proxy)).returncode == 0
        assert run_process("emit", "other", "-", *ports(proxy), given='{"type": "stopped"}\n').returncode == 0
        assert lines_of(process, 2) == [{"topic": "plant", "event": first}, {"topic": "other", "event": {"type": "stopped"}}]


@pytest.mark.process
def test_tail_prints_numbered_and_compressed_events(run: Run, raw: RawPeers, proxy: EventBusProxy, tailing: Start) -> None:
    """An event emitted with numbers and compressed is printed by its topic and inflated, as any other."""
    emitted = {"type": "started", "text": 100 * "very long "}
    flags = ("--numbered", "true", "--compression", "zstd", "--compression-threshold", "1000")
    with tailing("plant") as process:
        listening = raw.subscriber(b"plant")  # after the other: only the first subscription goes to publishers
        assert run("emit", "plant", json.dumps(emitted), *flags, *ports(proxy)).returncode == 0
        assert lines_of(process, 1) == [{"topic": "plant", "event": emitted}]
        assert is_compressed(listening.recv_multipart()[1])


def test_emit_refuses_what_is_too_large(run: Run, proxy: EventBusProxy) -> None:
    """An event beyond EVENTBUS_MAX_EVENT_BYTES gives one line and status 1: nothing was emitted."""
    done = run("emit", "plant", '{"type": "started"}', "--max-event-bytes", "10", *ports(proxy))
    assert "EVENTBUS_MAX_EVENT_BYTES" in complaint(done, 1)


def test_emit_refuses_too_many_values(run: Run, proxy: EventBusProxy) -> None:
    """An event beyond EVENTBUS_MAX_EVENT_VALUES gives one line and status 1: nothing was emitted."""
    done = run("emit", "plant", '{"type": "started", "more": [1, 2, 3]}', "--max-event-values", "3", *ports(proxy))
    assert "EVENTBUS_MAX_EVENT_VALUES" in complaint(done, 1)


@pytest.mark.process
def test_emit_says_nothing(run_process: Run, proxy: EventBusProxy) -> None:
    """`emit` with success prints nothing and has status 0."""
    done = run_process("emit", "plant", '{"type": "started"}', *ports(proxy))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_emit_without_a_proxy(run: Run, dead_ports: tuple[int, int]) -> None:
    """Without a proxy, `emit` gives one line and status 1: the event has gone nowhere."""
    flags = ("--host=127.0.0.1", f"--pub-port={dead_ports[0]}", f"--sub-port={dead_ports[1]}", "--connect-timeout=0.2")
    assert "no event bus proxy" in complaint(run("emit", "plant", '{"type": "started"}', *flags), 1)


def test_what_emit_sends_a_client_receives(run: Run, bus: Bus, proxy: EventBusProxy) -> None:
    """A typed client receives what `emit` emits."""
    done = run("emit", "my_service", json_of(3).decode(), *ports(proxy))
    assert done.returncode == 0
    assert bus.recv_event(PATIENCE) == event(3)


@pytest.mark.process
def test_tail_takes_exact_topics(connected: Callable[[], Bus], tailing: Start) -> None:
    """`tail TOPIC ...` prints exactly those topics, none whose name only begins alike."""
    bus = connected()  # one that subscribes to nothing: the subscriptions that are awaited are those of `tail`
    with tailing("my_service", "other") as process:
        bus.connect()  # by now this publisher knows the subscription too
        bus.emit_event(event(1), MyEventTopic.my_service_scheduler)
        bus.emit_event(event(2), MyEventTopic.my_service)
        bus.emit_event(event(3), MyEventTopic.other)
        assert [line["topic"] for line in lines_of(process, 2)] == ["my_service", "other"]


@pytest.mark.process
def test_tail_takes_topics_from_the_variable(bus: Bus, raw: RawPeers, proxy: EventBusProxy, start: Start) -> None:
    """EVENTBUS_TOPICS counts for `tail` too."""
    with start("tail", *ports(proxy), EVENTBUS_TOPICS="other") as process:
        raw.publisher(b"other").close(linger=0)
        bus.connect()  # what came round now came after that subscription: this publisher knows it too
        bus.emit_event(event(1), MyEventTopic.my_service)
        bus.emit_event(event(2), MyEventTopic.other)
        assert [line["topic"] for line in lines_of(process, 1)] == ["other"]


@pytest.mark.process
def test_packed_events_are_lines_of_their_own(bus: Bus, tailing: Start) -> None:
    """Events that were packed into one message are printed one per line."""
    with tailing() as process:
        bus.connect()  # by now this publisher knows the subscription too
        bus.emit_events([event(1), event(2), event(3)], MyEventTopic.my_service)
        printed = [line["event"] for line in lines_of(process, 3)]
        assert [found["value"] for found in printed if isinstance(found, dict)] == [1, 2, 3]


EVIL = "\x1b[2J\x07\x7f\x9b31m\u2028\u202e"

# Payloads with the events that are in them.
ODD: list[tuple[bytes, list[object]]] = [
    (
        json.dumps({"type": EVIL, EVIL: [EVIL]}, ensure_ascii=False).replace("\x1b", r"\u001b").encode(),
        [{"type": EVIL, EVIL: [EVIL]}],
    ),
    (json.dumps({"type": EVIL, EVIL: [EVIL]}).encode(), [{"type": EVIL, EVIL: [EVIL]}]),
    (b'{"type":1,"type":2}', [{"type": 2}]),
    (b'[{"type":"a"},"b",3,null,[]]', [{"type": "a"}, "b", 3, None, []]),
    (b"[%s]" % (b"9" * 4_000), [int("9" * 4_000)]),
    (b'{"numbers":[Infinity,-Infinity,1e999]}', [{"numbers": [None, None, None]}]),
    (b'{"deep":' + b"[" * 190 + b"]" * 190 + b"}", [{"deep": json.loads("[" * 190 + "]" * 190)}]),
]
NO_JSON = [
    b'{"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b"[" * 100_000,
    b"[%s]" % (b"9" * 5_000),
    b'{"type":"\\ud800"}',
    b'{"type":"\xed\xa0\x80"}',
    b"\x1b not JSON" + b"\x1b" * 100_000,
    zlib.compress(bytes(20_000_000)),
    zlib.compress(json_of())[:-1],
]


@pytest.mark.process
def test_tail_and_what_is_odd(raw: RawPeers, tailing: Start) -> None:
    """`tail` prints what is JSON, says in a short line what is not, and goes on; what was received is escaped everywhere."""
    with tailing() as process:
        publisher = raw.publisher(b"")
        for payload in [*NO_JSON, *(payload for payload, _ in ODD)]:
            publisher.send_multipart([EVIL.encode(), payload])
        publisher.send_multipart([b"\xff\x1b" * 1_000, json_of()])
        publisher.send_multipart([EVIL.encode(), json_of()])
        expected = [*(event for _, events in ODD for event in events), json.loads(json_of())]
        lines = [output(process).readline() for _ in expected]
        assert [json.loads(line) for line in lines] == [{"topic": EVIL, "event": event} for event in expected]
        assert all(line.rstrip("\n").isprintable() and line.isascii() for line in lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        complaints = said(process).splitlines()
        assert len(complaints) == len(NO_JSON) + 1
        assert all(line.isprintable() and line.startswith("eventbus: not an event") for line in complaints)
        assert max(map(len, complaints)) < 1_200


def test_complaints_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """A line about what is wrong is a line, whatever was given."""
    for arguments in (["tail", EVIL], ["check", "--pub-port", EVIL], ["check", EVIL], ["emit", EVIL, '{"type": "started"}']):
        assert main(arguments) == 2
        line = capsys.readouterr().err
        assert line.startswith("eventbus: ")
        assert line.endswith("\n")
        assert line[:-1].isprintable()


@pytest.mark.process
def test_tail_into_a_closed_pipe(bus: Bus, tailing: Start) -> None:
    """When the reader of its output has had enough, as `head` has, `tail` ends without a traceback, with status 0."""
    with tailing() as process:
        bus.connect()  # by now this publisher knows the subscription too
        bus.emit_event(event(1), MyEventTopic.my_service)
        assert output(process).readline()
        output(process).close()

        def ended() -> bool:
            bus.emit_event(event(2), MyEventTopic.my_service)
            return process.poll() is not None

        eventually(ended, PATIENCE)
        assert (process.returncode, said(process)) == (0, "")


@pytest.mark.process
@pytest.mark.parametrize("name", ["--help", "settings"])
def test_output_that_cannot_be_written(name: str, environment: dict[str, str]) -> None:
    """A reader that has had enough is no error; a full disk is one, told in a line. Neither shows a traceback at exit."""
    environment.pop("PYTHONUNBUFFERED", None)  # else every line is written at once
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed, open("/dev/full", "w") as full:
        for stream, expected in ((closed, (0, "")), (full, (1, "eventbus: No space left on device\n"))):
            done = subprocess.run(
                command(name), env=environment, stdout=stream, stderr=subprocess.PIPE, text=True, check=False
            )
            assert (done.returncode, done.stderr) == expected


@pytest.mark.process
def test_closed_streams(tmp_path: Path) -> None:
    """A command does its work, and has its exit status, if it is started without stdin, stdout or stderr."""
    keygen = shlex.join(command("keygen", "plant", f"--directory={tmp_path}"))
    assert subprocess.run(["sh", "-c", f"{keygen} <&- >&- 2>&-"], check=False).returncode == 0
    assert (tmp_path / "plant.pub").exists()
    emit = shlex.join(command("emit", "plant", "-"))
    done = subprocess.run(["sh", "-c", f"{emit} <&-"], check=False, capture_output=True, text=True)
    assert complaint(done, 2).startswith("the event is not JSON")


@pytest.mark.process
def test_interrupted_tail(bus: Bus, tailing: Start) -> None:
    """Ctrl-C ends `tail` with status 130 and without a traceback."""
    with tailing() as process:
        bus.connect()  # by now this publisher knows the subscription too
        bus.emit_event(event(1), MyEventTopic.my_service)
        assert output(process).readline()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert said(process) == ""


@pytest.mark.process
@pytest.mark.parametrize("imported", ["eventbus.cli.main", "eventbus.errors", "eventbus.cli.commands"])
def test_interrupted_at_the_start(imported: str) -> None:
    """Ctrl-C while modules are imported gives status 130 and no traceback."""
    done = run_script(
        "import os, signal, sys\n"
        "from eventbus.cli.program import program\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {imported!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "sys.argv[1:] = ['settings']\n"
        "sys.exit(program())\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.process
def test_tail_without_a_proxy(run_process: Run, dead_ports: tuple[int, int]) -> None:
    """Without a proxy, `tail` gives one line and status 1."""
    flags = ("--host=127.0.0.1", f"--pub-port={dead_ports[0]}", f"--sub-port={dead_ports[1]}", "--connect-timeout=0.2")
    complaint(run_process("tail", *flags), 1)


# bench


@pytest.mark.process
def test_bench_prints_figures(run_process: Run) -> None:
    """`bench` prints events per second for both ways to emit, and latencies, whatever variables are set."""
    done = run_process("bench", "--events", "2000", "--rate", "100")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("events/s" in line for line in lines[:2])
    assert "p50" in lines[2]
    assert "p99" in lines[2]
    figures = [
        float(found.replace(",", "")) for line in lines for found in re.findall(r"(?<=  )[\d,]+(?= )|[\d,]+(?= µs)", line)
    ]
    assert len(figures) == 4
    assert min(figures) > 0


@pytest.mark.process
def test_bench_ends_its_processes(start: Start) -> None:
    """SIGTERM ends it with status 143, and nothing that it has started is left."""
    with start("bench", "--seconds=60") as process:
        eventually(
            lambda: len(group(process.pid)) >= 4, PATIENCE
        )  # itself, the proxy, a subscriber, a publisher, and a tracker
        process.terminate()
        assert process.wait(PATIENCE) == 143
        eventually(lambda: not group(process.pid), PATIENCE)
        assert said(process) == ""


def group(leader: int) -> list[int]:
    """The processes of a group that run."""
    found = []
    for process in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, of_group = process.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == leader and state != "Z":
                found.append(int(process.parent.name))
    return found
