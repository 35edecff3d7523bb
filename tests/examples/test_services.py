"""corerl and coreio, each in its own container, in one process over an in-memory bus; and each with a peer of the test's."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from dependency_injector import providers

import corerl.agent
from coreio.container import App as IOApp
from coreio.events import IOEvent, IOEventTopic, IOEventType
from coreio.opc import Opc
from corerl.container import App as RLApp
from corerl.controller import Zone
from corerl.event_bus import RLEventBusClient
from corerl.events import RLEvent, RLEventTopic, RLEventType
from eventbus import EventBusClient
from eventbus.container import ServiceState, lifespan
from eventbus.transports.memory import MemoryHub, MemoryTransport
from plant import Action, Observation, Tank
from tests.support import PATIENCE, eventually

IOBus = EventBusClient[IOEvent, IOEventType, IOEventTopic]


class Peer:
    """Hears both families, answers the agent's questions from a plant of its own, and loses chosen messages."""

    def __init__(self, hub: MemoryHub, opc: Opc | None = None) -> None:
        self.rl: list[RLEvent] = []
        self.io: list[IOEvent] = []
        self.deaf_to: list[IOEventType] = []
        self._opc = opc
        self.rl_bus = RLEventBusClient(transport=MemoryTransport(hub))
        self.io_bus = IOBus(IOEvent, transport=MemoryTransport(hub))
        self.rl_bus.attach_callbacks(dict.fromkeys(RLEventType, self.rl.append))
        self.io_bus.attach_callbacks(dict.fromkeys(IOEventType, self.io.append))
        if opc is not None:
            self.io_bus.attach_callback(IOEventType.read_from_opc, lambda _: opc.read(), answers=True, where=self._hears)
            self.io_bus.attach_callback(IOEventType.write_to_opc, self._write, where=self._hears)

    @contextmanager
    def listening(self) -> Iterator[None]:
        with self.rl_bus, self.io_bus:
            for topic in RLEventTopic:
                self.rl_bus.subscribe(topic)
            for io_topic in IOEventTopic:
                self.io_bus.subscribe(io_topic)
            self.rl_bus.start_consumer()
            self.io_bus.start_consumer()
            yield

    def of(self, *types: IOEventType) -> list[IOEvent]:
        return [event for event in list(self.io) if event.type in types]

    def types_of(self, step: int) -> list[RLEventType]:
        """The types of the agent's events of this step, in order; without violations, which are on another topic."""
        return [event.type for event in list(self.rl) if event.step == step and "zone" not in event.type]

    def _write(self, event: IOEvent) -> None:
        assert self._opc is not None
        assert event.step is not None
        assert event.action is not None
        self._opc.write(event.step, event.action)

    def _hears(self, event: IOEvent) -> bool:
        if event.type not in self.deaf_to:
            return True
        self.deaf_to.remove(event.type)
        return False


@pytest.fixture
def hub() -> MemoryHub:
    return MemoryHub()


@pytest.fixture
def opc(tmp_path: Path) -> Opc:
    return Opc(tmp_path / "plant.json")


@pytest.fixture
def peer(hub: MemoryHub, opc: Opc) -> Iterator[Peer]:
    """A stand-in for coreio."""
    made = Peer(hub, opc)
    with made.listening():
        yield made


@pytest.fixture
def listener(hub: MemoryHub) -> Iterator[Peer]:
    """A peer that only listens."""
    made = Peer(hub)
    with made.listening():
        yield made


@contextmanager
def agent_at(hub: MemoryHub, **options: float) -> Iterator[corerl.agent.Agent]:
    """The agent with these options, running; at the end of the block it is stopped."""
    app = RLApp()
    app.agent.add_kwargs(**options)
    app.bus.transport.override(providers.Object(MemoryTransport(hub)))
    app.io.transport.override(providers.Object(MemoryTransport(hub)))
    with lifespan(app), app.agent() as agent:
        yield agent


@contextmanager
def coreio_at(hub: MemoryHub, opc: Opc) -> Iterator[IOApp]:
    """coreio with this plant, running."""
    app = IOApp()
    app.bus.transport.override(providers.Object(MemoryTransport(hub)))
    app.opc.override(providers.Object(opc))
    with lifespan(app), app.service():
        yield app


def acted(peer: Peer, step: int) -> bool:
    return any(event.type is RLEventType.step_emit_action and event.step == step for event in list(peer.rl))


def test_both_together(hub: MemoryHub, listener: Peer, opc: Opc) -> None:
    """The agent fills the tank through coreio, and tells each step in order, once; the two begin in either order."""
    with agent_at(hub), coreio_at(hub, opc):
        eventually(lambda: acted(listener, 15), PATIENCE)
    assert opc.read().level == pytest.approx(1.0, abs=0.05)
    for step in range(16):
        assert listener.types_of(step) == [
            RLEventType.step,
            RLEventType.step_get_obs,
            RLEventType.step_agent_update,
            RLEventType.step_emit_action,
        ]
    writes = listener.of(IOEventType.write_to_opc)
    assert [event.step for event in writes[:16]] == list(range(16))


