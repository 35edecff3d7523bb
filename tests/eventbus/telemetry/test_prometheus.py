"""`PrometheusHook` with a real registry: what it counts, and that strangers cannot make it grow."""

import gc
import os
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
from prometheus_client import CollectorRegistry, disable_created_metrics, enable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from eventbus import BaseEventTopic, ClientState, DropReason, EventBusHealth, RejectReason, StateChange
from eventbus.telemetry import prometheus
from eventbus.telemetry.clients import OpenClients, WatchedClients
from eventbus.telemetry.labels import LIMIT, OTHER, Bounded
from eventbus.telemetry.prometheus import PrometheusHook
from tests.support import PATIENCE, event, run_script, run_threads

CLOSED, CONNECTING, READY, DEGRADED = ClientState.CLOSED, ClientState.CONNECTING, ClientState.READY, ClientState.DEGRADED

type Value = Callable[..., float | None]


@pytest.fixture
def hook(registry: CollectorRegistry) -> PrometheusHook:
    return PrometheusHook(registry)


@pytest.fixture
def value(registry: CollectorRegistry) -> Value:
    """The value of a metric with these labels, as it is scraped; None if there is none."""

    def read(name: str, /, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    return read


def change(before: ClientState, state: ClientState) -> StateChange:
    return StateChange(before, state, "a test")


class Patient:
    """Something that has a health, as a client has."""

    def __init__(self, **facts: object) -> None:
        self.facts = facts

    def health(self) -> EventBusHealth:
        of_one_that_is_well: dict[str, object] = {
            "ready": True,
            "live": True,
            "state": READY,
            "round_trip": None,
            "echo_age": None,
            "consuming": True,
            "busy_for": 0.0,
        }
        return EventBusHealth(**of_one_that_is_well | self.facts)  # type: ignore[arg-type] # a test gives what belongs there


# What is counted


def test_emitted_and_received(hook: PrometheusHook, value: Value) -> None:
    """Events and their bytes are counted by topic, those of packed messages one by one."""
    hook.emitted("plant", [event(1)], 100)
    hook.emitted("plant", [event(2), event(3)], 250)
    hook.received("plant", [event(1), event(2), event(3)], 200)
    assert value("eventbus_emitted_events_total", topic="plant") == 3
    assert value("eventbus_emitted_bytes_total", topic="plant") == 350
    assert value("eventbus_received_events_total", topic="plant") == 3
    assert value("eventbus_received_bytes_total", topic="plant") == 200


def test_handlers(hook: PrometheusHook, value: Value) -> None:
    """The duration of a handler goes into a histogram by its outcome, in seconds; errors are counted by their type."""
    hook.handled("plant", event(), "app.Tank.fill", 0.002)
    hook.handled("plant", event(), "app.Tank.fill", 0.2)
    hook.handler_failed("plant", event(), "app.Tank.fill", 3.0, ValueError("no"))
    hook.handler_failed("other", event(), "app.Tank.fill", 3.0, KeyError("no"))
    hook.handler_failed("other", event(), "app.Tank.fill", 3.0, KeyError("again"))
    name, well, badly = "eventbus_handler_duration_seconds", "success", "error"
    assert value(f"{name}_count", handler="app.Tank.fill", outcome=well) == 2
    assert value(f"{name}_sum", handler="app.Tank.fill", outcome=well) == pytest.approx(0.202)
    assert value(f"{name}_bucket", handler="app.Tank.fill", outcome=well, le="0.0025") == 1
    assert value(f"{name}_count", handler="app.Tank.fill", outcome=badly) == 3
    assert value("eventbus_handler_errors_total", handler="app.Tank.fill", error_type="ValueError") == 1
    assert value("eventbus_handler_errors_total", handler="app.Tank.fill", error_type="KeyError") == 2


def test_what_is_missing(hook: PrometheusHook, value: Value) -> None:
    """Rejects and drops are counted by their reason, losses by topic."""
    hook.rejected(RejectReason.SCHEMA, 3)
    hook.dropped(DropReason.SEND_BUFFER, 4)
    hook.lost("plant", 5)
    assert value("eventbus_rejected_messages_total", reason="schema") == 3
    assert value("eventbus_dropped_events_total", reason="send_buffer") == 4
    assert value("eventbus_lost_events_total", topic="plant") == 5


def test_every_reason_begins_at_zero(hook: PrometheusHook, value: Value) -> None:
    """Before anything happens each reason and each state is there with zero, or rate() would not see the first count."""
    for reject in RejectReason:
        assert value("eventbus_rejected_messages_total", reason=str(reject)) == 0
    for drop in set(DropReason) - {DropReason.UNREAD}:
        assert value("eventbus_dropped_events_total", reason=str(drop)) == 0
    for state in (CONNECTING, READY, DEGRADED):
        assert value("eventbus_clients", state=str(state)) == 0


def test_the_state(hook: PrometheusHook, value: Value) -> None:
    """An open client counts in the state that it is in, and in no other; a closed one in none. Changes are counted."""
    hook.state_changed(change(CLOSED, CONNECTING))
    hook.state_changed(change(CONNECTING, READY))
    hook.state_changed(change(READY, DEGRADED))
    assert [value("eventbus_clients", state=str(state)) for state in (CONNECTING, READY, DEGRADED)] == [0, 0, 1]
    hook.state_changed(change(DEGRADED, READY))
    assert [value("eventbus_clients", state=str(state)) for state in (CONNECTING, READY, DEGRADED)] == [0, 1, 0]
    hook.state_changed(change(READY, CLOSED))
    assert [value("eventbus_clients", state=str(state)) for state in (CONNECTING, READY, DEGRADED)] == [0, 0, 0]
    assert value("eventbus_state_changes_total", state="ready") == 2
    assert value("eventbus_state_changes_total", state="closed") == 1


def test_a_hook_that_came_late(hook: PrometheusHook, value: Value) -> None:
    """A hook that was added to a client that is open already counts from its next change on, and nothing below zero."""
    hook.state_changed(change(READY, DEGRADED))
    assert (value("eventbus_clients", state="ready"), value("eventbus_clients", state="degraded")) == (0, 1)
    hook.state_changed(change(DEGRADED, CLOSED))
    hook.state_changed(change(READY, CLOSED))
    assert (value("eventbus_clients", state="ready"), value("eventbus_clients", state="degraded")) == (0, 0)


# At the scrape


def test_a_watched_client(hook: PrometheusHook, registry: CollectorRegistry, value: Value) -> None:
    """The echo's round trip and what keeps the consumer are read from each health at the scrape; the worst counts."""
    assert value("eventbus_echo_round_trip_seconds") is None
    patients = [
        Patient(round_trip=0.001, busy_for=40.0),
        Patient(round_trip=0.5, busy_for=0.0),
        Patient(busy_for=99.0, consuming=False),
        Patient(state=CLOSED, round_trip=7.0, busy_for=99.0),
    ]
    for patient in patients:
        hook.watch(patient)
        PrometheusHook(registry).watch(patient)
    assert value("eventbus_echo_round_trip_seconds") == 0.5
    assert value("eventbus_consumer_busy_seconds") == 40.0
    patients[1].facts["round_trip"] = 0.25
    assert value("eventbus_echo_round_trip_seconds") == 0.25


def test_names_of_watched_clients(hook: PrometheusHook, value: Value) -> None:
    """Clients that are not closed count by their name; one without a name does not."""
    patients = [Patient(name="shop"), Patient(name="shop"), Patient(name="till", state=CLOSED), Patient()]
    for patient in patients:
        hook.watch(patient)
    assert [value("eventbus_named_clients", name=name) for name in ("shop", "till", "")] == [2.0, None, None]
    patients[0].facts["state"] = CLOSED
    assert value("eventbus_named_clients", name="shop") == 1.0


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    """Threads of the parent that were counting at that moment are not in the child, and what they held is free there."""
    opened, watched, bounded = OpenClients(), WatchedClients[None](), Bounded(str)
    held, forked = Event(), Event()

    def hold() -> None:
        with opened._lock, watched._lock, bounded._adding:
            held.set()
            forked.wait(PATIENCE)

    thread = Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE)
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE))
        opened.move(change(CLOSED, READY))
        watched.worst()
        os._exit(0 if bounded["plant"] == "plant" else 1)
    forked.set()
    thread.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_watching_keeps_nobody_alive(hook: PrometheusHook, value: Value) -> None:
    """A client that is gone is gone from what is scraped."""
    patient = Patient(round_trip=0.5)
    gone = weakref.ref(patient)
    hook.watch(patient)
    del patient
    gc.collect()
    assert gone() is None
    assert value("eventbus_echo_round_trip_seconds") is None


