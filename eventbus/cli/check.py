"""``eventbus check``: find the first thing that is wrong between this machine and a working bus, and say what to do."""

import socket
import statistics
import sys
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread

from eventbus._base.addresses import is_ipv6, tcp_endpoint
from eventbus._base.printable import printable
from eventbus._base.zmtp import Answer, ask
from eventbus.cli.check_steps import CheckFailed, Step, StepStatus, json_object, run_steps, text_line
from eventbus.cli.connection import transport_for
from eventbus.cli.terminal import Paint, wants_colours
from eventbus.errors import EncryptionRequired, HandshakeFailed, NotEncrypted, ProxyUnreachable
from eventbus.settings import EventBusSettings
from eventbus.transports.zeromq.transport import ZeroMQTransport

_ROUND_TRIPS = 11
_SECOND_LOOK_TIMEOUT_S = 1.0  # for attempts that only make an explanation better
_MAX_QUOTED = 60  # characters of what a peer answers
_PUBLISHERS, _SUBSCRIBERS = "publishers", "subscribers"
_KINDS = {_PUBLISHERS: "XSUB", _SUBSCRIBERS: "XPUB"}  # the proxy's sockets


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
    with transport_for(settings) as transport:
        checkup = Checkup(settings, transport)
        for step in checkup.steps():
            done.append(step)
            if not as_json:
                print(text_line(step, paint), flush=True)
    if as_json:
        print(json_object(done, checkup.round_trip))
    elif checkup.round_trip is not None:
        print(f"ok: {transport.endpoints}, round trip {checkup.round_trip * 1000:.1f} ms")
    return all(step.status is StepStatus.OK for step in done)


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
        self._ports = {_PUBLISHERS: settings.pub_port, _SUBSCRIBERS: settings.sub_port}
        self._variables = {_PUBLISHERS: settings.variable("pub_port"), _SUBSCRIBERS: settings.variable("sub_port")}
        self._address = ""
        self._answers: dict[str, Answer] = {}

    def steps(self) -> Iterator[Step]:
        """Run the steps in order, until one fails."""
        steps: dict[str, Callable[[], str]] = {
            "settings": self._check_settings,
            "host": self._check_host,
            _PUBLISHERS: lambda: self._check_port(_PUBLISHERS),
            _SUBSCRIBERS: lambda: self._check_port(_SUBSCRIBERS),
            "protocol": self._check_protocol,
            "security": self._check_security,
            "round trip": self._check_round_trip,
        }
        return run_steps(steps)

    def _check_settings(self) -> str:
        settings = self._settings
        keys = "no keys" if self._keys is None else f"the key {self._keys.public_key}"
        return f"host {settings.host}, ports {settings.pub_port} and {settings.sub_port}, {keys}"

    def _check_host(self) -> str:
        host, timeout = self._settings.host, self._settings.connect_timeout
        try:
            # As libzmq resolves it: to IPv6 only if the host is written as an IPv6 address.
            self._address = _address_of(host, socket.AF_INET6 if is_ipv6(host) else socket.AF_INET, timeout)
        except TimeoutError:
            raise CheckFailed(
                f"no name server answered for {host!r} within {timeout:g} s",
                "is the network up? Set EVENTBUS_HOST to the proxy's address",
            ) from None
        except (OSError, UnicodeError) as error:
            raise CheckFailed(
                f"this machine cannot find an IPv4 address of {host!r} ({getattr(error, 'strerror', None) or error})",
                "set EVENTBUS_HOST to the proxy's name or address",
            ) from None
        return self._address if host == self._address else f"{host} is {self._address}"

    def _check_port(self, name: str) -> str:
        try:
            self._connect(name, self._settings.connect_timeout)
        except ConnectionRefusedError:
            raise self._refused(name) from None
        except TimeoutError:
            raise CheckFailed(
                f"{self._place(name)} does not answer within {self._settings.connect_timeout:g} s",
                f"is that machine up, and does its firewall let port {self._ports[name]} through? If not, set EVENTBUS_HOST",
            ) from None
        except OSError as error:
            raise CheckFailed(
                f"cannot connect to {self._place(name)} ({error.strerror or error})",
                f"set EVENTBUS_HOST and {self._variables[name]} to where the proxy listens",
            ) from None
        return f"something listens at {self._place(name)}"

    def _refused(self, name: str) -> CheckFailed:
        """Nothing listens at a port; perhaps something does at the other one."""
        nothing = f"nothing listens at {self._place(name)}"
        other = _SUBSCRIBERS if name == _PUBLISHERS else _PUBLISHERS
        if self._settings.pub_port != self._settings.sub_port:
            try:
                self._connect(other, _SECOND_LOOK_TIMEOUT_S)
            except OSError:
                pass
            else:
                return CheckFailed(
                    f"{nothing}, but something does at port {self._ports[other]}, which is set for {other}",
                    f"set {self._variables[name]} to the proxy's port for {name}",
                )
        return CheckFailed(
            nothing, f"start a proxy there with `eventbus proxy`, or set EVENTBUS_HOST and {self._variables[name]}"
        )

    def _check_protocol(self) -> str:
        for name in _KINDS:
            self._answers[name] = self._ask(name)
        kinds = {name: answer.kind for name, answer in self._answers.items()}
        if kinds == {_PUBLISHERS: "XPUB", _SUBSCRIBERS: "XSUB"}:
            raise self._swapped()
        for name, kind in kinds.items():
            if kind and kind != _KINDS[name]:
                raise CheckFailed(
                    f"the ZeroMQ socket at {self._place(name)} is {kind}, but a proxy has {_KINDS[name]} there",
                    f"set {self._variables[name]} to the proxy's port for {name}",
                )
        return "both are ZeroMQ sockets" + (", XSUB and XPUB" if all(kinds.values()) else "")

    def _ask(self, name: str) -> Answer:
        timeout, place = self._settings.connect_timeout, self._place(name)
        try:
            answer = ask(self._address, self._ports[name], timeout)
        except OSError as error:
            raise CheckFailed(f"{place} has stopped answering ({error})", "is the proxy still running?") from None
        remedy = f"set {self._variables[name]} to the proxy's port for {name}"
        if answer.mechanism:
            return answer
        if answer.said:
            said = printable(answer.said[:200].decode(errors="backslashreplace").partition("\n")[0].strip(), _MAX_QUOTED)
            raise CheckFailed(f'the program at {place} does not speak ZeroMQ: it answers "{said}"', remedy)
        if answer.ended:
            raise CheckFailed(f"the program at {place} closes the connection without an answer", f"it is no proxy, {remedy}")
        raise CheckFailed(
            f"the program at {place} accepts the connection, but does not answer within {timeout:g} s",
            f"if that is the proxy, it hangs: restart it; if not, {remedy}",
        )

    def _check_security(self) -> str:
        for name, answer in self._answers.items():
            match answer.mechanism:
                case "CURVE" if self._keys is None:
                    raise CheckFailed.of(EncryptionRequired(self._place(name)))
                case "NULL" if self._keys is not None:
                    raise CheckFailed.of(NotEncrypted(self._place(name)))
                case "CURVE" | "NULL":
                    pass
                case other:
                    raise CheckFailed(
                        f"the proxy at {self._place(name)} wants the security mechanism {other}, which this package lacks",
                        "run `eventbus proxy`, or another proxy with CURVE or without security",
                    )
        if self._keys is None:
            return "no encryption on either side"
        try:
            self._transport.open(self._settings.connect_timeout)
        except HandshakeFailed as error:
            raise self._swapped() if self._is_swapped() else CheckFailed.of(error) from None
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
            raise self._swapped() if self._is_swapped() else CheckFailed.of(error) from None
        self.round_trip = statistics.median(times)
        return (
            f"a subscription passes through the proxy and back in {self.round_trip * 1000:.1f} ms (median of {_ROUND_TRIPS})"
        )

    def _is_swapped(self) -> bool:
        """Whether a bus answers with the ports swapped: encrypted sockets do not tell their type."""
        settings = self._settings
        swapped = settings.model_copy(update={"pub_port": settings.sub_port, "sub_port": settings.pub_port})
        with transport_for(swapped) as transport:
            try:
                transport.open(_SECOND_LOOK_TIMEOUT_S)
            except (ProxyUnreachable, HandshakeFailed):
                return False
            return True

    def _swapped(self) -> CheckFailed:
        publishers, subscribers = self._ports.values()
        return CheckFailed(
            f"the ports are swapped (publishers connect to {subscribers} and subscribers to {publishers})",
            f"set {self._variables[_PUBLISHERS]}={subscribers} and {self._variables[_SUBSCRIBERS]}={publishers}",
        )

    def _place(self, name: str) -> str:
        return tcp_endpoint(self._settings.host, self._ports[name])

    def _connect(self, name: str, timeout: float) -> None:
        socket.create_connection((self._address, self._ports[name]), timeout).close()


def _address_of(host: str, family: socket.AddressFamily, timeout: float) -> str:
    """The first address of a host. A thread asks for it, because `getaddrinfo` takes no timeout."""
    answers: SimpleQueue[str | Exception] = SimpleQueue()

    def resolve() -> None:
        try:
            found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
            answers.put(str(found[0][4][0]))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    Thread(target=resolve, name="eventbus-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer
