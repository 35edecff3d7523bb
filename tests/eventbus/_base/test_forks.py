"""The fork registry."""

import gc
import os
from typing import ClassVar

import pytest

from eventbus._base.forks import register_fork, unregister_fork

pytestmark = pytest.mark.process


class Forked:
    """Notes the order of the notices."""

    told: ClassVar[list[str]] = []

    def __init__(self, name: str) -> None:
        self.name = name

    def _after_fork(self) -> None:
        self.told.append(self.name)


def told_in_child() -> list[str]:
    """The notices that a forked child gets."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, ",".join(Forked.told).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as stream:
        return [name for name in stream.read().split(",") if name]


def test_each_registered_thing_is_told_once_in_order() -> None:
    """A child tells things in the order in which they were registered, also if they were registered twice."""
    first, second = Forked("first"), Forked("second")
    for thing in (first, second, first):
        register_fork(thing)
    assert told_in_child() == ["first", "second"]
    assert Forked.told == []  # the parent is not told


def test_what_is_unregistered_or_gone_is_not_told() -> None:
    """Unregistering is idempotent, and an object without other references is not kept alive."""
    kept, left, gone = Forked("kept"), Forked("left"), Forked("gone")
    for thing in (kept, left, gone):
        register_fork(thing)
    unregister_fork(left)
    unregister_fork(left)
    del thing, gone
    gc.collect()
    assert told_in_child() == ["kept"]
