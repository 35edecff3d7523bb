"""Steps that find what stands between this machine and a proxy, from outside: name, ports, protocol, security.

`eventbus check` shows each step, and `connect` says the first that fails. Nothing here touches the sockets of a client.
"""

import socket
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from threading import Thread
from types import MappingProxyType

import zmq

from eventbus._base.addresses import is_ipv6, tcp_endpoint
from eventbus._base.deadline import Deadline
from eventbus._base.descriptors import require_descriptors
from eventbus._base.printable import printable
from eventbus._base.zmq_monitor import events_of, monitor
from eventbus._base.zmq_sockets import Context, CurveKeys, new_socket
from eventbus._base.zmtp import Answer, ask
from eventbus.errors import DescriptorsExhausted, EncryptionRequired, EventBusError, NotEncrypted
from eventbus.transports.zeromq.sockets import is_ipv6_endpoint

PUBLISHERS, SUBSCRIBERS = "publishers", "subscribers"

_KINDS = {PUBLISHERS: "XSUB", SUBSCRIBERS: "XPUB"}  # the proxy's sockets
_PEERS = {PUBLISHERS: int(zmq.XPUB), SUBSCRIBERS: int(zmq.SUB)}  # the client's
_VARIABLES = MappingProxyType({PUBLISHERS: "EVENTBUS_PUB_PORT", SUBSCRIBERS: "EVENTBUS_SUB_PORT"})
_SECOND_LOOK_TIMEOUT_S = 1.0  # for attempts that only make an explanation better
_MAX_QUOTED_CHARACTERS = 60  # characters of what a peer answers
_HANDSHAKE_DESCRIPTORS = 12


class CheckFailed(EventBusError):
    """A check has failed.

    Attributes:
        detail: what it found.
        remedy: what to do.
    """

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__()
        self.args = detail, remedy
        self.detail = detail
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.detail}: {self.remedy}"

    @classmethod
    def of(cls, error: EventBusError) -> "CheckFailed":
        """Split the text of another error of ours: the remedy comes last, after a colon."""
        detail, _, remedy = str(error).rpartition(": ")
        return cls(detail, remedy)


