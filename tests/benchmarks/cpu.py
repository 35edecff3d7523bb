"""The processor time that the processes of a benchmark take for each event; on Linux."""

import multiprocessing
import time
from contextlib import suppress
from dataclasses import dataclass

WARM_UP = 0.1  # the part of a run that does not count


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample at one moment.

    Attributes:
        events: how many had arrived.
        seconds: the user and system time of all processes together.
    """

    events: int
    seconds: float


class CpuMeter:
    """Give it to `bench.throughput` as the progress: it looks at the clocks of the processes while they run.

    Args:
        target: the name of the function that the processes run which count; None: all count.
    """

    def __init__(self, target: str | None = None) -> None:
        self._target = target
        self._samples: list[Sample] = []

    def __call__(self, events: int) -> None:
        with suppress(OSError):  # one of them has just ended
            seconds = sum(time.clock_gettime(clock_of(pid)) for pid in self._pids())
            self._samples.append(Sample(events, seconds))

    def _pids(self) -> list[int | None]:
        return [one.pid for one in multiprocessing.active_children() if self._target in (None, one.name)]

    def per_event(self) -> float:
        """Return seconds for each event, of all processes that this one has started, without those of the start."""
        last = self._samples[-1]
        first = next(sample for sample in self._samples if sample.events >= WARM_UP * last.events)
        if last.events == first.events:
            raise RuntimeError("the run was too short to measure processor time")
        return (last.seconds - first.seconds) / (last.events - first.events)


def clock_of(pid: int | None) -> int:
    """The clock of another process's time: what clock_getcpuclockid() of C returns on Linux, which Python lacks."""
    if pid is None:
        raise ProcessLookupError
    return ~pid << 3 | 2
