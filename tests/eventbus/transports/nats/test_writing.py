"""Who writes: the thread that emits, if nothing was written just before; else the link's thread, which joins what waits."""

from threading import current_thread

import pytest

from eventbus.transports.nats.channel import Channel
from tests.eventbus.transports.nats.support import TOPIC, Values, client, transport_of
from tests.nats import Server
from tests.support import event, eventually

pytestmark = pytest.mark.process


@pytest.mark.parametrize("kind", ["core", "jetstream"])
def test_a_lone_event_is_written_by_the_thread_that_emits_it(
    shared: Server, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lone events and others take turns here, and all arrive in order."""
    writers = set()
    write = Channel.write

    def noting(channel: Channel, data: "bytes | memoryview[int]") -> int:
        writers.add(current_thread())
        return write(channel, data)

    with shared.stream() as options:
        receiver, sender = transport_of(kind, options), transport_of(kind, options)
        with client(receiver, TOPIC) as receiving, client(sender) as sending:
            values = Values(receiving)
            emitted = 0

            def emit_some() -> bool:
                nonlocal emitted
                for _ in range(1 + emitted % 50):
                    sending.emit_event(event(float(emitted)), TOPIC)
                    emitted += 1
                return current_thread() in writers and emitted >= 2_000

            monkeypatch.setattr(Channel, "write", noting)
            eventually(emit_some)
            assert len(writers) > 1
            assert values.wait_for(emitted) == list(range(emitted))
            assert sending.stats().drops == {}
