"""The PINGs of a connection: when one is due, what its PONG proves, and since when one is awaited. Pure, but for events."""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from threading import Event

_PROOF_INTERVAL_S = 0.1  # between two PINGs that show how much of what was sent has arrived
_POLL_S = 0.02  # while the server does not answer


@dataclass
class Proof:
    """A PING under way.

    Attributes:
        done: set when its PONG has come, or will not come.
        mark: what had been written before it.
        began: when.
        good: whether the PONG has come.
    """

    done: Event | None = None
    mark: int = 0
    began: float = 0.0
    good: bool = False


class Pings:
    """Those of one connection. On the link's thread, but for `answered` and `end`.

    A mark says how much was written, and grows.

    Args:
        interval: seconds between two PINGs if nothing is written; infinite: there are none then.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._under_way: deque[Proof] = deque()  # in the order of their PINGs
        self._echo_due = float("inf")
        self._proof_due = 0.0
        self._proved = 0  # the mark of the last PING

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def begin(self, mark: int, now: float) -> None:
        """From now on there are PINGs."""
        self._echo_due = now + self._interval
        self._proved = mark

    def proves(self, mark: int) -> bool:
        """Whether the last PING came behind all that was written."""
        return mark == self._proved

    def next(self, mark: int, now: float, *, at_once: bool) -> Proof | None:
        """Return the PING that is due, which is to be written behind all up to the mark; None: there is none.

        Args:
            mark: how much was written.
            now: the time.
            at_once: whether one is due as soon as something was written; else there is an interval.
        """
        proves = mark != self._proved and (at_once or now >= self._proof_due) and not self._under_way
        if now < self._echo_due and not proves:
            return None
        self._echo_due = now + self._interval
        self._proof_due, self._proved = now + _PROOF_INTERVAL_S, mark
        return Proof(mark=mark)

    def due(self, mark: int, now: float) -> float:
        """When to ask for the next one: not before the last one is answered, which may take long."""
        if mark == self._proved:
            return self._echo_due
        return min(self._echo_due, max(self._proof_due, now + _POLL_S) if self._under_way else self._proof_due)

    def written(self, proofs: list[Proof], now: float) -> None:
        """These PINGs are written now."""
        for proof in proofs:
            proof.began = now
        self._under_way.extend(proofs)

    def awaited_since(self) -> float | None:
        """Since when the oldest answer is awaited; None: none is."""
        try:
            return self._under_way[0].began
        except IndexError:
            return None

    def answered(self) -> Proof | None:
        """A PONG has come: return its PING; None: there is none. On the thread that reads."""
        try:
            return self._under_way.popleft()
        except IndexError:
            return None

    def end(self) -> None:
        """No more PONGs come. Any thread may call this."""
        with suppress(IndexError):
            while True:
                proof = self._under_way.popleft()
                if proof.done is not None:
                    proof.done.set()
