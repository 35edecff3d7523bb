"""A proxy that hangs: it keeps its connections and does nothing for a while."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from time import monotonic

import pytest

from eventbus import ClientState, DropReason, SendBufferFull, SendPolicy, SendTimeout
from tests.faults.peers import Report, Scene, rounds, scene
from tests.faults.proxies import ProxyProcess, running_proxy
from tests.support import PATIENCE, Bus, MyEvent, MyEventTopic, MyEventType, Recorder, eventually

pytestmark = pytest.mark.process

HANG = 1.5  # seconds
SEND_TIMEOUT = 5.0  # of `emit_event`, by default
SHORT_TIMEOUT = 0.3
AT_ONCE = PATIENCE / 4  # seconds; shorter than any timeout of a client that need not wait
SLACK = PATIENCE / 4  # seconds; for a machine that has other things to do
TOPIC = MyEventTopic.my_service
PADDING = " " * 50_000  # makes events fill the buffers of the system soon


def hang(proxy: ProxyProcess, scene: Scene, seconds: float) -> None:
    """Let the proxy hang for so long, and wait until events flow again."""
    proxy.stop()
    end = monotonic() + seconds
    eventually(lambda: monotonic() > end, seconds + PATIENCE)
    proxy.go_on()
    scene.flows()


@pytest.mark.parametrize("numbered", [False, True])
def test_a_hang_costs_nothing(numbered: bool, soak_seconds: float | None) -> None:
    """With default settings a short hang is not even noticed: all that is emitted arrives, and no call takes long."""
    with running_proxy() as proxy, scene(proxy, numbered=numbered) as running:
        for _ in rounds(1, soak_seconds):
            hang(proxy, running, HANG)
        reports = running.finish()
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)
        assert max(report.longest for report in reports) < SEND_TIMEOUT


def notice(proxy: ProxyProcess, running: Scene, seconds: float) -> None:
    """Let the proxy hang until this client has noticed it and for so long after that, and wait until all is well again."""
    proxy.stop()
    eventually(lambda: running.client.state is ClientState.DEGRADED, PATIENCE)
    hang(proxy, running, seconds)
    running.client.wait_ready(PATIENCE)


def check_states(running: Scene, reports: list[Report]) -> None:
    """Check that all clients were DEGRADED and then READY, and that no call took too long."""
    for states in (running.states, *(report.states for report in reports)):
        assert states[:2] == ["degraded", "ready"]
    assert max(report.longest for report in reports) < SEND_TIMEOUT


@pytest.mark.parametrize("numbered", [False, True])
def test_a_hang_is_noticed(numbered: bool, soak_seconds: float | None) -> None:
    """With quick echoes all are DEGRADED during the hang and READY after it, and still nothing is lost."""
    with running_proxy() as proxy, scene(proxy, numbered=numbered, echo_interval=0.25, echo_timeout=0.5) as running:
        for _ in rounds(1, soak_seconds):
            notice(proxy, running, HANG)
        check_states(running, running.finish())
        assert (running.books.missing(), running.client.stats().lost) == (0, 0)


def test_a_hang_in_which_connections_are_made_anew(soak_seconds: float | None) -> None:
    """After enough missing echoes clients try new connections: they recover too, and the events lost are counted."""
    with running_proxy() as proxy, scene(proxy, numbered=True, echo_interval=0.1, echo_timeout=0.5) as running:
        for _ in rounds(1, soak_seconds):
            notice(proxy, running, HANG)
        check_states(running, running.finish())
        assert running.client.stats().lost == running.books.missing()


def client_of(proxy: ProxyProcess, policy: SendPolicy) -> Bus:
    return Bus(
        MyEvent,
        proxy.host,
        proxy.pub_port,
        proxy.sub_port,
        connect_timeout=PATIENCE,
        send_policy=policy,
        send_hwm=10,
        send_timeout=SHORT_TIMEOUT if policy is SendPolicy.BLOCK else PATIENCE,
    )


class Filled:
    """A client whose proxy hangs and whose send buffer is full. It subscribes to what it emits.

    Attributes:
        taken: the values of the events that it has taken.
    """

    def __init__(self, client: Bus, proxy: ProxyProcess) -> None:
        self.client = client
        self.taken: list[float] = []
        self._next = 0
        self._full_since = monotonic()
        self._recorder = Recorder()
        self.client.subscribe(TOPIC)
        self.client.attach_callback(MyEventType.updated, self._recorder)
        self.client.connect()
        self.client.start_consumer()
        proxy.stop()
        eventually(self._stays_full, PATIENCE)

    @property
    def dropped(self) -> int:
        """The number of events it has dropped."""
        return self.client.stats().drops.get(DropReason.SEND_BUFFER, 0)

    def emit(self) -> None:
        """Emit the next event."""
        number, emitted = self._next, self.client.stats().emitted
        self._next += 1
        self.client.emit_event(MyEvent(type=MyEventType.updated, time=PADDING, value=number), TOPIC)
        if self.client.stats().emitted > emitted:
            self.taken.append(number)

    def _stays_full(self) -> bool:
        """Emit as much as goes; whether none has been taken for a while."""
        count = len(self.taken)
        with suppress(SendBufferFull):
            self.emit()
        if len(self.taken) > count:
            self._full_since = monotonic()
        return monotonic() > self._full_since + SHORT_TIMEOUT

    def check_all_arrives(self) -> None:
        """Check that what it has taken arrives and nothing else, in order, also one more event."""
        eventually(lambda: len(self._recorder.events) == len(self.taken), PATIENCE)
        self.emit()
        assert self._recorder.wait_for(len(self.taken)) == self.taken
        assert self.taken[-1] == self._next - 1
        assert self.client.stats().emitted == len(self.taken)


@contextmanager
def filled(policy: SendPolicy) -> Iterator[tuple[Filled, ProxyProcess]]:
    """A `Filled` client, closed at the end of the block, and its proxy, which hangs."""
    with running_proxy() as proxy, closing(client_of(proxy, policy)) as client:
        yield Filled(client, proxy), proxy


def test_a_full_buffer_blocks_up_to_the_timeout() -> None:
    """By default `emit_event` waits for room as long as it may, then raises SendTimeout; what it has taken arrives."""
    with filled(SendPolicy.BLOCK) as (sender, proxy):
        for _ in range(3):
            began = monotonic()
            with pytest.raises(SendTimeout):
                sender.emit()
            assert SHORT_TIMEOUT <= monotonic() - began < SHORT_TIMEOUT + SLACK
        proxy.go_on()
        sender.check_all_arrives()
        assert sender.dropped == 0


def test_a_full_buffer_raises_at_once() -> None:
    """With RAISE `emit_event` does not wait for room; what it has taken arrives."""
    with filled(SendPolicy.RAISE) as (sender, proxy):
        for _ in range(3):
            began = monotonic()
            with pytest.raises(SendBufferFull) as caught:
                sender.emit()
            assert monotonic() - began < AT_ONCE
            assert not isinstance(caught.value, SendTimeout)
        proxy.go_on()
        sender.check_all_arrives()
        assert sender.dropped == 0


def test_a_full_buffer_drops_and_counts() -> None:
    """With DROP `emit_event` neither waits nor raises; what is dropped is counted, and the rest arrives."""
    with filled(SendPolicy.DROP) as (sender, proxy):
        dropped = sender.dropped
        for _ in range(3):
            began = monotonic()
            sender.emit()
            assert monotonic() - began < AT_ONCE
        assert sender.dropped == dropped + 3
        proxy.go_on()
        sender.check_all_arrives()
        assert sender.dropped == dropped + 3
