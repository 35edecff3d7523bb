"""Counting what happens to events, and logging drops once a minute."""

import logging
import re
from dataclasses import FrozenInstanceError

import pytest

from eventbus import DropReason, EventBusStats, RejectReason
from eventbus._base.log_throttle import LogThrottle
from eventbus.observe.stats import MAX_UNKNOWN_TYPES, Counters, DropLog
from eventbus.settings import EventBusSettings
from tests.eventbus._base.test_log_throttle import Clock
from tests.support import run_threads


def snapshot(counters: Counters) -> EventBusStats:
    """The counts, with nothing from others."""
    return counters.snapshot(emitted=0, received=0, unread=0, malformed=0, drops={})


def test_counters_add_up() -> None:
    """A snapshot holds what was added, with what buffer and transport have counted, by reason and as totals."""
    counters = Counters()
    counters.add(handled=2)
    counters.add(handler_errors=1)
    counters.reject(RejectReason.JSON)
    counters.reject(RejectReason.FRAMES, 3)
    counters.drops.add(DropReason.STOPPED)
    counters.drops.add(DropReason.SEND_BUFFER, 2)
    assert counters.snapshot(
        emitted=9, received=3, unread=5, malformed=2, drops={DropReason.SEND_BUFFER: 4, DropReason.CLOSED: 1}
    ) == EventBusStats(
        emitted=9,
        received=3,
        handled=2,
        handler_errors=1,
        rejected=6,
        dropped=13,
        rejects={RejectReason.FRAMES: 5, RejectReason.JSON: 1},
        drops={DropReason.UNREAD: 5, DropReason.STOPPED: 1, DropReason.SEND_BUFFER: 6, DropReason.CLOSED: 1},
    )


def test_unknown_types_are_counted_by_name() -> None:
    """Each unknown type has a count of its own, and its first occurrence is recognised."""
    counters = Counters()
    assert counters.reject(RejectReason.TYPE, unknown_type="a")
    assert not counters.reject(RejectReason.TYPE, unknown_type="a")
    assert counters.reject(RejectReason.TYPE, 2, unknown_type="b")
    assert not counters.reject(RejectReason.SCHEMA)
    assert snapshot(counters).unknown_types == {"a": 2, "b": 2}
    assert snapshot(counters).rejects == {RejectReason.TYPE: 4, RejectReason.SCHEMA: 1}


def test_unknown_types_do_not_fill_memory() -> None:
    """Types beyond those that are counted by name count as rejected only, and none of them is a first one."""
    counters = Counters()
    firsts = [counters.reject(RejectReason.TYPE, unknown_type=str(number)) for number in range(3 * MAX_UNKNOWN_TYPES)]
    assert not counters.reject(RejectReason.TYPE, unknown_type="0")
    assert firsts == [True] * MAX_UNKNOWN_TYPES + [False] * 2 * MAX_UNKNOWN_TYPES
    stats = snapshot(counters)
    assert stats.rejected == 3 * MAX_UNKNOWN_TYPES + 1
    assert stats.unknown_types == {"0": 2} | {str(number): 1 for number in range(1, MAX_UNKNOWN_TYPES)}


def test_only_reasons_that_occurred() -> None:
    """If nothing was dropped or rejected, no reason is mentioned."""
    assert snapshot(Counters()) == EventBusStats()
    assert (EventBusStats().drops, EventBusStats().rejects, EventBusStats().unknown_types) == ({}, {}, {})


def test_stats_do_not_change() -> None:
    """Stats are frozen, their mappings too, and what is counted later does not get into them."""
    counters = Counters()
    counters.drops.add(DropReason.STOPPED)
    stats = snapshot(counters)
    counters.drops.add(DropReason.STOPPED)
    counters.drops.add(DropReason.CLOSED)
    counters.reject(RejectReason.TYPE, unknown_type="a")
    assert (stats.dropped, stats.drops, stats.rejects) == (1, {DropReason.STOPPED: 1}, {})
    assert stats.unknown_types == {}
    with pytest.raises(FrozenInstanceError):
        stats.dropped = 0  # type: ignore[misc] # mypy knows it, too
    for mapping in (stats.drops, stats.rejects, EventBusStats().drops, counters.drops.counts):
        with pytest.raises(TypeError):
            mapping[DropReason.CLOSED] = 1  # type: ignore[index] # mypy knows it, too
    with pytest.raises(TypeError):
        stats.unknown_types["a"] = 1  # type: ignore[index] # mypy knows it, too


