"""What the reply subject of a message from a stream says; lines with such messages are in `test_protocol`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.transports.nats.delivered import Delivered, delivered

FEWER = settings(max_examples=100)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (b"$JS.ACK.eb.workers.2.17.5.1700000000.3", Delivered(b"workers", 2, 17, 1_700_000_000)),
        (b"$JS.ACK.hub.HASH.eb.workers.1.17.5.1700000000.3.x", Delivered(b"workers", 1, 17, 1_700_000_000)),
        (b"$JS.ACK.eb.workers.2.17", None),
        (b"$JS.ACK.eb.workers.x.17.5.1700000000.3", None),
        (b"_INBOX.a.b", None),
        (b"", None),
    ],
)
def test_reply_subjects(reply: bytes, found: Delivered | None) -> None:
    """The number in the stream, and how often the message came; with a domain, too."""
    assert delivered(reply) == found
    assert found is None or found.time == 1.7


@FEWER
@given(st.binary(max_size=60))
def test_reply_subjects_may_be_anything(reply: bytes) -> None:
    """Nothing is raised."""
    delivered(reply)
    delivered(b"$JS.ACK." + reply)
