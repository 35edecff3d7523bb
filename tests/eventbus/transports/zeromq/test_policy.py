"""`decide`: when a link is ready and what is done about it when it is not, from statuses and times alone."""

from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.observe.state import ClientState
from eventbus.options import ZeroMQOptions
from eventbus.transports.zeromq.policy import (
    ConnectionStatus,
    ConnectionStatuses,
    Decision,
    PolicyState,
    decide,
    pause_before_attempt,
    proven,
)

CONNECTING, READY, DEGRADED = ClientState.CONNECTING, ClientState.READY, ClientState.DEGRADED

OPTIONS = ZeroMQOptions(
    echo_interval=5.0, echo_timeout=1.0, reconnect_interval=0.05, reconnect_max_interval=0.2, reconnect_attempts=-1
)
SILENCE = 24 * OPTIONS.echo_interval
TICK = 2**-10  # seconds; all times here are sums of powers of two, which floats hold exactly

type Change = Callable[[ConnectionStatus], ConnectionStatus]


# What may happen to a connection, as `Monitor` tells it.


def up(connection: ConnectionStatus) -> ConnectionStatus:
    return ConnectionStatus(up=True, handshakes=connection.handshakes + 1)


def retried(connection: ConnectionStatus) -> ConnectionStatus:
    return connection._replace(up=False, failures=connection.failures + 1, abandoned=False)


def refused(connection: ConnectionStatus) -> ConnectionStatus:
    return connection._replace(up=False, refused=True, abandoned=True)


def abandoned(connection: ConnectionStatus) -> ConnectionStatus:
    return connection._replace(up=False, abandoned=True)


def renewed(connection: ConnectionStatus) -> ConnectionStatus:
    return connection._replace(up=False, failures=connection.failures + connection.abandoned, abandoned=False)


class World:
    """A link as the policy sees it, whose connections the test moves; it knows whether an echo is under way."""

    def __init__(self, options: ZeroMQOptions = OPTIONS) -> None:
        self.now = 1_024.0
        self.publishing = self.subscribing = ConnectionStatus()
        self.options = options
        self.policy = PolicyState(echo_due=self.now)
        self.echoing = False

    @property
    def statuses(self) -> ConnectionStatuses:
        return ConnectionStatuses(self.publishing, self.subscribing)

    @property
    def is_up(self) -> bool:
        return self.statuses.are_up

    def connect(self) -> None:
        """Both connections come up."""
        self.publishing, self.subscribing = up(self.publishing), up(self.subscribing)

    def look(self, after: float = 0.0, *, arrived: bool = False) -> Decision:
        """The next decision, `after` seconds later."""
        self.now += after
        step = decide(self.policy, self.now, self.statuses, self.options, arrived=arrived and self.echoing)
        self.policy = step.after
        self.echoing = step.echo or (self.echoing and not step.cancel)
        return step

    def prove(self) -> None:
        """An echo that the client itself has begun comes back."""
        self.policy = proven(self.now, self.statuses, self.options)
        self.echoing = False


def ready(options: ZeroMQOptions = OPTIONS) -> World:
    """A link that is up and proven."""
    world = World(options)
    world.connect()
    assert world.look().echo
    assert world.look(TICK, arrived=True).state is READY
    return world


# From state to state


def test_a_link_begins_connecting() -> None:
    """The link is CONNECTING until both connections are up, and no time is waited for: the next event tells."""
    world = World()
    for _ in range(3):
        step = world.look(10)
        assert (step.state, step.echo, step.look_again) == (CONNECTING, False, inf)
        assert step.reason == "the publishing and the subscribing connections are down"
    world.publishing = up(world.publishing)
    step = world.look(10)
    assert (step.state, step.echo, step.look_again) == (CONNECTING, False, inf)
    assert step.reason == "the subscribing connection is down"


