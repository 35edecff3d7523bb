"""`require_descriptors`: whether this process can open as many more as are needed."""

import errno
import os
import resource
from collections.abc import Iterator

import pytest

from eventbus import DescriptorsExhausted
from eventbus._base.descriptors import require_descriptors


@pytest.fixture(params=[9, 10])
def left(request: pytest.FixtureRequest) -> Iterator[int]:
    """This process can open this many more descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, before[1]))
    try:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(request.param):
            os.close(opened.pop())
        yield request.param
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in opened:
            os.close(descriptor)


def test_enough_are_left(left: int) -> None:
    """It returns while enough are left, however often it is called: it keeps none."""
    for count in (left, *range(left + 1), left):
        require_descriptors(count)


@pytest.mark.parametrize("missing", [1, 100])
def test_too_few_are_left(left: int, missing: int) -> None:
    """If fewer are left, the error says how many are needed and what to do, and none is kept."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = left + missing
    for _ in range(3):
        with pytest.raises(DescriptorsExhausted, match=rf"{count} more .* of the {limit} .*ulimit -n") as caught:
            require_descriptors(count)
        assert (caught.value.needed, caught.value.limit, caught.value.errno) == (count, limit, errno.EMFILE)
        assert isinstance(caught.value, OSError)
    require_descriptors(left)
