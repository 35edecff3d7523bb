"""``eventbus historian``: a historian as a process of its own, beside any proxy."""

from collections.abc import Callable
from contextlib import ExitStack

from eventbus.cli.connection import transport_for
from eventbus.cli.stopping import until_stopped
from eventbus.errors import InvalidSettings
from eventbus.history.historian import EventBusHistorian
from eventbus.history.server import HistoryServer, Permits, archive_at, everything
from eventbus.history.store import Bounds
from eventbus.policies import TransportKind
from eventbus.proxy.allow_list import AllowList, AllowListFile
from eventbus.proxy.readers import permissions
from eventbus.settings import EventBusSettings

_DEFAULT_COUNT = 1_000  # messages of each topic
_CHECK_INTERVAL_S = 1.0  # from one check whether it still runs to the next


def historian(settings: EventBusSettings) -> None:
    """Keep what passes and answer queries until SIGTERM or Ctrl-C.

    Raises:
        InvalidSettings: the keys do not go together; keys without an allow-list; JetStream, which stores events itself; or a
            historian that is to keep nothing.
        ProbePortInUse: the port for metrics and probes is taken.
        ProxyUnreachable, HandshakeFailed, ReconnectFailed: there is no connection to the proxy.
    """
    if settings.transport is TransportKind.JETSTREAM:
        variable = settings.variable("transport")
        raise InvalidSettings(f"{variable}=jetstream stores events itself: leave the historian out, or set {variable}=nats")
    permits = _permits(settings)
    count = settings.history if "history" in settings.model_fields_set else _DEFAULT_COUNT
    if not count:
        raise InvalidSettings(
            f"{settings.variable('history')} is 0, and a historian that keeps nothing is of no use: "
            f"set it above 0, or leave it out to keep {_DEFAULT_COUNT} messages of each topic"
        )
    server = HistoryServer(
        Bounds(count, settings.history_bytes, settings.history_age), permits, archive_at(settings.history_file)
    )
    with ExitStack() as stack:
        transport = stack.enter_context(transport_for(settings))
        runs = EventBusHistorian(transport, server)
        runs.start(settings.connect_timeout)
        stack.callback(runs.stop)
        serves = ""
        if settings.http_port:
            from eventbus.cli.historian_http import serving_historian
            from eventbus.telemetry.probes import served

            keys = settings.security.client_keys()
            probes = serving_historian(
                runs, transport, None if keys is None else keys.public_key, settings.http_port, settings.http_host
            )
            serves = f"; {served()} on {stack.enter_context(probes).url}"
        with until_stopped():
            print(f"historian of {transport.endpoints}: keeps {count} messages of each topic{serves}", flush=True)
            while True:
                runs.wait(_CHECK_INTERVAL_S)


def _permits(settings: EventBusSettings) -> Callable[[bytes], Permits]:
    """Return what tells who may read what.

    A proxy with rules passes on answers of any client. So a historian that uses keys has to know the rules itself.
    """
    if settings.security.client_keys() is None:
        return everything
    path = settings.security.allow_list
    if path is None:
        raise InvalidSettings(
            "a historian that uses keys answers only what an asker may subscribe to: "
            f"set {settings.variable('security', 'allow_list')} to the allow-list of the proxy"
        )
    allow_list = AllowListFile(path)

    def current() -> AllowList:
        allow_list.refresh()
        return allow_list.current

    return permissions(current)