def test_violations_are_told(hub: MemoryHub, peer: Peer) -> None:
    """As long as the level is not in the green zone, each step says so, with what was seen; then no more."""
    with agent_at(hub):
        eventually(lambda: acted(peer, 10), PATIENCE)
    told = [(event.type, event.step) for event in peer.rl if event.type in corerl.agent.VIOLATIONS.values()]
    red, yellow = RLEventType.red_zone_violation, RLEventType.yellow_zone_violation
    assert told == [(red, 0), (red, 1), (yellow, 2), (yellow, 3)]
    assert corerl.agent.VIOLATIONS.keys() == {Zone.RED, Zone.YELLOW}


def test_a_question_without_an_answer_is_asked_again(hub: MemoryHub, peer: Peer) -> None:
    """The steps go on, and none is done twice."""
    peer.deaf_to = [IOEventType.read_from_opc, IOEventType.read_from_opc]
    with agent_at(hub, answer_timeout=0.02):
        eventually(lambda: acted(peer, 5), PATIENCE)
    assert len(peer.types_of(3)) == 4


def test_an_action_that_has_not_come_is_written_again(hub: MemoryHub, peer: Peer) -> None:
    """The observation shows it: the same action for the same step, without another decision."""
    peer.deaf_to = [IOEventType.write_to_opc]
    with agent_at(hub):
        eventually(lambda: acted(peer, 5), PATIENCE)
    first, second, third = peer.of(IOEventType.write_to_opc)[:3]
    assert (first.step, second.step, third.step) == (0, 0, 1)
    assert first.action == second.action
    assert peer.types_of(0).count(RLEventType.step_agent_update) == 1


def test_a_new_agent_goes_on_where_the_plant_is(hub: MemoryHub, peer: Peer, opc: Opc) -> None:
    """It finds the step from the observation; none is done twice, none left out."""
    with agent_at(hub):
        eventually(lambda: acted(peer, 5), PATIENCE)
    step = opc.read().step
    with agent_at(hub):
        eventually(lambda: acted(peer, step + 5), PATIENCE)
    assert len(peer.types_of(step + 2)) == 4
    written = {event.step for event in peer.of(IOEventType.write_to_opc)}
    assert written >= set(range(step + 5))


def test_exit_ends_the_agent(hub: MemoryHub, peer: Peer) -> None:
    """It stops by itself, and has emitted its start, its counts and its end."""
    with agent_at(hub) as agent:
        eventually(lambda: acted(peer, 1), PATIENCE)
        peer.rl_bus.emit_event(RLEventType.exit, RLEventTopic.corerl)
        eventually(lambda: agent.state is ServiceState.STOPPED, PATIENCE)
    eventually(lambda: peer.rl[-1].type is RLEventType.service_stopped)
    assert peer.rl[0].type is RLEventType.service_started
    heartbeat = peer.rl[-2]
    assert heartbeat.type is RLEventType.agent_heartbeat
    assert heartbeat.counts["emitted"] >= 6
    assert heartbeat.counts["received"] >= 2


def test_coreio_answers_who_asks(hub: MemoryHub, listener: Peer, opc: Opc) -> None:
    """The asker gets what the sensors show, and everybody hears it; a written action moves the plant once."""
    action = Action(valve=1.0, heater=0.0)
    with coreio_at(hub, opc):
        for _ in range(2):
            write = IOEvent(type=IOEventType.write_to_opc, step=0, action=action)
            listener.io_bus.emit_event(write, IOEventTopic.coreio)
        observation = listener.io_bus.request(
            IOEventType.read_from_opc, IOEventTopic.coreio, reply=Observation, timeout=PATIENCE
        )
        eventually(lambda: listener.of(IOEventType.reading), PATIENCE)
    (reading,) = listener.of(IOEventType.reading)
    assert reading.observation == observation
    state = Tank().advance(Tank().at(0.2, 15.0), action, 30.0)
    assert reading.observation == Observation(1, Tank().level(state), Tank().temperature(state))


def test_an_action_that_is_none(hub: MemoryHub, listener: Peer, opc: Opc, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and counted, coreio tells the count, and goes on."""
    with coreio_at(hub, opc) as app:
        listener.io_bus.emit_event(IOEventType.write_to_opc, IOEventTopic.coreio)
        eventually(lambda: app.bus.client().stats().handler_errors == 1, PATIENCE)
        listener.io_bus.emit_event(IOEventType.read_from_opc, IOEventTopic.coreio)
        eventually(lambda: listener.of(IOEventType.reading), PATIENCE)
    eventually(lambda: listener.io[-1].type is IOEventType.service_stopped)
    assert listener.of(IOEventType.heartbeat)[-1].counts["handler_errors"] == 1
    assert "write_to_opc needs a step and an action" in caplog.text


def test_exit_ends_coreio(hub: MemoryHub, listener: Peer, opc: Opc) -> None:
    """It stops by itself, and tells its counts before."""
    with ExitStack() as stack:
        app = stack.enter_context(coreio_at(hub, opc))
        listener.io_bus.emit_event(IOEventType.exit, IOEventTopic.coreio)
        eventually(lambda: app.service().state is ServiceState.STOPPED, PATIENCE)
    eventually(lambda: listener.io[-1].type is IOEventType.service_stopped)
    assert [event.type for event in listener.io] == [
        IOEventType.service_started,
        IOEventType.exit,
        IOEventType.heartbeat,
        IOEventType.service_stopped,
    ]
