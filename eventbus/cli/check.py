"""``eventbus check``: what is wrong with the way to the proxy and what to do, the first thing first."""

import socket
import statistics
import sys
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread

from eventbus._base.addresses import is_ipv6, tcp_endpoint
from eventbus._base.printable import printable
from eventbus._base.zmtp import Answer, ask
from eventbus.cli.connection import transport_for
from eventbus.cli.report import Step, StepStatus, Trouble, json_object, stepwise, text_line
from eventbus.cli.terminal import Paint, wants_colours
from eventbus.errors import EncryptionRequired, HandshakeFailed, NotEncrypted, ProxyUnreachable
from eventbus.settings import EventBusSettings
from eventbus.transports.zeromq.transport import ZeroMQTransport

_ROUNDS = 11
_GLANCE = 1.0  # seconds, for what only makes an explanation better
_SHOWN = 60  # characters of what a stranger says
_PUBLISHERS, _SUBSCRIBERS = "publishers", "subscribers"
_KINDS = {_PUBLISHERS: "XSUB", _SUBSCRIBERS: "XPUB"}  # the proxy's sockets


def check(settings: EventBusSettings, *, as_json: bool = False) -> bool:
    """Look at everything that a bus needs and print what was seen; whether all of it is well.

    Args:
        settings: of the command.
        as_json: one JSON object at the end; False: a line after each step.

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
    """One look at each thing between this machine and a bus that works.

    Args:
        settings: where the proxy is.
        transport: to it, not open yet.

    Attributes:
        round_trip: seconds that a subscription takes round through the proxy; None as long as that is not known.
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
        """Look at one thing after the other, until something is wrong."""
        looks: dict[str, Callable[[], str]] = {
            "settings": self._look_at_settings,
            "host": self._look_at_host,
            _PUBLISHERS: lambda: self._look_at_port(_PUBLISHERS),
            _SUBSCRIBERS: lambda: self._look_at_port(_SUBSCRIBERS),
            "protocol": self._look_at_protocol,
            "security": self._look_at_security,
            "round trip": self._look_at_round_trip,
        }
        return stepwise(looks)

    def _look_at_settings(self) -> str:
        settings = self._settings
        keys = "no keys" if self._keys is None else f"the key {self._keys.public_key}"
        return f"host {settings.host}, ports {settings.pub_port} and {settings.sub_port}, {keys}"

    def _look_at_host(self) -> str:
        host, timeout = self._settings.host, self._settings.connect_timeout
        try:
            # As libzmq does it: IPv6 only where it is written so.
            self._address = _address_of(host, socket.AF_INET6 if is_ipv6(host) else socket.AF_INET, timeout)
        except TimeoutError:
            raise Trouble(
                f"no name server has told the address of {host!r} within {timeout:g} s",
                "is the network up? Set EVENTBUS_HOST to the proxy's address",
            ) from None
        except (OSError, UnicodeError) as error:
            raise Trouble(
                f"{host!r} has no address (IPv4) that this machine knows ({getattr(error, 'strerror', None) or error})",
                "set EVENTBUS_HOST to the proxy's name or address",
            ) from None
        return self._address if host == self._address else f"{host} is {self._address}"

    def _look_at_port(self, name: str) -> str:
        try:
            self._connect(name, self._settings.connect_timeout)
        except ConnectionRefusedError:
            raise self._nobody(name) from None
        except TimeoutError:
            raise Trouble(
                f"{self._place(name)} does not answer within {self._settings.connect_timeout:g} s",
                f"is that machine up, and does its firewall let port {self._ports[name]} through? Else set EVENTBUS_HOST",
            ) from None
        except OSError as error:
            raise Trouble(
                f"no way to {self._place(name)} ({error.strerror or error})",
                f"set EVENTBUS_HOST and {self._variables[name]} to where the proxy is",
            ) from None
        return f"somebody listens at {self._place(name)}"

    def _nobody(self, name: str) -> Trouble:
        """That nobody listens at a port; perhaps somebody does at the other one."""
        nobody = f"nobody listens at {self._place(name)}"
        other = _SUBSCRIBERS if name == _PUBLISHERS else _PUBLISHERS
        if self._settings.pub_port != self._settings.sub_port:
            try:
                self._connect(other, _GLANCE)
            except OSError:
                pass
            else:
                return Trouble(
                    f"{nobody}, but somebody does at port {self._ports[other]}, where {other} connect",
                    f"set {self._variables[name]} to the proxy's port for {name}",
                )
        return Trouble(
            nobody, f"start a proxy there with `eventbus proxy`, or set EVENTBUS_HOST and {self._variables[name]}"
        )

    def _look_at_protocol(self) -> str:
        for name in _KINDS:
            self._answers[name] = self._ask(name)
        kinds = {name: answer.kind for name, answer in self._answers.items()}
        if kinds == {_PUBLISHERS: "XPUB", _SUBSCRIBERS: "XSUB"}:
            raise self._swapped()
        for name, kind in kinds.items():
            if kind and kind != _KINDS[name]:
                raise Trouble(
                    f"the socket at {self._place(name)} is one of ZeroMQ, but {kind}, where a proxy has {_KINDS[name]}",
                    f"set {self._variables[name]} to the proxy's port for {name}",
                )
        return "both are sockets of ZeroMQ" + (", XSUB and XPUB" if all(kinds.values()) else "")

    def _ask(self, name: str) -> Answer:
        timeout, place = self._settings.connect_timeout, self._place(name)
        try:
            answer = ask(self._address, self._ports[name], timeout)
        except OSError as error:
            raise Trouble(f"{place} does not answer any more ({error})", "is the proxy still running?") from None
        remedy = f"set {self._variables[name]} to the proxy's port for {name}"
        if answer.mechanism:
            return answer
        if answer.said:
            said = printable(answer.said[:200].decode(errors="backslashreplace").partition("\n")[0].strip(), _SHOWN)
            raise Trouble(f'what listens at {place} is not ZeroMQ: it says "{said}"', remedy)
        if answer.ended:
            raise Trouble(f"what listens at {place} closes the connection without a word", f"it is no proxy, {remedy}")
        raise Trouble(
            f"somebody listens at {place}, but says nothing for {timeout:g} s",
            f"if that is the proxy, it hangs, and only a restart helps; else {remedy}",
        )

    def _look_at_security(self) -> str:
        for name, answer in self._answers.items():
            match answer.mechanism:
                case "CURVE" if self._keys is None:
                    raise Trouble.of(EncryptionRequired(self._place(name)))
                case "NULL" if self._keys is not None:
                    raise Trouble.of(NotEncrypted(self._place(name)))
                case "CURVE" | "NULL":
                    pass
                case other:
                    raise Trouble(
                        f"the proxy at {self._place(name)} asks for {other}, which this package does not know",
                        "run `eventbus proxy`, or a proxy with CURVE or none",
                    )
        if self._keys is None:
            return "no encryption on either side"
        try:
            self._transport.open(self._settings.connect_timeout)
        except HandshakeFailed as error:
            raise self._swapped() if self._is_swapped() else Trouble.of(error) from None
        except ProxyUnreachable:
            pass  # which the next step tells
        return "CURVE, and the keys fit"

    def _look_at_round_trip(self) -> str:
        times = []
        try:
            for _ in range(_ROUNDS):
                self._transport.open(self._settings.connect_timeout)  # unless it is open, it connects
                times.append(self._transport.status.round_trip or 0.0)
        except (ProxyUnreachable, HandshakeFailed) as error:
            raise self._swapped() if self._is_swapped() else Trouble.of(error) from None
        self.round_trip = statistics.median(times)
        return f"a subscription comes round through the proxy in {self.round_trip * 1000:.1f} ms (median of {_ROUNDS})"

    def _is_swapped(self) -> bool:
        """Whether a bus is there with the ports exchanged: encrypted sockets do not tell what they are."""
        settings = self._settings
        exchanged = settings.model_copy(update={"pub_port": settings.sub_port, "sub_port": settings.pub_port})
        with transport_for(exchanged) as transport:
            try:
                transport.open(_GLANCE)
            except (ProxyUnreachable, HandshakeFailed):
                return False
            return True

    def _swapped(self) -> Trouble:
        publishers, subscribers = self._ports.values()
        return Trouble(
            f"the ports are swapped, publishers connect to {subscribers} and subscribers to {publishers}",
            f"set {self._variables[_PUBLISHERS]}={subscribers} and {self._variables[_SUBSCRIBERS]}={publishers}",
        )

    def _place(self, name: str) -> str:
        host = self._settings.host
        return tcp_endpoint(host, self._ports[name])

    def _connect(self, name: str, timeout: float) -> None:
        socket.create_connection((self._address, self._ports[name]), timeout).close()


def _address_of(host: str, family: socket.AddressFamily, timeout: float) -> str:
    """The first address of a host, asked in a thread: nothing else limits how long it takes."""
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
