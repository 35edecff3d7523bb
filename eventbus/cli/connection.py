"""The connection of a command to its proxy."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

from eventbus.errors import InvalidSettings
from eventbus.observe.state import ClientState, StateChange
from eventbus.policies import TransportKind
from eventbus.settings import EventBusSettings
from eventbus.transports.contract import Transport
from eventbus.transports.zeromq.transport import ZeroMQTransport
from eventbus.wire.frames import topic_frame


def wanted_topics(settings: EventBusSettings, names: Iterable[str]) -> set[bytes]:
    """The frames of the topics that a command was given, by name and in the settings; empty: all topics.

    Raises:
        InvalidTopic: a name cannot be a topic.
        InvalidSettings: a name is empty.
    """
    names = [*names, *settings.topics]
    if "" in names:
        raise InvalidSettings("a topic is empty: leave it out to get all topics")
    return set(map(topic_frame, names))


@contextmanager
def transport_for(settings: EventBusSettings) -> Iterator[Transport]:
    """A transport with these settings, not open yet; it is closed at the end of the block.

    Raises:
        InvalidSettings: the keys do not go together, or cannot be read; or a setting has no effect with this transport.
    """
    settings.check_transport()
    if settings.transport is TransportKind.ZEROMQ:
        with proxy_transport_for(settings) as transport:
            yield transport
        return
    from eventbus.container.bus import transport_of

    chosen = transport_of(settings, replace(settings.client_options(encrypted=False), connect_required=True))
    assert chosen is not None
    try:
        yield chosen
    finally:
        chosen.close(settings.linger)


@contextmanager
def proxy_transport_for(settings: EventBusSettings) -> Iterator[ZeroMQTransport]:
    """The same over a proxy."""
    # A command needs the proxy now: without one it fails and says so.
    options = replace(settings.client_options(), connect_required=True)
    transport = ZeroMQTransport(settings.host, settings.pub_port, settings.sub_port, options)
    try:
        yield transport
    finally:
        transport.close(settings.linger)


class Outage:
    """Remembers while the proxy is away; pass it to `status.listen`.

    Args:
        peer: what is away, if it is no proxy.
    """

    def __init__(self, peer: str | None = None) -> None:
        self._peer = peer or "proxy"
        self._lost: tuple[float, str] | None = None  # when, and why

    def __call__(self, change: StateChange) -> None:
        """Follow a change of state."""
        if change.state is ClientState.DEGRADED:
            self._lost = monotonic(), change.reason
        elif change.state is ClientState.READY:
            self._lost = None

    def __str__(self) -> str:
        """The time that the proxy has been away, and the reason; empty if it is not away."""
        lost = self._lost
        return "" if lost is None else f"the {self._peer} has been away for {monotonic() - lost[0]:.0f} s: {lost[1]}"
