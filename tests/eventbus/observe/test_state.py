"""`Status`: the state of a client, the threads that wait for it, and the listeners to its changes."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from threading import Event

import pytest

from eventbus._base.deadline import Deadline
from eventbus.errors import NotConnected, ReconnectFailed
from eventbus.observe.state import ClientState, StateChange, Status
from tests.support import PATIENCE, eventually, fields_of, in_thread, is_waiting, run_threads

CONNECTING, READY, DEGRADED, CLOSED = (
    ClientState.CONNECTING,
    ClientState.READY,
    ClientState.DEGRADED,
    ClientState.CLOSED,
)


@pytest.fixture
def status() -> Status:
    return Status("nowhere")


class Changes:
    """A listener that keeps the changes that it gets."""

    def __init__(self) -> None:
        self.seen: list[StateChange] = []

    def __call__(self, change: StateChange) -> None:
        self.seen.append(change)

    def wait_for(self, *states: ClientState) -> None:
        """Return when it has got exactly these states, in order."""
        with suppress(AssertionError):
            eventually(lambda: self.states == list(states), PATIENCE)
        assert self.states == list(states)

    @property
    def states(self) -> list[ClientState]:
        return [change.state for change in self.seen]


class Held:
    """A listener that does not return before it is let go."""

    def __init__(self) -> None:
        self.entered, self.go = Event(), Event()

    def __call__(self, change: StateChange) -> None:
        self.entered.set()
        assert self.go.wait(PATIENCE)


def telling() -> bool:
    """Whether a listener is being called at this moment."""
    return any(thread.name == "eventbus-state" for thread in threading.enumerate())


def closes() -> ReconnectFailed:
    return ReconnectFailed("nowhere", 3)


# The state


def test_it_begins_closed(status: Status) -> None:
    """A status that nobody has changed is CLOSED, without a failure and without an echo."""
    assert status.state is CLOSED
    status.raise_failure()
    assert (status.round_trip, status.echo_age) == (None, None)


def test_a_change_is_told_with_its_reason(status: Status) -> None:
    """A listener gets the state before, the one from now on, and the reason."""
    changes = Changes()
    status.listen(changes)
    status.change(CONNECTING, "opened")
    changes.wait_for(CONNECTING)
    assert status.state is CONNECTING
    assert changes.seen == [StateChange(CLOSED, CONNECTING, "opened")]


def test_the_same_state_is_no_change(status: Status) -> None:
    """A change to the state that it has already is not reported."""
    changes = Changes()
    status.listen(changes)
    for state in (CLOSED, READY, READY, READY, DEGRADED):
        status.change(state, "seen")
    changes.wait_for(READY, DEGRADED)


@pytest.mark.parametrize(
    ("state", "level"), [(CONNECTING, logging.INFO), (READY, logging.INFO), (DEGRADED, logging.WARNING)]
)
def test_a_change_is_logged(status: Status, state: ClientState, level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Each change is one line with the reason: losing the path is a warning, the rest is for information."""
    caplog.set_level(logging.INFO)
    status.change(state, "the reason")
    status.change(state, "another reason")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (level, f"event bus {state}, was closed, at nowhere: the reason")
    ]
    assert fields_of(caplog.records[0]) == {
        "eventbus_state": str(state),
        "eventbus_before": "closed",
        "eventbus_reason": "the reason",
        "eventbus_endpoints": "nowhere",
    }


