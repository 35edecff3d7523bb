"""corerl and coreio, each in its own container, on a bus in memory and with a clock that the tests move."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dependency_injector import providers

import corerl.agent
from coreio.container import App as IOApp
from coreio.events import IOEvent, IOEventTopic, IOEventType
from coreio.opc import Opc
from corerl.agent import PACE
from corerl.container import App as RLApp
from corerl.controller import Zone
from corerl.events import RLEvent, RLEventTopic, RLEventType
from eventbus import EventBusClient, EventBusHistorian
from eventbus.container import ServiceState, lifespan
from eventbus.testing import BusTest, FaultyHub, RecordingTransport, bus_test
from plant import Action, Observation, Tank
from tests.support import PATIENCE, eventually

IOBus = EventBusClient[IOEvent, IOEventType, IOEventTopic]

READ, WRITE = IOEventType.read_from_opc, IOEventType.write_to_opc


@pytest.fixture
def opc(tmp_path: Path) -> Opc:
    return Opc(tmp_path / "plant.json")


@contextmanager
def agent(**options: float) -> Iterator[tuple[BusTest[RLApp], corerl.agent.Agent]]:
    """Nobody answers the agent yet; at the end of the block it is stopped."""
    app = RLApp()
    app.agent.add_kwargs(**options)
    with bus_test(app) as t, app.agent() as running:
        yield t, running


def stand_in(t: BusTest[RLApp], opc: Opc, lost: int = 0) -> None:
    """Let a plant answer, which does not hear the first actions."""
    written = 0

    def write(event: IOEvent) -> None:
        nonlocal written
        written += 1
        if written > lost:
            assert event.step is not None
            assert event.action is not None
            opc.write(event.step, event.action)

    t.answer(READ, lambda _: opc.read(), IOEventTopic.coreio)
    t.answer(WRITE, write, IOEventTopic.coreio)


def of_step(t: BusTest[RLApp], step: int) -> list[RLEventType]:
    """The types of the agent's events of this step, in order; without violations, which are on another topic."""
    return [event.type for event in t.emitted(RLEvent, RLEventTopic.corerl_steps) if event.step == step]


def advance_until(t: BusTest[RLApp], condition: Callable[[], object]) -> None:
    """Let the agent go on until the condition is true."""

    def is_true() -> bool:
        t.advance(PACE)
        return bool(condition())

    eventually(is_true, PATIENCE)


def has_acted(t: BusTest[RLApp], step: int) -> bool:
    return RLEventType.step_emit_action in of_step(t, step)


def writes(t: BusTest[RLApp]) -> list[IOEvent]:
    return [event for event in t.emitted(IOEvent) if event.type is WRITE]


@contextmanager
def asking(t: BusTest[IOApp]) -> Iterator[IOBus]:
    """Another client on the bus of coreio."""
    with IOBus(IOEvent, transport=RecordingTransport(t.hub)) as client:
        yield client


@pytest.fixture
def coreio(opc: Opc) -> Iterator[BusTest[IOApp]]:
    """coreio with this plant, running."""
    app = IOApp()
    app.opc.override(providers.Object(opc))
    with bus_test(app, errors="collect") as t, app.service():
        yield t


def test_both_together(opc: Opc) -> None:
    """The agent, which is there first, fills the tank through coreio, and tells each step in order, once."""
    with agent() as (t, _):
        t.advance(1)
        assert t.emitted(RLEventType.step) == []
        io = IOApp()
        io.bus.transport.override(providers.Object(RecordingTransport(t.hub)))
        io.opc.override(providers.Object(opc))
        with lifespan(io), io.service():
            advance_until(t, lambda: has_acted(t, 15))
    assert opc.read().level == pytest.approx(1.0, abs=0.05)
    for step in range(16):
        assert of_step(t, step) == [
            RLEventType.step,
            RLEventType.step_get_obs,
            RLEventType.step_agent_update,
            RLEventType.step_emit_action,
        ]
    assert [event.step for event in writes(t)[:16]] == list(range(16))


def test_violations_are_told(opc: Opc) -> None:
    """As long as the level is not in the green zone, each step says so, with what was seen; then no more."""
    with agent() as (t, _):
        stand_in(t, opc)
        advance_until(t, lambda: has_acted(t, 10))
    told = [(event.type, event.step) for event in t.emitted(RLEvent, RLEventTopic.corerl_zones)]
    red, yellow = RLEventType.red_zone_violation, RLEventType.yellow_zone_violation
    assert told == [(red, 0), (red, 1), (yellow, 2), (yellow, 3)]
    assert corerl.agent.VIOLATIONS.keys() == {Zone.RED, Zone.YELLOW}


def test_a_question_without_an_answer_is_asked_again(opc: Opc) -> None:
    """The steps go on, and none is done twice."""
    with agent(answer_timeout=0.02) as (t, _):
        stand_in(t, opc)
        with t.dropping(IOEventTopic.coreio) as lost:
            eventually(lambda: t.clock.fire_next(t.clock.now() + 1) or len(lost) >= 3, PATIENCE)
        advance_until(t, lambda: has_acted(t, 5))
    assert len(t.emitted(READ)) > len(writes(t))
    assert len(of_step(t, 3)) == 4