def test_an_echo_makes_it_ready() -> None:
    """When both connections are up an echo begins at once; when it has come back the link is READY, not sooner."""
    world = World()
    world.connect()
    step = world.look()
    assert (step.state, step.echo) == (CONNECTING, True)
    step = world.look(0.5)
    assert (step.state, step.echo) == (CONNECTING, False)
    step = world.look(0.125, arrived=True)
    assert (step.state, step.cancel, step.look_again) == (READY, True, world.now + OPTIONS.echo_interval)


def test_an_echo_of_the_client_makes_it_ready() -> None:
    """An echo that connect() or subscribe() has awaited counts as well: the next is an interval away, none is under way."""
    world = World()
    world.connect()
    world.prove()
    step = world.look()
    assert (step.state, step.echo, step.look_again) == (READY, False, world.now + OPTIONS.echo_interval)


def test_connecting_never_degrades() -> None:
    """A link that was never ready stays CONNECTING, however long the echo stays away and the connections come and go."""
    world = World()
    world.connect()
    assert world.look().echo
    assert world.look(3 * OPTIONS.echo_timeout).state is CONNECTING
    world.publishing = abandoned(world.publishing)
    assert world.look().state is CONNECTING
    world.publishing = up(world.publishing)
    assert world.look().state is CONNECTING


@pytest.mark.parametrize("connection", ["publishing", "subscribing"])
@pytest.mark.parametrize("change", [retried, abandoned, refused])
def test_a_connection_that_goes_down_degrades(connection: str, change: Change) -> None:
    """Either connection going down, in any way, is DEGRADED at once; READY again when an echo has come after its return."""
    world = ready()
    setattr(world, connection, change(getattr(world, connection)))
    step = world.look()
    assert (step.state, step.echo) == (DEGRADED, False)
    assert step.reason == f"the {connection} connection is {'refused by the proxy' if change is refused else 'down'}"
    setattr(world, connection, up(getattr(world, connection)))
    step = world.look(0.125)
    assert (step.state, step.echo) == (DEGRADED, True)
    assert world.look(TICK, arrived=True).state is READY


def test_an_absence_between_two_looks_is_noticed() -> None:
    """A connection that was away and is back when it is looked at is DEGRADED until a new echo has come."""
    world = ready()
    world.subscribing = up(retried(world.subscribing))
    step = world.look()
    assert (step.state, step.echo, step.reason) == (DEGRADED, True, "the connection was lost and is back")
    assert world.look(TICK).state is DEGRADED
    assert world.look(TICK, arrived=True).state is READY


@pytest.mark.parametrize("state", [CONNECTING, READY, DEGRADED])
def test_an_absence_during_an_echo_begins_it_anew(state: ClientState) -> None:
    """An echo from before a reconnection proves nothing, also if it has come: it is dropped and another is begun."""
    world = World() if state is CONNECTING else ready()
    world.connect()
    if state is READY:
        world.look()
        world.prove()
        assert world.look(OPTIONS.echo_interval).state is READY
    else:
        assert world.look().state is state
    world.publishing = up(world.publishing)
    step = world.look(TICK, arrived=True)
    assert (step.state, step.cancel, step.echo) == (DEGRADED if state is READY else state, True, True)
    assert world.look(TICK, arrived=True).state is READY


def test_an_echo_is_dropped_when_a_leg_goes_down() -> None:
    """An echo under way is cancelled with the connection, once, also if it has just come back."""
    world = ready()
    assert world.look(OPTIONS.echo_interval).echo
    world.publishing = retried(world.publishing)
    step = world.look(TICK, arrived=True)
    assert (step.state, step.cancel) == (DEGRADED, True)
    assert not world.look(TICK).cancel


# Echoes


def test_an_echo_is_begun_at_each_interval() -> None:
    """A ready link begins an echo when the interval since the last one's arrival has passed, not before."""
    world = ready()
    for _ in range(3):
        step = world.look(OPTIONS.echo_interval - 0.5)
        assert (step.state, step.echo) == (READY, False)
        assert step.look_again == pytest.approx(world.now + 0.5)
        step = world.look(0.5)
        assert (step.state, step.echo, step.look_again) == (READY, True, world.now)
        assert world.look(0.25, arrived=True).state is READY


