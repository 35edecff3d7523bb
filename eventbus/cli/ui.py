"""``eventbus ui``: a page in the browser that watches a bus."""

import os
import secrets
from collections.abc import Sequence
from contextlib import closing

from eventbus._base.addresses import ANY, host_and_port, is_loopback
from eventbus.cli.connection import transport_for, wanted_topics
from eventbus.cli.stopping import until_stopped
from eventbus.errors import ExtraMissing
from eventbus.policies import TransportKind
from eventbus.settings import EventBusSettings

_NICENESS = 5
_TOKEN_BYTES = 16


def ui(
    settings: EventBusSettings,
    names: Sequence[str] = (),
    *,
    port: int,
    listen: str = "127.0.0.1",
    probes: Sequence[str] = (),
) -> None:
    """Serve the page, until SIGTERM or Ctrl-C, or until the client gives up reconnecting.

    Args:
        settings: the settings of the command.
        names: topics to watch beside `settings.topics`; if both are empty, all topics.
        port: where to serve the page; 0 picks a free port.
        listen: the address to serve it at.
        probes: URLs at which proxies and services serve /readyz and /metrics.

    Raises:
        ExtraMissing: a library is not installed.
        InvalidSettings: an address of probes is wrong.
        OSError: the page cannot be served there.
        ProxyUnreachable, HandshakeFailed, ReconnectFailed: there is no connection to the proxy.
    """
    try:
        from eventbus.ui.server import listening_socket, serve  # needs starlette and uvicorn
    except ImportError as error:
        library = (error.name or "starlette").partition(".")[0]
        raise ExtraMissing("ui", "for `eventbus ui`", library=library) from None
    from eventbus.ui.access import Access
    from eventbus.ui.listed import ListedClients
    from eventbus.ui.prober import Prober, checked_url
    from eventbus.ui.watcher import Watcher

    wanted = wanted_topics(settings, names)
    urls = list(dict.fromkeys(map(checked_url, [*_own_probe(settings), *probes])))
    token = None if settings.ui_token is None else settings.ui_token.get_secret_value()
    made = secrets.token_urlsafe(_TOKEN_BYTES) if token is None and not is_loopback(listen) else None
    with listening_socket(listen, port) as listening, transport_for(settings) as transport:
        port = listening.getsockname()[1]
        url = f"http://{host_and_port('localhost' if listen == ANY else listen, port)}/"

        def on_ready() -> None:
            print(f"{url}?token={made}" if made else url, f" watches {transport.endpoints}", flush=True)

        os.nice(_NICENESS)  # who watches is not to slow down those who work
        if transport.confirms:
            transport = transport.sibling()  # of no group: the page takes no events from those who work
        keys = settings.client_options().keys if settings.transport is TransportKind.ZEROMQ else None
        with (
            Watcher(transport, wanted, settings.connect_timeout) as watcher,
            closing(ListedClients(transport, None if keys is None else keys.public_key)) as listed,
            Prober(urls, None if transport.confirms else listed, watcher.note),
            until_stopped(),
        ):
            serve(watcher, listening, Access(token or made, port, listen), on_ready)
        transport.status.raise_failure()


def _own_probe(settings: EventBusSettings) -> list[str]:
    """The probes of the proxy, if the environment says that there are any."""
    return [f"http://{host_and_port(settings.host, settings.http_port)}"] if settings.http_port else []
