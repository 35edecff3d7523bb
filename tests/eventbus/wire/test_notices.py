"""The notices that tell publishers what they were denied, and how large a payload may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.wire.frames import PRIVATE, TOKEN_BYTES
from eventbus.wire.notices import MIN_PAYLOAD_LIMIT, Action, DenialNotice, LimitNotice

SERIAL = bytes(range(16))
KEY = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"


@given(topic=st.binary(max_size=300), count=st.integers(1, 2**64), action=st.sampled_from(Action))
def test_a_frame_says_what_was_denied(topic: bytes, count: int, action: Action) -> None:
    """A notice is read as it was written, with its topic cut off, and escaped where it is no text."""
    read = DenialNotice.of(DenialNotice(KEY, action, topic, count).frame())
    expected = topic[:255].decode(errors="backslashreplace").encode()[:255]
    assert read == DenialNotice(KEY, action, expected, count)
    lasting = DenialNotice(KEY, action, topic, count).lasting_frame(SERIAL)
    assert DenialNotice.of(lasting) == read
    assert LimitNotice.of(lasting) is None
    assert lasting.startswith(b"\x01" + PRIVATE)
    assert len(lasting) > 1 + TOKEN_BYTES, "under rules, clients may send tokens of this length upstream"


@given(frame=st.binary(max_size=100))
def test_other_frames_say_nothing(frame: bytes) -> None:
    """Any other frame is no notice."""
    assert DenialNotice.of(frame) is None
    assert DenialNotice.of(b"\x02" + frame) is None
    assert DenialNotice.of(b"\x01\xff\x02" + frame) is None


@pytest.mark.parametrize(
    "text",
    [
        '["key", "publish", "topic", 0]',
        '["key", "publish", "topic", true]',
        '["key", "publish", "topic", 1.5]',
        '["key", "eat", "topic", 1]',
        '["key", ["publish"], "topic", 1]',
        '[1, "publish", "topic", 1]',
        '["key", "publish", ["topic"], 1]',
        '["key", "publish", "topic"]',
        '{"key": 1, "action": 2, "topic": 3, "count": 4}',
        "[" * 100_000,
        "",
    ],
)
def test_half_a_frame_says_nothing(text: str) -> None:
    """A frame in which something is missing or wrong is no notice: any client may send such frames."""
    assert DenialNotice.of(b"\x02" + text.encode()) is None
    assert DenialNotice.of(b"\x01\xff\x02" + SERIAL + text.encode()) is None


@given(limit=st.integers(MIN_PAYLOAD_LIMIT, 2**70), run=st.text(min_size=16, max_size=40))
def test_a_limit_is_read_as_it_was_written(limit: int, run: str) -> None:
    """The frame of a limit is a subscription, and is read as it was written; it is no denial, and no token."""
    notice = LimitNotice(limit, run)
    frame = notice.frame()
    assert LimitNotice.of(frame) == notice
    assert DenialNotice.of(frame) is None
    assert frame.startswith(b"\x01" + PRIVATE)


def test_a_limit_is_longer_than_a_token() -> None:
    """No limit has the length of a token, which under rules is all that clients may send upstream; and none is read."""
    run = "0123456789abcdef"
    assert len(LimitNotice(MIN_PAYLOAD_LIMIT, run).frame()) > 1 + TOKEN_BYTES
    frames = [LimitNotice(MIN_PAYLOAD_LIMIT, run[:length]).frame() for length in range(len(run))]
    [token] = [frame for frame in frames if len(frame) == 1 + TOKEN_BYTES]
    assert LimitNotice.of(token) is None


@given(frame=st.binary(max_size=100))
def test_other_frames_tell_no_limit(frame: bytes) -> None:
    """Any other frame tells no limit."""
    assert LimitNotice.of(frame) is None
    assert LimitNotice.of(b"\x01\xff\0" + frame) is None


@pytest.mark.parametrize(
    "text", ["[]", '[1023, "x"]', '[-1, "x"]', '[true, "x"]', '[1e9, "x"]', "[5000]", "[5000, 1]", "5000", "[" * 100_000, ""]
)
def test_a_limit_that_is_none(text: str) -> None:
    """A limit that no proxy has, or half a notice, is none: any client may send such frames."""
    for padded in (text, text.ljust(TOKEN_BYTES)):  # also longer than a token, which is none in any case
        assert LimitNotice.of(b"\x01\xff\0" + padded.encode()) is None


@pytest.mark.parametrize(
    ("action", "topic", "text"),
    [
        (Action.SUBSCRIBE, b"plant", "subscribe on topic b'plant'"),
        (Action.SUBSCRIBE, b"", "subscribe to all topics"),
        (Action.PUBLISH, b"", "publish on topic b''"),
    ],
)
def test_what_is_denied_in_words(action: Action, topic: bytes, text: str) -> None:
    """An empty topic stands for all topics, if somebody subscribes to it."""
    assert action.on(topic) == text
