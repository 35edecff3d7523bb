"""The consumer of one client, which remembers its position itself: it is made anew whenever something has changed."""

import os
from collections.abc import Mapping
from time import monotonic
from types import MappingProxyType

from eventbus._base.deadline import Deadline
from eventbus.policies import Start
from eventbus.transports.nats import streams
from eventbus.transports.nats.consumer import StreamConsumer
from eventbus.transports.nats.delivered import FromStream, delivered
from eventbus.transports.nats.inbox import Inbox
from eventbus.transports.nats.link import NatsLink
from eventbus.transports.nats.protocol import publish


class OwnConsumer(StreamConsumer):
    """Goes on after the last message that came. Nothing is confirmed: a consumer that is gone is replaced."""

    _position: int | None = None
    """The last number of the stream that is done with; None: there was no consumer yet."""
    _latest = b""
    """The reply subject of that message, if it came."""
    _made_at: int | None = None
    """When the first consumer was made, in nanoseconds since 1970, by the server's clock."""
    _since: int | None = None
    """When the last message was stored that came before the stream lost its end; in the same way."""
    _continues = False
    """Whether the next message should have the next number, if all topics are wanted."""
    _skips: Mapping[str, int] = MappingProxyType({})
    """By subject: numbers up to which messages are no news."""
    _skip_others = 0
    """The same of all other subjects."""
    _begun: Mapping[str, int] = MappingProxyType({})
    """By subject: the number of the last message before those that come."""

    _awaited = False
    """Whether somebody has asked in vain where a subject begins."""

    def begun_after(self, subject: str) -> int | None:
        with self._taking:
            found = self._begun.get(subject, self._begun.get(self._everything))
            self._awaited = self._awaited or found is None
            return found

    def begin(self, link: NatsLink, deadline: Deadline) -> None:
        self.receiving = True
        link.wake()

    def farewell(self, link: NatsLink) -> None:
        with self._taking:
            name, self._name = self._name, ""
        if name:
            link.post(self._deletion(link, name))

    def take(self, messages: list[FromStream], inbox: Inbox) -> bool:
        firsts: list[bytes] = []
        payloads: list[bytes] = []
        lost = 0
        with self._taking:
            name, inward = self._name.encode(), self._carried.inward
            for subject, consumer, number, reply, headers, payload in messages:
                if consumer != name:
                    continue  # of a consumer that was replaced: it comes again
                if self._credit:
                    self._credit -= 1
                before = self._position or 0
                if number > before:
                    self._position, self._latest = number, reply
                if self._skips and number <= self._skips.get(subject.decode(errors="replace"), self._skip_others):
                    continue  # no news for this topic
                if number > before + 1 and self._continues and self._counts_gaps:
                    lost += number - before - 1
                self._continues = True
                firsts.append(inward(subject, headers))
                payloads.append(payload)
            self._heard = monotonic()
        if firsts:
            inbox.put(firsts, payloads)
        if lost:
            self._count(lost, 0)
        return self._credit < self._half and (self.is_low or not self.receiving)

    @property
    def _counts_gaps(self) -> bool:
        """Whether a number that is missing means that a message is."""
        return self._filters == {self._everything} and self._options.start != Start.LAST

    def _note_other_stream(self) -> None:
        if self._position is not None:
            self._begin_anew()

    def _newest(self) -> int:
        return self._position or 0

    def _was_given_again(self, link: NatsLink, number: int, deadline: Deadline) -> bool:
        answer, error = self._ask(link, f"STREAM.MSG.GET.{self._options.stream}", streams.message(number), deadline)
        stored_at, latest = streams.nanoseconds_of(answer.get("message", {}).get("time")), self._latest_at
        return error is None and stored_at is not None and latest is not None and latest < stored_at

    def _note_lost_end(self) -> None:
        latest = self._latest_at
        self._begin_anew()
        self._since = latest  # whatever was stored later is new, also if it has a number that was given before

    @property
    def _latest_at(self) -> int | None:
        """When the newest message was stored that came, or if none did, when the consumer was made."""
        known = delivered(self._latest)
        return self._made_at if known is None else known.nanoseconds

    def _begin_anew(self) -> None:
        self._position, self._continues = 0, False
        self._latest, self._since = b"", None
        self._skips, self._skip_others = {}, 0
        self._begun = dict.fromkeys(self._begun, 0)

    def _ensure(self, link: NatsLink, deadline: Deadline) -> None:
        subjects = set(self._wanted)
        with self._taking:
            old, self._name = self._name, ""  # from now on, what still comes for it is not taken
            position, before = self._position, set(self._filters)
        if old:
            link.post(self._deletion(link, old))
        if not subjects:
            with self._taking:
                self._filters, self._begun = set(), {}
            return
        policy = self._policy(link, position, before, subjects - before, deadline)
        name = f"eb-{os.urandom(8).hex()}"
        config = streams.ephemeral_config(name, subjects, policy)
        request = streams.create_consumer(self._options.stream, config)
        answer, error = self._ask(link, f"CONSUMER.CREATE.{self._options.stream}.{name}", request, deadline)
        if error is not None:
            raise self._failure(link, error)
        with self._taking:
            begun = dict(self._begun)
            if position is None or not before:
                self._position = int(answer.get("delivered", {}).get("stream_seq") or 0)
                self._continues = self._options.start == Start.NEW
                self._latest, self._made_at = b"", streams.nanoseconds_of(answer.get("created"))
                begun = dict.fromkeys(subjects, self._position)
            common = begun.get(self._everything)
            for one in subjects - set(begun):
                begun[one] = self._skips.get(one, self._skip_others) if common is None else common
            self._begun = {one: begun[one] for one in subjects}
            self._made(name, subjects)
        link.wake()
        if self._awaited and self._inbox is not None:
            self._awaited = False
            self._inbox.wake()

    def _policy(
        self, link: NatsLink, position: int | None, before: set[str], added: set[str], deadline: Deadline
    ) -> streams.Json:
        """Where the next consumer begins: topics that were there go on, and others begin as they would have at first."""
        start = self._options.start
        if position is None or not before:  # nothing goes on
            with self._taking:
                self._skips, self._skip_others = {}, 0
            return streams.starting_policy(start)
        if not self.receiving and start != Start.NEW:  # nothing has come yet
            return streams.starting_policy(start)
        if self._everything in before:  # each of these has come already
            with self._taking:
                self._skips = {one: max(position, self._skips.get(one, self._skip_others)) for one in before | added}
            return self._after(position)
        if not added:
            return self._after(position)
        answer, error = self._ask(link, f"STREAM.INFO.{self._options.stream}", b"", deadline)
        if error is not None:
            raise self._failure(link, error)
        last = int(answer.get("state", {}).get("last_seq") or 0)
        skips = {subject: max(position, self._skips.get(subject, 0)) for subject in before}
        others = 0
        begin, policy = position, self._after(position)
        for subject in added:
            if start == Start.NEW:
                no_news = last
            elif start == Start.LAST and subject != self._everything:
                no_news = self._last_on(link, subject, last, deadline) - 1
                begin = min(begin, max(0, no_news))
                policy = self._after(begin)
            elif start == Start.LAST:
                no_news = last  # of all topics, only what comes from now on
            else:
                no_news, policy = 0, streams.starting_policy(start)
            if subject == self._everything:
                others = no_news
            else:
                skips[subject] = no_news
        with self._taking:
            self._skips, self._skip_others = skips, others
        return policy

    def _after(self, position: int) -> streams.Json:
        if position == 0 and self._since is not None:
            return streams.policy_since(self._since + 1)
        return streams.policy_after(position)

    def _last_on(self, link: NatsLink, subject: str, last: int, deadline: Deadline) -> int:
        """The number of the newest message on a subject; one more than the `last` of all if there is none."""
        request = streams.last_on(subject)
        answer, error = self._ask(link, f"STREAM.MSG.GET.{self._options.stream}", request, deadline)
        if error is not None and error.code != streams.MESSAGE_NOT_FOUND:
            raise self._failure(link, error)
        return int(answer.get("message", {}).get("seq") or last + 1)

    def _deletion(self, link: NatsLink, name: str) -> bytes:
        subject = streams.API + f"CONSUMER.DELETE.{self._options.stream}.{name}".encode()
        return publish(subject, b"", reply=link.inbox + b".d")
