"""The other side of a publisher, in the hands of the test."""

from typing import Any

import zmq

from eventbus._base.zmq_sockets import Context
from eventbus.transports.zeromq.publisher import Publisher
from tests.support import PATIENCE, eventually

QUICK: dict[str, Any] = {"echo_interval": 0, "reconnect_interval": 0.02, "reconnect_max_interval": 0.02}
TOPIC = b"t"


class Peer:
    """The other side: what a proxy has for publishers, here in the hands of the test."""

    def __init__(self, context: Context) -> None:
        self.socket = context.socket(zmq.XSUB)
        self.socket.set(zmq.RCVHWM, 1)
        self.socket.set(zmq.RCVTIMEO, round(PATIENCE * 1000))
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.subscribe(TOPIC)

    def subscribe(self, topic: bytes) -> None:
        self.socket.send(b"\x01" + topic)

    def read(self, count: int) -> list[bytes]:
        """The payloads of so many messages, as they come."""
        payloads = []
        for _ in range(count):
            topic, payload = self.socket.recv_multipart()
            assert topic == TOPIC
            payloads.append(payload)
        return payloads

    def is_silent(self) -> bool:
        """Whether nothing comes within a moment."""
        return not self.socket.poll(50)


def settle(publisher: Publisher, peer: Peer) -> None:
    """Wait until the publisher knows what is subscribed: a socket that has just connected does not."""
    publisher.expect(TOPIC)

    def knows() -> bool:
        peer.socket.poll(0)  # libzmq tells newcomers what is subscribed only in the thread that uses the socket
        return publisher.has_seen(TOPIC)

    eventually(knows, PATIENCE)


def flush(publisher: Publisher) -> None:
    """Let go all that is held, as often as that takes."""
    eventually(publisher.flush, PATIENCE)
