"""Facts that metrics of any library read from clients: the number in each state, and their health."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Protocol
from weakref import WeakKeyDictionary

from eventbus._base.forks import register_fork
from eventbus.observe.health import EventBusHealth
from eventbus.observe.state import ClientState, StateChange


class HasHealth(Protocol):
    """A client, as far as telemetry uses it."""

    def health(self) -> EventBusHealth:
        """Return the client's health. Does not block."""


class OpenClients:
    """Counts the clients of one hook that are not CLOSED, by state. Any thread may use it."""

    def __init__(self) -> None:
        self._counts = Counter[ClientState]()
        self._lock = Lock()
        register_fork(self)

    def _after_fork(self) -> None:
        self._lock = Lock()

    def move(self, change: StateChange) -> tuple[ClientState | None, ClientState | None]:
        """Return which state has one client less now, and which has one more.

        The first is None if the hook was added after its client had entered that state; each is None for CLOSED.
        """
        with self._lock:
            left = change.before if self._counts[change.before] else None
            if left is not None:
                self._counts[left] -= 1
            entered = change.state if change.state is not ClientState.CLOSED else None
            if entered is not None:
                self._counts[entered] += 1
            return left, entered


@dataclass(frozen=True, slots=True)
class WorstHealth:
    """The worst of several clients' health; None without any client that has such a value.

    Attributes:
        round_trip: seconds that the slowest client's last echo took.
        busy_for: seconds since the most stuck client's consumer last made progress; 0 while it waits.
    """

    round_trip: float | None
    busy_for: float | None


class WatchedClients[Group: Hashable]:
    """Clients whose health is read when metrics are exported. It keeps them weakly. Any thread may use it."""

    def __init__(self) -> None:
        self._groups: WeakKeyDictionary[HasHealth, Group] = WeakKeyDictionary()
        self._lock = Lock()
        register_fork(self)

    def _after_fork(self) -> None:
        self._lock = Lock()

    def add(self, client: HasHealth, group: Group) -> None:
        """Read this client's health from now on, together with that of the other clients of the group."""
        with self._lock:
            self._groups[client] = group

    def names(self) -> Counter[str]:
        """Return the names of the clients that are not CLOSED, and how many have each."""
        with self._lock:
            clients = list(self._groups)
        healths = [client.health() for client in clients]
        return Counter(health.name for health in healths if health.state is not ClientState.CLOSED and health.name)

    def worst(self) -> dict[Group, WorstHealth]:
        """Return the worst health of each group, without clients that are CLOSED."""
        with self._lock:
            clients = list(self._groups.items())
        found: dict[Group, list[EventBusHealth]] = {}
        for client, group in clients:
            health = client.health()
            if health.state is not ClientState.CLOSED:
                found.setdefault(group, []).append(health)
        return {
            group: WorstHealth(
                max((health.round_trip for health in healths if health.round_trip is not None), default=None),
                max((health.busy_for for health in healths if health.consuming), default=None),
            )
            for group, healths in found.items()
        }
