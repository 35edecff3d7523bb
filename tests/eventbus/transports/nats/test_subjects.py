"""Topics become subjects that every server takes, and come back as they were."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.transports.nats.subjects import subject_of, topic_of

FEWER = settings(max_examples=100)

PREFIX = b"eb"


@pytest.mark.parametrize(
    ("topic", "subject"),
    [
        ("plant", "eb.plant"),
        ("plant.tank 1", "eb.plant.tank%201"),
        ("a..b.", "eb.a.%2Eb%2E"),
        (".a", "eb.%2Ea"),
        ("anlage/kühlung-2_b", "eb.anlage/kühlung-2_b"),
        ("a*b>c", "eb.a%2Ab%3Ec"),
        ("100%", "eb.100%25"),
        ("%2E", "eb.%252E"),
        ("温度", "eb.温度"),
        ("€", "eb.%E2%82%AC"),
        ("", "eb.>"),
    ],
)
def test_how_topics_are_written(topic: str, subject: str) -> None:
    """Letters and dots between parts stay, so that permissions and wildcards work on them."""
    assert subject_of(topic.encode(), PREFIX).decode() == subject
    if topic:
        assert topic_of(subject.encode(), PREFIX).decode() == topic


@FEWER
@given(st.binary(min_size=1, max_size=255))
def test_every_topic_comes_back(topic: bytes) -> None:
    """Whatever bytes a first frame begins with; subjects have no blank, no wildcard and no empty part."""
    subject = subject_of(topic, PREFIX)
    assert topic_of(subject, PREFIX) == topic
    parts = subject.split(b".")
    assert all(parts)
    assert not {b"*", b">"} & set(parts)
    assert not set(subject) & set(b" \t\r\n\0")


@FEWER
@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_different_topics_have_different_subjects(one: str, other: str) -> None:
    """No two topics share a subject."""
    same = subject_of(one.encode(errors="replace"), PREFIX) == subject_of(other.encode(errors="replace"), PREFIX)
    assert same == (one.encode(errors="replace") == other.encode(errors="replace"))


@FEWER
@given(st.binary(max_size=100))
def test_every_subject_is_some_topic(subject: bytes) -> None:
    """What strangers publish below the prefix does no harm."""
    assert isinstance(topic_of(PREFIX + b"." + subject, PREFIX), bytes)
