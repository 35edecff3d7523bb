"""A list of notices that no storm can fill."""

from eventbus.ui.notices import Level, NoticeList


def test_the_same_counts() -> None:
    """The same text of the same kind within a minute is one notice, which says how often and when."""
    notices = NoticeList()
    notices.add(Level.ERROR, "lost", "events on plant", 100.0, 3)
    notices.add(Level.ERROR, "lost", "events on other", 101.0)
    notices.add(Level.ERROR, "lost", "events on plant", 130.0, 2)
    notices.add(Level.ERROR, "lost", "events on plant", 191.0)
    assert [(notice.number, notice.text, notice.count, notice.first, notice.last) for notice in notices.since(0)] == [
        (2, "events on other", 1, 101.0, 101.0),
        (1, "events on plant", 5, 100.0, 130.0),
        (3, "events on plant", 1, 191.0, 191.0),
    ]


def test_what_has_changed() -> None:
    """`since` has new and changed notices, the one that changed last at the end."""
    notices = NoticeList()
    notices.add(Level.INFO, "state", "ready", 1.0)
    notices.add(Level.INFO, "state", "degraded", 2.0)
    version = notices.version
    assert notices.since(version) == []
    notices.add(Level.INFO, "state", "ready", 3.0)
    notices.add(Level.INFO, "log", "ready", 3.0)
    assert [(notice.kind, notice.text, notice.count) for notice in notices.since(version)] == [
        ("state", "ready", 2),
        ("log", "ready", 1),
    ]


def test_it_is_bounded() -> None:
    """Old notices go, texts are cut off and printable."""
    notices = NoticeList(limit=10)
    for number in range(1_000):
        notices.add(Level.ERROR, "rejected", f"{number}\n\x1b{'x' * 1_000}", float(number))
    kept = notices.since(0)
    assert [notice.text.partition("\\")[0] for notice in kept] == [str(number) for number in range(990, 1_000)]
    assert all(len(notice.text) <= 500 and notice.text.isprintable() for notice in kept)
