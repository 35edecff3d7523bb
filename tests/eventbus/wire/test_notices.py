"""The notice that tells a client what it was denied."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.wire.notices import Action, DenialNotice

KEY = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"


@given(topic=st.binary(max_size=300), count=st.integers(1, 2**64), action=st.sampled_from(Action))
def test_a_frame_says_what_was_denied(topic: bytes, count: int, action: Action) -> None:
    """A notice is read as it was written, with its topic cut off, and escaped where it is no text."""
    read = DenialNotice.of(DenialNotice(KEY, action, topic, count).frame())
    expected = topic[:255].decode(errors="backslashreplace").encode()[:255]
    assert read == DenialNotice(KEY, action, expected, count)


@given(frame=st.binary(max_size=100))
def test_other_frames_say_nothing(frame: bytes) -> None:
    """Any other frame is no notice."""
    assert DenialNotice.of(frame) is None
    assert DenialNotice.of(b"\x02" + frame) is None


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
