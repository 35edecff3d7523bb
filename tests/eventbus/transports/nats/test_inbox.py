"""What waits for the consumer: in batches that are handled at once, in order."""

import pytest

from eventbus.transports.nats.inbox import Inbox

PLAIN = [b"t"]


@pytest.mark.parametrize("portions", [[1] * 700, [700], [3, 500, 2, 195]], ids=["one by one", "at once", "mixed"])
def test_batches_are_short(portions: list[int]) -> None:
    """Not so long that Python's garbage collector looks at the events of one, whatever the network brings at once."""
    inbox = Inbox(1_000)
    numbers = iter(range(700))
    for portion in portions:
        payloads = [b"%d" % next(numbers) for _ in range(portion)]
        assert inbox.put(PLAIN * portion, payloads, payloads) == 0
    taken: list[bytes] = []
    while len(inbox):
        batch = inbox.get()
        assert batch is not None
        firsts, payloads = batch
        assert len(firsts) == len(payloads) <= 256
        assert batch.acks == tuple(payloads)
        taken += payloads
    assert taken == [b"%d" % number for number in range(700)]


def test_what_waits_can_be_taken_back() -> None:
    """For others, with what confirms it; a full inbox says what it had no room for."""
    inbox = Inbox(2)
    assert inbox.put(PLAIN * 3, [b"1", b"2", b"3"], [b"a", b"b", b"c"]) == 1
    assert inbox.take_back() == [b"a", b"b"]
    assert len(inbox) == 0
    assert inbox.take_back() == []
