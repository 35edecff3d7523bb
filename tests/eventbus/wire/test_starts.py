"""`From`: where subscriptions begin, which of two begins earlier, and what a historian is asked."""

from datetime import timedelta
from itertools import pairwise

import pytest

from eventbus.nats_options import start_time
from eventbus.policies import Start
from eventbus.wire.history import Query
from eventbus.wire.starts import From, start_of

WIDEST_FIRST = [From(Start.ALL), From(None, 1.0), From(None, 2.0), From(Start.LAST), From(Start.NEW)]


def test_the_wider_start_wins() -> None:
    """Of two starts, the one with more events is taken, whichever comes first."""
    for wide, narrow in pairwise(WIDEST_FIRST):
        assert wide.wider(narrow) == narrow.wider(wide) == wide


def test_a_start_becomes_a_query() -> None:
    """A historian is asked for all, for the last, or for what is newer than a time; then for what has come since."""
    topics = (b"plant",)
    assert start_of("all").query(topics) == Query(topics)
    assert start_of("last").query(topics) == Query(topics, last=1)
    assert start_of("1970-01-01T00:00:02+00:00").query(None) == Query(None, since=2.0)


@pytest.mark.parametrize("ago", ["800000d", "9" * 400 + "d"])
def test_longer_ago_than_any_calendar(ago: str) -> None:
    """A start before the first year that calendars know is one, and means everything."""
    query = start_of(ago).query(None)
    assert Query.decode(query.encode()) == query == Query(None, since=0.0)
    assert start_time(ago).year == 1970
    assert start_of(timedelta.max).since == 0.0
