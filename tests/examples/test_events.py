"""The two event families, and the client that is pre-configured with one."""

import subprocess
import sys
from typing import assert_type

import pytest
from pydantic import ValidationError

import corerl.event_bus
from coreio.events import IOEvent, IOEventTopic, IOEventType
from corerl.event_bus import RLEventBusClient
from corerl.events import RLEvent, RLEventTopic, RLEventType
from eventbus import EventBusClient, EventBusProxy, InvalidTopic
from eventbus.wire.codec import Codec
from plant import Action, Observation
from scenario.processes import PROGRAMS


def test_what_is_observed_and_done_travels_as_json() -> None:
    """Observations and actions are values of the plant's own classes on both sides."""
    codec = Codec(IOEvent)
    action = IOEvent(type=IOEventType.write_to_opc, step=3, action=Action(valve=0.5, heater=1.0))
    reading = IOEvent(type=IOEventType.reading, observation=Observation(4, 1.25, 35.0))
    for event in (action, reading):
        payload = codec.encoder_for(event)(event)
        assert IOEvent.model_validate_json(payload) == event
    assert b'"action":{"valve":0.5,"heater":1.0}' in codec.encoder_for(action)(action)


def test_every_event_has_its_own_id_and_time() -> None:
    """Nobody has to give them."""
    one, another = RLEvent(type=RLEventType.step), RLEvent(type=RLEventType.step)
    assert one.id != another.id
    assert one.time <= another.time


def test_an_event_without_a_type_is_none() -> None:
    """The type says what an event is."""
    with pytest.raises(ValidationError, match="type"):
        RLEvent.model_validate_json('{"step": 1}')


def test_the_client_is_pre_configured(proxy: EventBusProxy) -> None:
    """It needs no event class, knows its topics and refuses others, and what it receives is typed."""
    with RLEventBusClient(host="127.0.0.1", pub_port=proxy.pub_port, sub_port=proxy.sub_port) as bus:
        bus.subscribe(RLEventTopic.corerl)
        bus.emit_event(RLEventType.agent_heartbeat, RLEventTopic.corerl)
        event = bus.recv_event(20)
        assert_type(event, RLEvent | None)
        assert event is not None
        assert event.type is RLEventType.agent_heartbeat
        with pytest.raises(InvalidTopic, match="RLEventTopic"):
            bus.emit_event(RLEventType.step, IOEventTopic.coreio)  # type: ignore[arg-type] # as a type checker says


def test_the_name_that_services_have_imported() -> None:
    """`from corerl.event_bus import EventBusClient` is the pre-configured client."""
    assert corerl.event_bus.EventBusClient is RLEventBusClient
    assert issubclass(RLEventBusClient, EventBusClient)


@pytest.mark.process
def test_events_need_no_container() -> None:
    """A program that only listens to a service imports its events, and neither its container nor FastAPI."""
    code = "import sys, coreio.events, corerl.events; print({'dependency_injector', 'fastapi'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROGRAMS, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
