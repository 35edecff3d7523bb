"""The stderr of the commands: lines for people, or JSON and nothing else."""

import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from eventbus import EventBusProxy
from tests.commands import Run, Start, log_lines, log_records, output, said
from tests.keys import listed, pair, write_list
from tests.support import PATIENCE, RawPeers

JSON = {"EVENTBUS_LOG_FORMAT": "json"}
PROXY, CLIENT, STRANGER = pair("proxy"), pair("client"), pair("stranger")
SERVER_KEY, SECRET_KEY, ALLOW_LIST = (
    f"EVENTBUS_SECURITY__{name}" for name in ("SERVER_PUBLIC_KEY", "SECRET_KEY", "ALLOW_LIST")
)
STARTED = '{"type": "started"}'


def flags(pub_port: object, sub_port: object) -> tuple[str, ...]:
    """The flags that lead to a proxy on this machine."""
    return "--host=127.0.0.1", f"--pub-port={pub_port}", f"--sub-port={sub_port}"


def printed_flags(process: subprocess.Popen[str]) -> tuple[str, ...]:
    """The arguments that lead to a proxy that has just been started."""
    return flags(*re.findall(r" port (\d+)", output(process).readline()))


def line_of_errors(process: subprocess.Popen[str]) -> str:
    """The next line that a running process writes to stderr."""
    assert process.stderr is not None
    return process.stderr.readline()


def end(process: subprocess.Popen[str], number: signal.Signals, status: int) -> str:
    """End a process with a signal; the rest of what it has written to stderr."""
    process.send_signal(number)
    assert process.wait(PATIENCE) == status
    return said(process)


def facts_of(record: dict[str, object], *facts: str) -> list[object]:
    """The values of these fields."""
    return [record[f"eventbus_{fact}"] for fact in facts]


# The proxy


def replace(allow_list: Path, *parts: str) -> None:
    """Write an allow-list anew, so that nobody reads half of it."""
    write_list(allow_list.with_suffix(".new"), *parts).replace(allow_list)


@pytest.mark.process
def test_the_life_of_a_proxy_as_json(run: Run, start: Start, tmp_path: Path) -> None:
    """With EVENTBUS_LOG_FORMAT=json all that `proxy` writes to stderr are records: its start, whom it refuses, what it
    denies, a changed allow-list and a broken one, its end; each with its facts as fields."""
    allow_list = write_list(tmp_path / "allow.toml", listed("client", CLIENT.public, publish=["plant"]))
    keys = {SECRET_KEY: PROXY.secret, ALLOW_LIST: str(allow_list)}
    of_clients = {SERVER_KEY: PROXY.public} | JSON
    with start("proxy", "--pub-port=0", "--sub-port=0", **keys, **JSON) as process:
        where = printed_flags(process)
        done = run("emit", "plant", STARTED, *where, **of_clients, **{SECRET_KEY: STRANGER.secret})
        [refusal] = log_records(done.stderr)
        done = run("emit", "other", STARTED, *where, **of_clients, **{SECRET_KEY: CLIENT.secret})
        assert (done.returncode, done.stderr) == (0, "")
        lines = [line_of_errors(process) for _ in range(3)]
        replace(allow_list, allow_list.read_text(), listed("stranger", STRANGER.public))
        process.send_signal(signal.SIGHUP)
        lines.append(line_of_errors(process))
        replace(allow_list, "[clients")
        process.send_signal(signal.SIGHUP)
        while '"ERROR"' not in lines[-1]:  # the last change may have been told twice
            lines.append(line_of_errors(process))
            assert lines[-1]
        text = "".join(lines) + end(process, signal.SIGTERM, 0)
    pub_port, sub_port = (int(flag.partition("=")[2]) for flag in where[1:])
    assert facts_of(refusal, "error", "status") == ["UnknownClient", 1]
    # It may find out by itself that the list has changed, before the signal comes.
    begun, refused, denied, *reloads, ended = log_records(text)
    changed = [record for record in reloads if record["level"] == "INFO"]
    broken = [record for record in reloads if record["level"] != "INFO"]
    assert [record["level"] for record in (begun, refused, denied, ended)] == ["INFO", "WARNING", "WARNING", "INFO"]
    assert facts_of(begun, "host", "pub_port", "sub_port") == ["127.0.0.1", pub_port, sub_port]
    assert facts_of(refused, "key", "address", "held_back") == [STRANGER.public, "127.0.0.1", 0]
    assert facts_of(denied, "client", "action", "topic", "held_back") == ["client", "publish", "other", 0]
    assert changed
    assert all(facts_of(record, "file", "count") == [str(allow_list), 2] for record in changed)
    assert broken
    assert all(facts_of(record, "file", "error") == [str(allow_list), "InvalidSettings"] for record in broken)
    assert {record["level"] for record in broken} == {"ERROR"}
    assert facts_of(ended, "host", "pub_port", "sub_port") == ["127.0.0.1", pub_port, sub_port]
    assert PROXY.secret not in text