def test_an_action_that_has_not_come_is_written_again(opc: Opc) -> None:
    """The observation shows it: the same action for the same step, without another decision."""
    with agent() as (t, _):
        stand_in(t, opc, lost=1)
        advance_until(t, lambda: has_acted(t, 1))
    first, second, third = writes(t)[:3]
    assert (first.step, second.step, third.step) == (0, 0, 1)
    assert first.action == second.action
    assert of_step(t, 0).count(RLEventType.step_agent_update) == 1


def test_a_new_agent_goes_on_where_the_plant_is(opc: Opc) -> None:
    """It finds the step from the observation; none is done twice, none left out."""
    written: list[int] = []
    for _ in range(2):
        step = opc.read().step
        with agent() as (t, _):
            stand_in(t, opc)
            advance_until(t, lambda t=t, step=step: has_acted(t, step + 5))  # type: ignore[misc] # mypy cannot infer a lambda's default
        assert len(of_step(t, step + 2)) == 4
        written += [event.step or 0 for event in writes(t)]
    assert set(written) >= set(range(opc.read().step))
    assert sorted(written) == written


def test_a_new_agent_begins_with_the_last_observation() -> None:
    """If the bus has a history, it acts on that one before anybody has answered it."""
    hub = FaultyHub()
    steps: list[int | None] = []
    with EventBusHistorian(RecordingTransport(hub)), IOBus(IOEvent, transport=RecordingTransport(hub)) as client:
        for step in (6, 7):
            observation = Observation(step, 1.0, 15.0)
            client.emit_event(IOEvent(type=IOEventType.reading, observation=observation), IOEventTopic.coreio_readings)
        client.subscribe(IOEventTopic.coreio)
        client.attach_callback(WRITE, lambda event: steps.append(event.step))
        client.start_consumer()
        app = RLApp()
        for bus in (app.bus, app.io):
            bus.transport.override(providers.Object(RecordingTransport(hub)))
        with lifespan(app), app.agent():
            eventually(lambda: steps, PATIENCE)
        assert steps[0] == 7


def test_exit_ends_the_agent(opc: Opc) -> None:
    """It stops by itself, and has emitted its start, its counts and its end."""
    with agent() as (t, running):
        stand_in(t, opc)
        advance_until(t, lambda: has_acted(t, 1))
        t.emit(RLEventType.exit, RLEventTopic.corerl)
        advance_until(t, lambda: running.state is ServiceState.STOPPED)
        told = t.emitted(RLEvent, RLEventTopic.corerl)
    assert told[0].type is RLEventType.service_started
    assert told[-1].type is RLEventType.service_stopped
    heartbeat = told[-2]
    assert heartbeat.type is RLEventType.agent_heartbeat
    assert heartbeat.counts["emitted"] >= 6
    assert heartbeat.counts["received"] >= 2


def test_coreio_answers_who_asks(coreio: BusTest[IOApp]) -> None:
    """The asker gets what the sensors show, and everybody hears it; a written action moves the plant once."""
    action = Action(valve=1.0, heater=0.0)
    for _ in range(2):
        coreio.emit(IOEvent(type=WRITE, step=0, action=action), IOEventTopic.coreio)
    with asking(coreio) as client:
        observation = client.request(READ, IOEventTopic.coreio, reply=Observation, timeout=PATIENCE)
    coreio.settle()
    (reading,) = coreio.emitted(IOEventType.reading, IOEventTopic.coreio_readings)
    assert isinstance(reading, IOEvent)
    assert reading.observation == observation
    state = Tank().advance(Tank().at(0.2, 15.0), action, 30.0)
    assert observation == Observation(1, Tank().level(state), Tank().temperature(state))


def test_an_action_that_is_none(coreio: BusTest[IOApp]) -> None:
    """It is logged and counted, coreio tells the count, and goes on."""
    coreio.emit(WRITE, IOEventTopic.coreio)
    assert [str(error) for error in coreio.errors] == ["write_to_opc needs a step and an action"]
    with asking(coreio) as client:
        assert client.request(READ, IOEventTopic.coreio, reply=Observation, timeout=PATIENCE).step == 0
    coreio.advance(1)
    heartbeat = coreio.emitted(IOEventType.heartbeat)[-1]
    assert isinstance(heartbeat, IOEvent)
    assert heartbeat.counts["handler_errors"] == 1


def test_exit_ends_coreio(coreio: BusTest[IOApp]) -> None:
    """It stops by itself, and tells its counts before."""
    coreio.emit(IOEventType.exit, IOEventTopic.coreio)
    eventually(lambda: coreio.container.service().state is ServiceState.STOPPED, PATIENCE)
    assert [event.type for event in coreio.emitted(IOEvent)] == [
        IOEventType.service_started,
        IOEventType.heartbeat,
        IOEventType.service_stopped,
    ]