def test_series_say_when_they_began(hook: PrometheusHook, registry: CollectorRegistry) -> None:
    """Every counter and histogram has the time of its beginning, unless prometheus-client does not export these."""
    hook.emitted("plant", [event()], 10)
    hook.received("plant", [event()], 10)
    hook.handled("plant", event(), "app.Tank.fill", 0.002)

    def dated() -> set[str]:
        return {
            sample.name for family in registry.collect() for sample in family.samples if sample.name.endswith("_created")
        }

    assert dated() == {
        f"eventbus_{name}_created"
        for name in (
            "emitted_events",
            "emitted_bytes",
            "received_events",
            "received_bytes",
            "handler_duration_seconds",
            "rejected_messages",
            "dropped_events",
            "state_changes",
        )
    }
    disable_created_metrics()  # type: ignore[no-untyped-call] # prometheus-client has no types there
    try:
        assert dated() == set()
    finally:
        enable_created_metrics()  # type: ignore[no-untyped-call] # as above


def test_some_names_can_be_scraped_alone(hook: PrometheusHook, registry: CollectorRegistry) -> None:
    """A scrape may ask for some names, and gets these with what was counted until then."""
    hook.emitted("plant", [event()], 10)
    hook.handled("plant", event(), "app.Tank.fill", 0.002)
    names = {"eventbus_emitted_bytes_total": 10, "eventbus_handler_duration_seconds_count": 1}
    asked = registry.restricted_registry(names)
    assert {sample.name: sample.value for family in asked.collect() for sample in family.samples} == names


