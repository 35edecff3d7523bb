"""A subscriber that does not keep up costs others nothing, and its own losses are counted."""

import pytest

from tests.faults.peers import TOPIC, Receiver, rounds, scene
from tests.faults.proxies import running_proxy
from tests.support import PATIENCE, Bus, MyEvent, MyEventType, eventually

pytestmark = pytest.mark.process

SMALL = 10  # messages in a queue
MUCH = " " * 50_000  # makes events fill the buffers of the system soon
FILLED = 1_000  # events of 50 kB: more than those buffers hold


def test_a_slow_subscriber_delays_nobody(soak_seconds: float | None) -> None:
    """While a handler does not return in one process, another gets everything; when it does, so has the slow one."""
    with running_proxy() as proxy, Receiver(proxy, slow=True) as slow:
        slow.ready()
        with scene(proxy) as running:
            for _ in rounds(10, soak_seconds):
                running.flows()
            assert slow.look()[0] == {}
            reports = running.finish()
            assert running.books.missing() == 0
            slow.let_go()
            expected = {number: list(range(report.emitted)) for number, report in enumerate(reports)}
            eventually(lambda: slow.look()[0] == expected, PATIENCE)


def test_what_a_slow_subscriber_loses_is_counted() -> None:
    """When its queues are full the proxy drops what it does not take: received and lost are all that was emitted.

    Another subscriber gets everything meanwhile.
    """
    with running_proxy(plain=True, send_hwm=SMALL) as proxy, Receiver(proxy, slow=True, receive_hwm=SMALL) as slow:
        slow.ready()
        with Bus(MyEvent, proxy.host, proxy.pub_port, proxy.sub_port, connect_timeout=PATIENCE, numbered=True) as client:
            received: list[float] = []
            client.subscribe(TOPIC)
            client.attach_callback(MyEventType.updated, lambda event: received.append(event.value))
            client.start_consumer()

            def emit(number: int, time: str = "0") -> None:
                client.emit_event(MyEvent(type=MyEventType.updated, time=time, value=number), TOPIC)

            emit(0)
            for number in range(1, FILLED):
                emit(number, "0" + MUCH)
                eventually(lambda n=number: len(received) > n - SMALL // 4, PATIENCE)  # type: ignore[misc]
            slow.let_go()
            total = FILLED

            def caught_up() -> bool:  # by and by its queue at the proxy has room again, and it sees the gap
                nonlocal total
                if slow.look()[0].get(0, [0])[-1] == total - 1 >= FILLED:
                    return True
                if len(received) > total - SMALL // 4:
                    emit(total)
                    total += 1
                return False

            eventually(caught_up, PATIENCE)
            numbers, lost = slow.look()
            assert len(numbers[0]) + lost == total
            assert lost > 0
            assert numbers[0] == sorted(set(numbers[0]))
            eventually(lambda: len(received) == total, PATIENCE)
            assert received == list(range(total))
