"""`has_more_values`: it never misjudges valid JSON by more than the containers in it."""

import json
from collections.abc import Iterator
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.wire import complexity
from eventbus.wire.complexity import ValueCounter, has_more_values

TEXTS = st.text(alphabet='a",[{\\é')
JSON = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=40,
)


def values_in(value: object) -> Iterator[object]:
    """All elements and members below a value."""
    inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    for one in inner:
        yield one
        yield from values_in(one)


def containers_in(value: object) -> int:
    """The lists and dictionaries in a value, and itself if it is one."""
    return sum(isinstance(one, list | dict) for one in (value, *values_in(value)))


@given(JSON, st.integers(1, 30))
def test_every_value_counts_once(value: object, limit: int) -> None:
    """The count is that of the values, and of empty containers one more each."""
    payload = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    least = len(list(values_in(value)))
    if least > limit:
        assert has_more_values(payload, limit)
    if least + containers_in(value) <= limit:
        assert not has_more_values(payload, limit)


@given(st.binary(max_size=200), st.integers(1, 30))
def test_any_bytes(payload: bytes, limit: int) -> None:
    """Bytes that are no JSON do no harm."""
    assert has_more_values(payload, limit) in {True, False}


@given(JSON, st.integers(0, 30), st.integers(1, 7), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_pieces_count_as_the_whole(value: object, limit: int, step: int, sizes: list[int]) -> None:
    """Wherever the JSON is cut, also within an escape, and however much is looked at between two looks at the limit."""
    payload = json.dumps(value, ensure_ascii=False).encode()
    whole = ValueCounter(limit).exceeds(payload)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(complexity, "_STEP_BYTES", step)
        counter = ValueCounter(limit)
        begin = 0
        for size in cycle(sizes):
            exceeds = counter.exceeds(payload[begin : begin + size])
            begin += size
            if exceeds or begin >= len(payload):
                break
        assert exceeds == whole == ValueCounter(limit).exceeds(payload)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (b'"' + b"a," * 100 + b'"', False),
        (b'"' + b'\\",[' * 100 + b'"', False),
        (b'["' + b"\\\\" * 100 + b'",' + b"1," * 20 + b"1]", True),
        (b"[" + b'"",' * 200 + b'""]', True),
        (b"[" * 20, True),
        (b'{"a":1,' * 20, True),
        (b"9" * 100, False),
    ],
)
def test_commas_in_texts_do_not_count(text: bytes, more: bool) -> None:
    """A comma in a text, escaped or not, makes no value."""
    assert has_more_values(text, 10) is more
