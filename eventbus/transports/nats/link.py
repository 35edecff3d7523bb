"""The link to a NATS server: dialled, proven, followed and dialled again in a thread of its own; others read and write."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread, current_thread, main_thread
from time import monotonic
from typing import Any

from eventbus._base.deadline import Deadline
from eventbus._base.log import Log
from eventbus._base.printable import printable
from eventbus.errors import (
    EventBusError,
    HandshakeFailed,
    NatsRefused,
)
from eventbus.nats_options import NatsOptions, NatsServer
from eventbus.observe.state import ClientState, Status
from eventbus.options import ZeroMQOptions
from eventbus.transports.nats.asking import Requests
from eventbus.transports.nats.carrier import Carrier
from eventbus.transports.nats.connection import Connection, ConnectionLost, reason_of
from eventbus.transports.nats.dialling import dial
from eventbus.transports.nats.inbox import Inbox
from eventbus.transports.nats.outgoing import Outgoing
from eventbus.transports.nats.pings import Proof
from eventbus.transports.nats.protocol import (
    PING,
    PONG,
    Arrived,
    Info,
    Message,
    Parser,
    Ping,
    Pong,
    ProtocolError,
    publish,
)
from eventbus.transports.nats.servers import Servers
from eventbus.transports.nats.writing import Writing

_MIN_DIAL_S, _MAX_DIAL_S = 0.5, 5.0  # for one server
# From READY to sending what has waited, if the connection was down: so were those of other subscribers, who need this time.
_SETTLE_S = 0.25
# A connection that ends sooner counts as an attempt that has failed, so that there is a pause before the next one: perhaps
# the server ends it for something that is done on each.
_LASTED_S = 1.0
_POLL_S = 0.02  # while the server does not answer
_MIN_SILENCE_S = 2.0  # without an answer, after which a connection is given up
_SILENT_ECHOES = 2  # and echo intervals
_CLOSE_POLL_S = 0.01
_NEED_S = 0.005  # after which somebody has to read an answer that has not come
# How long `close` waits for the thread: it may be dialling a host that does not answer, or has just lost its connection.
_CLOSE_JOIN_S, _CLOSED_JOIN_S = 0.2, 1.0


class NatsLink:
    """Keeps one connection, from `start` to `close`.

    Args:
        carrier: what uses it.
        outgoing: what waits to be sent; its owner is woken through it.
        options: how long to wait for what.
        nats: where servers are.
        status: where the state is reported.
        give_up: called when no more attempts to reconnect are made.
        parser: makes what reads a new connection; called with the inbox.
        stored: whether the server keeps what it gets, so that a reconnected client need not wait for others.

    Attributes:
        hint: why the last one did, for people.
        inbox: how the subjects begin that are for this link alone.
        opened: whether the transport's `open` has returned; before that it raises what the link would log.
        restored: whether the carrier has made anew what it needs on this connection. Until then only the link's thread
            writes: others must not hold what the carrier needs for that while they wait for an answer.
    """

    def __init__(
        self,
        carrier: Carrier,
        outgoing: Outgoing,
        options: ZeroMQOptions,
        nats: NatsOptions,
        status: Status,
        give_up: Callable[[], None],
        parser: Callable[[bytes], Parser],
        *,
        stored: bool,
    ) -> None:
        self.hint = ""
        self.opened = self.restored = False
        self._carrier = carrier
        self._outgoing = outgoing
        self._options = options
        self._nats = nats
        self._status = status
        self._give_up = give_up
        self._parser = parser
        self._settle = 0.0 if stored else _SETTLE_S
        self._servers = Servers(nats.servers, options)
        self._connection: Connection | None = None
        self._control: deque[tuple[bytes, Proof | None]] = deque()  # goes before messages
        self._requests = Requests()
        self.inbox = self._requests.inbox
        self._were_down = False
        self._ready_at = float("inf")  # since when messages pass
        self._writing = Writing(carrier.take, outgoing, self._control, self._mark_lost, self._check_write)
        self.while_idle = self._writing.while_idle  # no call of its own, because each acknowledgement would take it
        self._closing: Deadline | None = None
        self._reporting = True
        self._logged: type[EventBusError] | None = None
        self._log = Log(endpoints=status.endpoints)
        outgoing.begin, outgoing.write_many = self._writing.write_here, self._writing.write_many
        self._thread = Thread(target=self._run, name="eventbus-nats", daemon=True)

    # Any thread

    @property
    def connection(self) -> Connection | None:
        """The connection that there is."""
        return self._connection

    @property
    def failures(self) -> int:
        """How many connections could not be made, or did not last, since one did."""
        return self._servers.failures

    @property
    def is_ready(self) -> bool:
        """Whether the connection is proven, and nothing has failed since."""
        return self._connection is not None and self._status.state is ClientState.READY and self._closing is None

    def start(self) -> None:
        """Begin to dial.

        Raises:
            RuntimeError: the system lets no more threads start.
        """
        self._thread.start()

    def is_up(self) -> bool:
        """Whether there is a connection."""
        connection = self._connection
        return connection is not None and connection.lost is None and self._closing is None

    def post(self, data: bytes, proof: Proof | None = None) -> None:
        """Write this before the messages that wait, as soon as there is a connection; with a PING behind it if wanted."""
        if current_thread() is self._thread and self._connection is not None:
            if proof is not None:
                proof.mark = self._carrier.written()
            self._write(self._connection, data, [] if proof is None else [proof])
        else:
            self._control.append((data, proof))
            self._outgoing.wake()

    def prove(self, deadline: Deadline, *, while_: Callable[[], bool] = lambda: True) -> bool:
        """Wait until the server has done all that was asked before; False if that is not so in time or by `while_`."""
        return self.ask(b"", deadline, while_=while_)

    def ask(self, data: bytes, deadline: Deadline, *, while_: Callable[[], bool] = lambda: True) -> bool:
        """Post this, and wait until the server has done it; False if that is not so in time or by `while_`."""
        proof = Proof(Event())
        self.post(data, proof)
        assert proof.done is not None
        while not proof.done.wait(min(deadline.left(), _NEED_S)):
            self._need_answer()
            if deadline.passed() or not while_() or self._is_left or self._writing.is_interrupted:
                return False
        return proof.good

    def request(self, subject: bytes, payload: bytes, deadline: Deadline) -> Message:
        """Publish a request, and return its answer.

        Raises:
            ConnectionLost: there is no connection any more.
            TimeoutError: no answer came in time.
        """
        waiting = self._requests.begin()
        try:
            self.post(publish(subject, payload, reply=self.inbox + b"." + waiting.token))
            connection = self._connection
            while not waiting.done.wait(min(deadline.left(), _NEED_S)):
                self._need_answer()
                if connection is None or connection.lost is not None or self._is_left:
                    raise ConnectionLost("the connection was lost")
                if deadline.passed() or self._writing.is_interrupted:
                    raise TimeoutError(f"no answer to {subject.decode(errors='replace')}")
            if waiting.answer is None:
                raise ConnectionLost("the connection was lost, or the request was denied")
            return waiting.answer
        finally:
            self._requests.end(waiting)

    def receive(self, inbox: Inbox) -> None:
        """Read in this thread while the inbox is empty, if there is a connection."""
        connection = self._connection
        if connection is not None and current_thread() is not main_thread():
            connection.reading.await_(inbox)

    def hurry(self) -> None:
        """Read at once what has come; see `Carrier.gathers`."""
        connection = self._connection
        if connection is not None:
            connection.reading.hurry()

    def wake(self) -> None:
        """Let the link's thread look for what is due."""
        self._outgoing.wake()

    def _need_answer(self) -> None:
        """Somebody waits for an answer, perhaps the thread that would read it while it receives."""
        connection = self._connection
        if connection is not None:
            connection.reading.need()

    def stop_reporting(self) -> None:
        """Report no more changes of the state."""
        self._reporting = False

    @property
    def _is_left(self) -> bool:
        """Whether nobody is to wait for an answer: the link is closed. Its own thread does, as long as it may."""
        closing = self._closing
        return closing is not None and (current_thread() is not self._thread or closing.passed())

    def close(self, linger: float) -> None:
        """Write what waits, for up to `linger` seconds, and end the connection and both threads.

        If the connection is down, a new one is made as long as something waits.
        """
        if linger > 0 and self._connection is not None:
            self._control.append((b"", Proof()))  # so that the server has read everything before the connection ends
        interrupted = self._writing.is_interrupted
        if interrupted:
            linger = 0.0
        self._closing = deadline = Deadline(linger)
        self._outgoing.close()
        self._outgoing.wake()
        if current_thread() is not self._thread and self._thread.ident is not None:
            # By polling: a signal handler may close while its thread waits here already.
            while self._thread.is_alive() and not deadline.passed():
                self._need_answer()
                self._thread.join(min(deadline.left(), 0.05))
            connection = self._connection
            if connection is not None:
                self._mark_lost(connection, "closed")  # ends a write or read that goes on
                connection.shut()
            if not interrupted:  # else it ends when the signal handler has returned
                self._thread.join(_CLOSE_JOIN_S if connection is None else _CLOSED_JOIN_S)

    def abandon(self) -> None:
        """In a forked child: close the descriptor, and leave everything else to the parent."""
        connection = self._connection
        if connection is not None:
            connection.channel.abandon()
            connection.reading.abandon()

    # The link's thread

    def _run(self) -> None:
        try:
            while not self._is_over():
                connection = self._dial_next()
                if connection is None:
                    if self._gives_up_or_pauses():
                        return
                    continue
                try:
                    self._serve(connection)
                except HandshakeFailed as error:
                    self._note_failure(error, connection.server)
                except (OSError, ProtocolError, EventBusError):  # the connection has the reason
                    lasted = monotonic() - self._ready_at
                    self._servers.failures = 0 if lasted > _LASTED_S else self._servers.failures + 1
                finally:
                    self._leave(connection)
                if self._gives_up_or_pauses():
                    return
        except Exception as error:  # a defect of ours
            self._log.exception("the link to %s has failed", self._status.endpoints, error=type(error).__name__)
        finally:
            self._forget_control()

    def _forget_control(self) -> None:
        with suppress(IndexError):
            while True:
                _, proof = self._control.popleft()
                if proof is not None and proof.done is not None:
                    proof.done.set()

    def _gives_up_or_pauses(self) -> bool:
        """Give up after as many failures as are allowed, and return True; else pause when each server has failed."""
        if self._servers.is_enough and self._closing is None:
            self._give_up()
            return True
        end, closing = Deadline(self._servers.pause()), self._closing
        while self._closing is closing and not (end.passed() or self._is_over()):
            left = end.left() if closing is None else min(end.left(), closing.left())
            self._outgoing.wait(left, for_messages=False, unless=lambda: self._closing is not closing)
        return False

    def _is_over(self) -> bool:
        """Whether no connection is needed any more: the link is closed, and nothing waits or the time is up."""
        closing = self._closing
        return closing is not None and (closing.passed() or self._carrier.is_flushed())

    def _dial_next(self) -> Connection | None:
        """Try one server; None if it cannot be used now."""
        server = self._servers.next
        try:
            timeout = min(_MAX_DIAL_S, max(_MIN_DIAL_S, self._options.connect_timeout))
            channel, info, begun = dial(server, self._nats, timeout)
            try:
                parser, gathers = self._parser(self.inbox), self._carrier.gathers
                for other in parser.feed(begun).others:
                    if isinstance(other, Info):  # what holds for the account of this client
                        info = other
                interval = self._options.echo_interval or float("inf")
                return Connection(server, channel, info, parser, self._read, self._note_end, gathers, interval)
            except BaseException:
                channel.close()
                raise
        except HandshakeFailed as error:
            self._note_failure(error, server)
        except (OSError, ProtocolError) as error:
            self.hint = f"{server}: {reason_of(error)}" if len(self._servers) > 1 else reason_of(error)
            self._servers.failures += 1
            self._were_down = True
        except EventBusError as error:  # a file of the settings
            self._note_failure(NatsRefused(str(server), str(error)), server)
        self._servers.skip()
        return None

    def _note_failure(self, error: HandshakeFailed, server: NatsServer) -> None:
        """Note that a server does not let the client in: `open` raises it, and it is logged once."""
        self._servers.failures += 1
        self._were_down = True
        self.hint = str(error)

        def again() -> EventBusError:
            kind: Any = type(error)
            made: EventBusError = kind(*error.args)
            return made

        self._status.note_diagnosis(again, if_=lambda: self._reporting)
        if self.opened and type(error) is not self._logged:
            self._logged = type(error)
            self._log.error("%s", error, error=type(error).__name__)

    def _serve(self, connection: Connection) -> None:
        """Use a connection until it is lost, or everything is sent and the link is closed."""
        reader = Thread(target=connection.reading.run, name="eventbus-nats-reader", daemon=True)
        self._servers.learn(connection.info, connection.server)
        self._ready_at = float("inf")
        self._forget_control()  # it meant the last connection; `restore` knows what is wanted
        self._writing.stalled_since = None
        self._connection = connection
        reader.start()
        try:
            self._carrier.restore(self)
            flush_at = monotonic() + (self._settle if self._were_down else 0.0)
            self._were_down, self._logged = False, None
            began = monotonic()
            proven = self.prove(Deadline(self._options.connect_timeout), while_=lambda: connection.lost is None)
            if not proven or connection.lost is not None:
                raise ConnectionLost(connection.lost or "the server does not answer")
            self._ready_at = monotonic()
            self._status.proven(self._ready_at - began)
            self._change(ClientState.READY, f"{connection.server} answers")
            with self._writing.owned():
                self._work(connection, flush_at)
        except (OSError, ProtocolError, EventBusError) as error:
            self._mark_lost(connection, reason_of(error))
            raise
        finally:
            self._mark_lost(connection, "closed")
            connection.shut()
            if reader.ident is not None:
                reader.join()
            connection.close()

    def _work(self, connection: Connection, flush_at: float) -> None:
        pings = connection.pings
        pings.begin(self._carrier.written(), monotonic())
        while True:
            now = monotonic()
            self._check(connection, now)
            ready = self._status.state is ClientState.READY or not self._reporting
            if self._closing is not None and self._is_done(connection):
                return
            look_due = self._carrier.look(now)
            data, proofs = self._take_control()
            flushing = ready and (now >= flush_at or (self._closing is not None and self._closing.left() < _SETTLE_S))
            chunk = self._carrier.take() if flushing else b""
            mark = self._carrier.written()
            if (ping := pings.next(mark, now, at_once=self._closing is not None)) is not None:
                chunk += PING
                proofs.append(ping)
            if data or chunk or self._writing.rest:
                self._write(connection, data + chunk, proofs, with_pings=False)
                continue
            due = min(
                pings.due(mark, now),
                look_due if flushing else max(look_due, now + _POLL_S),  # what is due may have to be sent
                flush_at if ready and now < flush_at else float("inf"),
                self._overdue_at(connection),
                now + _CLOSE_POLL_S if self._closing is not None else float("inf"),
            )
            self._writing.wait(connection, due, self._must_look, for_messages=flushing and self._carrier.accepts())

    def _must_look(self) -> bool:
        """Whether there is something to do but messages."""
        connection = self._connection
        return bool(self._control) or connection is None or connection.lost is not None

    def _is_done(self, connection: Connection) -> bool:
        """Whether the link may be closed now: all is sent and has arrived, or the time is up."""
        assert self._closing is not None
        if self._closing.passed():
            return True
        waiting = self._control or self._writing.rest or connection.pings
        return self._carrier.is_flushed() and not waiting and connection.pings.proves(self._carrier.written())

    def _take_control(self) -> tuple[bytes, list[Proof]]:
        data, proofs = [], []
        while self._control:
            text, proof = self._control.popleft()
            data.append(text)
            if proof is not None:
                proof.mark = self._carrier.written()
                data.append(PING)
                proofs.append(proof)
        return b"".join(data), proofs

    def _check(self, connection: Connection, now: float) -> None:
        """Follow the answers: the state, and whether the connection is still good."""
        if connection.lost is not None:
            raise ConnectionLost(connection.lost)
        since = self._waiting_since(connection)
        if since is None or now - since < self._options.echo_timeout:
            if self._status.state is ClientState.DEGRADED:
                self._change(ClientState.READY, f"{connection.server} answers again")
            return
        waited = now - since
        if waited >= max(_MIN_SILENCE_S, self._options.echo_timeout + _SILENT_ECHOES * self._options.echo_interval):
            raise ConnectionLost(f"no answer for {waited:.1f} s")
        self._change(ClientState.DEGRADED, f"{connection.server} has not answered for {waited:.1f} s")

    def _waiting_since(self, connection: Connection) -> float | None:
        """Since when an answer is awaited, or a write does not go on."""
        since = (connection.pings.awaited_since(), self._writing.stalled_since)
        return min((one for one in since if one is not None), default=None)

    def _overdue_at(self, connection: Connection) -> float:
        since = self._waiting_since(connection)
        if since is None:
            return float("inf")
        overdue = since + self._options.echo_timeout
        now = monotonic()
        return overdue if overdue > now else now + 0.05

    def _write(self, connection: Connection, data: bytes, proofs: list[Proof], *, with_pings: bool = True) -> None:
        """Write all of this; waits as long as the server reads on."""
        if with_pings:
            data += PING * len(proofs)
        connection.pings.written(proofs, monotonic())
        self._writing.write(connection, data)

    def _check_write(self, connection: Connection, now: float) -> None:
        """The server reads nothing at the moment: raise if it is not to be waited for."""
        self._check(connection, now)
        if self._closing is not None and self._closing.passed():
            raise ConnectionLost("closed before everything was sent")

    def _leave(self, connection: Connection) -> None:
        """The connection is no more: say so, and prepare for the next one."""
        self._connection, self.restored = None, False
        self._were_down = True
        self._carrier.lost()
        if self._closing is None:
            reason = connection.lost or "closed"
            self.hint = self.hint or reason
            self._change(ClientState.DEGRADED, f"the connection to {connection.server} is down: {reason}")
        self._servers.skip()

    def _mark_lost(self, connection: Connection, reason: str) -> None:
        """Let everybody know who waits for an answer on this connection."""
        connection.give_up(reason)
        self._requests.give_up()
        self._outgoing.wake()

    def _change(self, state: ClientState, reason: str) -> None:
        before = self._status.state
        if state is ClientState.DEGRADED and before is not ClientState.READY:
            return
        if before is not state:
            self._status.change(state, printable(reason, 300), if_=lambda: self._reporting)

    # The thread that reads

    def _read(self, connection: Connection) -> None:
        """Read what is there. Raises BlockingIOError if there is nothing."""
        data = connection.channel.read_now()
        if not data:
            raise ConnectionLost("the server has ended the connection")
        arrived = connection.parser.feed(data)
        if not arrived.others:
            self._carrier.arrived(arrived)
            return
        pongs = self._take_others(connection, arrived)
        self._carrier.arrived(arrived)
        for _ in range(pongs):  # who waits for one finds all done that came before it
            self._note_pong(connection)

    def _note_end(self, connection: Connection, error: Exception) -> None:
        """Reading has failed."""
        if not isinstance(error, OSError | ValueError):  # a defect of ours
            self._log.exception("reading from %s has failed", connection.server, error=type(error).__name__)
        self._mark_lost(connection, reason_of(error))

    def _take_others(self, connection: Connection, arrived: Arrived) -> int:
        """Do what concerns the link itself, and leave the messages to the carrier. Returns how many PONGs there are."""
        messages: list[Any] = []
        pongs = 0
        for other in arrived.others:
            if isinstance(other, Message):
                if not self._requests.take(other):
                    messages.append(other)
            elif isinstance(other, Pong):
                pongs += 1
            elif isinstance(other, Ping):
                self._control.append((PONG, None))
                self._outgoing.wake()
            elif isinstance(other, Info):
                if other.is_leaving and not connection.info.is_leaving:
                    self._log.warning(
                        "%s will be shut down, and ends this connection soon",
                        connection.server,
                        server=str(connection.server),
                    )
                connection.info = other
                self._servers.learn(other, connection.server)
                self._carrier.informed(other)
            else:
                self._note_complaint(connection, other.text)
        arrived.others[:] = messages
        return pongs

    def _note_pong(self, connection: Connection) -> None:
        proof = connection.pings.answered()
        if proof is None:
            return
        self._status.proven(monotonic() - proof.began)
        self._carrier.proven(proof.mark)
        if proof.done is not None:
            proof.good = True
            proof.done.set()
        if self._status.state is not ClientState.READY or self._closing is not None:
            self._outgoing.wake()

    def _note_complaint(self, connection: Connection, text: str) -> None:
        """Most complaints come before the server ends the connection; those about permissions do not."""
        if text.lower().startswith("permissions violation"):
            self._carrier.complained(text)
            if "$JS." in text or "_INBOX." in text:  # no answer will come
                self._requests.give_up()
        else:
            connection.lost = connection.lost or f"the server says: {printable(text, 200)}"
