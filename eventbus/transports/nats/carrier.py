"""What uses a link to a NATS server, as the link sees it."""

from typing import TYPE_CHECKING, Protocol

from eventbus.transports.nats.protocol import Arrived, Info

if TYPE_CHECKING:  # knows carriers
    from eventbus.transports.nats.link import NatsLink


class Carrier(Protocol):
    """What uses a link. `proven`, `arrived`, `informed`, `gathers` and `complained` are called on the thread that reads, all
    others on the link's thread. A thread that sends may call `take` and `written` while that waits.
    """

    def restore(self, link: "NatsLink") -> None:
        """A server has let the client in: subscribe as before. May wait for answers, and raise HandshakeFailed.

        If the transport has left the link, only what waits is still to be sent.
        """

    def take(self) -> bytes:
        """Return some of what is to be written next; none if nothing waits, or if no more may be under way."""

    def accepts(self) -> bool:
        """Whether `take` would take a message that comes now."""

    def written(self) -> int:
        """A mark that grows with what was taken so far."""

    def proven(self, mark: int) -> None:
        """All that was taken up to this mark has arrived."""

    def lost(self) -> None:
        """The connection is down."""

    def is_flushed(self) -> bool:
        """Whether nothing waits, and nothing is under way that the carrier knows of."""

    def look(self, now: float) -> float:
        """Do what is due, without waiting; return when to be called again at the latest. Only while READY."""

    def arrived(self, arrived: Arrived) -> None:
        """Messages have come."""

    def informed(self, info: Info) -> None:
        """The server has said something new of itself."""

    def gathers(self) -> bool:
        """Whether what comes now may wait for a moment, so that more is read at once: nobody is kept waiting by that."""

    def complained(self, text: str) -> None:
        """The server has complained about something that the client has asked for."""
