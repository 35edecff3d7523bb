"""A process that runs only the proxy: `eventbus proxy` becomes this process.

The kernel closes the sockets of a killed process only after it has freed the memory, at a tenth of a millisecond for each
megabyte, and messages that publishers send in the meantime are lost. So this file runs as a script that imports ZeroMQ and
the modules that a proxy needs, but neither the rest of this package nor pydantic. It is a script rather than ``-m``, so that
it finds the package where the program that starts it has found it.
"""

import json
import logging
import os
import resource
import signal
import sys
from contextlib import ExitStack, suppress
from dataclasses import fields
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the script imports eventbus later
    from eventbus.options import ProxyOptions

_MAX_DESCRIPTORS = 1_048_576  # the most that Linux allows by default
_CHECK_INTERVAL_S = 1.0  # from one check whether the proxy still runs to the next


def command(
    host: str,
    pub_port: int,
    sub_port: int,
    options: "ProxyOptions",
    *,
    log_format: str = "text",
    http_port: int | None = None,
    http_host: str = "127.0.0.1",
) -> list[str]:
    """Return the program and its arguments for a process that runs a proxy.

    The secret key does not stand in the arguments, because every user of the machine can read those. The process reads it
    from a pipe, whose descriptor it inherits, so the command can be run once.

    Args:
        host: the address to bind.
        pub_port: the port for publishers; 0 picks a free one.
        sub_port: the port for subscribers; 0 picks a free one.
        options: how the proxy behaves.
        log_format: a value of `LogFormat`.
        http_port: where it serves metrics and probes, see `serving`; 0 picks a free port, None: nowhere.
        http_host: the address for those.
    """
    from eventbus.keys import reveal

    arguments = {
        "host": host,
        "pub_port": pub_port,
        "sub_port": sub_port,
        "options": _plain(options),
        "secret_key_from": None if options.secret_key is None else _pipe(reveal(options.secret_key)),
        "log_format": log_format,
        "http_port": http_port,
        "http_host": http_host,
    }
    return [sys.executable, "-P", __file__, json.dumps(arguments, default=os.fspath)]


def run(text: str) -> int:
    """Run a proxy until SIGTERM or SIGINT, and return the exit status. On SIGHUP the proxy reads its allow-list again.

    Args:
        text: the last argument that `command` has made.
    """
    arguments = json.loads(text)
    http_port, http_host = arguments["http_port"], arguments["http_host"]
    # Blocked and waited for rather than handled: so signals interrupt nothing, at any time and in any number.
    signals = {signal.SIGINT, signal.SIGTERM}
    if arguments["options"]["allow_list"] is not None:
        signals.add(signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    received: SimpleQueue[int] = SimpleQueue()

    def wait_for_signals() -> None:
        while True:
            received.put(signal.sigwait(signals))

    Thread(target=wait_for_signals, daemon=True).start()
    _raise_descriptor_limit()
    from eventbus._base.log import Log
    from eventbus.errors import EventBusError, InvalidSettings
    from eventbus.keys import forbid_core_dumps
    from eventbus.options import ProxyOptions
    from eventbus.policies import LogFormat
    from eventbus.proxy.proxy import EventBusProxy
    from eventbus.telemetry import logs

    log_format = LogFormat(arguments["log_format"])
    # The printed line has the same facts as the log's first line. People get only the printed one; programs read either.
    logs.configure(log_format, logging.WARNING if log_format is LogFormat.TEXT else logging.INFO)
    try:
        descriptor = arguments["secret_key_from"]
        if descriptor is not None:
            forbid_core_dumps()
        options = ProxyOptions(**arguments["options"], secret_key=None if descriptor is None else _read(descriptor))
        with ExitStack() as stack:
            proxy = EventBusProxy(arguments["host"], arguments["pub_port"], arguments["sub_port"], options)
            serves = ""
            if http_port is not None:
                from eventbus.proxy.serving import serving  # half as large again as all the rest
                from eventbus.telemetry.probes import served

                # Before the proxy starts: if its HTTP port is taken, it has not let any client in.
                serves = f"; {served()} on {stack.enter_context(serving(proxy, http_port, http_host)).url}"
            stack.enter_context(proxy)
            print(
                f"proxy on {proxy.host}: publishers connect to port {proxy.pub_port}, subscribers to port {proxy.sub_port}"
                + (f"; {proxy.protection}" if proxy.protection else "")
                + serves,
                flush=True,
            )
            logs.configure(log_format, logging.INFO)
            while True:
                try:
                    if received.get(timeout=_CHECK_INTERVAL_S) != signal.SIGHUP:
                        return 0
                    proxy.reload()
                except Empty:
                    if not proxy.is_running():
                        raise EventBusError("the proxy has failed; the log says why") from None
    except (EventBusError, OSError) as error:
        status = 2 if isinstance(error, InvalidSettings) else 1
        Log(logs.COMMAND).error("%s", getattr(error, "strerror", None) or error, error=type(error).__name__, status=status)
        return status


def _plain(options: "ProxyOptions") -> dict[str, object]:
    """Return the options without the secret key."""
    return {field.name: getattr(options, field.name) for field in fields(options) if field.name != "secret_key"}


def _raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as it may allow itself: each client's two connections have one each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a container may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _pipe(secret_key: str) -> int:
    """Return the descriptor of a pipe from which a program that inherits it can read the key once."""
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        stream.write(secret_key)  # does not block: a key is shorter than any pipe
    os.set_inheritable(reading, True)
    return reading


def _read(descriptor: int) -> str:
    with open(descriptor) as stream:
        return stream.read()


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))
    sys.exit(run(sys.argv[1]))
