"""docs/systemd.md: the units are those of examples/systemd, without a fault, and what they start runs and ends well."""

import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from eventbus import EventBusProxy
from tests.docs.pages import ROOT, section
from tests.docs.running import done, running, surroundings
from tests.keys import listed
from tests.support import PATIENCE, RawPeers

EXAMPLES = ROOT / "examples" / "systemd"
PROXY, SERVICE = "eventbus-proxy.service", "eventbus-service@.service"
BIN = Path(sys.executable).parent

type Lines = dict[str, list[str]]


def service_section(*files: Path) -> Lines:
    """The lines of [Service] in a unit and its drop-ins, by their names."""
    found: Lines = defaultdict(list)
    for file in files:
        part = ""
        for line in file.read_text().splitlines():
            if line.startswith("["):
                part = line
            elif part == "[Service]" and line:
                name, _, value = line.partition("=")
                found[name].append(value)
    return found


class Unit:
    """A stand-in for systemd that runs a unit, as far as a program sees it, with /etc/eventbus in a folder.

    Args:
        files: the unit and its drop-ins.
        root: the folder that stands for /.
        instance: what %i stands for.
    """

    def __init__(self, files: Iterable[Path], root: Path, instance: str = "") -> None:
        self._lines = service_section(*files)
        self._root = root
        self._instance = instance

    def command(self) -> list[str]:
        (line,) = self._lines["ExecStart"]
        return shlex.split(self._resolved(line))

    def environment(self) -> dict[str, str]:
        """The program's environment: PATH, and the unit's variables; a file's come before the unit's own."""
        found = {"PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "error"}
        for line in self._lines["Environment"]:
            found |= dict(part.split("=", 1) for part in shlex.split(self._resolved(line)))
        for line in self._lines["EnvironmentFile"]:
            file = Path(self._resolved(line.removeprefix("-")))
            if file.exists() or not line.startswith("-"):
                lines = [each for each in file.read_text().splitlines() if not each.startswith("#")]
                found |= dict(each.split("=", 1) for each in lines)
        return found

    def load_credentials(self) -> None:
        """Copy the files that the program is to find in the directory of its credentials."""
        credentials = self._root / "credentials" / self._instance
        credentials.mkdir(parents=True)
        for line in self._lines["LoadCredential"]:
            name, _, file = self._resolved(line).partition(":")
            shutil.copy(file, credentials / name)

    def _resolved(self, line: str) -> str:
        credentials = str(self._root / "credentials" / self._instance)
        line = line.replace("%i", self._instance).replace("%d", credentials)
        return line.replace("/etc/eventbus", str(self._root / "etc/eventbus")).replace("/opt/eventbus/bin", str(BIN))


@pytest.fixture
def root(tmp_path: Path, ports: tuple[int, int]) -> Path:
    """A folder that stands for /, after the installation; the bus has ports of its own."""
    with section("systemd.md", "Installing") as part:
        done(["sh", "-e", "-c", part.one("sh")], ROOT, surroundings(DESTDIR=tmp_path))
    with section("systemd.md", "Services") as part:
        part.write(tmp_path)  # the service, which is in no example
    settings = tmp_path / "etc/eventbus/eventbus.env"
    assert settings.read_text() == (EXAMPLES / "eventbus.env").read_text()
    with settings.open("a") as file:
        file.write(f"EVENTBUS_PUB_PORT={ports[0]}\nEVENTBUS_SUB_PORT={ports[1]}\n")
    return tmp_path


def unit(root: Path, name: str, *drop_ins: str) -> Unit:
    """A unit as it was installed, with these drop-ins."""
    files = [root / "etc/systemd/system" / name, *(EXAMPLES / drop_in for drop_in in drop_ins)]
    return Unit(files, root, "thermostat" if "@" in name else "proxy")


def test_the_page_shows_the_examples(tmp_path: Path) -> None:
    """Every file on the page that is none of a reader's own is one of examples/systemd, and each of those is on the page."""
    with section("systemd.md", "The proxy") as part:
        part.write(tmp_path)
    with section("systemd.md", "Services") as part:
        part.write(tmp_path)
    with section("systemd.md", "Keys") as part:
        part.write(tmp_path)
    (tmp_path / "thermostat.py").unlink()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        file.name: file.read_text() for file in EXAMPLES.iterdir()
    }


def test_the_proxy(root: Path, ports: tuple[int, int]) -> None:
    """It runs as its unit says, logs JSON, answers a check, and ends with status 0 at the signal that systemd sends."""
    proxy = unit(root, PROXY)
    with running(proxy.command(), root, proxy.environment()) as program:
        program.wait_for('"level": "INFO"')
        done([str(BIN / "eventbus"), "check"], root, proxy.environment())
        assert program.end() == 0
    assert "stopped" in program.text


def test_a_service(root: Path, ports: tuple[int, int]) -> None:
    """It starts before the proxy, works when that is there, and ends with status 0."""
    service = unit(root, SERVICE)
    with running(service.command(), root, service.environment()) as program, EventBusProxy("127.0.0.1", *ports):
        peers = RawPeers(*ports)
        try:
            publisher = peers.publisher(b"plant")  # the service has subscribed
            subscriber = peers.subscriber(b"plant")
            publisher.send_multipart([b"plant", b'{"type":"measured","value":17.5}'])
            assert [subscriber.recv_multipart()[1] for _ in range(2)][1] == b'{"type":"heating","value":2.5}'
        finally:
            peers.close()
        assert program.end() == 0
    assert "Traceback" not in program.text


def test_keys(root: Path) -> None:
    """With the drop-ins, and the credentials that they name, the proxy encrypts and lets the service in."""
    keys = root / "etc/eventbus/keys"
    for name in ("proxy", "thermostat"):
        done([str(BIN / "eventbus"), "keygen", name, "--directory", str(keys)], root, surroundings())
    (root / "etc/eventbus/allow.toml").write_text(listed("thermostat", (keys / "thermostat.pub").read_text().strip()))
    proxy, service = unit(root, PROXY, "proxy-keys.conf"), unit(root, SERVICE, "service-keys.conf")
    for each in (proxy, service):
        each.load_credentials()
    with running(proxy.command(), root, proxy.environment()) as program:
        program.wait_for("encrypted, 1 client may connect")
        checked = done([str(BIN / "eventbus"), "check"], root, service.environment())
        assert re.search("^ok +security ", checked.stdout, re.MULTILINE)
        assert program.end() == 0


def test_who_fails_at_once_is_started_again() -> None:
    """Neither unit is given up, as systemd does by default with one that is soon started again and fails at once."""
    for name in (PROXY, SERVICE):
        before_service, found, _ = (EXAMPLES / name).read_text().partition("[Service]")
        assert found
        assert "StartLimitIntervalSec=0" in before_service.splitlines()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    """`systemd-analyze` has nothing to say about the units with their drop-ins, and rates the proxy's exposure low."""
    names = {PROXY: "proxy-keys.conf", SERVICE.replace("@", "@thermostat"): "service-keys.conf"}
    for name, keys in names.items():
        text = (EXAMPLES / name.replace("@thermostat", "@")).read_text()
        (tmp_path / name).write_text(text.replace("/opt/eventbus/bin", str(BIN)))
        (tmp_path / f"{name}.d").mkdir()
        shutil.copy(EXAMPLES / keys, tmp_path / f"{name}.d" / "keys.conf")
    for name in names:
        verified = subprocess.run(
            ["systemd-analyze", "verify", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    rated = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(tmp_path / PROXY)]
    subprocess.run(rated, capture_output=True, timeout=PATIENCE, check=True)
