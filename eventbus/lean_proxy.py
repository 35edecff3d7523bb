"""The proxy as a process that holds nothing else: what ``eventbus proxy`` becomes.

A process that is killed lets go of its sockets only after its memory, a tenth of a millisecond for each megabyte, and what
publishers send meanwhile is lost. So this file is run as a script, and imports ZeroMQ and what a proxy needs of this package
but neither the rest nor pydantic.
"""

import json
import signal
import sys
from pathlib import Path
from threading import Event, Thread
from types import ModuleType

_GLANCE = 1.0  # seconds between two looks at whether the proxy still runs


def command(host: str, pub_port: int, sub_port: int, *, max_event_bytes: int, settle: float) -> list[str]:
    """The program and its arguments for a proxy with these arguments; see `EventBusProxy`."""
    arguments = {
        "host": host,
        "pub_port": pub_port,
        "sub_port": sub_port,
        "max_event_bytes": max_event_bytes,
        "settle": settle,
    }
    return [sys.executable, "-P", __file__, json.dumps(arguments)]


def run(arguments: str) -> int:
    """Run a proxy until SIGTERM or SIGINT, and return the exit status."""
    # Blocked and waited for rather than handled: so they interrupt nothing, whenever and how often they come.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    stop = Event()

    def wait_for_signal() -> None:
        signal.sigwait(signals)
        stop.set()

    Thread(target=wait_for_signal, daemon=True).start()
    from eventbus.errors import EventBusError
    from eventbus.proxy import EventBusProxy

    try:
        with EventBusProxy(**json.loads(arguments)) as proxy:
            print(
                f"proxy on {proxy.host}: publishers connect to port {proxy.pub_port}, subscribers to port {proxy.sub_port}",
                flush=True,
            )
            while not stop.wait(_GLANCE):
                if not proxy.is_running():
                    raise EventBusError("the proxy has ended of itself; the log says why")
    except (EventBusError, OSError) as error:
        print(f"eventbus: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # The package without what its __init__ imports.
    package = sys.modules["eventbus"] = ModuleType("eventbus")
    package.__path__ = [str(Path(__file__).parent)]
    sys.exit(run(sys.argv[1]))
