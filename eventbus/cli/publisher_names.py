"""The names of publishers, for ``eventbus top``: the listed clients are asked, as by ``eventbus ps``."""

from collections.abc import Collection
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Self

from eventbus.ask.link import RequestLink
from eventbus.cli.connection import transport_for
from eventbus.errors import EventBusError
from eventbus.settings import EventBusSettings
from eventbus.wire.presence import QUESTION, QUESTION_TYPE, Presence
from eventbus.wire.private_topics import PRESENCE_TOPIC

_WAIT_S = 0.3  # for answers
_INTERVAL_S = 5.0  # from one question to the next


class PublisherNames:
    """Asks for names when there are publishers without, in a thread of its own, within a `with` block.

    It does not ask with keys: where there are keys there may be rules, and a question that they deny is logged.

    Args:
        settings: the settings of the command.
    """

    def __init__(self, settings: EventBusSettings) -> None:
        self._settings = settings
        self._names: dict[str, str] = {}
        self._asked = -_INTERVAL_S
        self._thread: Thread | None = None
        self._may_ask = settings.client_options().keys is None

    def of(self, publishers: Collection[str], *, wait: bool = False) -> dict[str, str]:
        """The names of those publishers that are known; the others are asked for.

        Args:
            publishers: their ids.
            wait: whether to wait for the answers; False: they are known next time.
        """
        now = monotonic()
        is_asking = self._thread is not None and self._thread.is_alive()
        if self._may_ask and not is_asking and now - self._asked >= _INTERVAL_S and set(publishers) - self._names.keys():
            self._asked = now
            self._thread = Thread(target=self._ask, name="eventbus-names", daemon=True)
            self._thread.start()
            if wait:
                self._thread.join(self._settings.connect_timeout + 2 * _WAIT_S)
        return {publisher: name for publisher, name in self._names.copy().items() if publisher in publishers}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread is not None:
            self._thread.join(2 * _WAIT_S)

    def _ask(self) -> None:
        try:
            with transport_for(self._settings) as transport:
                transport.drops.is_quiet = True  # the user has sent nothing; the view shows that the proxy is away
                transport.open(self._settings.connect_timeout)
                link = RequestLink(transport)
                try:
                    answers = link.ask_all(PRESENCE_TOPIC, QUESTION_TYPE, QUESTION, _WAIT_S)
                finally:
                    link.close()
        except EventBusError:  # nobody is listed; or the proxy is away, as the view shows
            return
        for answer in answers:
            if (client := Presence.decode(answer.payload)) is not None and client.publisher:
                self._names[client.publisher] = client.name
