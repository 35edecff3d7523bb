"""What coredinator answers to who asks how the bus is."""

from typing import Literal

from pydantic import BaseModel


class ProxyStatus(BaseModel):
    """How the proxy is; the counts begin with this process.

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
    """Where the bus is, and what it takes."""

    host: str
    pub_port: int
    sub_port: int
    max_event_bytes: int
    encrypted: bool


class Healthcheck(BaseModel):
    """What `/api/healthcheck` answers, with status 503 if it is not well."""

    status: Literal["ok", "proxy does not run"]
    pid: int
    proxy: ProxyStatus
    configuration: Configuration
