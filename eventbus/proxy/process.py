"""The proxy as a process that holds nothing else: what ``eventbus proxy`` becomes.

A process that is killed lets go of its sockets only after its memory, a tenth of a millisecond for each megabyte, and what
publishers send meanwhile is lost. So this file is run as a script, and imports ZeroMQ and what a proxy needs of this package
but neither the rest nor pydantic.
"""

import json
import logging
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import ModuleType

_GLANCE = 1.0  # seconds between two looks at whether the proxy still runs


def command(
    host: str,
    pub_port: int,
    sub_port: int,
    *,
    max_event_bytes: int,
    settle: float,
    secret_key: str | None = None,
    allow_list: str | None = None,
    log_format: str = "text",
    http_port: int | None = None,
    http_host: str = "127.0.0.1",
) -> list[str]:
    """The program and its arguments for a proxy with these arguments; see `EventBusProxy` and, for the log, `LogFormat`.

    With a port for HTTP, 0 for a free one, it serves metrics and probes there; see `serving`.

    A secret key is no argument, for all users of the machine can see those: the program reads it from a pipe, whose
    descriptor it inherits. So it can be run once.
    """
    arguments = {
        "host": host,
        "pub_port": pub_port,
        "sub_port": sub_port,
        "max_event_bytes": max_event_bytes,
        "settle": settle,
        "allow_list": allow_list,
        "log_format": log_format,
        "http_port": http_port,
        "http_host": http_host,
        "secret_key_from": None if secret_key is None else _pipe(secret_key),
    }
    return [sys.executable, "-P", __file__, json.dumps(arguments)]


def run(text: str) -> int:
    """Run a proxy until SIGTERM or SIGINT, and return the exit status. SIGHUP makes it read its allow-list again."""
    arguments = json.loads(text)
    secret_key_from, http_port, http_host = map(arguments.pop, ("secret_key_from", "http_port", "http_host"))
    # Blocked and waited for rather than handled: so they interrupt nothing, whenever and how often they come.
    signals = {signal.SIGINT, signal.SIGTERM}
    if arguments["allow_list"] is not None:
        signals.add(signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    received: SimpleQueue[int] = SimpleQueue()

    def wait_for_signals() -> None:
        while True:
            received.put(signal.sigwait(signals))

    Thread(target=wait_for_signals, daemon=True).start()
    from eventbus.errors import EventBusError, InvalidSettings
    from eventbus.policies import LogFormat
    from eventbus.proxy.proxy import EventBusProxy
    from eventbus.telemetry import logs

    log_format = LogFormat(arguments.pop("log_format"))
    # What is printed says the same as the first line of the log, to the same people; but a program reads one of the two.
    logs.configure(log_format, logging.WARNING if log_format is LogFormat.TEXT else logging.INFO)
    try:
        secret_key = None if secret_key_from is None else _read(secret_key_from)
        with ExitStack() as stack:
            proxy = EventBusProxy(**arguments, secret_key=secret_key)
            serves = ""
            if http_port is not None:
                from eventbus.proxy.serving import serving  # half as large again as all the rest

                # Before the proxy: who cannot serve them has not let any client in.
                serves = f"; metrics and probes on {stack.enter_context(serving(proxy, http_port, http_host)).url}"
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
                    if received.get(timeout=_GLANCE) != signal.SIGHUP:
                        return 0
                    proxy.reload()
                except Empty:
                    if not proxy.is_running():
                        raise EventBusError("the proxy has ended of itself; the log says why") from None
    except (EventBusError, OSError) as error:
        status = 2 if isinstance(error, InvalidSettings) else 1
        logging.getLogger(logs.COMMAND).error(
            "%s",
            getattr(error, "strerror", None) or error,
            extra={"eventbus_error": type(error).__name__, "eventbus_status": status},
        )
        return status


def _pipe(secret_key: str) -> int:
    """The descriptor of a pipe from which a program that inherits it can read the key once."""
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        stream.write(secret_key)  # no pipe is so short that this would wait
    os.set_inheritable(reading, True)
    return reading


def _read(descriptor: int) -> str:
    with open(descriptor) as stream:
        return stream.read()


if __name__ == "__main__":
    # The package without what its __init__ imports.
    package = sys.modules["eventbus"] = ModuleType("eventbus")
    package.__path__ = [str(Path(__file__).parents[1])]
    sys.exit(run(sys.argv[1]))
