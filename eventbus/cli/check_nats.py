"""``eventbus check`` with NATS: the server, JetStream, the stream, the group, permissions, the payload limit."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from eventbus._base.printable import counted
from eventbus.cli.check_history import ask_historian
from eventbus.cli.check_steps import Step, run_steps
from eventbus.errors import EventBusError, InvalidSettings
from eventbus.policies import TransportKind
from eventbus.settings import EventBusSettings
from eventbus.transports.nats import streams
from eventbus.transports.nats.core import CoreTransport
from eventbus.transports.nats.subjects import topic_of
from eventbus.transports.zeromq.reachability import CheckFailed
from eventbus.wire.frames import topic_frame

_ROUND_TRIPS = 11


class NatsCheckup:
    """The steps of a check, inside a `with` block.

    Args:
        settings: where the servers are.

    Attributes:
        round_trip: seconds that a PING takes; None: not measured yet.
        endpoints: the servers.

    Raises:
        InvalidSettings: a file cannot be read.
    """

    def __init__(self, settings: EventBusSettings) -> None:
        self.round_trip: float | None = None
        self._settings = settings
        self._options = settings.nats_options()
        options = replace(settings.client_options(encrypted=False), connect_required=True)
        self._transport = CoreTransport(replace(self._options, group=None), options)
        self.endpoints = self._transport.endpoints

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._transport.close(self._settings.linger)

    def steps(self) -> Iterator[Step]:
        """Run the steps in order, until one fails."""
        steps: dict[str, Callable[[], str]] = {
            "settings": self._check_settings,
            "server": self._check_server,
            "permissions": self._check_permissions,
            "payload": self._check_payload,
        }
        if self._settings.transport is TransportKind.JETSTREAM:
            steps |= {"jetstream": self._check_jetstream, "stream": self._check_stream}
            if self._options.group is not None:
                steps["group"] = self._check_group
        steps["round trip"] = self._check_round_trip
        if self._settings.transport is TransportKind.NATS:
            steps["history"] = self._check_history
        return run_steps(steps)

    def _check_settings(self) -> str:
        group = "" if self._options.group is None else f", group {self._options.group}"
        return f"{self._settings.transport} at {self.endpoints}, subjects {self._options.prefix}.>{group}"

    def _check_server(self) -> str:
        try:
            self._transport.open(self._settings.connect_timeout)
        except InvalidSettings:
            raise
        except EventBusError as error:
            raise CheckFailed.of(error) from None
        info = self._transport.server_info()
        cluster = f", of the cluster {info.cluster}" if info.cluster else ""
        return f"version {info.version}{cluster}, and it lets this client in"

    def _check_permissions(self) -> str:
        topics = [topic_frame(topic) for topic in self._settings.topics] or [b""]
        try:
            for topic in topics:
                self._transport.subscribe(topic)
        except EventBusError as error:
            raise CheckFailed.of(error) from None
        return "this client may subscribe to " + (", ".join(self._settings.topics) or "all topics")

    def _check_payload(self) -> str:
        limit, own = self._transport.server_info().max_payload, self._settings.max_event_bytes
        if self._options.max_event_bytes is not None and own > limit:
            raise CheckFailed(
                f"EVENTBUS_MAX_EVENT_BYTES is {own}, and the server takes {limit} bytes",
                "raise max_payload in its configuration, or lower the setting",
            )
        return f"the server takes messages of up to {limit} bytes"

    def _check_jetstream(self) -> str:
        answer, error = self._ask("INFO")
        if error is not None:
            raise CheckFailed(
                f"the server has no JetStream ({error.text})",
                "start it with `nats-server -js -sd DIR`, or set EVENTBUS_TRANSPORT=nats, which stores nothing",
            )
        return f"{counted(answer.get('streams', 0), 'stream')}, {answer.get('storage', 0)} bytes on disk"

    def _check_stream(self) -> str:
        name, wanted = self._options.stream, f"{self._options.prefix}.>"
        answer, error = self._ask(f"STREAM.INFO.{name}")
        if error is not None and error.code == streams.STREAM_NOT_FOUND:
            return f"{name} is missing: the first service makes it, as {self._settings.store}"
        if error is not None:
            raise CheckFailed(f"the stream {name} cannot be read: {error.text}", "see the log of the NATS server")
        config, state = answer.get("config", {}), answer.get("state", {})
        if config.get("subjects") != [wanted]:
            raise CheckFailed(
                f"the stream {name} has the subjects {', '.join(config.get('subjects') or ())}, and this bus needs {wanted}",
                "set EVENTBUS_SUBJECT_PREFIX to one that is free, or change the stream (`nats stream edit`)",
            )
        found = f"{name} has {counted(state.get('messages', 0), 'message')}, {state.get('bytes')} bytes"
        if "store" in self._settings.model_fields_set and (differences := streams.differences(self._options, config)):
            raise CheckFailed(
                f"{found}; it differs from EVENTBUS_STORE: {'; '.join(differences)}",
                "change the stream (`nats stream edit`), which no service does, or the setting",
            )
        return found

    def _check_group(self) -> str:
        group = self._options.group
        answer, error = self._ask(f"CONSUMER.INFO.{self._options.stream}.{group}")
        if error is not None and error.code in (streams.CONSUMER_NOT_FOUND, streams.STREAM_NOT_FOUND):
            return f"{group} is new: it begins with EVENTBUS_START={self._settings.start}"
        if error is not None:
            raise CheckFailed(f"the group {group} cannot be read: {error.text}", "see the log of the NATS server")
        prefix = self._options.prefix.encode()
        topics = sorted(
            "all topics" if one == f"{self._options.prefix}.>" else topic_of(one.encode(), prefix).decode(errors="replace")
            for one in streams.filters_of(answer.get("config", {}))
        )
        return (
            f"{group} has the topics {', '.join(topics)}; {counted(answer.get('num_pending', 0), 'event')} waiting, "
            f"{counted(answer.get('num_ack_pending', 0), 'event')} being handled, "
            f"{counted(answer.get('num_waiting', 0), 'worker')} ready for more"
        )

    def _check_round_trip(self) -> str:
        times = []
        try:
            for _ in range(_ROUND_TRIPS):
                self._transport.open(self._settings.connect_timeout)
                times.append(self._transport.status.round_trip or 0.0)
        except EventBusError as error:
            raise CheckFailed.of(error) from None
        self.round_trip = statistics.median(times)
        return f"the server answers in {self.round_trip * 1000:.1f} ms (median of {_ROUND_TRIPS})"

    def _check_history(self) -> str:
        try:
            return ask_historian(self._transport, None)
        except EventBusError as error:  # perhaps this client may not subscribe to its answers
            return f"no historian could be asked: {error}"

    def _ask(self, subject: str) -> tuple[streams.Json, streams.ApiError | None]:
        return self._transport.ask_jetstream(subject, self._settings.connect_timeout)
