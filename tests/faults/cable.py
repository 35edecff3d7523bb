"""A network of its own for a proxy, joined to this one by a cable that can be pulled: Linux's network namespaces."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest


class Cable:
    """Two addresses, the near one here and the far one in a namespace, between which packets can be made to vanish.

    The names have the process's id in them, so that tests of several processes can run at once.
    """

    def __init__(self) -> None:
        process = os.getpid()
        net = f"10.{200 + process % 50}.{process // 50 % 250}"
        self.near, self.far = f"{net}.1", f"{net}.2"
        self.name = f"evb{process}"
        self.within = ("ip", "netns", "exec", self.name)
        self._near_end, self._far_end = f"{self.name}a", f"{self.name}b"

    def lay(self) -> None:
        """Make all that is needed.

        Raises:
            subprocess.CalledProcessError: this process may not, or there is no such thing here.
        """
        _ip(f"netns add {self.name}")
        _ip(f"link add {self._near_end} type veth peer name {self._far_end} netns {self.name}")
        _ip(f"addr add {self.near}/30 dev {self._near_end}")
        _ip(f"-n {self.name} addr add {self.far}/30 dev {self._far_end}")
        _ip(f"-n {self.name} link set lo up")
        _ip(f"-n {self.name} link set {self._far_end} up")
        self.plug()

    def remove(self) -> None:
        """Leave nothing behind, however much of it there is."""
        for what in (f"link del {self._near_end}", f"netns del {self.name}"):
            subprocess.run(["ip", *what.split()], capture_output=True, check=False)

    def pull(self) -> None:
        """Take the link down at the near end."""
        _ip(f"link set {self._near_end} down")

    def plug(self) -> None:
        """Undo `pull`."""
        _ip(f"link set {self._near_end} up")

    def lose_what_is_sent(self) -> None:
        """Let packets to the far end vanish; those from there still come."""
        _ip(f"route add blackhole {self.far}/32")

    def lose_what_is_answered(self) -> None:
        """Let packets from the far end vanish; those to there still arrive."""
        _ip(f"-n {self.name} route add blackhole {self.near}/32")

    def lose_nothing(self) -> None:
        """Undo the two above."""
        for where, address in ((), self.far), (("-n", self.name), self.near):
            subprocess.run(["ip", *where, "route", "del", "blackhole", f"{address}/32"], capture_output=True, check=False)


@contextmanager
def cable() -> Iterator[Cable]:
    """A `Cable` that is removed at the end of the block; skips the test where there can be none."""
    made = Cable()
    with ExitStack() as stack:
        stack.callback(made.remove)
        try:
            made.lay()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', None) or error}")
        yield made


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=True)
