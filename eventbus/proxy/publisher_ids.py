"""Publisher ids under rules: each depends on the key of its client, so that no client can send with the id of another.

Receivers tell publishers apart by eight bytes that each publisher picks, and that each subscriber sees. A client that sends
with the id of another could make receivers skip what the other sends. So the proxy replaces each id by a hash of the id, the
sender's public key and a secret. The same publisher keeps the same id, also across restarts of the proxy.
"""

from eventbus.wire.first_frame import PUBLISHER_BYTES, parse_head, split_headers
from eventbus.wire.frames import MARK, head_of


class PublisherIds:
    """Replaces the ids of publishers. One thread at a time.

    Args:
        secret: bytes that clients do not know, and that stay the same when the proxy restarts.
    """

    def __init__(self, secret: str) -> None:
        # Loads OpenSSL, 3.5 MB, which only a proxy with rules needs.
        from hashlib import blake2b

        self._keyed = blake2b(digest_size=PUBLISHER_BYTES, key=secret.encode())

    def replace(self, key: str, frame: bytes) -> bytes:
        """Return a first frame with the id that it has for receivers; unchanged if it is not numbered.

        Args:
            key: the sender's public key.
            frame: a first frame, which may hold anything.
        """
        bare, _ = split_headers(frame)
        head = parse_head(head_of(bare))
        if head is None:
            return frame
        # With headers or without, the frame ends with the numbers.
        numbers = bare[len(head.topic) + len(MARK) :]
        return frame[: -len(numbers)] + self._of(key, head.publisher) + numbers[PUBLISHER_BYTES:]

    def _of(self, key: str, publisher: bytes) -> bytes:
        hashed = self._keyed.copy()
        hashed.update(key.encode() + publisher)
        first, *others = hashed.digest()
        return bytes([first | 0x80, *others])  # an id does not begin with NUL
