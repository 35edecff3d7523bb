"""Asks the clients of a bus who they are, as ``eventbus ps`` does."""

from collections.abc import Sequence
from time import monotonic

from eventbus._base.deadline import Deadline
from eventbus.ask.link import RequestLink
from eventbus.errors import NobodyAnswers
from eventbus.observe.stats import DropReason
from eventbus.transports.contract import Transport
from eventbus.ui.clients import Change, KnownClient, changes, departures, known_clients
from eventbus.ui.notices import Level
from eventbus.wire.presence import QUESTION, QUESTION_TYPE, Presence, compare
from eventbus.wire.private_topics import PRESENCE_TOPIC

_OPEN_TIMEOUT_S = 5.0
_WAIT_S = 0.5  # for answers
_INTERVAL_S = 4.0  # from one question to the next: each client has to answer
_MAX_MISSED = 3  # questions, after which a client counts as gone


class ListedClients:
    """Asks all clients every four seconds. One thread at a time.

    If the rules of the proxy deny the question, it is not asked again.

    Args:
        transport: open while it is asked.
        public_key: the page's own, if it has keys.
    """

    def __init__(self, transport: Transport, public_key: str | None = None) -> None:
        self._transport = transport
        self._link = RequestLink(transport, public_key)
        self._clients: Sequence[KnownClient] = []
        self._before: dict[str, Presence] = {}
        self._missed: dict[str, int] = {}
        self._is_first = True
        self._is_denied = False
        self._due = 0.0

    def own_topics(self) -> tuple[bytes, ...]:
        """See `ClientSource`."""
        return () if self._is_denied else (self._link.inbox(Deadline(_OPEN_TIMEOUT_S)).topic,)

    def look(self) -> tuple[Sequence[KnownClient], Sequence[Change]]:
        """See `ClientSource`."""
        if self._is_denied or monotonic() < self._due:
            return self._clients, ()
        self._due = monotonic() + _INTERVAL_S
        denied = self._denials()
        now = self._ask()
        if self._denials() > denied:
            self._is_denied = True
            text = f"clients are not asked for their names: this page may not publish on {PRESENCE_TOPIC.decode()}"
            self._clients = []
            return self._clients, [Change(Level.INFO, "denied", text)]
        found = [] if self._is_first else list(changes(self._before, now))
        found += departures(self._gone(now))
        self._is_first = False
        seen = compare(list(self._before.values()), list(now.values()))
        self._before = {key: client for key, client in self._before.items() if key in self._missed} | now
        self._clients = known_clients(seen)
        return self._clients, found

    def close(self) -> None:
        """Ask no more; a thread that waits for answers goes on at once."""
        self._link.close()

    def _ask(self) -> dict[str, Presence]:
        try:
            answers = self._link.ask_all(PRESENCE_TOPIC, QUESTION_TYPE, QUESTION, _WAIT_S)
        except NobodyAnswers:
            return {}
        found = (Presence.decode(answer.payload) for answer in answers)
        return {client.id: client for client in found if client is not None}

    def _gone(self, now: dict[str, Presence]) -> list[Presence]:
        """Note who has not answered, and return those that count as gone."""
        self._missed = {key: self._missed.get(key, 0) + 1 for key in self._before if key not in now}
        gone = [key for key, missed in self._missed.items() if missed >= _MAX_MISSED]
        for key in gone:
            del self._missed[key]
        return [self._before[key] for key in gone]

    def _denials(self) -> int:
        return self._transport.drops.counts.get(DropReason.DENIED, 0)
