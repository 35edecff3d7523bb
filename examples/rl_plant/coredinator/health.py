"""The answer of coredinator to a question for the health of the bus."""

from typing import Literal

from pydantic import BaseModel


class ProxyStatus(BaseModel):
    """The health of the proxy; the counts begin with this process.

    Attributes:
        running: whether it passes events on.
        uptime: seconds.
        messages: that publishers have sent; several events may be packed into one.
        publishers: connections of publishers that are open now.
        subscribers: those of subscribers.
        subscriptions: different topics with a subscriber now.
    """

    running: bool
    uptime: float
    messages: int
    publishers: int
    subscribers: int
    subscriptions: int


class Configuration(BaseModel):
    """The configuration of the bus: its address and its limits."""

    host: str
    pub_port: int
    sub_port: int
    max_event_bytes: int
    encrypted: bool


class Healthcheck(BaseModel):
    """The answer of `/api/healthcheck`, with status 503 if something is not well."""

    status: Literal["ok", "proxy does not run"]
    pid: int
    proxy: ProxyStatus
    configuration: Configuration
