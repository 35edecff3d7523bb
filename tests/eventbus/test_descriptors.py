"""`require_descriptors`: whether this process can open as many more as are needed."""

import errno
import os
import resource
from collections.abc import Iterator

import pytest

from eventbus import DescriptorsExhausted
from eventbus.descriptors import require_descriptors


@pytest.fixture
def ten_left() -> Iterator[None]:
    """This process can open ten descriptors more, at most."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, before[1]))
    try:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(10):
            os.close(opened.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in opened:
            os.close(descriptor)


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10])
def test_enough_are_left(ten_left: None, count: int) -> None:
    """It returns while so many are left, as often as it is asked: it keeps none."""
    for _ in range(3):
        require_descriptors(count)


@pytest.mark.parametrize("count", [11, 100])
def test_too_few_are_left(ten_left: None, count: int) -> None:
    """If fewer are left, the error says how many are needed and what to do, and none is kept."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for _ in range(3):
        with pytest.raises(DescriptorsExhausted, match=rf"{count} more .* of the {limit} .*ulimit -n") as caught:
            require_descriptors(count)
        assert (caught.value.needed, caught.value.limit, caught.value.errno) == (count, limit, errno.EMFILE)
        assert isinstance(caught.value, OSError)
    require_descriptors(10)