@pytest.mark.process
def test_the_life_of_a_proxy_for_people(start: Start, tmp_path: Path) -> None:
    """Without it they are lines with a time and a level; its start, which is printed, is not logged again."""
    allow_list = write_list(tmp_path / "allow.toml", listed("client", CLIENT.public))
    variables = {SECRET_KEY: PROXY.secret, ALLOW_LIST: str(allow_list)}
    with start("proxy", "--pub-port=0", "--sub-port=0", **variables) as process:
        printed_flags(process)
        replace(allow_list, allow_list.read_text(), listed("stranger", STRANGER.public))
        process.send_signal(signal.SIGHUP)
        text = line_of_errors(process) + end(process, signal.SIGTERM, 0)
    (level, changed), *others, (_, ended) = log_lines(text)
    assert (level, changed) == ("INFO", f"allow-list {allow_list} read again: 2 clients may connect")
    assert {line for _, line in others} <= {changed}  # if it had found out by itself before the signal came
    assert ended.startswith("proxy on ports ")


# Clients


@pytest.mark.process
@pytest.mark.parametrize("form", ["json", "text"])
def test_a_proxy_that_goes_away(raw: RawPeers, proxy: EventBusProxy, start: Start, form: str) -> None:
    """While `tail` runs, what is no event and a proxy that goes away are lines in the format that was asked for."""
    endpoints = f"tcp://127.0.0.1:{proxy.pub_port} (publishing) and tcp://127.0.0.1:{proxy.sub_port} (subscribing)"
    with start("tail", *flags(proxy.pub_port, proxy.sub_port), "--log-format", form) as process:
        raw.publisher(b"").send_multipart([b"plant\x1b", b"\x1b no JSON"])
        lines = [line_of_errors(process)]
        proxy.stop()
        lines.append(line_of_errors(process))
        # Not Ctrl-C: libzmq may overlook that while it is busy with the lost connections, until something else comes.
        text = "".join(lines) + end(process, signal.SIGKILL, -signal.SIGKILL)
    if form == "json":
        odd, gone = log_records(text)
        assert [odd["level"], odd["logger"], *facts_of(odd, "topic")] == ["WARNING", "eventbus.command", r"plant\x1b"]
        assert [gone["level"], *facts_of(gone, "state", "before")] == ["WARNING", "degraded", "ready"]
        assert facts_of(gone, "endpoints") == [endpoints]
    else:
        assert lines[0] == r"eventbus: not an event, on b'plant\x1b': b'\x1b no JSON'" + "\n"
        [(level, message)] = log_lines(text.removeprefix(lines[0]))
        assert level == "WARNING"
        assert message.startswith(f"event bus degraded, was ready, at {endpoints}: ")


# Complaints


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("check", "--pub-port=many"), JSON),
        (("check", "--pub-port=many", "--log-format=json"), {}),
        (("check", "--log-format", "json", "--pub-port", "many"), {}),
        (("keygen", "../plant"), JSON),
        (("emit", "plant", "{"), JSON),
        (("nonsense",), JSON),
        (("check",), {"EVENTBUS_HOTS": "x"} | JSON),
    ],
    ids=str,
)
def test_a_complaint_as_json(run: Run, arguments: tuple[str, ...], variables: dict[str, str]) -> None:
    """The reason why a command fails is a record, too, even when the settings themselves are wrong."""
    done = run(*arguments, **variables)
    [record] = log_records(done.stderr)
    assert (done.returncode, done.stdout) == (2, "")
    assert (record["level"], record["logger"], record["eventbus_status"]) == ("ERROR", "eventbus.command", 2)
    assert record["message"]


def test_the_format_from_a_file(run: Run, tmp_path: Path) -> None:
    """The file .env counts as for every setting, once the settings are good."""
    (tmp_path / ".env").write_text("EVENTBUS_LOG_FORMAT=json\n")
    assert log_records(run("emit", "plant", "{").stderr)
    assert run("check", "--log-format=text", "--connect-timeout=0").stderr.startswith("eventbus: ")


@pytest.mark.process
def test_a_proxy_that_cannot_start_as_json(run: Run) -> None:
    """The same holds for a proxy, which is another process by then."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("proxy", "--pub-port", port, "--sub-port", 0, **JSON)
    [record] = log_records(done.stderr)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"port {port} is taken" in str(record["message"])
    assert facts_of(record, "error", "status") == ["AddressInUse", 1]


def test_an_unknown_format(run: Run) -> None:
    """A format that does not exist is an error that names those that do, as text."""
    done = run("check", EVENTBUS_LOG_FORMAT="xml")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"eventbus: EVENTBUS_LOG_FORMAT='xml': .*'text' or 'json'\n", done.stderr)
