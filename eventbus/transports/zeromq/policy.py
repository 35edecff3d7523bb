"""Decides when the link to a proxy is ready or degraded, and what to do about it: without sockets or threads."""

from typing import NamedTuple

from eventbus._base.backoff import backoff, jittered
from eventbus.observe.state import ClientState
from eventbus.options import ZeroMQOptions

_MAX_SILENT_ECHOES = 24  # echo intervals without an echo, after which both sockets are replaced
_MIN_ECHO_POLL_S, _MAX_ECHO_POLL_S = 0.0005, 0.05  # between two looks for an echo


class ConnectionStatus(NamedTuple):
    """The status of one of the two connections to the proxy.

    Attributes:
        up: whether it is connected.
        handshakes: those that have succeeded; if the number has grown between two looks, it was down meanwhile.
        failures: the attempts to connect that have failed since it was up.
        abandoned: whether libzmq does not try again by itself: only a new socket helps.
        refused: whether the proxy answered and did not let this client in.
        broken_off: the handshakes that the proxy has broken off without a reason since the connection was up.
    """

    up: bool = False
    handshakes: int = 0
    failures: int = 0
    abandoned: bool = False
    refused: bool = False
    broken_off: int = 0


class ConnectionStatuses(NamedTuple):
    """Both connections to the proxy at one moment."""

    publishing: ConnectionStatus = ConnectionStatus()
    subscribing: ConnectionStatus = ConnectionStatus()

    @property
    def are_up(self) -> bool:
        """Whether both are connected."""
        return self.publishing.up and self.subscribing.up

    @property
    def handshakes(self) -> int:
        """The number of successful handshakes of both."""
        return self.publishing.handshakes + self.subscribing.handshakes

    @property
    def failures(self) -> int:
        """The failed attempts of the one that has more of them."""
        return max(self.publishing.failures, self.subscribing.failures)


class Renewal(NamedTuple):
    """The sockets to replace by new ones."""

    publishing: bool = False
    subscribing: bool = False


_NOTHING = Renewal()


class PolicyState(NamedTuple):
    """The state that `decide` keeps from one step to the next. Times are those of `now`, in seconds.

    Attributes:
        echo_due: when the next echo begins.
        state: the state of the client.
        handshakes: those of both connections at the last step.
        echo_began: when the echo under way began; None: there is none.
        publishing_due: when the abandoned publishing socket is replaced; None: it is not to be replaced.
        subscribing_due: the same of the subscribing socket.
    """

    echo_due: float
    state: ClientState = ClientState.CONNECTING
    handshakes: int = 0
    echo_began: float | None = None
    publishing_due: float | None = None
    subscribing_due: float | None = None

    def has_missed(self, statuses: ConnectionStatuses) -> bool:
        """Whether a connection was lost and is back since the last step, of a link that had been ready."""
        return self.state is not ClientState.CONNECTING and statuses.handshakes != self.handshakes


class Decision(NamedTuple):
    """The decision: what the link does now.

    Attributes:
        after: what to hand to the next call of `decide`; it has the client's state from now on.
        reason: why the state has changed, for people, if it has.
        echo: begin a new echo.
        cancel: give up the echo under way.
        renew: which sockets to replace.
        give_up: stop trying for good.
        look_again: when the next step is due at the latest.
    """

    after: PolicyState
    reason: str = ""
    echo: bool = False
    cancel: bool = False
    renew: Renewal = _NOTHING
    give_up: bool = False
    look_again: float = float("inf")

    @property
    def state(self) -> ClientState:
        """The client's state from now on."""
        return self.after.state


def decide(
    before: PolicyState, now: float, statuses: ConnectionStatuses, options: ZeroMQOptions, *, arrived: bool = False
) -> Decision:
    """Decide what is to be done.

    Args:
        before: what the last step has left; the first one is ``PolicyState(echo_due=now)``.
        now: the time in seconds, which never goes back.
        statuses: both connections.
        options: how long to wait for what.
        arrived: whether the echo under way has come back.
    """
    if 0 <= options.reconnect_attempts < statuses.failures:
        return Decision(before._replace(handshakes=statuses.handshakes), cancel=True, give_up=True)
    if not statuses.are_up:
        return _await_connections(before, now, statuses, options)
    current = before._replace(handshakes=statuses.handshakes, publishing_due=None, subscribing_due=None)
    if statuses.handshakes != before.handshakes:
        return _begin_echo(_degraded(current), now, "the connection was lost and is back")
    if current.echo_began is not None:
        return _await_echo(current, now, current.echo_began, statuses, options, arrived=arrived)
    if now >= current.echo_due:
        return _begin_echo(current, now)
    return Decision(current, look_again=current.echo_due)