def test_an_awaited_echo_is_looked_for_often_at_first() -> None:
    """The looks for an echo under way begin below a millisecond, grow, stay within 50 ms, and one is at the timeout."""
    world = ready()
    began = world.now + OPTIONS.echo_interval
    assert world.look(OPTIONS.echo_interval).echo
    pauses = []
    while (step := world.look()).state is READY:
        pauses.append(step.look_again - world.now)
        world.now = step.look_again
    assert pauses[0] < 0.001
    assert pauses[:-1] == sorted(pauses[:-1])
    assert max(pauses) <= 0.0501
    assert world.now == pytest.approx(began + OPTIONS.echo_timeout)
    assert step.look_again - world.now <= 0.0501


def test_a_missed_echo_degrades_and_a_late_one_heals() -> None:
    """An echo that stays away for echo_timeout is DEGRADED, not sooner; when it comes after all the link is READY."""
    world = ready()
    assert world.look(OPTIONS.echo_interval).echo
    assert world.look(OPTIONS.echo_timeout - TICK).state is READY
    step = world.look(TICK)
    assert (step.state, step.cancel) == (DEGRADED, False)
    assert step.reason == "no echo has come back through the proxy for 1.0 s, although both connections are up"
    assert world.look(20).state is DEGRADED
    assert world.look(TICK, arrived=True).state is READY


def test_silence_renews_both_sockets() -> None:
    """An echo that stays away for 24 intervals makes both sockets anew, once; another one is due when they are up."""
    world = ready()
    assert world.look(OPTIONS.echo_interval).echo
    assert world.look(SILENCE - TICK).renew == (False, False)
    step = world.look(TICK)
    assert (step.state, step.renew, step.cancel) == (DEGRADED, (True, True), True)
    assert step.look_again == world.now
    world.publishing, world.subscribing = renewed(world.publishing), renewed(world.subscribing)
    assert world.look().renew == (False, False)
    world.connect()
    assert world.look(0.125).echo
    assert world.look(TICK, arrived=True).state is READY


def test_silence_renews_again_and_again() -> None:
    """If the new sockets are silent as well, they are renewed after another 24 intervals, not sooner, without end."""
    world = ready()
    world.look(OPTIONS.echo_interval)
    for _ in range(3):
        assert world.look(SILENCE - TICK).renew == (False, False)
        assert world.look(TICK).renew == (True, True)
        world.publishing, world.subscribing = up(renewed(world.publishing)), up(renewed(world.subscribing))
        assert world.look().echo


def test_without_an_interval_only_a_connection_is_proven() -> None:
    """echo_interval=0: one echo after connecting and after each reconnection, none in between, and no silence."""
    world = ready(replace(OPTIONS, echo_interval=0.0))
    step = world.look(100_000)
    assert (step.state, step.echo, step.look_again) == (READY, False, inf)
    world.publishing = up(world.publishing)
    step = world.look()
    assert (step.state, step.echo) == (DEGRADED, True)
    step = world.look(100_000)
    assert (step.state, step.renew) == (DEGRADED, (False, False))
    assert world.look(TICK, arrived=True).state is READY


# Making sockets anew


@pytest.mark.parametrize("change", [abandoned, refused])
def test_an_abandoned_connection_is_renewed_after_a_pause(change: Change) -> None:
    """A socket that libzmq has abandoned is replaced after a random pause up to reconnect_interval; the other one stays."""
    pauses = set()
    for _ in range(20):
        world = ready()
        world.subscribing = change(world.subscribing)
        step = world.look()
        assert step.renew == (False, False)
        pause = step.look_again - world.now
        assert 0.5 * OPTIONS.reconnect_interval - 1e-9 <= pause <= OPTIONS.reconnect_interval + 1e-9
        pauses.add(pause)
        assert world.look(pause - TICK).renew == (False, False)
        assert world.look(2 * TICK).renew == (False, True)
    assert len(pauses) > 10


