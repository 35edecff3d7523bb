"""docs/machines.md: what it says works between two addresses of loopback, the second of which is the other machine's."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.pages import section
from tests.docs.running import Program, done, running, shell, surroundings

OTHER_MACHINE = "127.0.0.2"


class Machines(NamedTuple):
    """Two folders, with the keys that each machine has, and what both have in their environment."""

    proxys: Path
    other: Path
    environment: dict[str, str]
    run_proxy: str
    check: str


def there(code: str) -> str:
    """The code with the address that the page uses as an example replaced."""
    assert "192.0.2.1" in code
    return code.replace("192.0.2.1", OTHER_MACHINE)


@pytest.fixture
def machines(tmp_path: Path, ports: tuple[int, int]) -> Machines:
    """Both machines, with keys, and the proxy not running yet."""
    environment = surroundings(EVENTBUS_PUB_PORT=ports[0], EVENTBUS_SUB_PORT=ports[1])
    proxys, other = tmp_path / "proxys", tmp_path / "other"
    proxys.mkdir()
    (other / "keys").mkdir(parents=True)
    with section("machines.md", "The machine with the proxy") as part:
        make_keys, run_proxy = part.take("sh")
    with section("machines.md", "The other machines") as part:
        check = part.one("sh")
    done(["sh", "-e", "-c", make_keys], proxys, environment)
    for name in ("proxy.pub", "display.secret"):
        shutil.copy(proxys / "keys" / name, other / "keys")
    return Machines(proxys, other, environment, there(run_proxy), there(check))


@contextmanager
def proxy_of(machines: Machines) -> Iterator[Program]:
    """The proxy, running."""
    with running(shell(machines.run_proxy), machines.proxys, machines.environment) as proxy:
        proxy.wait_for(f"proxy on {OTHER_MACHINE}")
        yield proxy


def test_two_machines(machines: Machines) -> None:
    """A check from the other machine says what is wrong while the proxy is away, and that all is well when it runs."""
    failed = done(shell(machines.check), machines.other, machines.environment, status=1)
    assert re.search(f"^FAIL +publishers +nothing listens at tcp://{OTHER_MACHINE}", failed.stdout, re.MULTILINE)
    with proxy_of(machines) as proxy:
        assert "encrypted, 2 clients may connect" in proxy.text
        assert "ANYBODY" not in proxy.text
        checked = done(shell(machines.check), machines.other, machines.environment)
        assert checked.stdout.splitlines()[-1].startswith(f"ok: tcp://{OTHER_MACHINE}:")
        assert proxy.end() == 0


def test_when_the_network_is_cut(machines: Machines) -> None:
    """The program starts before the proxy, sees it come, go and come again, and ends with status 0."""
    with section("machines.md", "When the network is cut") as part:
        part.write(machines.other)
        variables, watch = machines.check.replace("eventbus check\n", ""), part.one("sh")
    with running(shell(variables + watch), machines.other, machines.environment) as program:
        with proxy_of(machines) as proxy:
            program.wait_for("ready:")
            assert proxy.end() == 0
        program.wait_for("degraded:")
        with proxy_of(machines):
            program.wait_for("ready:", times=2)
        assert program.end() == 0
    assert "Traceback" not in program.text
