"""A proxy in a process of its own that can be killed, stopped and started again on the same ports."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from eventbus.options import ProxyOptions
from eventbus.proxy.process import command
from tests.container.support import free_ports
from tests.support import PATIENCE, eventually

# A proxy without this package: frontend first, no time for subscribers to reconnect, libzmq's own limits.
_PLAIN = """
import sys
import zmq
context = zmq.Context()
front, back = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
back.set(zmq.SNDHWM, int(sys.argv[3]))
front.bind(f"tcp://127.0.0.1:{sys.argv[1]}")
back.bind(f"tcp://127.0.0.1:{sys.argv[2]}")
print("runs", flush=True)
zmq.proxy(front, back)
"""


class ProxyProcess:
    """A proxy on fixed ports. It runs from its creation to `kill`, and again after each `start`.

    Args:
        host: the address to bind.
        plain: run libzmq's proxy in a few lines instead of ours.
        send_hwm: high-water mark for each subscriber, of a plain proxy.
        prefix: put before the command, for example to run it in another network namespace.
        history: how many messages of each topic it keeps, if it is ours.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        plain: bool = False,
        send_hwm: int = 1_000,
        prefix: tuple[str, ...] = (),
        history: int = 0,
    ) -> None:
        self.host = host
        self.pub_port, self.sub_port = free_ports()
        if plain:
            arguments = [sys.executable, "-c", _PLAIN, *map(str, (self.pub_port, self.sub_port, send_hwm))]
        else:
            arguments = command(host, self.pub_port, self.sub_port, ProxyOptions(history=history))
        self._command = [*prefix, *arguments]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Start it; return the moment at which it was seen to run, on the clock of `time.monotonic`."""
        process = self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline(), f"the proxy has ended with status {process.wait(PATIENCE)}"
        return monotonic()

    def kill(self) -> None:
        """Kill it, as a crash would; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def stop(self) -> None:
        """Pause the process: it keeps its connections and does nothing. Returns when it is paused."""
        self._signal(signal.SIGSTOP)
        eventually(lambda: self._state() == "T")

    def go_on(self) -> None:
        """Undo `stop`."""
        self._signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _state(self) -> str:
        assert self._process is not None
        with open(f"/proc/{self._process.pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]


@contextmanager
def running_proxy(**options: object) -> Iterator[ProxyProcess]:
    """A running `ProxyProcess`, which is gone at the end of the block."""
    proxy = ProxyProcess(**options)  # type: ignore[arg-type] # handed on as they are
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.kill()