def test_the_pause_grows_up_to_a_limit() -> None:
    """The pause before a connection is made anew doubles with each failure, up to a limit, and half of it is chance."""
    for failures, longest in enumerate([0.05, 0.1, 0.2, 0.2, 0.2]):
        pauses = [pause_before_attempt(OPTIONS, failures) for _ in range(200)]
        assert 0.5 * longest <= min(pauses) < 0.6 * longest
        assert 0.9 * longest < max(pauses) <= longest
    assert pause_before_attempt(OPTIONS, 10_000) <= OPTIONS.reconnect_max_interval


def test_a_connection_that_is_abandoned_each_time_is_renewed_each_time() -> None:
    """Every new socket that is refused again is replaced, after longer and longer pauses."""
    world = ready(replace(OPTIONS, reconnect_max_interval=1_000.0))
    longest = OPTIONS.reconnect_interval
    for _ in range(10):
        world.publishing = refused(world.publishing)
        step = world.look(TICK)
        pause = step.look_again - world.now
        assert 0.49 * longest <= pause <= 1.01 * longest
        assert world.look(pause + TICK).renew == (True, False)
        world.publishing = renewed(world.publishing)
        assert world.look().renew == (False, False)
        longest *= 2


def test_both_connections_wait_for_their_own_time() -> None:
    """Two abandoned connections are renewed each after its own pause, and the next look is at the earlier one."""
    world = ready()
    world.publishing = abandoned(world.publishing)
    first = world.look().look_again
    world.subscribing = abandoned(world.subscribing)._replace(failures=9)
    step = world.look(TICK)
    assert step.look_again == first
    assert world.look(first - world.now).renew == (True, False)
    world.publishing = renewed(world.publishing)
    step = world.look()
    assert first < step.look_again <= first + OPTIONS.reconnect_max_interval
    assert world.look(step.look_again - world.now).renew == (False, True)


def test_a_socket_that_could_not_be_made_is_tried_again() -> None:
    """If no socket can be made the connection stays abandoned: the next look is at once, and brings the next pause."""
    world = ready()
    world.subscribing = abandoned(world.subscribing)
    for _ in range(5):
        step = world.look(world.look().look_again - world.now)
        assert (step.renew, step.look_again) == ((False, True), world.now)


def test_a_connection_that_tries_again_by_itself_is_left_alone() -> None:
    """A connection that was seen between its end and libzmq's next attempt is not renewed, however late the next look is."""
    world = ready()
    world.publishing = abandoned(world.publishing)
    assert world.look().look_again < inf
    world.publishing = retried(world.publishing)
    step = world.look(100)
    assert (step.renew, step.look_again) == ((False, False), inf)


def test_each_end_has_its_own_pause() -> None:
    """A connection that has come back and is abandoned again waits as long as it did the first time."""
    world = ready()
    world.publishing = abandoned(world.publishing)
    world.look()
    world.publishing = up(world.publishing)
    world.look(100)
    world.publishing = abandoned(world.publishing)
    step = world.look()
    assert (step.renew, step.look_again > world.now) == ((False, False), True)


# Giving up


@pytest.mark.parametrize("limit", [0, 1, 2, 7])
@pytest.mark.parametrize("connection", ["publishing", "subscribing"])
@pytest.mark.parametrize("change", [retried, lambda connection: renewed(abandoned(connection))], ids=["retried", "renewed"])
def test_it_gives_up_after_the_last_attempt(limit: int, connection: str, change: Change) -> None:
    """After its end a connection is tried again `reconnect_attempts` times; when the last one fails, that is all."""
    world = ready(replace(OPTIONS, reconnect_attempts=limit))
    for _ in range(limit):
        setattr(world, connection, change(getattr(world, connection)))
        assert not world.look(0.125).give_up
    setattr(world, connection, change(getattr(world, connection)))
    step = world.look(0.125)
    assert (step.give_up, step.echo, step.renew) == (True, False, (False, False))


