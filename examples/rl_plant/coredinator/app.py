"""The application: it owns the proxy that joins all services, and tells over HTTP how that is."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response, status

from coredinator.health import Configuration, Healthcheck, ProxyStatus
from eventbus import EventBusProxy
from eventbus.policies import TransportKind
from eventbus.settings import EventBusSettings


def make_proxy(settings: EventBusSettings) -> EventBusProxy:
    """The proxy that these settings describe, not started yet."""
    return EventBusProxy(
        settings.host,
        settings.pub_port,
        settings.sub_port,
        settings.proxy_options(),
        max_memory=0,  # that setting is for a process that does nothing else
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the proxy for as long as the application runs, on the ports that EVENTBUS_* name. Over NATS none is needed."""
    app.state.settings = EventBusSettings()
    app.state.proxy = make_proxy(app.state.settings)
    with app.state.proxy if _needs_proxy(app.state.settings) else nullcontext():
        yield


def _needs_proxy(settings: EventBusSettings) -> bool:
    return settings.transport is TransportKind.ZEROMQ


app = FastAPI(title="coredinator", lifespan=lifespan)


def proxy_of(request: Request) -> EventBusProxy:
    """The application's proxy."""
    proxy: EventBusProxy = request.app.state.proxy
    return proxy


def settings_of(request: Request) -> EventBusSettings:
    """The settings that it was started with."""
    settings: EventBusSettings = request.app.state.settings
    return settings


# Not async: it waits up to a second for a proxy that does not answer, and so runs in a thread of its own.
@app.get("/api/healthcheck")
def healthcheck(
    proxy: Annotated[EventBusProxy, Depends(proxy_of)],
    settings: Annotated[EventBusSettings, Depends(settings_of)],
    response: Response,
) -> Healthcheck:
    """Report the health of the bus, and its configuration."""
    health = proxy.health()
    good = health.running or not _needs_proxy(settings)
    if not good:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Healthcheck(
        status="ok" if good else "proxy does not run",
        pid=os.getpid(),
        proxy=ProxyStatus(
            running=health.running,
            uptime=health.uptime,
            messages=health.from_publishers.frames // 2,
            publishers=health.connections.publishers,
            subscribers=health.connections.subscribers,
            subscriptions=health.subscriptions,
        ),
        configuration=Configuration(
            host=proxy.host,
            pub_port=proxy.pub_port,
            sub_port=proxy.sub_port,
            max_event_bytes=settings.max_event_bytes,
            encrypted=proxy.readiness_keys is not None,
        ),
    )
