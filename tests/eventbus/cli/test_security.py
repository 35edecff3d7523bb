"""Keys on the command line: making them, a proxy that asks for them, and that none is ever shown."""

import logging
import os
import re
import select
import shlex
import signal
import stat
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventbus import ClientKeys, EventBusError, EventBusProxy
from eventbus.cli.main import main
from eventbus.keys import Secret, public_key_of, read_key
from eventbus.proxy.allow_list import AllowListFile
from eventbus.settings import EventBusSettings
from eventbus.transports.zeromq import ZeroMQOptions, ZeroMQTransport
from tests.commands import Run, Start, complaint, lines_of, log_lines, output, said
from tests.keys import listed, pair, write_list
from tests.support import PATIENCE, MyEventTopic, client_of, event, eventually

PROXY, CLIENT, STRANGER = pair("proxy"), pair("client"), pair("stranger")
SERVER_KEY, SECRET_KEY, SECRET_FILE, ALLOW_LIST = (
    f"EVENTBUS_SECURITY__{name}" for name in ("SERVER_PUBLIC_KEY", "SECRET_KEY", "SECRET_KEY_FILE", "ALLOW_LIST")
)
FREE_PORTS = ("--pub-port", "0", "--sub-port", "0")


@pytest.fixture(autouse=True)
def _clean_environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, and an empty working directory, for commands that run in this process."""
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def allow_list(tmp_path: Path) -> Path:
    """One with the client on it."""
    return write_list(tmp_path / "allow.toml", listed("client", CLIENT.public))


@pytest.fixture
def encrypted(allow_list: Path) -> Iterator[EventBusProxy]:
    """A proxy that asks for keys."""
    with EventBusProxy(pub_port=0, sub_port=0, secret_key=PROXY.secret, allow_list=allow_list) as running:
        yield running


def ports_of(line: str) -> tuple[str, ...]:
    """The flags that lead to a proxy that has printed this line."""
    pub_port, sub_port = re.findall(r" port (\d+)", line)
    return "--host=127.0.0.1", f"--pub-port={pub_port}", f"--sub-port={sub_port}"


def line_of_errors(process: subprocess.Popen[str]) -> str:
    """The next line that a running process writes to stderr."""
    assert process.stderr is not None
    return process.stderr.readline()


# keygen


def printed_for(text: str, heading: str) -> str:
    """The indented lines after the line that begins so, as they are printed."""
    lines = iter(text.splitlines())
    assert any(line.startswith(heading) for line in lines)
    found = []
    for line in lines:
        if not line.startswith("    "):
            break
        found.append(line)
    assert found
    return "\n".join([*found, ""])


@pytest.fixture
def keygen(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Makes keys, and returns what is printed."""

    def do(*arguments: object) -> str:
        assert main(["keygen", *map(str, arguments)]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return do


def test_keygen_writes_two_files(keygen: Callable[..., str], tmp_path: Path) -> None:
    """`keygen` writes NAME.pub and NAME.secret, the second for its owner alone, and prints the public key only."""
    before = os.umask(0)
    try:
        printed = keygen("plant", "--directory", tmp_path / "keys")
    finally:
        os.umask(before)
    public_file, secret_file = sorted((tmp_path / "keys").iterdir())
    assert (public_file.name, secret_file.name) == ("plant.pub", "plant.secret")
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    public, secret = (read_key(file, "it") for file in (public_file, secret_file))
    assert public == public_key_of(secret)
    assert printed_for(printed.replace("\n\n", "\n"), "The public key of plant").strip() == public
    assert secret not in printed


def test_keygen_writes_into_the_working_directory(keygen: Callable[..., str], tmp_path: Path) -> None:
    """Without a directory the files lie in the working one, and what is printed holds wherever it is read."""
    assert f"{SECRET_FILE}='{tmp_path / 'plant.secret'}'" in keygen("plant")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plant.pub", "plant.secret"]


def test_keygen_needs_no_settings(keygen: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With wrong variables, for example because there is no key yet, keys can be made all the same."""
    monkeypatch.setenv("EVENTBUS_PUB_PORT", "many")
    monkeypatch.setenv(SECRET_KEY, "to be made")
    keygen("plant")
    assert (tmp_path / "plant.secret").exists()


@pytest.mark.parametrize("name", ["plant", "plant.1", "Wärme-2", "_"])
def test_what_keygen_prints_can_be_used_as_it_is(keygen: Callable[..., str], tmp_path: Path, name: str) -> None:
    """The printed lines, put into .env and an allow-list as they are, make a client that the list knows by its name."""
    of_proxy, of_client = keygen("proxy", "--directory", "my keys"), keygen(name, "--directory", "my keys")
    (tmp_path / ".env").write_text(
        printed_for(of_client, "If these are a client's keys") + printed_for(of_proxy, "and into that of every client")
    )
    write_list(tmp_path / "allow.toml", printed_for(of_client, "and into the proxy's allow-list"))
    keys = EventBusSettings().security.client_keys()
    assert keys is not None
    assert keys.server_public_key == read_key(tmp_path / "my keys" / "proxy.pub", "it")
    assert AllowListFile("allow.toml").current.clients[keys.public_key].name == name
    (tmp_path / ".env").write_text(printed_for(of_proxy, "If they are the proxy's"))
    security = EventBusSettings().security
    assert security.proxy_secret_key() == Secret(read_key(tmp_path / "my keys" / "proxy.secret", "it"))
    assert str(security.allow_list) == "the allow-list"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["keygen"], "NAME"),
        (["keygen", "../plant"], "letters, digits"),
        (["keygen", "taken"], r"taken\.secret exists already"),
        (["keygen", "plant", "--directory", "taken.secret"], r"cannot write taken\.secret"),
        (["keygen", "plant", "extra"], "extra"),
    ],
)
def test_keygen_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], expected: str) -> None:
    """An impossible request gives one line with the reason, and status 2; nothing is written."""
    (tmp_path / "taken.secret").write_text("the key of today")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(rf"eventbus: .*{expected}.*\n", captured.err)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("taken.secret", "the key of today")]


@pytest.mark.process
def test_from_keygen_to_an_event(keygen: Callable[..., str], run: Run, start: Start, tmp_path: Path) -> None:
    """The lines that `keygen` prints are enough for an encrypted bus: `check`, `emit` and `tail` work on it."""
    of_proxy, of_client = keygen("proxy", "--directory", "keys"), keygen("me", "--directory", "keys")
    write_list(tmp_path / "allow.toml", printed_for(of_client, "and into the proxy's allow-list"))
    (tmp_path / ".env").write_text(
        printed_for(of_client, "If these are a client's keys") + printed_for(of_proxy, "and into that of every client")
    )
    environment = printed_for(of_proxy, "If they are the proxy's").replace("the allow-list", "allow.toml")
    variables = dict(word.split("=", 1) for word in shlex.split(environment))  # as a shell reads them
    with start("proxy", *FREE_PORTS, **variables) as proxy:
        line = output(proxy).readline()
        assert line.endswith("; encrypted, 1 client may connect\n")
        with start("tail", "plant", *ports_of(line)) as tail:
            assert "\nok: " in run("check", *ports_of(line)).stdout

            def printed() -> bool:  # not before the subscription has got there
                assert run("emit", "plant", '{"type": "started"}', *ports_of(line)).returncode == 0
                return bool(select.select([output(tail)], [], [], 0.1)[0])

            eventually(printed, PATIENCE)
            assert lines_of(tail, 1) == [{"topic": "plant", "event": {"type": "started"}}]
        (tmp_path / ".env").unlink()
        checked = run("check", *ports_of(line))
        assert checked.returncode == 1
        assert "FAIL  security     encryption required" in checked.stdout


# proxy


def proxy_refuses(run: Run, **variables: str) -> str:
    """The line of `proxy` about these variables before it ends."""
    return complaint(run("proxy", *FREE_PORTS, **variables), 2)


@pytest.mark.process
def test_a_proxy_without_an_allow_list(run: Run) -> None:
    """A secret key alone would let anybody in: status 2, and the variable to set."""
    line = proxy_refuses(run, **{SECRET_KEY: PROXY.secret})
    assert line == f"a proxy with a secret key needs an allow-list, or anybody could connect: set {ALLOW_LIST}"


@pytest.mark.process
@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (listed("client", "short"), "client client: its")])
def test_a_proxy_with_a_bad_allow_list(run: Run, tmp_path: Path, content: str | None, reason: str) -> None:
    """An allow-list that is missing or broken gives status 2, its path, its variable and what is wrong."""
    file = tmp_path / "allow.toml"
    if content is not None:
        file.write_text(content)
    line = proxy_refuses(run, **{SECRET_KEY: PROXY.secret, ALLOW_LIST: str(file)})
    for part in (str(file), ALLOW_LIST, reason):
        assert part in line


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({ALLOW_LIST: "allow.toml"}, f"the proxy's secret key is missing: set {SECRET_FILE}"),
        ({SERVER_KEY: PROXY.public}, f"the proxy's secret key is missing: set {SECRET_FILE}"),
        ({SERVER_KEY: PROXY.public, SECRET_KEY: CLIENT.secret, ALLOW_LIST: "allow.toml"}, "is that one of a client?"),
        ({SECRET_KEY: PROXY.secret, SECRET_FILE: "x"}, "are both set"),
        ({SECRET_FILE: "nowhere", ALLOW_LIST: "allow.toml"}, "from nowhere: No such file"),
    ],
)
def test_a_proxy_without_its_key(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    allow_list: Path,
    variables: dict[str, str],
    expected: str,
) -> None:
    """A secret key that is missing, or not the proxy's, gives status 2 and what to set; no proxy is started."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["proxy", *FREE_PORTS]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert expected in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.process
def test_check_allow_list(run: Run, tmp_path: Path) -> None:
    """`proxy --check-allow-list` prints what each client may do, without a key and without running a proxy."""
    roles = "[roles.reader]\nsubscribe = ['plant', 'alarm*']\n"
    file = write_list(tmp_path / "allow.toml", roles, listed("client", CLIENT.public, roles=["reader"]))
    done = run("proxy", "--check-allow-list", **{ALLOW_LIST: str(file)})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "client",
        f"    public key  {CLIENT.public}",
        "    roles       reader",
        "    publish     nothing",
        "    subscribe   alarm*, plant",
    ]


@pytest.mark.process
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no allow-list to check"),
        ("", "it has no clients"),
        (listed("a", "x") + listed("b", "y"), "client a: its public_key is no CURVE key: .*; client b: "),
    ],
)
def test_check_a_bad_allow_list(run: Run, tmp_path: Path, content: str | None, reason: str) -> None:
    """`proxy --check-allow-list` names all that is wrong, with exit status 2."""
    variables = {} if content is None else {ALLOW_LIST: str(write_list(tmp_path / "allow.toml", content))}
    line = complaint(run("proxy", "--check-allow-list", **variables), 2)
    assert ALLOW_LIST in line
    assert re.search(reason, line)


