"""The clients of a bus: what they say of themselves, and what has changed."""

from dataclasses import replace

from eventbus.ui.clients import Change, KnownClient, changes, departures, known_clients
from eventbus.ui.notices import Level
from eventbus.wire.presence import Presence, Seen

OPC = Presence("1", "opc", "till", 7, 60.0, "ready", ("control",), 100, 3, 3, 0, 0, ("plant",), "01ab")
LOG = Presence("2", "log", "till", 8, 60.0, "ready", ("",), 0, 100, 100, 0, 0)


def test_what_is_known_of_a_client() -> None:
    """Its name, topics and publisher; the rate of a topic, if it emits on that one only."""
    opc, log = known_clients([Seen(OPC, 9.5, 0.5), Seen(LOG, None, None)])
    assert (opc.name, opc.publisher, opc.topics, opc.emits) == ("opc", "01ab", ("control",), {"plant": 9.5})
    assert (opc.facts["out/s"], opc.facts["process"]) == ("9.5", "7 on till")
    assert log == KnownClient("log", topics=("",), state="ready", facts=log.facts)
    (both,) = known_clients([Seen(replace(OPC, emits=("plant", "control")), 9.5, 0.5)])
    assert both.emits == {"plant": None, "control": None}


def test_the_same_name_twice() -> None:
    """Several processes of one service are told apart."""
    names = [client.name for client in known_clients([Seen(OPC, 1.0, 1.0), Seen(replace(OPC, id="3", pid=9), 1.0, 1.0)])]
    assert names == ["opc till:7", "opc till:9"]


def test_changes() -> None:
    """Who has come, handlers that failed, events that were dropped, and changes of state are told."""
    worse = replace(OPC, handler_errors=2, dropped=5, state="degraded")
    assert list(changes({"1": OPC}, {"1": worse, "2": LOG})) == [
        Change(Level.INFO, "state", "log is there: process 8 on till"),
        Change(Level.ERROR, "error", "opc: calls of handlers failed", 2),
        Change(Level.ERROR, "dropped", "opc: events were dropped", 5),
        Change(Level.WARNING, "state", "opc is degraded, was ready"),
    ]
    assert list(changes({"1": worse}, {"1": worse})) == []
    assert list(departures([LOG])) == [Change(Level.INFO, "state", "log does not answer any more: process 8 on till")]


def test_many_at_once() -> None:
    """A restart of all services does not fill the list."""
    crowd = {str(number): replace(LOG, id=str(number), name=f"log{number}") for number in range(1_000)}
    told = list(changes({}, crowd))
    assert len(told) == 21
    assert told[-1] == Change(Level.INFO, "state", "more clients: is there", 980)
