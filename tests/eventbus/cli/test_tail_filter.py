"""`--type` and `--where`: which events are wanted."""

import pytest

from eventbus.cli.tail_filter import Condition, EventFilter
from eventbus.errors import InvalidSettings

EVENT: dict[str, object] = {
    "type": "started",
    "id": 3,
    "text": "3",
    "on": True,
    "none": None,
    "place": "tank 1",
    "sensor": {"id": 7, "tags": ["a", {"b": 1}], "dotted.name": 5},
    "dotted.path": {"x": 1},
}


@pytest.mark.parametrize(
    "text",
    [
        "id=3",
        "id=3.0",
        'text="3"',
        "on=true",
        "none=null",
        "place=tank 1",
        'place="tank 1"',
        "sensor.id=7",
        'sensor.tags=["a", {"b": 1}]',
        'sensor={"tags": ["a", {"b": 1}], "id": 7, "dotted.name": 5}',
        "sensor.dotted.name=5",
        "dotted.path.x=1",
        "type=started",
    ],
)
def test_a_condition_that_holds(text: str) -> None:
    """A value is compared as JSON if it is JSON, else as text; a path leads into objects, and a name may have dots."""
    assert Condition.parse(text).matches(EVENT)


@pytest.mark.parametrize(
    "text",
    [
        "id=4",
        'id="3"',
        "text=3",
        "on=1",
        "id=true",
        "none=",
        "none=0",
        "missing=null",
        "sensor.missing=1",
        "sensor.id.more=7",
        "id.more=3",
        'sensor.tags=["a"]',
        'sensor.tags=["a", {"b": true}]',
        "sensor={}",
        "place=tank",
    ],
)
def test_a_condition_that_does_not_hold(text: str) -> None:
    """Another value, another kind of value, and a field that is not there: none of them is what was asked for."""
    assert not Condition.parse(text).matches(EVENT)


def test_the_value_may_hold_anything() -> None:
    """Only the first equals sign ends the name."""
    condition = Condition.parse("query=a=b,[c")
    assert (condition.path, condition.value) == ("query", "a=b,[c")


def test_what_only_python_takes_for_json_is_text() -> None:
    """NaN and Infinity are no JSON."""
    assert Condition.parse("name=NaN").matches({"name": "NaN"})
    assert Condition.parse("name=Infinity").matches({"name": "Infinity"})


@pytest.mark.parametrize("text", ["", "id", "=3", ".id=3", "sensor.=3", "sensor..id=3", "."])
def test_what_is_no_condition(text: str) -> None:
    """A text that is not field=value is an error that shows the right form."""
    with pytest.raises(InvalidSettings, match="write field=value, for example --where"):
        Condition.parse(text)


def test_a_key_is_not_shown() -> None:
    """A key that is given as a condition by mistake is not part of the error."""
    key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
    with pytest.raises(InvalidSettings) as caught:
        Condition.parse(key)
    assert key not in str(caught.value)


def test_without_a_wish_everything_is_wanted() -> None:
    """A event_filter of nothing in particular admits whatever came, objects or not."""
    assert all(map(EventFilter().matches, [EVENT, {}, [], "text", 3, None]))


def test_types() -> None:
    """Any of several types will do; an event without one, or with one that is no text, has not the right one."""
    event_filter = EventFilter(["started", "stopped"])
    assert event_filter.matches({"type": "stopped"})
    assert not any(map(event_filter.matches, [{"type": "updated"}, {}, {"type": 1}, {"type": ["started"]}, "started", None]))


def test_all_conditions_must_hold() -> None:
    """All of several conditions, and a type beside them, must hold."""
    assert EventFilter(["started"], ["id=3", "sensor.id=7"]).matches(EVENT)
    assert not EventFilter(["started"], ["id=3", "sensor.id=8"]).matches(EVENT)
    assert not EventFilter(["stopped"], ["id=3"]).matches(EVENT)
    assert not EventFilter((), ["id=3"]).matches([3])