def test_counters_lose_nothing_between_threads() -> None:
    """Adding from many threads at once loses no count."""
    counters = Counters()

    def add(_number: int) -> None:
        for _ in range(2_000):
            counters.add(handled=1)
            counters.reject(RejectReason.JSON)
            counters.drops.add(DropReason.CLOSED)

    run_threads(4, add)
    stats = snapshot(counters)
    assert (stats.handled, stats.rejected, stats.dropped) == (8_000, 8_000, 8_000)


def test_a_drop_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """The first drop of a reason is warned about, then once a minute how many they were since; the fields say the same."""
    clock = Clock()
    drops = DropLog(LogThrottle(60.0, clock))
    drops.add(DropReason.RECEIVE_BUFFER, 3)
    for _ in range(1_000):
        drops.add(DropReason.RECEIVE_BUFFER, 2)
    clock.now = 60.0
    drops.add(DropReason.RECEIVE_BUFFER)
    first, then = caplog.records
    assert first.message.startswith("dropped 3 received events")
    assert then.message.startswith("dropped 2001 received events")
    assert (then.levelno, vars(then)["eventbus_reason"], vars(then)["eventbus_count"]) == (
        logging.WARNING,
        "receive_buffer",
        2_001,
    )
    assert drops.counts == {DropReason.RECEIVE_BUFFER: 2_004}


def test_the_rest_is_said_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """flush() says what the last minute has held back, if anything."""
    drops = DropLog(LogThrottle(60.0, Clock()))
    drops.add(DropReason.SEND_BUFFER)
    drops.add(DropReason.STOPPED)
    drops.add(DropReason.SEND_BUFFER, 41)
    caplog.clear()
    drops.flush()
    drops.flush()
    assert [line.split(":")[0] for line in caplog.messages] == ["dropped 41 emitted events"]


def test_what_nobody_has_sent_is_counted_but_not_said(caplog: pytest.LogCaptureFixture) -> None:
    """A quiet log counts and tells its listener, but writes no line: `eventbus top` asks for names by itself."""
    drops, heard = DropLog(LogThrottle(60.0, Clock())), []
    drops.is_quiet = True
    drops.listener = lambda reason, count: heard.append((reason, count))
    drops.add(DropReason.CLOSED)
    drops.add(DropReason.CLOSED, 2)
    drops.flush()
    assert heard == [(DropReason.CLOSED, 1), (DropReason.CLOSED, 2)]
    assert drops.counts == {DropReason.CLOSED: 3}
    assert caplog.messages == []


@pytest.mark.parametrize(
    "reason", sorted(set(DropReason) - {DropReason.UNREAD, DropReason.DENIED, DropReason.UNWANTED_ANSWER})
)
def test_each_line_names_what_to_turn(reason: DropReason, caplog: pytest.LogCaptureFixture) -> None:
    """A line about drops names the variables that matter, and there are such."""
    DropLog().add(reason)
    named = re.findall(r"EVENTBUS_\w+", caplog.messages[0])
    assert named
    assert set(named) <= {EventBusSettings.variable(field) for field in EventBusSettings.model_fields}


def test_what_nobody_ever_reads_is_counted_but_not_said(caplog: pytest.LogCaptureFixture) -> None:
    """A service that has callbacks only does nothing wrong."""
    drops = DropLog()
    drops.add(DropReason.UNREAD, 5)
    drops.add(DropReason.UNREAD, 5)
    drops.flush()
    assert (drops.counts, caplog.messages) == ({DropReason.UNREAD: 10}, [])
