"""Estimates of what each connection accounts for, from what the kernel and the proxy count."""

from eventbus.proxy.ledger import Ledger, SubscriptionShares
from eventbus.proxy.tcp import Connection, TcpState

ONE, TWO = Connection(10, ("192.0.2.1", 4_001)), Connection(11, ("192.0.2.1", 4_002))


def state(*, sent: int = 0, received: int = 0, unsent: int = 0) -> TcpState:
    return TcpState(sent, received, unsent)


def test_a_peer_that_keeps_up_has_no_backlog() -> None:
    """Nothing waits as long as the kernel's buffer is empty, however much passes."""
    ledger = Ledger()
    for total in range(0, 10_000, 1_000):
        ledger.update({ONE: state(sent=total)}, came_in=0, went_out=total)
        assert ledger.accounts[ONE].bytes == 0


def test_a_backlog_is_what_went_out_and_was_not_sent() -> None:
    """Bytes that the proxy passes on wait from the first sample with a full buffer on, but for those the kernel sends."""
    ledger = Ledger()
    ledger.update({ONE: state(sent=100), TWO: state(sent=100)}, came_in=0, went_out=100)
    ledger.update({ONE: state(sent=200, unsent=50), TWO: state(sent=300)}, came_in=0, went_out=300)
    ledger.update({ONE: state(sent=250, unsent=50), TWO: state(sent=1_300)}, came_in=0, went_out=1_300)
    assert ledger.accounts[ONE].backlog == 1_000 - 50
    assert ledger.accounts[TWO].backlog == 0
    ledger.update({ONE: state(sent=1_300), TWO: state(sent=1_300)}, came_in=0, went_out=1_300)
    assert ledger.accounts[ONE].backlog == 0


def test_unfinished_is_what_one_has_sent_beyond_what_came_in() -> None:
    """A peer that sends more than the proxy gets from all has the rest unfinished, until it comes in."""
    ledger = Ledger()
    ledger.update({ONE: state(received=5_000), TWO: state(received=5_000)}, came_in=7_000, went_out=0)
    assert {account.unfinished for account in ledger.accounts.values()} == {0}  # nobody knows what was before
    ledger.update({ONE: state(received=9_000), TWO: state(received=5_500)}, came_in=7_500, went_out=0)
    assert ledger.accounts[ONE].unfinished == 4_000 - 500
    assert ledger.accounts[TWO].unfinished == 0
    ledger.update({ONE: state(received=9_000), TWO: state(received=5_500)}, came_in=11_500, went_out=0)
    assert ledger.accounts[ONE].unfinished == 0


def test_a_new_connection_counts_from_its_beginning() -> None:
    """All that a connection has sent that was not there at the last sample came since then; those that end are forgotten."""
    ledger = Ledger()
    ledger.update({ONE: state()}, came_in=0, went_out=0)
    ledger.update({TWO: state(received=800)}, came_in=100, went_out=0)
    assert ledger.accounts.keys() == {TWO}
    assert ledger.accounts[TWO].unfinished == 700


def test_subscriptions_are_shared_out_by_bytes() -> None:
    """The connection that has sent most since the last sample has made most of the new subscriptions."""
    shares = SubscriptionShares()
    shares.update({ONE: 5_000}, set(), made=0, live=100)
    shares.update({ONE: 5_020, TWO: 20_000}, {TWO}, made=1_000, live=1_100)
    assert shares.above(900) == [TWO]
    assert shares.above(1_000) == []


def test_subscriptions_that_end() -> None:
    """Nobody knows whose subscriptions have ended, so all accounts shrink; together they are never more than there are."""
    shares = SubscriptionShares()
    shares.update({ONE: 0, TWO: 0}, set(), made=0, live=0)
    shares.update({ONE: 100, TWO: 900}, set(), made=1_000, live=1_000)
    shares.update({ONE: 100, TWO: 900}, set(), made=0, live=100)
    assert shares.above(91) == []
    assert shares.above(89) == [TWO]
    shares.update({ONE: 100}, set(), made=0, live=0)
    assert shares.above(0) == []