@pytest.mark.parametrize("trouble", ["degraded", "diagnosed", "overdue"])
def test_recovery_has_the_level_of_the_trouble(status: Status, trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    """The end of a trouble logged as a warning is logged as one, once; closing, and what comes after it, as INFO."""
    caplog.set_level(logging.INFO)
    status.change(CONNECTING, "opened")
    if trouble == "degraded":
        status.change(READY, "proven")
        status.change(DEGRADED, "down")
    elif trouble == "diagnosed":
        assert status.note_diagnosis(lambda: NotConnected("nowhere"), if_=lambda: True)
        assert not status.note_trouble()  # something better is known
    else:
        assert status.note_trouble()
    caplog.clear()
    status.change(READY, "proven again")
    status.change(CLOSED, "closed")
    status.change(CONNECTING, "opened")
    status.change(READY, "proven")
    assert [record.levelno for record in caplog.records] == [logging.WARNING, *[logging.INFO] * 3]
    text = "event bus ready again after 0.0 s, at nowhere: proven again" if trouble == "degraded" else "was connecting"
    assert text in caplog.records[0].getMessage()
    assert not status.note_trouble()


def test_an_echo_is_noted(status: Status) -> None:
    """`round_trip` is that of the last echo, `echo_age` the time since it came."""
    status.proven(0.25)
    status.proven(0.5)
    assert status.round_trip == 0.5
    age = status.echo_age
    assert age is not None
    assert 0 <= age < PATIENCE
    eventually(lambda: (status.echo_age or 0) > age)


# Telling


def test_changes_are_told_in_order(status: Status) -> None:
    """With any threads changing the state, each listener gets an unbroken chain: each change begins where the last ended."""
    one, two = Changes(), Changes()
    status.listen(one)
    status.listen(two)
    states = (CONNECTING, READY, DEGRADED, CLOSED)

    def change(thread: int) -> None:
        for number in range(100):
            status.change(states[(thread + number) % 4], f"{thread} {number}")

    run_threads(4, change)
    eventually(lambda: not telling())
    assert one.seen == two.seen
    assert one.seen[0].before is CLOSED
    assert one.seen[-1].state is status.state
    assert [change.state for change in one.seen[:-1]] == [change.before for change in one.seen[1:]]
    assert all(change.before is not change.state for change in one.seen)


def test_a_slow_listener_holds_up_nobody_but_listeners(status: Status) -> None:
    """The state can change, be read and be awaited while a listener is slow; the changes that it misses come after it."""
    held, changes = Held(), Changes()
    status.listen(held)
    status.listen(changes)
    status.change(CONNECTING, "")
    assert held.entered.wait(PATIENCE)
    status.change(READY, "")
    status.change(DEGRADED, "")
    status.change(READY, "")
    assert status.wait_ready(Deadline(3_600))
    assert changes.seen == []
    held.go.set()
    changes.wait_for(CONNECTING, READY, DEGRADED, READY)


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_failing_listener_is_logged(status: Status, error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """A listener's exception is logged with the change; the others get the change, and it gets the next one."""

    def fail(change: StateChange) -> None:
        raise error("on purpose")

    changes = Changes()
    status.listen(fail)
    status.listen(changes)
    status.change(CONNECTING, "opened")
    status.change(READY, "proven")
    changes.wait_for(CONNECTING, READY)
    eventually(lambda: len([record for record in caplog.records if record.exc_info]) == 2)
    assert "opened" in caplog.text
    assert "on purpose" in caplog.text


def test_no_thread_stays(status: Status) -> None:
    """The thread that tells exists only while there is something to tell, and never without a listener."""
    eventually(lambda: not telling())  # that of another test
    status.change(CONNECTING, "")
    assert not telling()
    for state in (READY, CONNECTING):
        held = Held()
        stop = status.listen(held)
        status.change(state, "")
        assert held.entered.wait(PATIENCE)
        assert telling()
        held.go.set()
        eventually(lambda: not telling())
        stop()


# Listening


def test_a_listener_hears_only_what_comes_after_it(status: Status) -> None:
    """A listener does not get a change from before it listened, though others are still being called with it."""
    held, late = Held(), Changes()
    status.listen(held)
    status.change(CONNECTING, "")
    status.change(READY, "")
    assert held.entered.wait(PATIENCE)
    status.listen(late)
    status.change(DEGRADED, "")
    held.go.set()
    late.wait_for(DEGRADED)


def test_a_listener_that_has_stopped_hears_nothing(status: Status) -> None:
    """After stopping, which may be done twice, no change is reported any more, not even an earlier one."""
    held, gone, stays = Held(), Changes(), Changes()
    status.listen(held)
    stop = status.listen(gone)
    status.listen(stays)
    status.change(CONNECTING, "")
    status.change(READY, "")
    assert held.entered.wait(PATIENCE)
    stop()
    stop()
    held.go.set()
    stays.wait_for(CONNECTING, READY)
    assert gone.seen == []


def test_a_listener_that_listens_twice_is_told_twice(status: Status) -> None:
    """Each registration is called, and stopped, by itself."""
    changes = Changes()
    stop = status.listen(changes)
    status.listen(changes)
    status.change(CONNECTING, "")
    changes.wait_for(CONNECTING, CONNECTING)
    stop()
    stop()
    status.change(READY, "")
    changes.wait_for(CONNECTING, CONNECTING, READY)


def test_a_listener_may_call_everything(status: Status) -> None:
    """A listener may change the state, wait for it, listen to it and fail it; its own changes are reported later."""
    changes, inner = Changes(), Changes()
    answers: list[object] = []

    def call_back(change: StateChange) -> None:
        if change.state is CONNECTING:
            status.listen(inner)
            status.change(READY, "from inside")
            answers.append(status.state)
            answers.append(status.wait_ready(Deadline(3_600)))
            status.proven(0.1)
        elif change.state is READY:
            stop()
            status.fail(closes)

    stop = status.listen(call_back)
    status.listen(changes)
    status.change(CONNECTING, "")
    changes.wait_for(CONNECTING, READY, CLOSED)
    inner.wait_for(READY, CLOSED)
    assert answers == [READY, True]
    with pytest.raises(ReconnectFailed):
        status.raise_failure()


def test_a_listener_may_change_it_without_end(status: Status) -> None:
    """A listener that answers each change with the next one does not exhaust the stack, and others get each change."""
    left = [READY, DEGRADED] * 2_000
    changes = Changes()
    status.listen(lambda change: status.change(left.pop(), "") if left else None)
    status.listen(changes)
    status.change(CONNECTING, "")
    eventually(lambda: len(changes.seen) == 4_001)


# Waiting


def test_waiting_for_what_is_there(status: Status) -> None:
    """wait_ready() on a READY status is True at once, also without time."""
    status.change(READY, "")
    assert status.wait_ready(Deadline(0))


def test_waiting_for_what_is_closed(status: Status) -> None:
    """wait_ready() on a CLOSED status is False at once: nothing will make it ready by itself."""
    with in_thread(lambda: status.wait_ready(Deadline(3_600))):
        pass
    assert not status.wait_ready(Deadline(0))


@pytest.mark.parametrize("state", [CONNECTING, DEGRADED])
def test_waiting_in_vain(status: Status, state: ClientState) -> None:
    """wait_ready() is False when the time is up."""
    status.change(state, "")
    assert not status.wait_ready(Deadline(0))
    assert not status.wait_ready(Deadline(0.02))


@pytest.mark.parametrize("end", [lambda status: status.change(CLOSED, ""), lambda status: status.fail(closes)])
@pytest.mark.parametrize("ready", [True, False])
def test_each_waiting_thread_goes_on(status: Status, ready: bool, end: Callable[[Status], None]) -> None:
    """Each waiting thread goes on when the state is READY, or CLOSED in either way."""
    status.change(CONNECTING, "")
    found: list[bool] = []

    def wait() -> None:
        found.append(status.wait_ready(Deadline(3_600)))

    with in_thread(wait) as one, in_thread(wait) as two:
        eventually(lambda: is_waiting(one) and is_waiting(two))
        if ready:
            status.change(READY, "")
        else:
            end(status)
    assert found == [ready, ready]


def test_other_changes_end_no_waiting(status: Status) -> None:
    """Between CONNECTING and DEGRADED one goes on waiting."""
    status.change(CONNECTING, "")
    found: list[ClientState] = []

    def wait() -> None:
        status.wait_ready(Deadline(3_600))
        found.append(status.state)

    with in_thread(wait) as waiting:
        for state in [DEGRADED, CONNECTING] * 20:
            eventually(lambda: is_waiting(waiting))
            status.change(state, "")
        status.change(READY, "")
    assert found == [READY]


# Failing


def test_a_failure_is_raised_anew_each_time(status: Status, caplog: pytest.LogCaptureFixture) -> None:
    """fail() makes the state CLOSED, reported and logged as an error once; each raise_failure() has an error of its own."""
    changes = Changes()
    status.listen(changes)
    status.change(CONNECTING, "")
    status.fail(closes)
    changes.wait_for(CONNECTING, CLOSED)
    assert changes.seen[-1].reason == str(closes())
    assert [record.levelno for record in caplog.records if str(closes()) in record.getMessage()] == [logging.ERROR]
    errors = []
    for _ in range(2):
        with pytest.raises(ReconnectFailed, match="3 attempts") as caught:
            status.raise_failure()
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_a_failure_ends_with_the_next_opening(status: Status) -> None:
    """A failure stays through further closing, and is over once the state is another one."""
    status.change(READY, "")
    status.fail(closes)
    status.change(CLOSED, "closed")
    with pytest.raises(ReconnectFailed):
        status.raise_failure()
    status.change(CONNECTING, "opened")
    status.raise_failure()
    status.change(CLOSED, "closed")
    status.raise_failure()


def test_a_failure_is_there_before_it_is_told(status: Status) -> None:
    """A thread that learns that the state is CLOSED, by waiting or listening, finds the failure that caused it."""
    found: list[str] = []

    def look(_: object) -> None:
        try:
            status.raise_failure()
        except ReconnectFailed:
            found.append("failure")

    for number in range(50):
        status.change(CONNECTING, "")
        stop = status.listen(look)
        with in_thread(lambda: look(status.wait_ready(Deadline(3_600)))) as waiting:
            eventually(lambda waiting=waiting: is_waiting(waiting))  # type: ignore[misc] # mypy cannot infer a lambda's default
            status.fail(closes)
        eventually(lambda number=number: len(found) == 2 * number + 2)  # type: ignore[misc] # as above
        stop()


def test_logging_holds_up_nobody(status: Status) -> None:
    """While a log handler writes down a change or a failure, other threads ask, wait and change as ever."""
    entered, go = Event(), Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            assert go.wait(PATIENCE)

    handler = Slow()
    logger = logging.getLogger("eventbus")
    status.change(DEGRADED, "")
    logger.addHandler(handler)
    try:
        with in_thread(lambda: status.fail(closes)):
            assert entered.wait(PATIENCE)
            with in_thread(lambda: status.wait_ready(Deadline(3_600))):
                pass
            assert status.state is CLOSED
            go.set()
    finally:
        logger.removeHandler(handler)
