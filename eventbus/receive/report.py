"""Reports messages that become no event: counted, passed to hooks, logged no more often than a person can read."""

from eventbus._base.log import Log
from eventbus._base.log_throttle import LogThrottle, more
from eventbus._base.printable import counted, printable
from eventbus.observe.hooks import Hooks
from eventbus.observe.stats import Counters
from eventbus.wire.frames import MAX_TOPIC_BYTES
from eventbus.wire.rejects import Reject, RejectReason

_MAX_TOPIC_CHARACTERS, _MAX_DETAIL_CHARACTERS = 80, 300  # in a line of the log


class ConsumerReport:
    """Takes note of what a consumer has lost and rejected. One thread at a time.

    Each reason is logged once per interval of the throttle, and a type that is not known also when it is first seen.

    Args:
        counters: counts all of it.
        hooks: called for all of it.
        event_class: what was expected, for the log.
        endpoints: where it came from, for the log.
        throttle: holds lines back; None for one line per minute and reason.
        name: of the client, for the log.
    """

    def __init__(
        self,
        counters: Counters,
        hooks: Hooks,
        event_class: str,
        endpoints: str,
        throttle: LogThrottle | None = None,
        name: str | None = None,
    ) -> None:
        self._counters = counters
        self._hooks = hooks
        self._event_class = event_class
        self._throttle = LogThrottle() if throttle is None else throttle
        self._log = Log(endpoints=endpoints, client_name=name)

    def lost(self, topic: bytes, count: int) -> None:
        """Note that this many more events of numbering publishers have never arrived; negative: fewer than was noted."""
        self._counters.add(lost=count)
        if count < 0:  # hooks feed counters, which only go up
            return
        self._hooks.lost(topic.decode(errors="replace"), count)
        held_back = self._throttle.admit("lost", count)
        if held_back is not None:
            name = printable(topic.decode(errors="replace"), MAX_TOPIC_BYTES)
            self._log.warning(
                "lost %s on '%s' between their publisher and here: the proxy was restarted, or this subscriber's "
                "queue there was full%s",
                counted(count, "event"),
                name,
                more(held_back, "more lost"),
                topic=name,
                count=count,
                held_back=held_back,
            )

    def forged(self, topic: bytes, count: int) -> None:
        """Note that this many messages had a number that cannot be the publisher's own, or followed one."""
        held_back = self._throttle.admit("forged", count)
        if held_back is not None:
            name = printable(topic.decode(errors="replace"), MAX_TOPIC_BYTES)
            self._log.warning(
                "numbers of a publisher on '%s' cannot be its own, %d times: another one sends in its name; all events were "
                "taken, counts of lost ones may be wrong%s",
                name,
                count,
                more(held_back, "more times"),
                topic=name,
                count=count,
                held_back=held_back,
            )

    def repeated(self, count: int) -> None:
        """Note that this many messages had arrived before, and were skipped."""
        self._counters.add(repeated=count)

    def repaired(self, topic: bytes, count: int) -> None:
        """Note that this many events that were missing were had from a historian."""
        self._counters.add(repaired=count)
        name = topic.decode(errors="replace")
        self._hooks.repaired(name, count)
        held_back = self._throttle.admit("repaired", count)
        if held_back is not None:
            name = printable(name, MAX_TOPIC_BYTES)
            self._log.info(
                "a historian had %s on '%s' that were missing%s",
                counted(count, "event"),
                name,
                more(held_back),
                topic=name,
                count=count,
                held_back=held_back,
            )

    def rejected(self, topic: bytes, reject: Reject) -> None:
        """Note that a message, or some of several events in it, are not events."""
        first = self._counters.reject(reject.reason, reject.count, unknown_type=reject.unknown_type)
        self._hooks.rejected(reject.reason, reject.count)
        detail = f"on {printable(repr(topic), _MAX_TOPIC_CHARACTERS)}: {reject.detail}"
        self._warn(reject.reason, detail, topic, reject.unknown_type, count=reject.count, at_once=first)

    def malformed(self, count: int) -> None:
        """Note that the transport has skipped this many messages, which it counts itself."""
        self._hooks.rejected(RejectReason.FRAMES, count)
        self._warn(RejectReason.FRAMES, "not a topic and a JSON payload in two frames", None, count=count)

    def _warn(
        self,
        reason: RejectReason,
        detail: str,
        topic: bytes | None,
        unknown_type: str | None = None,
        *,
        count: int,
        at_once: bool = False,
    ) -> None:
        held_back = self._throttle.admit(reason, count, at_once=at_once)
        if held_back is not None:
            self._log.warning(
                "rejected what is no event of %s (%s): %s%s",
                self._event_class,
                reason,
                printable(detail, _MAX_DETAIL_CHARACTERS),
                more(held_back, "more like it"),
                reason=str(reason),
                topic=None if topic is None else printable(topic.decode(errors="replace"), MAX_TOPIC_BYTES),
                type=unknown_type,
                event_class=self._event_class,
                count=count,
                held_back=held_back,
            )