class Reachability:
    """Checks one thing after the other; each check returns what it found, or raises `CheckFailed`. One thread at a time.

    Args:
        host: the proxy's.
        pub_port: its port for publishers.
        sub_port: its port for subscribers.
        keys: the client's; None: no encryption.
        timeout: the seconds that each check waits for an answer.
        variables: the environment variables of both ports, for remedies.
    """

    def __init__(
        self,
        host: str,
        pub_port: int,
        sub_port: int,
        keys: CurveKeys | None,
        *,
        timeout: float,
        variables: Mapping[str, str] = _VARIABLES,
    ) -> None:
        self._host = host
        self._ports = {PUBLISHERS: pub_port, SUBSCRIBERS: sub_port}
        self._keys = keys
        self._timeout = timeout
        self._variables = variables
        self._addresses: list[str] = []
        self._answers: dict[str, Answer] = {}

    def failure(self) -> CheckFailed | None:
        """Make all checks; return the first failure, or None if all is well as far as can be seen from outside."""
        checks: list[Callable[[], str]] = [
            self.check_host,
            lambda: self.check_port(PUBLISHERS),
            lambda: self.check_port(SUBSCRIBERS),
            self.check_protocol,
            self.check_security,
        ]
        try:
            for check in checks:
                check()
        except CheckFailed as failure:
            return failure
        return self.swapped() if self.are_swapped() else None

    def check_host(self) -> str:
        """Find the host's addresses."""
        try:
            self._addresses = addresses_of(self._host, self._timeout)
        except TimeoutError:
            raise CheckFailed(
                f"no name server answered for {self._host!r} within {self._timeout:g} s",
                "is the network up? Set EVENTBUS_HOST to the proxy's address",
            ) from None
        except (OSError, UnicodeError) as error:
            raise CheckFailed(
                f"this machine cannot find an address of {self._host!r} ({getattr(error, 'strerror', None) or error})",
                "set EVENTBUS_HOST to the proxy's name or address",
            ) from None
        found = " and ".join(self._addresses)
        return found if found == self._host else f"{self._host} is {found}"

    def check_port(self, name: str) -> str:
        """Connect to a port. If the host has several addresses, the later checks use the one that answered."""
        try:
            address = self._connect(name, self._timeout)
        except ConnectionRefusedError:
            raise self._refused(name) from None
        except TimeoutError:
            raise CheckFailed(
                f"{self._place(name)} does not answer within {self._timeout:g} s",
                f"is that machine up, and does its firewall let port {self._ports[name]} through? If not, set EVENTBUS_HOST",
            ) from None
        except OSError as error:
            raise CheckFailed(
                f"cannot connect to {self._place(name)} ({error.strerror or error})",
                f"set EVENTBUS_HOST and {self._variables[name]} to where the proxy listens",
            ) from None
        self._addresses = [address]
        return f"something listens at {self._place(name)}"

    def check_protocol(self) -> str:
        """Ask what listens at both ports."""
        for name in _KINDS:
            self._answers[name] = self._ask(name)
        kinds = {name: answer.kind for name, answer in self._answers.items()}
        if kinds == {PUBLISHERS: "XPUB", SUBSCRIBERS: "XSUB"}:
            raise self.swapped()
        for name, kind in kinds.items():
            if kind and kind != _KINDS[name]:
                raise CheckFailed(
                    f"the ZeroMQ socket at {self._place(name)} is {kind}, but a proxy has {_KINDS[name]} there",
                    f"set {self._variables[name]} to the proxy's port for {name}",
                )
        return "both are ZeroMQ sockets" + (", XSUB and XPUB" if all(kinds.values()) else "")

    def check_security(self) -> str:
        """Compare the security mechanisms of both sides; call `check_protocol` before."""
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
        return "no encryption on either side" if self._keys is None else "CURVE on both sides"

    def are_swapped(self) -> bool:
        """Whether each port accepts the other kind of client: encrypted sockets do not tell their type."""
        try:
            return all(
                _accepts(tcp_endpoint(self._addresses[0], self._ports[other]), kind, self._keys)
                for kind, other in ((_PEERS[PUBLISHERS], SUBSCRIBERS), (_PEERS[SUBSCRIBERS], PUBLISHERS))
            )
        except (zmq.ZMQError, DescriptorsExhausted):
            return False

    def swapped(self) -> CheckFailed:
        """Return the failure that says that the ports are swapped."""
        publishers, subscribers = self._ports.values()
        return CheckFailed(
            f"the ports are swapped (publishers connect to {subscribers} and subscribers to {publishers})",
            f"set {self._variables[PUBLISHERS]}={subscribers} and {self._variables[SUBSCRIBERS]}={publishers}",
        )

    def _refused(self, name: str) -> CheckFailed:
        """Explain that nothing listens at a port; perhaps something does at the other one."""
        nothing = f"nothing listens at {self._place(name)}"
        other = SUBSCRIBERS if name == PUBLISHERS else PUBLISHERS
        if self._ports[name] != self._ports[other]:
            try:
                self._connect(other, min(_SECOND_LOOK_TIMEOUT_S, self._timeout))
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

    def _ask(self, name: str) -> Answer:
        place = self._place(name)
        try:
            answer = ask(self._addresses[0], self._ports[name], self._timeout)
        except OSError as error:
            raise CheckFailed(f"{place} has stopped answering ({error})", "is the proxy still running?") from None
        remedy = f"set {self._variables[name]} to the proxy's port for {name}"
        if answer.mechanism:
            return answer
        if answer.said:
            said = printable(
                answer.said[:200].decode(errors="backslashreplace").partition("\n")[0].strip(), _MAX_QUOTED_CHARACTERS
            )
            raise CheckFailed(f'the program at {place} does not speak ZeroMQ: it answers "{said}"', remedy)
        if answer.ended:
            raise CheckFailed(f"the program at {place} closes the connection without an answer", f"it is no proxy, {remedy}")
        raise CheckFailed(
            f"the program at {place} accepts the connection, but does not answer within {self._timeout:g} s",
            f"if that is the proxy, it hangs: restart it; if not, {remedy}",
        )

    def _place(self, name: str) -> str:
        return tcp_endpoint(self._host, self._ports[name])

    def _connect(self, name: str, timeout: float) -> str:
        """Connect to one address after the other; return the first that accepts."""
        deadline = Deadline(timeout)
        for address in self._addresses:
            try:
                socket.create_connection((address, self._ports[name]), max(0.001, deadline.left())).close()
            except OSError:
                if address == self._addresses[-1]:
                    raise
            else:
                return address
        raise AssertionError("a host has an address")


def answers_at_ipv6(host: str, port: int, timeout: float) -> bool:
    """Whether a port of a host answers at an IPv6 address only, although the host has IPv4 addresses or may have some.

    Takes up to `timeout` seconds for the name and as long for each address.
    """
    try:
        addresses = addresses_of(host, timeout)
    except (OSError, UnicodeError):
        return False
    for address in addresses:
        try:
            socket.create_connection((address, port), timeout).close()
        except OSError:
            continue
        return is_ipv6(address)
    return False


def addresses_of(host: str, timeout: float) -> list[str]:
    """Return all addresses of a host, those of IPv4 first. A thread asks, because `getaddrinfo` takes no timeout.

    Raises:
        OSError: the host has none.
        TimeoutError: no name server has answered within `timeout` seconds.
    """
    answers: SimpleQueue[list[str] | Exception] = SimpleQueue()

    def resolve() -> None:
        try:
            found = [str(info[4][0]) for info in socket.getaddrinfo(host, None, socket.AF_UNSPEC, socket.SOCK_STREAM)]
            answers.put(sorted(dict.fromkeys(found), key=is_ipv6))
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


def _accepts(endpoint: str, kind: int, keys: CurveKeys | None) -> bool:
    """Whether a socket of this type gets through its handshake."""
    require_descriptors(_HANDSHAKE_DESCRIPTORS)
    context: Context = zmq.Context()
    made = new_socket(context, kind, linger=0, client_keys=keys)
    try:
        made.set(zmq.IPV6, is_ipv6_endpoint(endpoint))
        listening = monitor(context, made, int(zmq.EVENT_HANDSHAKE_SUCCEEDED))
        made.connect(endpoint)
        accepted = bool(listening.poll(round(1000 * _SECOND_LOOK_TIMEOUT_S))) and any(events_of(listening))
        made.disable_monitor()
        return accepted
    finally:
        context.destroy(linger=0)