@pytest.mark.process
def test_a_proxy_with_keys(start: Start, allow_list: Path) -> None:
    """With keys `proxy` listens anywhere without a warning, shows its secret to nobody and stays small; SIGHUP has it read
    the allow-list again at once, and say each time what is wrong."""
    variables = {SECRET_KEY: PROXY.secret, ALLOW_LIST: str(allow_list)}
    with start("proxy", "--host", "0.0.0.0", *FREE_PORTS, **variables) as process:
        printed = output(process).readline()
        assert printed.endswith("; encrypted, 1 client may connect\n")
        about = Path(f"/proc/{process.pid}")
        [memory] = re.findall(r"^VmRSS:\s+(\d+) kB$", (about / "status").read_text(), re.MULTILINE)
        assert int(memory) < 26 * 1024
        assert PROXY.secret.encode() not in (about / "cmdline").read_bytes()
        keys = ClientKeys(PROXY.public, CLIENT.secret)
        pub_port, sub_port = map(int, re.findall(r" port (\d+)", printed))
        transport = ZeroMQTransport("127.0.0.1", pub_port, sub_port, ZeroMQOptions(keys=keys))
        transport.open(PATIENCE)
        transport.close(0)
        allow_list.write_text("[clients")
        errors = ""
        for _ in range(3):  # it may have found out by itself once
            process.send_signal(signal.SIGHUP)
            errors += line_of_errors(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        printed += output(process).read()
        errors += said(process)
    *broken, (level, last) = log_lines(errors)
    assert set(broken) == {
        (
            "ERROR",
            f"allow-list {allow_list} (EVENTBUS_SECURITY__ALLOW_LIST): no TOML: "
            "Expected ']' at the end of a table declaration (at end of document); what was read before stays in force",
        )
    }
    assert (level, " stopped after " in last) == ("INFO", True)
    assert PROXY.secret not in printed + errors


@pytest.mark.process
def test_a_proxy_with_keys_dumps_no_core(start: Start, allow_list: Path) -> None:
    """The process that has the proxy's key writes no core dump, because that would contain it."""
    variables = {SECRET_KEY: PROXY.secret, ALLOW_LIST: str(allow_list)}
    with start("proxy", *FREE_PORTS, **variables) as process:
        output(process).readline()
        limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [
        ["proxy", "--pub-port", CLIENT.secret],
        ["proxy", "--log-format", CLIENT.secret],
        ["proxy", "--security.secret-key-file", CLIENT.secret],
        ["proxy", f"--security.allow-list={CLIENT.secret}"],
        ["check", f"--key={CLIENT.secret}"],
        ["check", "--", CLIENT.secret],
        ["top", "--format", CLIENT.secret],
        ["keygen", CLIENT.secret],
        ["--", CLIENT.secret],
    ],
)
def test_a_key_as_an_argument_is_not_shown(run: Run, arguments: list[str]) -> None:
    """An error about a wrong argument does not show a key that was given for it."""
    done = run(*arguments)
    assert done.returncode == 2
    assert CLIENT.secret not in done.stdout + done.stderr
    assert done.stderr


