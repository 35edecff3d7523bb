"""The command of a process that runs only the proxy."""

import json
import os
from pathlib import Path

from eventbus import EventBusProxy
from eventbus.options import ProxyOptions
from eventbus.proxy.process import command
from tests.keys import pair

PROXY = pair("proxy")


def test_every_option_reaches_the_process_and_the_key_through_a_pipe(tmp_path: Path) -> None:
    """The arguments contain each option, except the secret key, which other users of the machine could read there."""
    options = ProxyOptions(max_event_bytes=2_000, settle=0.5, secret_key=PROXY.secret, allow_list=tmp_path)
    *_, text = made = command("127.0.0.1", 1, 2, options)
    arguments = json.loads(text)
    assert ProxyOptions(**arguments["options"]) == ProxyOptions(
        max_event_bytes=2_000, settle=0.5, allow_list=os.fspath(tmp_path)
    )
    assert PROXY.secret not in repr(made)
    with open(arguments["secret_key_from"]) as pipe:
        assert pipe.read() == PROXY.secret


def test_keyword_arguments_replace_options(tmp_path: Path) -> None:
    """A proxy takes its options as one object, as keyword arguments, or both; it shows its secret key in no repr."""
    options = ProxyOptions(secret_key=PROXY.secret, allow_list=tmp_path, settle=1.5)
    proxy = EventBusProxy("127.0.0.1", 0, 0, options, settle=0.5)
    assert proxy._options == ProxyOptions(secret_key=PROXY.secret, allow_list=tmp_path, settle=0.5)
    assert PROXY.secret not in repr((proxy, options, vars(proxy)))
