"""Requests under rules: each client may ask and answer as far as the topics of requests go, and hear no others' answers."""

from collections.abc import Iterator

import pytest

from eventbus.errors import NoAnswer, RequestFailed
from eventbus.proxy.allow_list import AllowedClient, AllowList, TopicRule
from eventbus.proxy.authorizer import Authorizer
from eventbus.proxy.publisher_ids import PublisherIds
from eventbus.wire.first_frame import FirstFrame, Head, with_headers
from eventbus.wire.frames import MARK, topic_of
from eventbus.wire.headers import encode_headers
from eventbus.wire.history import new_history_topic
from eventbus.wire.private_topics import PRESENCE_TOPIC
from eventbus.wire.requests import CORRELATION_ID, new_reply_topic, owner_of
from tests.security import Guarded
from tests.support import PATIENCE, Bus, MyEventTopic, MyEventType, event, eventually

TOPIC = MyEventTopic.my_service
UPDATED, STOPPED = MyEventType.updated, MyEventType.stopped
HEADERS = encode_headers({CORRELATION_ID: "1"})

ONE, TWO = "k" * 40, "l" * 40


def authorizer(*clients: AllowedClient) -> Authorizer:
    return Authorizer(AllowList(clients))


@pytest.fixture
def two() -> Authorizer:
    """One client that may do nothing, and one that may do everything."""
    nothing = TopicRule(frozenset(), ())
    return authorizer(AllowedClient("one", ONE, nothing, nothing), AllowedClient("two", TWO))


@pytest.mark.parametrize("key", [ONE, TWO])
def test_a_client_subscribes_to_its_own_reply_topics_only(two: Authorizer, key: str) -> None:
    """Whatever it may subscribe to else, it gets reply topics of its own key one by one, and no others."""
    own, foreign = new_reply_topic(owner_of(key)), new_reply_topic(owner_of(TWO if key == ONE else ONE))
    assert two.subscription(key, own) == own
    for denied in (foreign, own[:-1], own + b"0", b"_reply/", b"_reply/" + owner_of(key), new_reply_topic(owner_of(None))):
        assert two.subscription(key, denied) is None
    assert two.subscription("m" * 40, own) is None


def test_a_rule_for_a_prefix_shows_no_answers() -> None:
    """Who may subscribe to topics that begin as reply topics do hears no answers; that topic itself passes all the same."""
    some = authorizer(
        AllowedClient("one", ONE, subscribe=TopicRule(frozenset(), (b"_", b"plant"))), AllowedClient("two", TWO)
    )
    for topic in (b"_", b"_re", b"_reply", b"_history", b"_clients"):
        granted = some.subscription(ONE, topic)
        assert granted == topic + MARK
        assert some.message(TWO, topic) == granted
        assert some.subscription(TWO, topic) == topic
    assert some.subscription(ONE, b"_replies") == b"_replies"
    assert some.subscription(ONE, b"plant") == b"plant"


@pytest.mark.parametrize("key", [ONE, TWO])
def test_reply_topics_carry_answers_only(two: Authorizer, key: str) -> None:
    """Each client may send answers to any reply topic, and nothing else there, whatever it may publish."""
    topic = new_reply_topic(owner_of(ONE))
    assert two.message(key, with_headers(topic, HEADERS)) == with_headers(topic, HEADERS)
    for frame in (
        topic,
        with_headers(topic, encode_headers({"other": "1"})),
        with_headers(topic + b"0", HEADERS),
        with_headers(b"_reply/x", HEADERS),
        b"_reply/x",
    ):
        assert two.message(key, frame) == b""
    assert two.message("m" * 40, with_headers(topic, HEADERS)) == b""


def test_private_topics_carry_no_ids_of_others() -> None:
    """Whatever passes on a private topic passes with an id of its sender's own, as elsewhere."""
    ids = PublisherIds("secret")
    some = Authorizer(AllowList([AllowedClient("one", ONE)]), publisher_ids=ids)
    headers = encode_headers({CORRELATION_ID: "1"})
    for topic in (PRESENCE_TOPIC, new_history_topic(owner_of(ONE)), new_reply_topic(owner_of(TWO))):
        frame = FirstFrame(topic, headers, Head(topic, b"\x01another", 1), 7).encode()
        assert some.message(ONE, frame) == ids.replace(ONE, frame) != frame
        assert some.message(TWO, frame) == b""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("allow-lists"))
    made.admit("nobody", publish=[], subscribe=[])
    with made:
        yield made


def serve(client: Bus) -> None:
    def fail(_: object) -> None:
        raise ValueError("no")

    client.subscribe(TOPIC)
    client.attach_callback(UPDATED, lambda found: found.value, topic=TOPIC, answers=True)
    client.attach_callback(STOPPED, fail, topic=TOPIC, answers=True)
    client.start_consumer()


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "numbered"])
def test_asking_and_answering_under_rules(guarded: Guarded, numbered: bool) -> None:
    """Who may only subscribe to the topic answers there; who may only publish there asks: nothing more is needed."""
    service = guarded.connected(guarded.admit(publish=[], subscribe=["my_service"]), numbered=numbered)
    asking = guarded.connected(guarded.admit(publish=["my_service"], subscribe=[]), numbered=numbered)
    serve(service)
    for number in range(3):
        assert asking.request(event(number), topic=TOPIC, reply=float, timeout=PATIENCE) == number
    with pytest.raises(RequestFailed, match="ValueError: no"):
        asking.request(event(event_type=STOPPED), topic=TOPIC, reply=float, timeout=PATIENCE)
    assert guarded.proxy.health().denied == {}


def test_one_who_may_not_publish_may_not_ask(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """The request is denied as an event is, so no answer comes; the proxy and the asker say why."""
    service, asking = guarded.connected(guarded.admit()), guarded.connected(guarded.admit("mute", publish=[]))
    serve(service)
    with pytest.raises(NoAnswer):
        asking.request(event(), topic=TOPIC, reply=float, timeout=1.0)
    eventually(lambda: guarded.proxy.health().denied.get("mute") == 1, PATIENCE)
    eventually(lambda: "denied client mute to publish" in caplog.text)


def test_answers_are_heard_by_the_asker_only(guarded: Guarded) -> None:
    """A client with a valid key that knows a reply topic of another gets no answers, though it gets the requests."""
    service, asking = guarded.connected(guarded.admit()), guarded.connected(guarded.admit())
    serve(service)
    spy = guarded.admit("spy", subscribe=["my_service"])
    assert asking.request(event(1), topic=TOPIC, reply=float, timeout=PATIENCE) == 1
    inbox = asking._parts.asker._link.open_inbox
    assert inbox is not None
    peers = guarded.raw(spy)
    listener = peers.subscriber(inbox.topic)
    listener.subscribe(b"my_service")
    peers.settle(listener)
    assert asking.request(event(2), topic=TOPIC, reply=float, timeout=PATIENCE) == 2
    service.emit_event(event(3), TOPIC)  # after the answer
    assert [topic_of(listener.recv_multipart()[0]) for _ in range(2)] == [b"my_service"] * 2
    assert guarded.proxy.health().denied["spy"] == 1