def test_attempts_are_counted_in_a_row() -> None:
    """A connection that comes back begins to count anew; so does one of which each connection fails now and then."""
    world = ready(replace(OPTIONS, reconnect_attempts=2))
    for _ in range(10):
        world.publishing = retried(retried(world.publishing))
        assert not world.look(0.125).give_up
        world.publishing = up(world.publishing)
        world.subscribing = retried(retried(world.subscribing))
        assert not world.look(0.125).give_up
        world.subscribing = up(world.subscribing)
    world.publishing = retried(retried(retried(world.publishing)))
    assert world.look().give_up


def test_it_never_gives_up_without_a_limit() -> None:
    """reconnect_attempts=-1: any number of attempts may fail."""
    world = ready()
    world.publishing = retried(world.publishing)._replace(failures=1_000_000)
    assert not world.look().give_up


def test_an_echo_under_way_ends_with_it() -> None:
    """Giving up cancels the echo under way."""
    world = ready(replace(OPTIONS, reconnect_attempts=0))
    world.look(OPTIONS.echo_interval)
    world.subscribing = retried(world.subscribing)
    step = world.look()
    assert (step.give_up, step.cancel) == (True, True)


# Whatever happens

CHANGES: dict[str, Change] = {
    "nothing": lambda connection: connection,
    "up": up,
    "up again": lambda connection: up(retried(connection)),
    "retried": retried,
    "refused": refused,
    "abandoned": abandoned,
}

changes = st.sampled_from(sorted(CHANGES))
pauses = st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 1_000))
looks = st.tuples(pauses, changes, changes, st.sampled_from(["", "arrived", "proven"]), st.booleans())


@pytest.mark.patience
@settings(max_examples=500)
@given(
    st.lists(looks, max_size=40),
    st.sampled_from([0.0, 0.125, 5.0]),
    st.sampled_from([0.125, 1.0, 20.0]),
    st.integers(0, 3),
)
def test_it_always_comes_back(
    story: list[tuple[float, str, str, str, bool]], echo_interval: float, echo_timeout: float, without_sockets: int
) -> None:
    """Whatever has happened, and whenever it was looked at: once connections succeed and echoes arrive, the link is READY.

    On the way there no echo begins while a connection is down, no look is due in the past, and what has to happen without an
    event has its time.
    """
    world = World(replace(OPTIONS, echo_interval=echo_interval, echo_timeout=echo_timeout))
    step = world.look()
    for pause, publishing, subscribing, echo, sockets in story:
        renew(world, step, fails=not sockets)
        world.publishing, world.subscribing = CHANGES[publishing](world.publishing), CHANGES[subscribing](world.subscribing)
        if echo == "proven" and world.is_up:
            world.prove()
        step = world.look(pause, arrived=echo == "arrived")
        check(world, step, echo_interval)
    for _ in range(100):
        renew(world, step, fails=without_sockets > 0)
        without_sockets -= any(step.renew)
        if not world.publishing.abandoned and not world.publishing.up:
            world.publishing = up(world.publishing)
        elif not world.subscribing.abandoned and not world.subscribing.up:
            world.subscribing = up(world.subscribing)
        elif world.policy.state is not READY:
            assert step.look_again < inf, "nobody would ever look again"
            world.now = max(world.now, step.look_again)
        else:
            break
        step = world.look(arrived=True)
        check(world, step, echo_interval)
    assert world.look().state is READY


def renew(world: World, step: Decision, *, fails: bool) -> None:
    """Do as the step says; if it fails the connection is abandoned."""
    if step.renew.publishing:
        world.publishing = abandoned(renewed(world.publishing)) if fails else renewed(world.publishing)
    if step.renew.subscribing:
        world.subscribing = abandoned(renewed(world.subscribing)) if fails else renewed(world.subscribing)


def check(world: World, step: Decision, echo_interval: float) -> None:
    """The invariants of every step."""
    assert step.look_again >= world.now
    assert world.is_up or not step.echo
    assert world.is_up or not world.echoing
    assert world.is_up or step.state is not READY
    waits = world.echoing or any(connection.abandoned for connection in world.statuses) or any(step.renew)
    proven_again = world.is_up and echo_interval > 0
    if waits or proven_again or (world.is_up and step.state is not READY):
        assert step.look_again < inf, "nobody would ever look again"
