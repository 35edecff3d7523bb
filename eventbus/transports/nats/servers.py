"""Which of several NATS servers is dialled next, and after which pause. Pure."""

from eventbus._base.addresses import is_address
from eventbus._base.backoff import backoff, jittered
from eventbus.nats_options import NatsServer
from eventbus.options import ZeroMQOptions
from eventbus.transports.nats.protocol import Info


class Servers:
    """The servers of the URL, and others of their cluster. On the link's thread, but for `learn`.

    Args:
        known: the servers of the URL.
        options: how often and how soon to dial again.

    Attributes:
        failures: how many connections could not be made, or did not last, since one did.
    """

    def __init__(self, known: list[NatsServer], options: ZeroMQOptions) -> None:
        self.failures = 0
        self._known = known
        self._options = options
        self._next = 0  # index of the server to be tried next

    def __len__(self) -> int:
        return len(self._known)

    @property
    def next(self) -> NatsServer:
        """The server to be tried."""
        return self._known[self._next % len(self._known)]

    def skip(self) -> None:
        """Another one is to be tried, if there are several."""
        self._next += 1

    @property
    def is_enough(self) -> bool:
        """Whether as many attempts have failed as may."""
        return 0 <= self._options.reconnect_attempts < self.failures

    def pause(self) -> float:
        """Seconds to wait before the next attempt: none until each server has failed."""
        if not self.failures or self.failures % len(self._known):
            return 0.0
        rounds = (self.failures - 1) // len(self._known)
        return jittered(backoff(rounds, self._options.reconnect_interval, self._options.reconnect_max_interval))

    def learn(self, info: Info, teller: NatsServer) -> None:
        """Remember the other servers of a cluster, to reconnect to them. Any thread may call this.

        Most tell addresses. What has one is to have the certificate of the server that tells it, as with the clients of NATS
        themselves: certificates are for names.
        """
        secure = any(server.tls for server in self._known)
        name = teller.tls_name or ("" if is_address(teller.host) else teller.host)
        for address in info.servers:
            host, _, port = address.rpartition(":")
            if port.isdigit():
                host = host.strip("[]")
                server = NatsServer(host, int(port), secure, teller.user, name if is_address(host) else "")
                if (server.host, server.port) not in {(known.host, known.port) for known in self._known}:
                    self._known.append(server)
