"""When a path is ready, when it is degraded, and what is to be done about it: decided from what is seen, without sockets."""

from dataclasses import dataclass

from eventbus._base.backoff import backoff, jittered
from eventbus.observe.state import ClientState
from eventbus.options import ZeroMQOptions

_SILENT_ECHOES = 24  # echo intervals without one, after which the sockets are made anew


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One of the two connections, as far as it is known.

    Attributes:
        up: whether it is connected.
        handshakes: how often it has been, so that two looks tell whether it was away in between.
        failures: how many attempts to connect have failed since it was up.
        abandoned: whether libzmq will not try again by itself: only a new socket helps.
        refused: whether the other side answered, and did not let us in.
        broken_off: how many handshakes the other side has broken off without a word since it was up.
    """

    up: bool = False
    handshakes: int = 0
    failures: int = 0
    abandoned: bool = False
    refused: bool = False
    broken_off: int = 0


type ConnectionStatuses = tuple[ConnectionStatus, ConnectionStatus]  # publishing, subscribing


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done now.

    Attributes:
        state: the state of the path from now on.
        reason: why, if it has changed.
        echo: begin a new echo.
        cancel: stop looking out for the one under way.
        renew: which sockets are to be made anew, publishing and subscribing.
        give_up: stop trying for good.
        look_again: when the next step is due at the latest, on the clock of `now`.
    """

    state: ClientState
    reason: str
    echo: bool = False
    cancel: bool = False
    renew: tuple[bool, bool] = (False, False)
    give_up: bool = False
    look_again: float = float("inf")


class Watch:
    """Looks after one path from its opening to its end. One thread at a time; `now` never goes back."""

    def __init__(self, options: ZeroMQOptions, now: float) -> None:
        self._options = options
        self.state = ClientState.CONNECTING
        self._generation = 0  # handshakes of both legs at the last look
        self._echo_began: float | None = None  # of the one under way
        self._echo_due = now  # the next one's beginning
        self._renew_due: list[float | None] = [None, None]

    def proven(self, now: float, legs: ConnectionStatuses) -> None:
        """Note that an echo has just come round, begun when the legs were as they are."""
        self.state = ClientState.READY
        self._generation = _generation(legs)
        self._echo_began = None
        self._echo_due = now + (self._options.echo_interval or float("inf"))
        self._renew_due = [None, None]

    def has_missed(self, legs: ConnectionStatuses) -> bool:
        """Whether a connection has been lost and was made again since the last step, once it had been ready."""
        return self.state is not ClientState.CONNECTING and _generation(legs) != self._generation

    def step(self, now: float, legs: ConnectionStatuses, *, arrived: bool) -> Step:
        """Decide what is to be done.

        Args:
            now: the time.
            legs: how both connections are.
            arrived: whether the echo under way has come round.
        """
        reborn = _generation(legs) != self._generation
        self._generation = _generation(legs)
        limit = self._options.reconnect_attempts
        if 0 <= limit < max(leg.failures for leg in legs):
            return Step(self.state, "", cancel=True, give_up=True)
        if not all(leg.up for leg in legs):
            return self._wait_for_legs(now, legs)
        self._renew_due = [None, None]
        if reborn:
            return self._begin_echo(now, "the connection was lost and is back")
        if self._echo_began is not None:
            return self._wait_for_echo(now, legs, self._echo_began, arrived)
        if now >= self._echo_due:
            return self._begin_echo(now)
        return Step(self.state, "", look_again=self._echo_due)

    def _wait_for_legs(self, now: float, legs: ConnectionStatuses) -> Step:
        cancel, self._echo_began, self._echo_due = self._echo_began is not None, None, now
        renew = [False, False]
        for index, leg in enumerate(legs):
            due = self._renew_due[index]
            if not leg.abandoned:
                self._renew_due[index] = None
            elif due is None:
                self._renew_due[index] = now + pause_before_attempt(self._options, leg.failures)
            elif now >= due:
                renew[index], self._renew_due[index] = True, None
        self._degrade()
        # After a renewal at once: if no socket could be made, nothing else will tell.
        due = now if any(renew) else min((due for due in self._renew_due if due is not None), default=float("inf"))
        return Step(self.state, _down(legs), cancel=cancel, renew=(renew[0], renew[1]), look_again=due)

    def _begin_echo(self, now: float, why_degraded: str = "") -> Step:
        if why_degraded:
            self._degrade()
        cancel = self._echo_began is not None
        self._echo_began = now
        return Step(self.state, why_degraded, echo=True, cancel=cancel, look_again=now)

    def _wait_for_echo(self, now: float, legs: ConnectionStatuses, began: float, arrived: bool) -> Step:
        if arrived:
            self.proven(now, legs)
            return Step(self.state, "an echo has come back through the proxy", cancel=True, look_again=self._echo_due)
        waited = now - began
        if waited < self._options.echo_timeout:
            return Step(self.state, "", look_again=now + min(_pause(waited), self._options.echo_timeout - waited))
        self._degrade()
        reason = f"no echo has come back through the proxy for {waited:.1f} s, although both connections are up"
        if waited >= _SILENT_ECHOES * self._options.echo_interval > 0:
            self._echo_began, self._echo_due = None, now
            return Step(self.state, reason, cancel=True, renew=(True, True), look_again=now)
        return Step(self.state, reason, look_again=now + _pause(waited))

    def _degrade(self) -> None:
        if self.state is ClientState.READY:
            self.state = ClientState.DEGRADED


def pause_before_attempt(options: ZeroMQOptions, failures: int) -> float:
    """Return the seconds to wait before the next attempt to connect; random, so that a fleet does not come back in step."""
    return jittered(backoff(failures, options.reconnect_interval, options.reconnect_max_interval))


def _generation(legs: ConnectionStatuses) -> int:
    return sum(leg.handshakes for leg in legs)


def _pause(waited: float) -> float:
    """How long until the next look for an echo that was awaited so long: it should cost little and be found soon."""
    return min(max(0.0005, waited / 4), 0.05)


def _down(legs: ConnectionStatuses) -> str:
    """Which connections are down, for people."""
    names = [name for name, leg in zip(("publishing", "subscribing"), legs, strict=True) if not leg.up]
    are = "connections are" if len(names) == 2 else "connection is"
    refused = any(leg.refused for leg in legs if not leg.up)
    return f"the {' and the '.join(names)} {are} {'refused by the proxy' if refused else 'down'}"