@pytest.mark.process
def test_a_proxy_for_everybody_without_keys(start: Start) -> None:
    """Without keys `proxy` says loudly that anybody can read and send everything, if others than this machine reach it."""
    with start("proxy", "--host", "0.0.0.0", *FREE_PORTS) as process:
        [(level, warning)] = log_lines(line_of_errors(process))
        assert level == "WARNING"
        assert warning.startswith("ANYBODY WHO REACHES 0.0.0.0 CAN READ AND SEND EVERY EVENT")
        assert "eventbus keygen" in warning


@pytest.mark.parametrize(("host", "expected"), [("0.0.0.0", 1), ("*", 1), ("localhost", 0), ("127.0.0.2", 0)])
def test_who_is_warned(caplog: pytest.LogCaptureFixture, allow_list: Path, host: str, expected: int) -> None:
    """The warning is for proxies without keys beyond this machine, and for no others."""
    with EventBusProxy(host, 0, 0):
        pass
    with EventBusProxy(host, 0, 0, secret_key=PROXY.secret, allow_list=allow_list):
        pass
    assert sum("ANYBODY" in entry.getMessage() for entry in caplog.records) == expected


# The secret is shown nowhere


@pytest.mark.patience
def test_the_secret_is_nowhere(
    encrypted: EventBusProxy,
    proxy: EventBusProxy,
    dead_ports: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever a client, a proxy and the commands print, log at any level or raise, right or wrong: no secret is in it."""
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "client.secret"
    file.write_text(CLIENT.secret)
    shown: list[str] = []

    def show(value: object) -> None:
        shown.extend((repr(value), str(value)))

    def attempt(action: Callable[[], object]) -> None:
        try:
            show(action())
        except (EventBusError, ValueError) as error:
            show(error)
            show(vars(error))
            shown.extend(traceback.format_exception(error))

    def use(at: EventBusProxy, keys: ClientKeys | None) -> None:
        client = client_of(at, keys=keys)
        show(client)
        with client:
            client.subscribe(MyEventTopic.my_service)
            client.emit_event(event(), MyEventTopic.my_service)
            show(client.recv_event(PATIENCE))
            for value in (client, client.health(), client.stats(), client.state):
                show(value)

    keys = ClientKeys(PROXY.public, CLIENT.secret)
    for value in (keys, ZeroMQOptions(keys=keys), ZeroMQTransport(options=ZeroMQOptions(keys=keys)), encrypted):
        show(value)
    use(encrypted, keys)
    wrong = (None, ClientKeys(STRANGER.public, CLIENT.secret), ClientKeys(PROXY.public, STRANGER.secret))
    for keys_of_wrong in wrong:
        attempt(lambda given=keys_of_wrong: use(encrypted, given))  # type: ignore[misc] # a lambda's default
    attempt(lambda: use(proxy, keys))
    show(encrypted.health())
    for bad in (CLIENT.secret[:-1], CLIENT.secret + "!", CLIENT.secret + "\n" + CLIENT.secret):
        attempt(lambda given=bad: ClientKeys(PROXY.public, given))  # type: ignore[misc]
        attempt(lambda given=bad: ClientKeys(given, CLIENT.secret))  # type: ignore[misc]
        attempt(lambda given=bad: EventBusProxy(secret_key=given, allow_list="x"))  # type: ignore[misc]
        attempt(lambda given=bad: EventBusSettings(security={"secret_key": given}))  # type: ignore[misc]
    attempt(lambda: EventBusProxy(secret_key=CLIENT.secret))

    def command(*arguments: str, **variables: str) -> None:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            show(main(arguments))
            if "check" in arguments:
                attempt(lambda: EventBusSettings().security.client_keys())
            attempt(EventBusSettings)
            attempt(lambda: EventBusSettings().model_dump_json())

    def at(pub_port: int, sub_port: int) -> tuple[str, ...]:
        return "check", "--host", "127.0.0.1", "--pub-port", str(pub_port), "--sub-port", str(sub_port)

    there, here = at(encrypted.pub_port, encrypted.sub_port), at(proxy.pub_port, proxy.sub_port)
    right = {SERVER_KEY: PROXY.public, SECRET_KEY: CLIENT.secret}
    command(*there, **right)
    command(*there, **{SERVER_KEY: PROXY.public, SECRET_FILE: str(file)})
    command(*there, **right | {SERVER_KEY: STRANGER.public})
    command(*there, **right | {SECRET_KEY: STRANGER.secret})
    command(*here, **right)
    command(*at(*dead_ports), "--connect-timeout", "0.1", **right)
    for variables in (
        {SECRET_KEY: CLIENT.secret},
        right | {SECRET_FILE: str(file)},
        right | {SECRET_KEY: CLIENT.secret[:-1]},
        right | {SERVER_KEY: CLIENT.secret[:-1]},
        right | {"EVENTBUS_SECURITY__SECRET": CLIENT.secret},
        right | {"EVENTBUS_SECURITY": CLIENT.secret},
        right | {"EVENTBUS_HOTS": "x", "EVENTBUS_PUB_PORT": "many"},
    ):
        command(*there, **variables)
        command("settings", **variables)
    command("settings", **right)
    with monkeypatch.context() as patch:
        patch.setenv(SECRET_KEY, CLIENT.secret)
        assert main(["settings", "--help-all"]) == 0
    file.write_text(f"secret = {CLIENT.secret}")
    command(*there, **{SERVER_KEY: PROXY.public, SECRET_FILE: str(file)})

    captured = capsys.readouterr()
    assert captured.out.count("ok: ") == 2
    assert f"{SECRET_KEY}=**********" in captured.out
    expected = ("wrong server key", "unknown client", "not encrypted", "nothing listens", "are both set", "no CURVE key")
    assert [text for text in expected if text not in captured.out + captured.err] == []
    everything = "\n".join([*shown, captured.out, captured.err, caplog.text, *(repr(vars(log)) for log in caplog.records)])
    # What is set as the proxy's public key may be a secret one; a client's own public key is shown.
    assert PROXY.public not in captured.out + captured.err + caplog.text
    assert f"{STRANGER.public[:6]}…" in everything
    for secret in (PROXY.secret, CLIENT.secret, STRANGER.secret):
        for part in (secret[:-1], secret[1:]):
            assert part not in everything


def test_printed_settings_have_no_place_for_a_secret(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The placeholder that `settings` prints for a secret is refused as one, so that nobody runs with it by mistake."""
    (tmp_path / ".env").write_text(f"{SECRET_KEY}='{CLIENT.secret}'\n")
    assert main(["settings"]) == 0
    (tmp_path / ".env").write_text(capsys.readouterr().out)
    assert main(["settings"]) == 2
    assert f"{SECRET_KEY}: it is no CURVE key" in capsys.readouterr().err


VARIABLES = [
    *("HOST", "HTTP_HOST", "TOPICS", "PUB_PORT", "SEND_POLICY", "SECURITY"),
    *("SECURITY__SECRET_KEY_FILE", "SECURITY__ALLOW_LIST"),
]
COMMANDS = [
    ("settings",),
    ("check",),
    ("check", "--json"),
    ("emit", "plant", '{"type": "started"}'),
    ("tail",),
    ("top", "--json"),
    ("proxy", *FREE_PORTS, "--http-port=x"),
]


@pytest.mark.process
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("name", VARIABLES)
def test_a_key_in_the_wrong_variable(run: Run, name: str, arguments: tuple[str, ...]) -> None:
    """A secret key is shown by no command, in whatever variable it was put by mistake."""
    secret = STRANGER.secret
    where = () if arguments[0] == "proxy" or name == "PUB_PORT" else ("--pub-port=1", "--sub-port=2")
    done = run(*arguments, *where, "--connect-timeout=0.1", **{f"EVENTBUS_{name}": secret})
    assert secret not in done.stdout + done.stderr
    if name in ("HOST", "HTTP_HOST"):
        assert "it is a key, where the name or address of a host belongs" in complaint(done, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("{}",),
        ("{}", "check"),
        ("--secret-key={}", "check"),
        ("check", "{}"),
        ("check", "--host={}"),
        ("check", "--secret-key", "{}"),
        ("check", "--pub-port", "{}"),
        ("tail", "--count", "{}"),
        ("keygen", "{}"),
        ("keygen", "client", "--directory", "{}"),
    ],
    ids=" ".join,
)
def test_a_key_as_an_argument(run: Run, arguments: tuple[str, ...]) -> None:
    """Nor as an argument where none belongs."""
    secret = STRANGER.secret
    assert secret not in complaint(run(*(argument.format(secret) for argument in arguments)), 2)
