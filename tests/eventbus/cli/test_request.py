"""`eventbus request`: an event that asks, from the command line."""

import json
from collections.abc import Callable

import pytest

from eventbus import EventBusProxy
from eventbus.wire.first_frame import parse, with_headers
from tests.commands import Run, ports
from tests.support import (
    PATIENCE,
    Bus,
    MyEvent,
    MyEventTopic,
    MyEventType,
    RawPeers,
    event,
    eventually,
    in_thread,
    json_of,
)

TOPIC, UPDATED, STOPPED = MyEventTopic.my_service, MyEventType.updated, MyEventType.stopped


def fail(_: MyEvent) -> None:
    raise LookupError("no such sku")


@pytest.fixture
def service(connected: Callable[..., Bus]) -> Bus:
    """Answers with the event itself, or fails."""
    client = connected()
    client.subscribe(TOPIC)
    client.attach_callback(UPDATED, lambda event: event, topic=TOPIC, answers=True)
    client.attach_callback(STOPPED, fail, topic=TOPIC, answers=True)
    client.start_consumer()
    return client


def test_the_answer_is_printed(run: Run, proxy: EventBusProxy, service: Bus) -> None:
    """The answer is a line of JSON on standard output; the event may come from standard input."""
    for given in ("", json_of(3).decode()):
        done = run("request", TOPIC, "-" if given else json_of(3).decode(), *ports(proxy), given=given)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == event(3).model_dump()


def test_all_answers_are_printed(run: Run, proxy: EventBusProxy, connected: Callable[..., Bus], service: Bus) -> None:
    """--all prints a line for each answer, until the time is up; none is fine, too."""
    other = connected()
    other.subscribe(TOPIC)
    other.attach_callback(UPDATED, lambda event: [event.value, "ü"], topic=TOPIC, answers=True)
    other.start_consumer()
    lines: list[str] = []

    def both_answered() -> bool:  # an answer that takes longer than the command waits is left out
        done = run("request", TOPIC, json_of(3).decode(), "--all", "--timeout=0.5", *ports(proxy))
        assert (done.returncode, done.stderr) == (0, "")
        lines[:] = done.stdout.splitlines()
        return len(lines) >= 2

    eventually(both_answered, PATIENCE)
    assert len(lines) == 2
    assert '[3.0, "ü"]' in lines


@pytest.mark.parametrize(
    ("topic", "event_type", "said"),
    [
        ("nobody", "updated", "nobody subscribes to nobody, so nobody answers updated"),
        ("my_service", "started", "no answer to started on my_service within 0.1 s"),
        ("my_service", "started", "or it takes longer (--timeout)"),
        ("my_service", "stopped", "the handler of stopped on my_service has failed with LookupError: no such sku"),
    ],
)
def test_no_answer(run: Run, proxy: EventBusProxy, service: Bus, topic: str, event_type: str, said: str) -> None:
    """Without an answer the status is 1, and a line says why."""
    timeout = "0.1" if event_type == "started" else "20"
    done = run("request", topic, json_of(1, event_type).decode(), f"--timeout={timeout}", *ports(proxy))
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("payload", "status", "printed"),
    [
        (b"{not json", 1, "is no JSON"),
        ('["\x9b31m", "\u202e", "ü"]'.encode(), 0, '["\\u009b31m", "\\u202e", "ü"]\n'),
    ],
)
def test_answers_of_others(run: Run, proxy: EventBusProxy, raw: RawPeers, payload: bytes, status: int, printed: str) -> None:
    """Whatever answers, no traceback comes of it, and nothing that controls a terminal."""
    asked = raw.subscriber(b"prices")

    def answer() -> None:
        request = parse(asked.recv_multipart()[0])
        headers = json.loads(request.headers)
        reply_to = headers["reply-to"].encode()
        publisher = raw.publisher(reply_to)
        publisher.send_multipart(
            [with_headers(reply_to, json.dumps({"correlation-id": headers["correlation-id"]}).encode()), payload]
        )

    with in_thread(answer):
        done = run("request", "prices", '{"type": "wanted"}', "--timeout=20", *ports(proxy))
    assert done.returncode == status
    assert printed in (done.stderr if status else done.stdout)
    assert status == 0 or done.stderr.count("\n") == 1


def test_mistakes(run: Run) -> None:
    """Arguments are checked as those of `eventbus emit`."""
    done = run("request", '{"type": "started"}', "plant")
    assert done.returncode == 2
    assert "eventbus request TOPIC EVENT" in done.stderr