def proven(now: float, statuses: ConnectionStatuses, options: ZeroMQOptions) -> PolicyState:
    """Return what to hand to `decide` after an echo came back that began when the connections were as they are."""
    next_echo = now + options.echo_interval if options.echo_interval else float("inf")
    return PolicyState(next_echo, ClientState.READY, statuses.handshakes)


def pause_before_attempt(options: ZeroMQOptions, failures: int) -> float:
    """Return the seconds before the next attempt to connect; random, so that many clients do not come back in step."""
    return jittered(backoff(failures, options.reconnect_interval, options.reconnect_max_interval))


def _await_connections(before: PolicyState, now: float, statuses: ConnectionStatuses, options: ZeroMQOptions) -> Decision:
    publishing_due, renew_publishing = _renewal(before.publishing_due, now, statuses.publishing, options)
    subscribing_due, renew_subscribing = _renewal(before.subscribing_due, now, statuses.subscribing, options)
    after = PolicyState(now, before.state, statuses.handshakes, None, publishing_due, subscribing_due)
    renew = Renewal(renew_publishing, renew_subscribing)
    # After a renewal look again at once: if no socket could be made, no event reports it.
    due = (
        now
        if any(renew)
        else min((due for due in (publishing_due, subscribing_due) if due is not None), default=float("inf"))
    )
    return Decision(
        _degraded(after), _what_is_down(statuses), cancel=before.echo_began is not None, renew=renew, look_again=due
    )


def _renewal(due: float | None, now: float, status: ConnectionStatus, options: ZeroMQOptions) -> tuple[float | None, bool]:
    """Return when an abandoned socket is due to be replaced, and whether it is to be replaced now."""
    if not status.abandoned:
        return None, False
    if due is None:
        return now + pause_before_attempt(options, status.failures), False
    return (None, True) if now >= due else (due, False)


def _begin_echo(current: PolicyState, now: float, reason: str = "") -> Decision:
    return Decision(
        current._replace(echo_began=now), reason, echo=True, cancel=current.echo_began is not None, look_again=now
    )


def _await_echo(
    current: PolicyState,
    now: float,
    began: float,
    statuses: ConnectionStatuses,
    options: ZeroMQOptions,
    *,
    arrived: bool,
) -> Decision:
    if arrived:
        after = proven(now, statuses, options)
        return Decision(after, "an echo has come back through the proxy", cancel=True, look_again=after.echo_due)
    waited = now - began
    if waited < options.echo_timeout:
        return Decision(current, look_again=now + min(_echo_poll(waited), options.echo_timeout - waited))
    reason = f"no echo has come back through the proxy for {waited:.1f} s, although both connections are up"
    degraded = _degraded(current)
    if waited >= _MAX_SILENT_ECHOES * options.echo_interval > 0:
        after = degraded._replace(echo_began=None, echo_due=now)
        return Decision(after, reason, cancel=True, renew=Renewal(publishing=True, subscribing=True), look_again=now)
    return Decision(degraded, reason, look_again=now + _echo_poll(waited))


def _degraded(current: PolicyState) -> PolicyState:
    return current._replace(state=ClientState.DEGRADED) if current.state is ClientState.READY else current


def _echo_poll(waited: float) -> float:
    """Return the seconds until the next look for an echo that was awaited for `waited` seconds: often at first."""
    return min(max(_MIN_ECHO_POLL_S, waited / 4), _MAX_ECHO_POLL_S)


def _what_is_down(statuses: ConnectionStatuses) -> str:
    """Name the connections that are down, for people."""
    down = [(name, status) for name, status in statuses._asdict().items() if not status.up]
    are = "connections are" if len(down) == 2 else "connection is"
    refused = any(status.refused for _, status in down)
    return f"the {' and the '.join(name for name, _ in down)} {are} {'refused by the proxy' if refused else 'down'}"
