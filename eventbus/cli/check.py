"""``eventbus check``: find the first thing that is wrong between this machine and a working bus, and say what to do."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from eventbus.cli.check_history import ask_historian
from eventbus.cli.check_steps import Step, StepStatus, json_object, run_steps, text_line
from eventbus.cli.connection import proxy_transport_for
from eventbus.cli.terminal import Paint, wants_colours
from eventbus.errors import EventBusError, HandshakeFailed, ProxyUnreachable
from eventbus.policies import TransportKind
from eventbus.settings import EventBusSettings
from eventbus.transports.zeromq.reachability import PUBLISHERS, SUBSCRIBERS, CheckFailed, Reachability
from eventbus.transports.zeromq.transport import ZeroMQTransport

if TYPE_CHECKING:
    from eventbus.cli.check_nats import NatsCheckup

_ROUND_TRIPS = 11  # odd, so that one of them is the median


def check(settings: EventBusSettings, *, as_json: bool = False) -> bool:
    """Check each thing that a bus needs and print the results. Return whether all of them are good.

    Args:
        settings: the settings of the command.
        as_json: print one JSON object at the end; False: a line after each step.

    Raises:
        InvalidSettings: the keys do not go together, or cannot be read.
    """
    paint = Paint(wants_colours(sys.stdout))
    done: list[Step] = []
    settings.check_transport()
    with ExitStack() as stack:
        checkup = _checkup(settings, stack)
        for step in checkup.steps():
            done.append(step)
            if not as_json:
                print(text_line(step, paint), flush=True)
    if as_json:
        print(json_object(done, checkup.round_trip))
    elif checkup.round_trip is not None:
        print(f"ok: {checkup.endpoints}, round trip {checkup.round_trip * 1000:.1f} ms")
    return all(step.status is StepStatus.OK for step in done)


def _checkup(settings: EventBusSettings, stack: ExitStack) -> "Checkup | NatsCheckup":
    if settings.transport is TransportKind.ZEROMQ:
        return Checkup(settings, stack.enter_context(proxy_transport_for(settings)))
    from eventbus.cli import check_nats

    return stack.enter_context(check_nats.NatsCheckup(settings))


class Checkup:
    """The steps of a check.

    Args:
        settings: where the proxy is.
        transport: to that proxy, not open yet.

    Attributes:
        round_trip: seconds until a subscription has passed through the proxy and come back; None: not measured yet.
    """

    def __init__(self, settings: EventBusSettings, transport: ZeroMQTransport) -> None:
        self.round_trip: float | None = None
        self._settings = settings
        self._transport = transport
        self._keys = settings.security.client_keys()
        self._outside = Reachability(
            settings.host,
            settings.pub_port,
            settings.sub_port,
            self._keys,
            timeout=settings.connect_timeout,
            variables={PUBLISHERS: settings.variable("pub_port"), SUBSCRIBERS: settings.variable("sub_port")},
        )

    @property
    def endpoints(self) -> str:
        """Both endpoints of the proxy."""
        return self._transport.endpoints

    def steps(self) -> Iterator[Step]:
        """Run the steps in order, until one fails."""
        steps: dict[str, Callable[[], str]] = {
            "settings": self._check_settings,
            "host": self._outside.check_host,
            PUBLISHERS: lambda: self._outside.check_port(PUBLISHERS),
            SUBSCRIBERS: lambda: self._outside.check_port(SUBSCRIBERS),
            "protocol": self._outside.check_protocol,
            "security": self._check_security,
            "round trip": self._check_round_trip,
            "history": self._check_history,
        }
        return run_steps(steps)

    def _check_settings(self) -> str:
        settings = self._settings
        keys = "no keys" if self._keys is None else f"the key {self._keys.public_key}"
        return f"host {settings.host}, ports {settings.pub_port} and {settings.sub_port}, {keys}"

    def _check_security(self) -> str:
        found = self._outside.check_security()
        if self._keys is None:
            return found
        try:
            self._transport.open(self._settings.connect_timeout)
        except HandshakeFailed as error:
            raise self._failure(error) from None
        except ProxyUnreachable:
            pass  # the next step reports it
        return "CURVE, and the keys fit"

    def _check_round_trip(self) -> str:
        times = []
        try:
            for _ in range(_ROUND_TRIPS):
                self._transport.open(self._settings.connect_timeout)  # connects unless it is open, and measures
                times.append(self._transport.status.round_trip or 0.0)
        except (ProxyUnreachable, HandshakeFailed) as error:
            raise self._failure(error) from None
        self.round_trip = sorted(times)[_ROUND_TRIPS // 2]  # the median
        return (
            f"a subscription passes through the proxy and back in {self.round_trip * 1000:.1f} ms (median of {_ROUND_TRIPS})"
        )

    def _check_history(self) -> str:
        try:
            return ask_historian(self._transport, None if self._keys is None else self._keys.public_key)
        except EventBusError as error:
            raise CheckFailed.of(error) from None

    def _failure(self, error: EventBusError) -> CheckFailed:
        return self._outside.swapped() if self._outside.are_swapped() else CheckFailed.of(error)
