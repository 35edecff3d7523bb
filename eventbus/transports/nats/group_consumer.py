"""The consumer that the workers of a group share: the server remembers its position, and each message is confirmed."""

from collections import OrderedDict
from collections.abc import Sequence
from time import monotonic

from eventbus._base.deadline import Deadline
from eventbus.errors import GroupDiffers
from eventbus.transports.nats import streams
from eventbus.transports.nats.consumer import PULL_SID, StreamConsumer, _endpoint
from eventbus.transports.nats.delivered import FromStream, delivered
from eventbus.transports.nats.inbox import Inbox
from eventbus.transports.nats.link import NatsLink
from eventbus.transports.nats.protocol import publish, unsubscribe

_REMEMBERED = 50_000  # messages of which it is known that this worker has confirmed them
_CONFIRMED_AGAIN = 2_000  # of those, after a reconnection
_LATER = b'-NAK {"delay": 1000000000}'  # in a second: a handler that is always cancelled gets its event no more often


class GroupConsumer(StreamConsumer):
    """Confirms each message by itself: confirming all up to one would confirm those of other workers, too."""

    most = 256  # a worker that has many waiting keeps them from the others

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type] # as the base class takes them
        # By number in the stream: subjects that confirm what is being handled, and what was confirmed.
        self._handling: dict[int, bytes] = {}
        self._done: OrderedDict[int, bytes] = OrderedDict()
        self._again: list[bytes] = []  # confirmations of messages that have come again
        self._returned: list[bytes] = []  # messages for others
        self._progress_due = float("inf")
        self._ack_wait = self._options.ack_wait  # as the server says, once it has
        self._known = False  # whether the group was there before

    def begin(self, link: NatsLink, deadline: Deadline) -> None:
        with self._changing:
            with self._taking:
                self._name = ""  # a pull that is not sent yet would pass for that of another worker, or hide one
                self.receiving = True
            link.post(self.subscription(link))  # again after a pause
            if self._wanted and link.restored:  # else `restore` does it
                self._ensure_in_time(link, deadline)
        link.wake()

    @property
    def owes(self) -> bool:
        return bool(self._returned)

    def take(self, messages: list[FromStream], inbox: Inbox) -> bool:
        firsts: list[bytes] = []
        payloads: list[bytes] = []
        acks: list[bytes] = []
        repeated = 0
        with self._taking:
            now = monotonic()
            group = (self._options.group or "").encode()
            for subject, consumer, number, reply, headers, payload in messages:
                if consumer != group:
                    continue
                self._credit = max(0, self._credit - 1)
                if not self.receiving:  # it was under way when nobody wanted it any more
                    self._returned.append(reply)
                elif _is_same(reply, self._handling.get(number)):
                    self._handling[number] = reply
                    repeated += 1
                elif _is_same(reply, self._done.get(number)):
                    self._again.append(reply)
                    repeated += 1
                else:
                    if not self._handling:
                        self._progress_due = now + self._ack_wait / 2
                    self._handling[number] = reply
                    firsts.append(self._carried.inward(subject, headers))
                    payloads.append(payload)
                    acks.append(reply)
            self._heard = monotonic()
            if firsts:  # under the lock, so that nothing comes after a pause
                inbox.put(firsts, payloads, acks)
        if repeated:
            self._count(0, repeated)
        return self.is_low or not self.receiving

    def farewell(self, link: NatsLink) -> None:
        with self._taking:
            self.receiving, self._leaving = False, True
            left, self._handling = list(self._handling.values()), {}
        # To other workers at once, rather than after `ack_wait`; first nothing more to this one.
        link.post(unsubscribe(PULL_SID) + _answers(left, b"-NAK"))

    def give_back(self, link: NatsLink, acks: Sequence[bytes]) -> None:
        returned = []
        with self._taking:
            for ack in acks:
                known = delivered(ack)
                latest = None if known is None else self._handling.pop(known.stream_seq, None)
                if latest is not None:
                    returned.append(latest)
        if returned:
            link.post(_answers(returned, _LATER))

    def pause(self, link: NatsLink, inbox: Inbox) -> None:
        with self._taking:
            self.receiving, self._credit = False, 0
            self._pauses += 1
            waiting = [self._handling.pop(found.stream_seq, ack) for ack in inbox.take_back() if (found := delivered(ack))]
        # First the inbox is left: what was asked for would come here again at once.
        link.post(unsubscribe(PULL_SID) + _answers(waiting, b"-NAK"))

    def confirm(self, link: NatsLink, acks: Sequence[bytes]) -> None:
        confirmed = []
        with self._taking:
            for ack in acks:
                known = delivered(ack)
                latest = None if known is None else self._handling.pop(known.stream_seq, None)
                if known is not None and latest is not None:
                    self._done[known.stream_seq] = latest
                    confirmed.append(latest)
            while len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)
        if confirmed:
            link.post(_answers(confirmed, b"+ACK"))

    def _look_after(self, data: list[bytes], now: float) -> float:
        if self._returned:
            data.append(_answers(self._returned, b"-NAK"))
            self._returned = []
        if self._again:
            data.append(_answers(self._again, b"+ACK"))
            self._again = []
        if self._handling and now >= self._progress_due:
            self._progress_due = now + self._ack_wait / 2
            data.append(_answers(list(self._handling.values()), b"+WPI"))
        return now + self._ack_wait / 4  # what comes meanwhile does not wake the link

    def _note_other_stream(self) -> None:
        self._handling.clear()
        self._done.clear()

    def _ensure(self, link: NatsLink, deadline: Deadline) -> None:
        """Find the group's consumer or make it, and see to its topics.

        As long as messages are not asked for, more topics may be wanted in a moment: the group may have more than these.
        """
        subjects = set(self._wanted)
        stream, group = self._options.stream, self._options.group or ""
        if not subjects:
            with self._taking:
                self._name, self._filters, self._credit = "", set(), 0
                self._pauses += 1
            link.post(unsubscribe(PULL_SID) + self.subscription(link))
            return
        goes_on = bool(self._name) and not self._renewing
        info, error = self._ask(link, f"CONSUMER.INFO.{stream}.{group}", b"", deadline)
        if error is not None and error.code == streams.CONSUMER_NOT_FOUND:
            goes_on = False
            config = streams.group_config(self._options, subjects, self._policy())
            request = streams.create_consumer(stream, config, "create")
            info, error = self._ask(link, f"CONSUMER.CREATE.{stream}.{group}", request, deadline)
            if error is not None and error.code in streams.CONSUMER_EXISTS:  # another worker has just made it
                info, error = self._ask(link, f"CONSUMER.INFO.{stream}.{group}", b"", deadline)
        if error is not None:
            raise self._failure(link, error)
        found = streams.filters_of(info.get("config", {})) or {self._everything}
        wanted = found if found >= subjects and not self.receiving else subjects if self.receiving else found | subjects
        if self._everything in wanted:
            wanted = {self._everything}
        if found != wanted:
            if int(info.get("num_waiting") or 0) > self._open_pulls:
                raise GroupDiffers(_endpoint(link), group, self._topics(found), self._topics(subjects))
            # The whole configuration again, with the policy and the start that it has: these cannot be changed.
            config = {**info["config"], "filter_subjects": sorted(wanted)}
            config.pop("filter_subject", None)
            request = streams.create_consumer(stream, config)
            _, error = self._ask(link, f"CONSUMER.CREATE.{stream}.{group}", request, deadline)
            if error is not None:
                raise self._failure(link, error)
        with self._taking:
            self._known = True
            self._ack_wait = streams.ack_wait_of(info.get("config", {})) or self._options.ack_wait
            if self._done:  # the last confirmations may have been lost with the connection
                self._again += list(self._done.values())[-_CONFIRMED_AGAIN:]
            self._made(group, subjects, goes_on=goes_on)
        link.wake()

    def _policy(self) -> streams.Json:
        """Where a group begins that is not there: at its start, or if it was, after what this worker knows of."""
        if not self._known:
            return streams.starting_policy(self._options.start)
        with self._taking:
            return streams.policy_after(max([0, *self._handling, *self._done]))

    def _topics(self, subjects: set[str]) -> tuple[str, ...]:
        names = (
            "all topics" if one == self._everything else self._carried.topic(one.encode()).decode(errors="replace")
            for one in subjects
        )
        return tuple(sorted(names))


def _is_same(reply: bytes, known: bytes | None) -> bool:
    """Whether two reply subjects for one number are of one message: a stream that has lost its end gives numbers again."""
    if known is None:
        return False
    one, other = delivered(reply), delivered(known)
    return one is not None and other is not None and one.nanoseconds == other.nanoseconds


def _answers(acks: list[bytes], answer: bytes) -> bytes:
    return b"".join(publish(ack, answer) for ack in acks)
