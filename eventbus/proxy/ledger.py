"""An estimate of the proxy's memory and subscriptions that each connection accounts for. Pure.

libzmq does not tell how long its queues are. But the kernel tells how many bytes each connection has passed, and the proxy
how many all connections have passed together, which bounds what libzmq can hold for one of them.
"""

from collections.abc import Collection, Mapping

from eventbus.proxy.tcp import Connection, TcpState


class Account:
    """The bytes that libzmq holds for a connection.

    Attributes:
        backlog: the bytes, at most, that wait for a peer that reads too slowly; 0 if it keeps up. It is what the proxy has
            passed on to the port since the kernel's buffer for this peer was last empty, less what the kernel has sent. The
            truth is less if the peer is subscribed to a part of the traffic only.
        unfinished: the bytes, at least, that wait for the rest of a message or to be passed on: what the peer has sent, less
            what the proxy has received from all peers in the same time.
    """

    __slots__ = ("_came_in", "_start", "_state", "backlog", "unfinished")

    def __init__(self, state: TcpState, came_in: int) -> None:
        self._state = state
        self._came_in = came_in
        self._start: tuple[int, int] | None = None  # what had gone out, to the port and to this peer, when the backlog began
        self.backlog = 0
        self.unfinished = 0

    @property
    def bytes(self) -> int:
        """The sum of both."""
        return self.backlog + self.unfinished

    def update(self, state: TcpState, came_in: int, went_out: int) -> None:
        """Take in a new state; see `Ledger.update`."""
        received = state.received - self._state.received
        self.unfinished = max(0, self.unfinished + received - (came_in - self._came_in))
        if state.unsent == 0:
            self._start, self.backlog = None, 0
        else:
            if self._start is None:
                self._start = went_out, state.sent
            self.backlog = max(0, went_out - self._start[0] - (state.sent - self._start[1]))
        self._state, self._came_in = state, came_in


class Ledger:
    """The accounts of all connections to one port, from samples that are taken one after the other."""

    def __init__(self) -> None:
        self.accounts: dict[Connection, Account] = {}
        self._came_in: int | None = None  # at the last sample

    def update(self, states: Mapping[Connection, TcpState], *, came_in: int, went_out: int) -> None:
        """Take in a sample. Connections that are not in it are forgotten.

        Args:
            states: the state of each open connection.
            came_in: bytes that the proxy has received from all connections, with what ZeroMQ adds to frames.
            went_out: bytes that it has passed on to this port; a message counts once, however many connections get it.
        """
        accounts: dict[Connection, Account] = {}
        for connection, state in states.items():
            account = self.accounts.get(connection)
            if account is None:
                # After the first sample an unknown connection is a new one: all that it has sent came since the last.
                is_first = self._came_in is None
                account = Account(state if is_first else TcpState(0, 0, 0), came_in if is_first else self._came_in or 0)
            account.update(state, came_in, went_out)
            accounts[connection] = account
        self.accounts = accounts
        self._came_in = came_in


class SubscriptionShares:
    """The number of different subscriptions that each connection has made, estimated.

    New ones are shared out among the connections by the bytes that each has sent meanwhile: subscribers send hardly anything
    else. Several that make the same share it.
    """

    def __init__(self) -> None:
        self._received: dict[Connection, int] = {}
        self._counts: dict[Connection, float] = {}

    def update(self, received: Mapping[Connection, int], fresh: Collection[Connection], made: int, live: int) -> None:
        """Take in a sample. Connections that are not in it are forgotten.

        Args:
            received: the number of bytes that each open connection has sent.
            fresh: those that were opened since the last sample.
            made: the number of different subscriptions made since then.
            live: their number now.
        """
        sent = self.sent(received, fresh)
        total = sum(sent.values()) or 1
        counts = {connection: self._counts.get(connection, 0.0) + made * count / total for connection, count in sent.items()}
        known = sum(counts.values())
        scale = min(1.0, live / known) if known else 1.0  # some have ended, and it is not known whose
        self._counts = {connection: count * scale for connection, count in counts.items()}
        self._received = dict(received)

    def sent(self, received: Mapping[Connection, int], fresh: Collection[Connection]) -> dict[Connection, int]:
        """Return how many bytes each connection has sent since the last sample; see `update`."""
        return {
            connection: count - self._received.get(connection, 0 if connection in fresh else count)
            for connection, count in received.items()
        }

    def above(self, limit: int) -> list[Connection]:
        """Return the connections that have made more than `limit` subscriptions."""
        return [connection for connection, count in self._counts.items() if count > limit]