# Many clients, and strangers


def test_hooks_share_a_registry(registry: CollectorRegistry, value: Value) -> None:
    """Two clients of a process, each with a hook, count into the same metrics; another registry has its own."""
    one, two, elsewhere = PrometheusHook(registry), PrometheusHook(registry), PrometheusHook(CollectorRegistry())
    one.emitted("plant", [event()], 10)
    two.emitted("plant", [event()], 10)
    elsewhere.emitted("plant", [event()], 10)
    one.state_changed(change(CLOSED, READY))
    two.state_changed(change(CLOSED, READY))
    assert value("eventbus_emitted_events_total", topic="plant") == 2
    assert value("eventbus_clients", state="ready") == 2


def test_a_registry_is_not_kept_alive() -> None:
    """The part of a registry that hooks share goes with it."""
    registry = CollectorRegistry()
    gone = weakref.ref(registry)
    PrometheusHook(registry).emitted("plant", [event()], 10)
    del registry
    gc.collect()
    assert gone() is None


def test_invented_topics_count_together(hook: PrometheusHook, registry: CollectorRegistry, value: Value) -> None:
    """After a hundred received topics all others count as one, and emitted ones keep their own."""
    PrometheusHook(registry).received("plant", [event()], 10)
    for number in range(10 * LIMIT):
        hook.received(f"invented-{number}", [event()], 10)
    hook.received("plant", [event()], 10)
    hook.emitted("tank", [event()], 10)
    assert value("eventbus_received_events_total", topic="plant") == 2
    assert value("eventbus_received_events_total", topic=OTHER) == 10 * LIMIT - (LIMIT - 1)
    assert value("eventbus_emitted_events_total", topic="tank") == 1


