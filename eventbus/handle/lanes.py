"""Lanes: which of several waiting things may begin, so that not too many run and those of one key run in order. Pure."""

from collections import deque
from collections.abc import Hashable


class Lanes[Item]:
    """Things with keys. At most `limit` run at once, and of one key one at a time, in the order in which they came.

    What has the key None has no order.

    Attributes:
        running: how many run.
        waiting: how many wait.
    """

    def __init__(self, limit: int) -> None:
        self.running = 0
        self.waiting = 0
        self._limit = limit
        self._ready: deque[tuple[Hashable, Item]] = deque()
        # For each key of which one runs or is ready, those that come after it.
        self._behind: dict[Hashable, deque[Item]] = {}

    def add(self, key: Hashable, item: Item) -> None:
        """Let it wait until `next` returns it.

        Raises:
            TypeError: the key cannot be hashed.
        """
        if key is None:
            self._ready.append((key, item))
        elif key in self._behind:
            self._behind[key].append(item)
        else:
            self._behind[key] = deque()
            self._ready.append((key, item))
        self.waiting += 1

    def next(self) -> tuple[Hashable, Item] | None:
        """Return what may begin, with its key, and count it as running; None if nothing may."""
        if self.running >= self._limit or not self._ready:
            return None
        self.running += 1
        self.waiting -= 1
        return self._ready.popleft()

    @property
    def startable(self) -> int:
        """How many may begin now."""
        return max(0, min(len(self._ready), self._limit - self.running))

    def done(self, key: Hashable) -> None:
        """Note that one with this key has ended."""
        self.running -= 1
        if key is not None:
            behind = self._behind[key]
            if behind:
                self._ready.append((key, behind.popleft()))
            else:
                del self._behind[key]

    def clear(self) -> list[Item]:
        """Forget what waits, and return it."""
        dropped = [item for _, item in self._ready]
        for key, _ in self._ready:
            if key is not None:
                dropped += self._behind.pop(key)
        self._ready.clear()
        for behind in self._behind.values():
            dropped += behind
            behind.clear()
        self.waiting = 0
        return dropped
