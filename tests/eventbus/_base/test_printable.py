"""Text of others for people to read."""

import json

from hypothesis import given
from hypothesis import strategies as st

from eventbus._base.printable import counted, printable, printable_json

ANY_TEXT = st.text(st.characters() | st.sampled_from("\ud800\udfff\x1b\n\r\x07\x7f\x9b\u2028\u202e\u200b\ufeff\U000e0001"))


def test_what_prints_stays() -> None:
    """Letters of any language, signs and spaces are text as it is, backslashes and quotes too."""
    text = "größer 事件 'quoted' \"twice\" a\\b {}%s"
    assert printable(text) == text


def test_what_does_not_print_is_escaped() -> None:
    """Control characters, line ends of any kind, what turns the direction of writing, and halves of characters."""
    assert printable("a\x1b[31m\r\n\x00\x7f\x9b") == r"a\x1b[31m\r\n\x00\x7f\x9b"
    assert printable("\u2028\u202e\u2066\u200b\ufeff\ud800\U000e0001") == r"\u2028\u202e\u2066\u200b\ufeff\ud800\U000e0001"


def test_what_is_long_is_cut_off() -> None:
    """No more comes out than the limit allows; the end tells that there was more."""
    assert printable("abcde", 5) == "abcde"
    assert printable("abcdef", 5) == "abcd…"
    assert printable("\n\n\n", 5) == "\\n\\n…"


@given(ANY_TEXT, st.integers(1, 50))
def test_any_text(text: str, limit: int) -> None:
    """Whatever the text: what comes out prints, can be encoded, is within the limit, and a second pass changes nothing."""
    shown = printable(text, limit)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert len(shown) <= limit
    assert printable(shown, limit) == shown


@given(ANY_TEXT)
def test_any_json(text: str) -> None:
    """It prints, and means the same; what prints stays."""
    shown = printable_json(json.dumps([text], ensure_ascii=False))
    assert shown.isprintable()
    assert json.loads(shown) == [text]
    assert printable_json('["größer 事件"]') == '["größer 事件"]'


def test_counts_have_their_noun() -> None:
    """One of them is not several."""
    assert [counted(count, "event") for count in (0, 1, 2)] == ["0 events", "1 event", "2 events"]
    assert (counted(1, "topic begins", "topics begin"), counted(3, "topic begins", "topics begin")) == (
        "1 topic begins",
        "3 topics begin",
    )
