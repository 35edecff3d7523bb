"""Which server is dialled next, and after which pause."""

from eventbus.nats_options import NatsServer
from eventbus.options import ZeroMQOptions
from eventbus.transports.nats.protocol import Info
from eventbus.transports.nats.servers import Servers

OPTIONS = ZeroMQOptions(reconnect_interval=1.0, reconnect_max_interval=3.0)
ONE, TWO = NatsServer("one", 1), NatsServer("two", 2)


def test_each_is_tried_before_there_is_a_pause() -> None:
    """The pauses grow, up to the longest one; each is random, so that many clients do not come in step."""
    servers = Servers([ONE, TWO], OPTIONS)
    tried, pauses = [], []
    for _ in range(8):
        tried.append(servers.next)
        servers.skip()
        servers.failures += 1
        pauses.append(servers.pause())
    assert tried == [ONE, TWO] * 4
    assert pauses[::2] == [0.0] * 4
    for pause, longest in zip(pauses[1::2], (1.0, 2.0, 3.0, 3.0), strict=True):
        assert longest / 2 <= pause <= longest
    servers.failures = 0
    assert servers.pause() == 0.0


def test_attempts_may_be_limited() -> None:
    """So many may fail; -1: there is no limit."""
    servers = Servers([ONE], ZeroMQOptions(reconnect_attempts=1))
    servers.failures = 1
    assert not servers.is_enough
    servers.failures = 2
    assert servers.is_enough
    endless = Servers([ONE], OPTIONS)
    endless.failures = 1_000_000
    assert not endless.is_enough
    assert endless.pause() <= 3.0


def test_servers_of_a_cluster_are_learnt() -> None:
    """Each once, encrypted and with the user as the first ones; what is no address is ignored."""
    one = NatsServer("one", 1, tls=True, user="me")
    servers = Servers([one], OPTIONS)
    for _ in range(2):
        servers.learn(Info({"connect_urls": ["one:1", "two:2", "three:x", 4, ":"]}), one)
    assert len(servers) == 2
    servers.skip()
    assert servers.next == NatsServer("two", 2, tls=True, user="me")


def test_a_server_that_is_told_by_its_address_has_the_certificate_of_the_name_that_is_known() -> None:
    """Servers tell their addresses, and certificates are for names; a name that is told is the server's own."""
    one = NatsServer("one", 1, tls=True)
    servers = Servers([one], OPTIONS)
    servers.learn(Info({"connect_urls": ["[::1]:2", "three:3"]}), one)
    servers.skip()
    second = servers.next
    assert second == NatsServer("::1", 2, tls=True, tls_name="one")
    servers.skip()
    assert servers.next == NatsServer("three", 3, tls=True)
    servers.learn(Info({"connect_urls": ["10.0.0.4:4"]}), second)
    servers.skip()
    assert servers.next == NatsServer("10.0.0.4", 4, tls=True, tls_name="one")


def test_an_address_in_the_url_is_the_server_s_own() -> None:
    """Then there is no name that the others could have."""
    one = NatsServer("10.0.0.1", 1, tls=True)
    servers = Servers([one], OPTIONS)
    servers.learn(Info({"connect_urls": ["10.0.0.2:2"]}), one)
    servers.skip()
    assert servers.next == NatsServer("10.0.0.2", 2, tls=True)
