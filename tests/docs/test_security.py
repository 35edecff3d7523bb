"""docs/security.md: a newcomer who types what it says gets an encrypted bus, and its table of errors is complete."""

import re
from pathlib import Path

from eventbus import HandshakeFailed
from eventbus.proxy.allow_list import NO_TOPICS, AllowList
from tests.docs.pages import Reader, path_of, section

PAGE = path_of("security.md").read_text()


def test_in_a_minute(tmp_path: Path) -> None:
    """The commands of the first section, typed one after the other in two terminals, end in `ok`."""
    with section("security.md", "In a minute") as part:
        make_keys, run_proxy, check = part.take("sh")
    reader = Reader(tmp_path)
    reader.run(make_keys)
    assert (tmp_path / "keys" / "thermostat.secret").stat().st_mode & 0o777 == 0o600
    with reader.terminal(run_proxy) as terminal:
        terminal.wait_for_text("encrypted, 1 client may connect")
        assert reader.run(check).splitlines()[-1].startswith("ok: ")


def test_the_rules() -> None:
    """The examples of rules and roles are allow-lists, and mean what the page says."""
    with section("security.md", "Topic rules: who may do what") as part:
        rules, roles = part.take("toml")
    (client,) = AllowList.parse(rules.replace("…", "x" * 40)).clients.values()
    assert client.name == "thermostat"
    assert client.publish.permits(b"alarm-1")
    assert not client.publish.permits(b"plant-1")
    display, thermostat = AllowList.parse(roles.replace("…", "x" * 40, 1).replace("…", "y" * 40)).clients.values()
    assert display.publish == NO_TOPICS
    assert display.subscribe == thermostat.subscribe
    assert thermostat.publish.permits(b"plant")


def test_the_table_of_errors() -> None:
    """It has every error that a handshake with a proxy can end in, and no other; docs/nats.md has those of NATS."""
    of_nats = {"NatsRefused", "WrongCredentials", "TlsFailed", "ServerTooOld"}
    of_nats |= {"JetStreamMissing", "StreamDiffers", "GroupDiffers", "PermissionDenied"}
    assert (
        set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
        == {error.__name__ for error in HandshakeFailed.__subclasses__()} - of_nats
    )