@pytest.mark.parametrize("topic", ["new\nline", '"quoted"\\', "\x1b[31m", "\u202eabc", "é\ud800", "x" * 10_000, ""])
def test_any_topic_can_be_scraped(hook: PrometheusHook, registry: CollectorRegistry, topic: str) -> None:
    """Whatever a topic is called, the registry can be written as text, with one sample in each line."""
    hook.received(topic, [event()], 10)
    text = generate_latest(registry).decode()
    [line] = [line for line in text.split("\n") if line.startswith("eventbus_received_events_total{")]
    assert line.endswith("} 1.0")
    assert line.isprintable()


def test_errors_are_bounded(hook: PrometheusHook, registry: CollectorRegistry) -> None:
    """A handler that raises ever new classes of errors makes a bounded number of series, and all handlers few types."""
    for number in range(100):
        hook.handler_failed("plant", event(), "app.fails", 0.1, type(f"Error{number}", (Exception,), {})())

    def samples(name: str) -> list[Sample]:
        [family] = [family for family in registry.collect() if family.name == name]
        return [sample for sample in family.samples if sample.name == f"{name}_total"]

    counts = samples("eventbus_handler_errors")
    assert len(counts) == prometheus.MAX_ERROR_TYPES + 1
    assert sum(sample.value for sample in counts) == 100
    for number in range(1_000):
        error = type(f"Error{number}", (Exception,), {})()
        hook.handler_failed("plant", event(), f"app.fails_{number % 50}", 0.1, error)
    assert len({sample.labels["error_type"] for sample in samples("eventbus_handler_errors")}) <= LIMIT + 1


def test_members_of_enums_are_topics(hook: PrometheusHook, value: Value) -> None:
    """A topic that comes as a member of its enum counts under its value."""

    class Topic(BaseEventTopic):
        plant = "plant/1"

    hook.emitted(Topic.plant, [event()], 10)
    assert value("eventbus_emitted_events_total", topic="plant/1") == 1


def test_threads_share_a_hook(hook: PrometheusHook, value: Value) -> None:
    """Calls from many threads at once are all counted."""

    def tell(number: int) -> None:
        for count in range(500):
            hook.emitted(f"topic-{count % 5}", [event()], 1)
            hook.handled("plant", event(), "app.handle", 0.001)

    run_threads(8, tell)
    assert sum(value("eventbus_emitted_events_total", topic=f"topic-{count}") or 0 for count in range(5)) == 4_000
    assert value("eventbus_handler_duration_seconds_count", handler="app.handle", outcome="success") == 4_000


IN_ONE_OF_MANY = """
from eventbus import ClientState, StateChange
from eventbus.telemetry.prometheus import PrometheusHook
hook = PrometheusHook()
hook.emitted("plant", [object()], 10)
hook.received("plant", [object(), object()], 25)
hook.handled("plant", object(), "app.handle", 0.001)
hook.handler_failed("plant", object(), "app.handle", 0.3, ValueError())
hook.state_changed(StateChange(ClientState.CLOSED, ClientState.READY, "a test"))
"""


@pytest.mark.process
def test_multiprocess_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PROMETHEUS_MULTIPROC_DIR the metrics of several processes add up, for servers that fork."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for _ in range(2):
        assert run_script(IN_ONE_OF_MANY).returncode == 0
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call] # prometheus-client has no types there
    assert together.get_sample_value("eventbus_emitted_events_total", {"topic": "plant"}) == 2
    assert together.get_sample_value("eventbus_received_events_total", {"topic": "plant"}) == 4
    assert together.get_sample_value("eventbus_received_bytes_total", {"topic": "plant"}) == 50
    failed = {"handler": "app.handle", "outcome": "error"}
    assert together.get_sample_value("eventbus_handler_duration_seconds_bucket", failed | {"le": "0.5"}) == 2
    labels = {"handler": "app.handle", "outcome": "success"}
    assert together.get_sample_value("eventbus_handler_duration_seconds_count", labels) == 2
    assert together.get_sample_value("eventbus_clients", {"state": "ready"}) == 2
