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


# Long numbers


def value_of(json: bytes) -> int:
    """The values that JSON counts as, found by halving."""
    least, most = 0, 1 << 30
    while least < most:
        middle = (least + most) // 2
        if ValueCounter(middle).exceeds(json):
            least = middle + 1
        else:
            most = middle
    return least


def events(values: bytes, between: bytes = b",") -> bytes:
    return b'{"values":[' + between.join([values] * 100) + b"]}"


NUMBERS = {
    "plain": (b"%s", b","),
    "negative": (b"-%s", b","),
    "spread": (b"%s ", b",\n"),
    "members": (b'{"a": %s}', b","),
    "arrays": (b"[%s]", b", "),
}
TEXTS_OF_DIGITS = {"texts": (b'"%s"', b","), "members": (b'{"a":"%s"}', b","), "signed": (b'" +%s "', b",")}


@pytest.mark.parametrize("digits", [384, 390, 1_233, 2_047, 4_287, 4_300])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_counts_as_the_square_of_its_digits(name: str, digits: int) -> None:
    """At whatever distance from each other numbers stand; one cut in two by a step counts as its halves."""
    form, between = NUMBERS[name]
    json = events(form % (b"7" * digits), between)
    few = value_of(events(form % b"7", between))
    assert value_of(json) - few == pytest.approx(100 * digits**2 / 2**15, rel=0.35)


@pytest.mark.parametrize("name", TEXTS_OF_DIGITS)
def test_a_text_of_digits_counts_less(name: str) -> None:
    """It may be for a field of whole numbers, but seldom is: 35 values for the longest."""
    form, between = TEXTS_OF_DIGITS[name]
    few = value_of(events(form % b"7", between))
    assert value_of(events(form % (b"7" * 4_290), between)) - few == pytest.approx(3_500, rel=0.1)
    assert value_of(events(form % (b"7" * 700), between)) - few < 100
    assert value_of(events(form % (b"7" * 2_100 + b"_" + b"7" * 2_100), between)) - few > 3_000


@pytest.mark.parametrize(
    "values",
    [
        b'"' + b"7" * 100_000 + b'"',  # no whole number
        b"0." + b"7" * 4_000,  # decimal places
        b"7" * 350,
        b",".join([b"7" * 15] * 100),  # each byte that is looked at is a digit
        b'"' + b"7" * 100 + b'","' + b"7" * 200 + b'"',
        b'"' + b"0123456789abcdef" * 100 + b'"',
    ],
)
def test_other_digits_cost_nothing(values: bytes) -> None:
    """Neither decimal places count, nor numbers that are not long, nor texts that no number is made of; but for what a step
    cuts off.
    """
    json = events(values)
    assert value_of(json) - (1 + 100 * (1 + values.count(b","))) < 2_000


@pytest.mark.parametrize("digits", [1_000, 4_290])
def test_long_numbers_in_pieces(digits: int) -> None:
    """They count in whatever piece they stand, before and after many separators."""
    json = b'{"values":[' + b",".join([b"1"] * 20_000 + [b"7" * digits] * 100 + [b"1"] * 20_000) + b"]}"
    expected = 40_100 + 100 * digits**2 / 2**15
    for size in (70_000, 100_000, len(json)):
        for limit, more in ((int(0.95 * expected), True), (int(1.05 * expected), False)):
            counter = ValueCounter(limit)
            assert any(counter.exceeds(json[begin : begin + size]) for begin in range(0, len(json), size)) is more


@pytest.mark.parametrize("text", [b"", b"a," * 60_000], ids=["", "commas in a text"])
def test_numbers_and_other_values_count_together(text: bytes) -> None:
    """Neither alone is too much."""
    json = b'{"text":"' + text + b'","few":[' + b"1," * 20_000 + b'1],"long":[' + b",".join([b"7" * 4_000] * 60) + b"]}"
    assert has_more_values(json, 45_000)
    assert not has_more_values(json, 55_000)
