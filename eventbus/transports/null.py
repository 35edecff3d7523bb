"""A transport that carries nothing: that of a client with ``enabled=False``."""

from eventbus.observe.state import ClientState, Status
from eventbus.observe.stats import DropLog
from eventbus.transports.contract import Remedies
from eventbus.wire.frames import Batch


class NullTransport:
    """Has the methods of `eventbus.transports.Transport`, opens nothing, takes each message and delivers none."""

    endpoints = "nowhere"
    remedies = Remedies()
    confirms = False
    sent = 0
    malformed = 0
    lost = 0
    repeated = 0
    max_payload_bytes = None

    def __init__(self) -> None:
        self.status = Status(self.endpoints)
        self.drops = DropLog(endpoints=self.endpoints)

    def open(self, timeout: float) -> None:
        self.status.change(ClientState.READY, "the client is disabled")

    def ensure_open(self) -> None: ...

    def send(self, topic: bytes, payload: bytes, count: int = 1) -> bool:
        return True

    def subscribe(self, topic: bytes) -> None: ...

    def unsubscribe(self, topic: bytes) -> None: ...

    def receive(self) -> Batch | None: ...

    def confirm(self, batch: Batch) -> None: ...

    def wake(self) -> None: ...

    def is_connected(self) -> bool:
        return False

    def sibling(self) -> "NullTransport":
        return NullTransport()

    def has_subscriber(self, topic: bytes, timeout: float = 0.0) -> bool:
        return False

    def close(self, timeout: float) -> None:
        self.status.change(ClientState.CLOSED, "closed")
