"""docs/security.md: a newcomer who types what it says gets an encrypted bus, and its table of errors is complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

from eventbus import HandshakeFailed
from eventbus.access import AllowList
from tests.container.support import free_ports
from tests.support import PATIENCE

PAGE = (Path(__file__).parents[1] / "docs" / "security.md").read_text()


def test_in_a_minute(tmp_path: Path) -> None:
    """The commands of the first section, typed one after the other in two terminals, end in `ok`."""
    make_keys, run_proxy, check = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    pub_port, sub_port = free_ports()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "EVENTBUS_PUB_PORT": str(pub_port),
        "EVENTBUS_SUB_PORT": str(sub_port),
    }

    def shell(commands: str) -> list[str]:
        return ["sh", "-e", "-c", commands]

    subprocess.run(shell(make_keys), cwd=tmp_path, env=environment, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)
    assert (tmp_path / "keys" / "thermostat.secret").stat().st_mode & 0o777 == 0o600
    # The shell becomes the proxy, so that it can be ended.
    command = shell(run_proxy.replace("\neventbus proxy", "\nexec eventbus proxy"))
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout is not None
            assert "encrypted, 1 client may connect" in proxy.stdout.readline()
            checked = subprocess.run(
                shell(check), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        finally:
            proxy.terminate()
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines()[-1].startswith("ok: ")


def test_the_rules() -> None:
    """The example of rules is an allow-list that can be read."""
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    (client,) = AllowList.parse(example.replace("…", "x" * 40)).clients.values()
    assert client.name == "thermostat"
    assert client.publish.have(b"alarm-1")
    assert not client.publish.have(b"plant-1")


def test_the_table_of_errors() -> None:
    """It has every error that a handshake can end in, and no other."""
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)) == {
        error.__name__ for error in HandshakeFailed.__subclasses__()
    }
