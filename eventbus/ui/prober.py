"""Asks the probes of proxies and services, and whoever knows the clients, in a thread of its own."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from threading import Event, Thread
from time import monotonic, time
from types import TracebackType
from typing import Self
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from eventbus.errors import EventBusError, InvalidSettings
from eventbus.ui.clients import Change, ClientSource, KnownClient, ProbedRates
from eventbus.ui.notices import Level
from eventbus.ui.overview import Overview
from eventbus.ui.probe_facts import ProbeFacts, facts_of, facts_of_nats, troubles

_INTERVAL_S = 2.0
_TIMEOUT_S = 2.0
_MAX_BODY_BYTES = 2_097_152


def checked_url(url: str) -> str:
    """Return the URL of a probe without a path.

    Raises:
        InvalidSettings: it is not such a URL.
    """
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        parts.port  # noqa: B018 # raises ValueError if it is none
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise InvalidSettings(f"--probe {url!r} is no address of probes: write it as http://host:port")
    return f"{parts.scheme}://{parts.netloc}"


class Prober:
    """Asks each probe every two seconds, within a `with` block.

    Args:
        urls: where /readyz and /metrics are served, without a path.
        source: knows the clients by name; None: nobody does.
        note: takes what was found.
    """

    def __init__(
        self, urls: Sequence[str], source: ClientSource | None, note: Callable[[Callable[[Overview], None]], None]
    ) -> None:
        self._urls = urls
        self._source = source
        self._note = note
        self._rates = ProbedRates()
        self._before: dict[str, ProbeFacts] = {}
        self._stop = Event()
        # No proxy of the environment, and no redirection: nobody is asked but the given addresses.
        self._opener = build_opener(ProxyHandler({}), _NoRedirection())
        self._thread = Thread(target=self._run, name="eventbus-ui-prober", daemon=True)

    def __enter__(self) -> Self:
        if self._urls or self._source:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            found = {url: self._ask(url) for url in self._urls}
            clients = [*self._listed(), *self._probed(found)]
            for url, facts in found.items():
                self._tell_troubles(url, facts)
            self._note(partial(_put, found=found, clients=clients))
            self._before = found
            self._stop.wait(_INTERVAL_S)

    def _listed(self) -> Sequence[KnownClient]:
        if self._source is None:
            return ()
        clients: Sequence[KnownClient] = ()
        try:
            self._note(partial(_hide, topics=self._source.own_topics()))  # before the first answer
            clients, changes = self._source.look()
        except EventBusError as error:
            changes = (
                () if self._stop.is_set() else [Change(Level.WARNING, "log", f"the clients could not be asked: {error}")]
            )
        now = time()
        self._note(lambda overview: overview.note_changes(changes, now))
        return clients

    def _probed(self, found: Mapping[str, ProbeFacts]) -> list[KnownClient]:
        now = monotonic()
        return [
            self._rates.client(urlsplit(url).netloc, facts, now) for url, facts in found.items() if facts.kind == "service"
        ]

    def _tell_troubles(self, url: str, facts: ProbeFacts) -> None:
        before, now = self._before.get(url), time()
        where = urlsplit(url).netloc
        found = [(trouble, f"{where}: {text}", count) for trouble, text, count in troubles(before, facts)]
        was_ready = None if before is None else before.ready

        def tell(overview: Overview) -> None:
            for trouble, text, count in found:
                overview.notices.add(trouble.level, trouble.kind, text, now, count)
            if before is None or was_ready is not facts.ready:
                overview.note_probe(where, facts, now)

        self._note(tell)

    def _ask(self, url: str) -> ProbeFacts:
        try:
            status, body = self._get(f"{url}/readyz")
        except (OSError, HTTPException, ValueError) as error:
            return facts_of(None, b"", b"", f"no answer: {getattr(error, 'reason', error)}")
        if status == HTTPStatus.NOT_FOUND and (of_nats := self._ask_nats(url)) is not None:
            return of_nats
        try:
            of_metrics, metrics = self._get(f"{url}/metrics")
        except (OSError, HTTPException, ValueError):
            of_metrics, metrics = 0, b""
        return facts_of(status, body, metrics if of_metrics == 200 else b"")

    def _ask_nats(self, url: str) -> ProbeFacts | None:
        try:
            return facts_of_nats(*self._get(f"{url}/varz"))
        except (OSError, HTTPException, ValueError):
            return None

    def _get(self, url: str) -> tuple[int, bytes]:
        try:
            with self._opener.open(Request(url), timeout=_TIMEOUT_S) as answer:
                return answer.status, answer.read(_MAX_BODY_BYTES)
        except HTTPError as error:
            with error:
                return error.code, error.read(_MAX_BODY_BYTES)


def _put(overview: Overview, found: Mapping[str, ProbeFacts], clients: Sequence[KnownClient]) -> None:
    overview.note_probes(found)
    overview.note_clients(clients)


def _hide(overview: Overview, topics: Sequence[bytes]) -> None:
    overview.hide(topics)


class _NoRedirection(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow no redirection."""
