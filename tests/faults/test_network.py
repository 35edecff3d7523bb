"""A network that is held up, cut, closed or silent, or whose cable is pulled, while events flow."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import pairwise
from time import monotonic

import pytest

from eventbus import ClientState
from tests.faults.cable import Cable, cable
from tests.faults.peers import TOPIC, Place, Scene, rounds, scene
from tests.faults.proxies import running_proxy
from tests.faults.relay import Network, Relay, network
from tests.support import PATIENCE, Bus, MyEvent, MyEventType, Recorder, event, eventually

pytestmark = [pytest.mark.process, pytest.mark.namespace]

type Fault = Callable[[Relay], None]


def nothing(relay: Relay) -> None:
    pass


def each(action: Fault, relays: tuple[Relay, ...]) -> None:
    for relay in relays:
        action(relay)


def close(relay: Relay) -> None:
    relay.refuse()
    relay.cut()


# How each begins and ends.
FAULTS: dict[str, tuple[Fault, Fault]] = {
    "cut": (Relay.cut, nothing),
    "closed": (close, Relay.admit),
    "held up": (Relay.hold_up, Relay.go_on),
    "silent": (Relay.silence, nothing),
}
LEGS: dict[str, Callable[[Network], tuple[Relay, ...]]] = {
    "publishing": lambda between: (between.publishing,),
    "subscribing": lambda between: (between.subscribing,),
    "both": lambda between: (between.publishing, between.subscribing),
}


def degraded_and_back(
    running: Scene, begin: Callable[[], object], end: Callable[[], object], *, lasting: float = 0.0
) -> None:
    """Let a fault begin, last for so long and until this client has noticed it, and end; return when events flow again."""
    over = monotonic() + lasting
    told = len(running.states)
    begin()
    eventually(lambda: "degraded" in running.states[told:], PATIENCE, "the fault is noticed")
    eventually(lambda: monotonic() > over, lasting + PATIENCE)
    end()
    running.flows()
    running.client.wait_ready(PATIENCE)


@pytest.mark.parametrize(
    ("legs", "numbered"), [("publishing", True), ("subscribing", True), ("both", True), ("both", False)]
)
def test_connections_recover(legs: str, numbered: bool, soak_seconds: float | None) -> None:
    """Held up, cut, refused or silent, each leg and both: DEGRADED, then READY, and events flow in order, none twice.

    With numbers each of them has arrived or is counted as lost.
    """
    with (
        running_proxy() as proxy,
        network(proxy) as between,
        scene(between, numbered=numbered, echo_interval=0.05, echo_timeout=0.3) as running,
    ):
        relays = LEGS[legs](between)
        for chance in rounds(1, soak_seconds):
            for name in chance.sample(list(FAULTS), len(FAULTS)):
                begin, end = FAULTS[name]
                degraded_and_back(running, partial(each, begin, relays), partial(each, end, relays))
        running.finish()
        if numbered:
            assert running.client.stats().lost == running.books.missing()


def test_a_cut_of_all_connections_costs_numbered_publishers_nothing(soak_seconds: float | None) -> None:
    """Messages lost with the connections are sent again when subscribers have had the time to come back, also a late one.

    On a busy machine one may come back too late now and then; what that costs is counted.
    """
    late = {"reconnect_interval": 0.2}  # the others try again four times as soon
    with running_proxy() as proxy, network(proxy) as between, scene(between, numbered=True, receiving=late) as running:
        missing = [0]
        for _ in rounds(3, soak_seconds):
            degraded_and_back(running, partial(each, Relay.cut, LEGS["both"](between)), lambda: None)
            missing.append(running.books.missing())
        running.finish()
        assert 0 in [after - before for before, after in pairwise(missing)]
        assert running.client.stats().lost == running.books.missing()


def lose_everything(cable: Cable) -> None:
    cable.lose_what_is_sent()
    cable.lose_what_is_answered()


CABLE_FAULTS: dict[str, tuple[Callable[[Cable], None], Callable[[Cable], None]]] = {
    "pulled": (Cable.pull, Cable.plug),
    "nothing arrives": (Cable.lose_what_is_sent, Cable.lose_nothing),
    "nothing comes back": (Cable.lose_what_is_answered, Cable.lose_nothing),
    "both": (lose_everything, Cable.lose_nothing),
}


def test_a_cable(soak_seconds: float | None) -> None:
    """A cable that is pulled, or loses packets in one direction or both: DEGRADED, then READY, and all is accounted for."""
    with (
        cable() as link,
        running_proxy(host=link.far, prefix=link.within) as proxy,
        scene(proxy, numbered=True, echo_interval=0.1, echo_timeout=0.3) as running,
    ):
        for chance in rounds(1, soak_seconds):
            for name in chance.sample(list(CABLE_FAULTS), len(CABLE_FAULTS)):
                begin, end = CABLE_FAULTS[name]
                degraded_and_back(running, partial(begin, link), partial(end, link), lasting=chance.uniform(0.0, 2.0))
        running.finish()
        assert running.client.stats().lost == running.books.missing()


def test_closing_waits_for_what_is_sent_again() -> None:
    """A numbered publisher that is closed after its connection was lost first sends again what went down with it."""
    with (
        running_proxy() as proxy,
        network(proxy) as between,
        closing(client_of(between, numbered=True)) as emitter,
        client_of(proxy) as receiver,
    ):
        recorder = Recorder()
        receiver.subscribe(TOPIC)
        receiver.attach_callback(MyEventType.updated, recorder)
        receiver.start_consumer()
        emitter.connect()
        between.publishing.hold_up()
        for number in range(10):
            emitter.emit_event(event(number), TOPIC)
        between.publishing.cut()
        eventually(lambda: emitter.state is ClientState.DEGRADED, PATIENCE)
        between.publishing.go_on()
        emitter.close()
        assert recorder.wait_for(10) == list(range(10))


def client_of(place: Place, *, numbered: bool = False) -> Bus:
    """A client that takes its time to close."""
    return Bus(
        MyEvent,
        place.host,
        place.pub_port,
        place.sub_port,
        connect_timeout=PATIENCE,
        close_timeout=2 * PATIENCE,
        linger=PATIENCE,
        numbered=numbered,
    )
