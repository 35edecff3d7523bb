"""The allow-list, its file, and what its rules permit."""

import logging
import os
import re
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import InvalidSettings
from eventbus.proxy.allow_list import ALL_TOPICS, NO_TOPICS, AllowedClient, AllowList, AllowListFile, TopicRule, check
from eventbus.proxy.authorizer import Authorizer
from eventbus.proxy.publisher_ids import PublisherIds
from eventbus.wire.first_frame import FirstFrame, Head
from eventbus.wire.frames import MARK, MAX_TOPIC_BYTES, PRIVATE, head_of
from eventbus.wire.private_topics import PRESENCE_TOPIC
from tests.keys import listed, pair, write_list

ANN, BOB = pair("ann").public, pair("bob").public
HEADER = MARK + bytes(range(20))


def refusal(text: str) -> str:
    """The error about an allow-list."""
    with pytest.raises(InvalidSettings) as caught:
        AllowList.parse(text)
    return str(caught.value)


def topics(*patterns: str) -> TopicRule:
    """The rules from these patterns."""
    [client] = AllowList.parse(listed("ann", ANN, subscribe=list(patterns))).clients.values()
    return client.subscribe


# The list


def test_a_list() -> None:
    """Clients are found by their public keys, with names and rules."""
    parsed = AllowList.parse(
        listed("ann", ANN) + "# who reads\n" + listed("bob", BOB, publish=[], subscribe=["plant", "alarm*", "plant"])
    )
    assert parsed.clients == {
        ANN: AllowedClient("ann", ANN, ALL_TOPICS, ALL_TOPICS),
        BOB: AllowedClient("bob", BOB, TopicRule(frozenset(), ()), TopicRule(frozenset({b"plant"}), (b"alarm",))),
    }
    assert parsed.exact == {b"plant"}
    with pytest.raises(TypeError):
        parsed.clients["x"] = parsed.clients[ANN]  # type: ignore[index] # it cannot be changed, which is what is tested


@pytest.mark.parametrize("text", ["", "\n# nobody yet\n", "[clients]\n", "clients = {}\n", "default = 'all'\n"])
def test_a_list_of_nobody(text: str) -> None:
    """A list without clients is an error, because a file that was cut off looks the same."""
    assert refusal(text) == "it has no clients, so no client could connect"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, False),
        ({"publish": ["*"], "subscribe": ["*", "plant"]}, False),
        ({"publish": []}, True),
        ({"subscribe": ["plant"]}, True),
        ({"publish": ["a*"]}, True),
    ],
)
def test_whether_there_are_rules(rules: dict[str, list[str]], expected: bool) -> None:
    """A list has rules if one client may not do everything: a rule left out, and a *, permit all; an empty list nothing."""
    assert AllowList.parse(listed("ann", ANN) + listed("bob", BOB, **rules)).has_rules is expected


def test_a_key_in_quotes_and_white_space() -> None:
    """White space and quotes that were copied along with a key do no harm."""
    assert AllowList.parse(listed("ann", f" '{ANN}'\n")).clients.keys() == {ANN}


def test_any_name_will_do() -> None:
    """A client's name may be any text that TOML can quote."""
    [client] = AllowList.parse(listed("plant.1 ä'\"", ANN)).clients.values()
    assert client.name == "plant.1 ä'\""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[clients.ann\n", "no TOML: .*line 1"),
        ("<xml/>", "no TOML"),
        ("x = " + "9" * 5_000, "no TOML"),
        ("x = " + "[" * 100_000, "no TOML"),
        (listed("ann", ANN) * 2, "no TOML: .*ann"),
        ("clients = 3", r"`clients` must be tables: \[clients\.NAME\]"),
        (f'[[clients]]\npublic_key = "{ANN}"', r"must be tables: \[clients\.NAME\]"),
        (f'[client.ann]\npublic_key = "{ANN}"', r"'client' is unknown: clients stand in \[clients\.NAME\]"),
        (f'public_key = "{ANN}"', r"'public_key' is unknown: clients stand in \[clients\.NAME\]"),
        ("[clients]\nann = 'key'", r"client ann: it must be a table: \[clients\.NAME\]"),
        ("[clients.ann]", "client ann: its public_key is missing"),
        ("[clients.ann]\npublic_key = 3", "client ann: its public_key is missing"),
        ("[clients.ann]\npublic_key = ''", "client ann: its public_key is no CURVE key: one has 40 characters"),
        (f'[clients.ann]\npublic_key = "{ANN[1:]}"', "client ann: its public_key is no CURVE key"),
        (f'[clients.ann.1]\npublic_key = "{ANN}"', "client ann: 1: only public_key, roles, publish and subscribe are known"),
        (
            listed("ann", ANN, publsih=["plant"]),
            "client ann: publsih: only public_key, roles, publish and subscribe are known",
        ),
        (listed("ann", ANN) + "publish = 'plant'", r'client ann: publish must be a list of topics, such as \["plant", '),
        (listed("ann", ANN) + "publish = ['plant', 3]", "client ann: publish must be a list of topics"),
        (listed("ann", ANN) + "subscribe = false", "client ann: subscribe must be a list of topics"),
        (listed("ann", ANN, publish=["p*t"]), r"client ann: publish: a \* may stand only at the end, not as in 'p\*t'"),
        (listed("ann", ANN, subscribe=["**"]), r"client ann: subscribe: a \* may stand only at the end"),
        (listed("ann", ANN, subscribe=["*plant"]), r"client ann: subscribe: a \* may stand only at the end"),
        (listed("ann", ANN, subscribe=[""]), "client ann: subscribe: a topic must not be empty"),
        (listed("ann", ANN, subscribe=["a\0b"]), "client ann: subscribe: .* control characters"),
        (listed("ann", ANN, publish=["[a"]), "client ann: publish: .* must not start with"),
        (listed("ann", ANN, publish=["x" * 256]), "client ann: publish: .* 256 bytes long, the limit is 255"),
        (listed("ann", ANN) + listed("bob", ANN), "clients ann and bob have the same public_key: each needs its own"),
    ],
)
def test_what_is_wrong_is_named(text: str, expected: str) -> None:
    """The error names the client and what to write instead; no part of a list with an error counts."""
    assert re.search(expected, refusal(text), re.DOTALL)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    """One error names the mistakes of all clients."""
    said = refusal("rules = 1\n" + "[clients.ann]\n" + listed("bob", "x") + listed("eve", ANN, publish=["a*b"]))
    assert [part.partition(":")[0] for part in said.split("; ")] == [
        "'rules' is unknown",
        "client ann",
        "client bob",
        "client eve",
    ]


# The default, and roles


@pytest.mark.parametrize(("default", "expected"), [("all", ALL_TOPICS), ("nothing", NO_TOPICS)])
def test_what_a_client_without_rules_may_do(default: str, expected: TopicRule) -> None:
    """`default` says what a rule that is left out permits."""
    parsed = AllowList.parse(f'default = "{default}"\n' + listed("ann", ANN) + listed("bob", BOB, publish=["plant"]))
    assert parsed.clients[ANN] == AllowedClient("ann", ANN, expected, expected)
    assert parsed.clients[BOB] == AllowedClient("bob", BOB, TopicRule(frozenset({b"plant"}), ()), expected)
    assert parsed.has_rules


ROLES = """
[roles.reader]
subscribe = ["plant", "alarm*"]
[roles.writer]
publish = ["plant"]
subscribe = ["plant", "other"]
[roles.boss]
publish = ["*"]
subscribe = ["*"]
[roles.idle]
"""


@pytest.mark.parametrize(
    ("rules", "publish", "subscribe"),
    [
        ({"roles": ["reader"]}, "nothing", "alarm*, plant"),
        ({"roles": ["reader", "writer"]}, "plant", "alarm*, other, plant"),
        ({"roles": ["reader"], "publish": ["own*"]}, "own*", "alarm*, plant"),
        ({"roles": ["reader"], "subscribe": ["own"]}, "nothing", "alarm*, own, plant"),
        ({"roles": ["reader"], "subscribe": []}, "nothing", "alarm*, plant"),
        ({"roles": ["reader", "boss"]}, "all topics", "all topics"),
        ({"roles": ["idle"]}, "nothing", "nothing"),
        ({"roles": []}, "nothing", "nothing"),
    ],
)
@pytest.mark.parametrize("default", ["", 'default = "all"\n', 'default = "nothing"\n'])
def test_roles(default: str, rules: dict[str, list[str]], publish: str, subscribe: str) -> None:
    """A client with roles may do what its roles and its own rules permit, and nothing else, whatever the default."""
    [client] = AllowList.parse(default + listed("ann", ANN, **rules) + ROLES).clients.values()
    assert client.roles == tuple(rules["roles"])
    assert (str(client.publish), str(client.subscribe)) == (publish, subscribe)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            listed("ann", ANN, roles=["reader", "x", "y"]) + ROLES,
            r"client ann: there is no role x, y: roles stand in \[roles\.NAME",
        ),
        (
            listed("ann", ANN) + "roles = 'reader'" + ROLES,
            r'client ann: roles must be a list of names, such as \["reader"\]',
        ),
        (listed("ann", ANN) + "roles = [1]" + ROLES, "client ann: roles must be a list of names"),
        (listed("ann", ANN) + "[roles.r]\npublic_key = 'x'", "role r: public_key: only publish and subscribe are known"),
        (listed("ann", ANN) + "[roles.r]\nroles = ['r']", "role r: roles: only publish and subscribe are known"),
        (listed("ann", ANN) + "[roles]\nr = ['plant']", r"role r: it must be a table: \[roles\.NAME\]"),
        (listed("ann", ANN) + "[[roles]]", r"`roles` must be tables: \[roles\.NAME\]"),
        (listed("ann", ANN) + "[roles.r]\npublish = ['a*b']", r"role r: publish: a \* may stand only at the end"),
        ("default = 'none'\n" + listed("ann", ANN), 'default must be "all" or "nothing"'),
        ("default = ['all']\n" + listed("ann", ANN), 'default must be "all" or "nothing"'),
        (listed("ann", ANN) + "default = 'all'", "client ann: default: only public_key, roles, publish and subscribe"),
    ],
)
def test_what_is_wrong_with_roles(text: str, expected: str) -> None:
    """The error names the role or the client, and what to write instead."""
    assert re.search(expected, refusal(text))


def test_a_list_for_people() -> None:
    """The text of a list says of each client what it may do, without characters that do not print."""
    text = str(AllowList.parse(listed("ann\x1b", ANN) + listed("bob", BOB, roles=["reader", "idle"]) + ROLES))
    assert text.splitlines() == [
        "ann\\x1b",
        f"    public key  {ANN}",
        "    roles       none",
        "    publish     all topics",
        "    subscribe   all topics",
        "bob",
        f"    public key  {BOB}",
        "    roles       reader, idle",
        "    publish     nothing",
        "    subscribe   alarm*, plant",
    ]


# Topics


def test_topics_are_exact_or_prefixes() -> None:
    """A name permits that topic alone; with a * all topics that begin with it, the name itself too."""
    some = topics("plant", "alarm*")
    assert [some.permits(topic) for topic in (b"plant", b"plant2", b"plan", b"alarm", b"alarm.fire", b"alar", b"")] == [
        True,
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    assert [some.permits_all(prefix) for prefix in (b"plant", b"alarm", b"alarm.", b"alar", b"")] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_all_topics_and_none() -> None:
    """A * alone permits all topics, whatever stands beside it; an empty list permits none."""
    assert topics("*") == topics("plant", "*", "alarm*") == ALL_TOPICS
    assert ALL_TOPICS.permits_all(b"")
    assert not topics().permits_all(b"")
    assert not topics().permits(b"plant")


def test_a_pattern_is_text() -> None:
    """Patterns are UTF-8, as topics are."""
    assert topics("wärme*").permits("wärmepumpe".encode())


# The authorizer


def authorizer(ann: dict[str, list[str]], bob: dict[str, list[str]] | None = None) -> Authorizer:
    """An authorizer for two clients with these rules."""
    return Authorizer(AllowList.parse(listed("ann", ANN, **ann) + ("" if bob is None else listed("bob", BOB, **bob))))


def test_messages_pass_by_topic() -> None:
    """A message on a permitted topic passes unchanged, with a header too; on another topic it never passes."""
    some = authorizer({"publish": ["plant", "alarm*"]})
    for frame in (b"plant", b"plant" + HEADER, b"alarm", b"alarm.fire", b"alarm.fire" + HEADER):
        assert some.message(ANN, frame) == frame
    for frame in (b"plant2", b"plan", b"plant2" + HEADER, b"alar" + MARK + b"m", b"", MARK, MARK + b"plant", HEADER):
        assert some.message(ANN, frame) == b""


def test_who_is_there_is_asked_by_who_may_ask() -> None:
    """Each client may hear the question who is there; it passes from those who may publish on its topic."""
    some = authorizer({"publish": ["plant"], "subscribe": ["plant"]}, {"publish": ["*"], "subscribe": []})
    for key in (ANN, BOB):
        assert some.subscription(key, PRESENCE_TOPIC) == PRESENCE_TOPIC
        assert some.subscription(key, PRESENCE_TOPIC + b"m") is None
    for frame in (PRESENCE_TOPIC, PRESENCE_TOPIC + HEADER):
        assert some.message(ANN, frame) == b""
        assert some.message(BOB, frame) == frame
        assert some.message("a stranger", frame) == b""


def test_the_proxy_itself_subscribes_to_tokens_only() -> None:
    """The key with which the proxy proves that it is ready may subscribe to tokens, and to nothing else."""
    some = Authorizer(AllowList.parse(listed("ann", ANN)), readiness_key=BOB)
    token = PRIVATE + bytes(16)
    assert some.subscription(BOB, token) == token
    assert some.subscription(BOB, b"plant") is None
    assert some.subscription(BOB, b"") is None


def test_decisions_are_remembered_up_to_a_limit() -> None:
    """More heads of numbered frames than are remembered change no decision."""
    ids = PublisherIds("secret")
    some = Authorizer(AllowList.parse(listed("ann", ANN, publish=["plant"])), publisher_ids=ids)
    for publisher in range(2**56, 2**56 + 10_002):
        frame = FirstFrame(b"plant", b"", Head(b"plant", publisher.to_bytes(8), 1), 7).encode()
        assert some.message(ANN, frame) == ids.replace(ANN, frame)


NUMBERED = FirstFrame(b"plant", b"", Head(b"plant", b"\x01another", 1), 7)


def test_numbered_messages_pass_with_another_id() -> None:
    """Each numbered message passes with its own number and the id that its sender's publisher has for receivers."""
    ids = PublisherIds("secret")
    some = Authorizer(AllowList.parse(listed("ann", ANN, publish=["plant"]) + listed("bob", BOB)), publisher_ids=ids)
    frames = [NUMBERED._replace(number=number).encode() for number in range(5)]
    frames += [NUMBERED._replace(number=number, headers=b"{}").encode() for number in range(5)]
    for key in (ANN, BOB, ANN):
        assert [some.message(key, frame) for frame in frames] == [ids.replace(key, frame) for frame in frames]
    other = FirstFrame(b"other", b"", Head(b"other", b"\x01another", 1), 7).encode()
    assert [some.message(key, other) for key in (ANN, BOB, ANN)] == [b"", ids.replace(BOB, other), b""]
    # What has the head of a numbered frame but is another one.
    for frame in (head_of(NUMBERED.encode()), head_of(NUMBERED.encode()) + b"1234567"):
        assert some.message(ANN, frame) == frame


def test_messages_of_an_exact_topic_get_the_mark() -> None:
    """If a client may have one topic alone, its messages pass with the mark that ends it; others stay as they are."""
    some = authorizer({"publish": ["*"]}, {"subscribe": ["plant"]})
    assert some.message(ANN, b"plant") == b"plant" + MARK
    assert some.message(ANN, b"plant" + HEADER) == b"plant" + HEADER
    assert some.message(ANN, b"plant" + MARK) == b"plant" + MARK
    assert some.message(ANN, b"plant2") == b"plant2"


@pytest.mark.parametrize(
    "topic",
    [
        b"a\x80",
        b"a\x1f",
        b"\x01a",
        b"{",
        b"[a",
        b" a",
        b"\ta",
        b"x\x9c",
        b"(\xb5/\xfd",
        b"\x04\x22M\x18",
        b"a" * 256,
        b"a" * 99_999,
    ],
    ids=lambda topic: repr(topic[:10]),
)
def test_what_is_no_topic_does_not_pass(topic: bytes) -> None:
    """Even a client with all rights publishes on nothing but topics that this library has: receivers would take others for
    payloads."""
    for frame in (topic, topic + HEADER):
        assert authorizer({}).message(ANN, frame) == b""


@pytest.mark.parametrize("frame", [PRIVATE, PRIVATE + b"token", PRIVATE + HEADER])
def test_nobody_publishes_on_what_is_private(frame: bytes) -> None:
    """Nothing passes on the tokens with which clients prove that their path is live, even from a client with all rights."""
    assert authorizer({}).message(ANN, frame) == b""


def test_subscriptions() -> None:
    """A permitted prefix is granted as it is; an exact topic is granted alone, ended by the mark."""
    some = authorizer({"subscribe": ["plant", "alarm*"]})
    assert some.subscription(ANN, b"alarm") == b"alarm"
    assert some.subscription(ANN, b"alarm.fire") == b"alarm.fire"
    assert some.subscription(ANN, b"plant") == b"plant" + MARK
    assert some.subscription(ANN, b"plant" + MARK) == b"plant" + MARK
    assert some.subscription(ANN, b"plant" + HEADER) == b"plant" + HEADER
    for prefix in (b"", b"p", b"plan", b"plant2", b"alar", b"other", MARK, b"other" + HEADER):
        assert some.subscription(ANN, prefix) is None


def test_all_may_be_subscribed_to() -> None:
    """A client that may have everything is granted everything, the empty prefix too."""
    some = authorizer({}, {"subscribe": []})
    for prefix in (b"", b"p", b"plant", b"plant" + HEADER):
        assert some.subscription(ANN, prefix) == prefix
        assert some.subscription(BOB, prefix) is None


def test_everybody_may_prove_a_path() -> None:
    """A client that may subscribe to nothing else may subscribe to the tokens with which it proves that its path is live."""
    token = PRIVATE + bytes(16)
    assert authorizer({"subscribe": []}).subscription(ANN, token) == token
    for other in (PRIVATE, PRIVATE + b"token", token + b"x", PRIVATE + bytes(1_000)):  # which would only fill memory
        assert authorizer({"subscribe": []}).subscription(ANN, other) is None


def test_who_is_not_on_the_list() -> None:
    """A client whose key is not on the list may do nothing, not even prove its path; its key stands for its name."""
    some = authorizer({})
    assert some.message(BOB, b"plant") == b""
    assert some.message(BOB, b"plant" + HEADER) == b""
    for prefix in (b"", b"plant", PRIVATE + b"token"):
        assert some.subscription(BOB, prefix) is None
    allow_list = AllowList.parse(listed("ann", ANN))
    assert allow_list.name(ANN) == "ann"
    assert allow_list.name(BOB) == f"{BOB} (no longer on the allow-list)"


def test_decisions_are_remembered_by_client() -> None:
    """A decision for one client is not used for another, asked again and in any order."""
    some = authorizer({"publish": ["plant"]}, {"publish": ["other"]})
    for _ in range(2):
        assert [some.message(key, topic) for key in (ANN, BOB) for topic in (b"plant", b"other")] == [
            b"plant",
            b"",
            b"",
            b"other",
        ]


def test_only_so_much_is_remembered() -> None:
    """A client that invents ever new topics fills a bounded cache; each is still decided rightly."""
    some = authorizer({"publish": ["a*"]})
    frames = [b"%c%d" % ("ab"[number % 2].encode(), number) for number in range(25_000)]
    before = [sys.getrefcount(frame) for frame in frames]
    for frame in frames:
        assert some.message(ANN, frame) == (frame if frame.startswith(b"a") else b"")
    after = [sys.getrefcount(frame) for frame in frames]
    assert 0 < sum(now > then for now, then in zip(after, before, strict=True)) <= 10_000


def test_what_is_too_long_for_a_topic_is_not_remembered() -> None:
    """A first frame can be as long as an event: frames longer than any topic are not cached, permitted or denied."""
    some = authorizer({"publish": ["a*"]})
    for frame in (b"a" * (MAX_TOPIC_BYTES + 1), b"b" * (MAX_TOPIC_BYTES + 1), b"a" * 300 + HEADER, b"a" + MARK + b"x" * 300):
        before = sys.getrefcount(frame)
        some.message(ANN, frame)
        assert sys.getrefcount(frame) == before


# Few letters, so that topics, patterns and prefixes meet each other often: with any rules, everything is tried.
_TOPICS = [bytes(letters) for length in (1, 2, 3) for letters in product(b"ab", repeat=length)]
_PREFIXES = [*_TOPICS, *(topic + MARK for topic in _TOPICS), b"", MARK, MARK + b"a", b"a" + HEADER, b"a" + MARK + b"b"]
_FRAMES = [*_PREFIXES, *(topic + HEADER for topic in _TOPICS), PRIVATE, PRIVATE + b"a", b"a" + PRIVATE, HEADER]

_names = st.text(alphabet="ab", min_size=1, max_size=2)
_patterns = st.lists(st.one_of(_names, _names, _names.map(lambda name: f"{name}*"), st.just("*")), max_size=3)
_rules = st.fixed_dictionaries({}, optional={"publish": _patterns, "subscribe": _patterns})


def may(patterns: Iterable[str] | None, topic: bytes) -> bool:
    """Whether rules permit a topic, read from them word by word."""
    name = topic.decode("latin-1")
    return patterns is None or any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
    )


@given(_rules, _rules)
def test_nobody_gets_what_the_rules_deny(ann: dict[str, list[str]], bob: dict[str, list[str]]) -> None:
    """Whatever is sent and subscribed to, no message passes that its sender may not publish, and none that passes is
    matched, as ZeroMQ matches, by what was granted to a client that may not have its topic."""
    some = authorizer(ann, bob)
    passed = set()
    for key, rules in ((ANN, ann), (BOB, bob)):
        for frame in _FRAMES:
            sent = some.message(key, frame)
            topic = frame.partition(MARK)[0]
            assert bool(sent) == (topic != b"" and topic.isascii() and may(rules.get("publish"), topic))
            assert sent in (b"", frame, topic + MARK)
            passed.add(sent)
    for key, rules in ((ANN, ann), (BOB, bob)):
        asked = [some.subscription(key, prefix) for prefix in _PREFIXES]
        granted = tuple(prefix for prefix in asked if prefix is not None)
        matched = [sent for sent in passed - {b""} if sent.startswith(granted)]
        assert [sent for sent in matched if not may(rules.get("subscribe"), sent.partition(MARK)[0])] == []


@given(_rules, _rules)
def test_everybody_gets_what_the_rules_permit(ann: dict[str, list[str]], bob: dict[str, list[str]]) -> None:
    """A subscriber with the right to a topic gets what publishers with the right to it send, with a header or without."""
    some = authorizer(ann, bob)
    for topic in _TOPICS:
        granted = some.subscription(BOB, topic)
        assert (granted is not None) == may(bob.get("subscribe"), topic)
        for frame in (topic, topic + HEADER):
            sent = some.message(ANN, frame)
            assert bool(sent) == may(ann.get("publish"), topic)
            assert not sent or granted is None or sent.startswith(granted)


# The file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of an allow-list with Ann on it."""
    return write_list(tmp_path / "allow.toml", listed("ann", ANN))


def names(allow_list: AllowListFile) -> set[str]:
    return {client.name for client in allow_list.current.clients.values()}


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_an_unchanged_file_is_not_read_again(file: Path) -> None:
    """The parsed list stays the same object as long as the file does not change."""
    allow_list = AllowListFile(file)
    before = allow_list.current
    assert not allow_list.refresh()
    assert allow_list.current is before


def test_a_file_that_was_rewritten(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A rewritten file is in force after the next refresh, which logs how many clients may connect now."""
    caplog.set_level(logging.INFO, "eventbus")
    allow_list = AllowListFile(str(file))
    write_list(file, listed("ann", ANN), listed("bob", BOB))
    assert allow_list.refresh()
    assert names(allow_list) == {"ann", "bob"}
    assert not allow_list.refresh()
    assert [entry.getMessage() for entry in caplog.records] == [f"allow-list {file} read again: 2 clients may connect"]


def test_a_file_that_was_renamed_over(file: Path) -> None:
    """A file renamed over the old one is read, even if it has the same size and time."""
    allow_list = AllowListFile(file)
    new = write_list(file.with_suffix(".new"), listed("bob", BOB))
    found = file.stat()
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert new.stat().st_size == found.st_size
    new.rename(file)
    assert allow_list.refresh()
    assert names(allow_list) == {"bob"}


def test_a_file_with_the_same_size_and_time(file: Path) -> None:
    """A file rewritten in place is read, even if it has the same size and was given the same time."""
    allow_list = AllowListFile(file)
    found = file.stat()

    def rewritten() -> bool:
        write_list(file, listed("bob", BOB))
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
        return file.stat().st_ctime_ns != found.st_ctime_ns  # the kernel's clock ticks every few milliseconds

    while not rewritten():
        pass
    assert file.stat().st_size == found.st_size
    assert allow_list.refresh()
    assert names(allow_list) == {"bob"}


def test_a_link_that_is_swapped(tmp_path: Path) -> None:
    """A file behind links is read again when one of them leads elsewhere, as Kubernetes changes what it has mounted."""
    for version, part in (("1", listed("ann", ANN)), ("2", listed("bob", BOB))):
        (tmp_path / f"..{version}").mkdir()
        write_list(tmp_path / f"..{version}" / "allow.toml", part)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "allow.toml").symlink_to("..data/allow.toml")
    allow_list = AllowListFile(tmp_path / "allow.toml")
    assert names(allow_list) == {"ann"}
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert allow_list.refresh()
    assert names(allow_list) == {"bob"}


@pytest.mark.parametrize("content", [b"[clients", b"\xff", None, b"[clients.ann]\npublic_key = 'x'", b"", b"# " * 600_000])
def test_a_file_that_breaks(file: Path, caplog: pytest.LogCaptureFixture, content: bytes | None) -> None:
    """If the file becomes unusable, or is gone, the list in force stays, and one error is logged."""
    allow_list = AllowListFile(file)
    before = allow_list.current
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    for _ in range(3):
        assert not allow_list.refresh()
        assert allow_list.current is before
    [said] = errors(caplog)
    assert str(file) in said
    assert said.endswith("; what was read before stays in force")
    write_list(file, listed("bob", BOB))
    assert allow_list.refresh()
    assert names(allow_list) == {"bob"}
    assert len(errors(caplog)) == 1


def test_a_file_that_was_only_allowed_to_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be read is read once its permissions change, though nothing was written into it."""
    allow_list = AllowListFile(file)
    write_list(file, listed("ann", ANN), listed("bob", BOB))
    with monkeypatch.context() as patch:  # the superuser, as whom tests may run, can read everything

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        patch.setattr(os, "open", refuse)
        assert not allow_list.refresh()
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:  # the kernel's clock ticks every few milliseconds
        file.chmod(0o640)
    assert allow_list.refresh()
    assert names(allow_list) == {"ann", "bob"}


def test_reading_again_on_request(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`reread` reads a seemingly unchanged file, too; if it is unusable, the list in force stays, and each try is logged."""
    allow_list = AllowListFile(file)
    before = allow_list.current
    assert allow_list.reread()
    assert allow_list.current is not before
    file.unlink()
    assert not allow_list.reread()
    assert not allow_list.reread()
    assert names(allow_list) == {"ann"}
    assert len(errors(caplog)) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"\xff", "it is not UTF-8"),
        (b"[clients", "no TOML"),
        (b"[clients.ann]", "client ann: "),
        (b"", "it has no clients"),
        (b"# " * 600_000, "it is larger than 1,048,576 bytes"),
    ],
)
def test_without_a_list_there_is_none(file: Path, content: bytes | None, reason: str) -> None:
    """A file that cannot be used from the start is refused, with its path, its variable and the reason."""
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(InvalidSettings) as caught:
        AllowListFile(file)
    for part in (str(file), "EVENTBUS_SECURITY__ALLOW_LIST", reason):
        assert part in str(caught.value)


def replace_by_pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """A folder, a device and a named pipe, which would block each reader, are named as such at once."""
    replace_by_pipe(tmp_path / "pipe")
    for path, reason in (
        (tmp_path, "Is a directory"),
        (Path("/dev/zero"), "it is no regular file"),
        (tmp_path / "pipe", "it is no regular file"),
    ):
        with pytest.raises(InvalidSettings, match=f"{path} .*{reason}"):
            AllowListFile(path)


def test_a_pipe_in_the_place_of_the_file(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A named pipe in the place of the file blocks nobody: the list in force stays, and one error is logged."""
    allow_list = AllowListFile(file)
    replace_by_pipe(file)
    for _ in range(3):
        assert not allow_list.refresh()
    assert names(allow_list) == {"ann"}
    [said] = errors(caplog)
    assert "it is no regular file; what was read before stays in force" in said


@pytest.mark.patience
@given(cut=st.integers(0, 10_000), rules=st.lists(st.sampled_from(["publish", "subscribe", "roles"]), unique=True))
def test_a_file_that_is_cut_off_widens_nothing(tmp_path_factory: pytest.TempPathFactory, cut: int, rules: list[str]) -> None:
    """Wherever the file is cut off, somebody may still connect, and no client may do more than before."""
    patterns = {"publish": ["plant"], "subscribe": ["alarm*"], "roles": ["reader"]}
    text = (
        '[roles.reader]\nsubscribe = ["plant"]\n'
        + listed("ann", ANN)
        + listed("bob", BOB, **{rule: patterns[rule] for rule in rules})
    )
    file = write_list(tmp_path_factory.mktemp("cut") / "allow.toml", text)
    allow_list = AllowListFile(file)
    before = allow_list.current
    file.write_text(text[: cut % len(text)])
    allow_list.reread()
    after = allow_list.current
    assert after.clients
    for key, client in after.clients.items():
        was = before.clients[key]
        assert (was.publish | client.publish, was.subscribe | client.subscribe) == (was.publish, was.subscribe)


def test_a_rule_is_lifted_only_by_name(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A rule that is left out though the client had it may have been cut off: it stays in force, until it is lifted."""
    write_list(file, listed("ann", ANN, publish=["plant"], subscribe=["plant"]), listed("bob", BOB))
    allow_list = AllowListFile(file)
    before = allow_list.current
    write_list(file, listed("ann", ANN, subscribe=["plant"]), listed("bob", BOB))
    for _ in range(2):
        assert not allow_list.refresh()
    assert allow_list.current is before
    [said] = errors(caplog)
    assert 'client ann has lost its publish rule: is the file cut off? To permit everything, write ["*"]' in said
    for lifted in (
        [listed("ann", ANN, publish=["*"], subscribe=["plant"])],
        ["default = 'nothing'", listed("ann", ANN, subscribe=["plant"])],
        ["default = 'all'", listed("ann", ANN, subscribe=["plant"])],
        [listed("ann", ANN, roles=[])],
    ):
        write_list(file, *lifted)
        assert allow_list.reread()


def test_an_expelled_client_does_not_come_back_with_more(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file's rules for a client count while the client is expelled, too."""
    write_list(file, listed("ann", ANN, publish=["plant"]), listed("bob", BOB))
    allow_list = AllowListFile(file)
    allow_list.expel(ANN)
    write_list(file, listed("ann", ANN), listed("bob", BOB))
    assert not allow_list.refresh()
    assert names(allow_list) == {"bob"}
    assert "client ann has lost its publish rule" in errors(caplog)[0]


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0), (0o664, 0), (0o666, 1)])
def test_a_file_that_everybody_can_change(file: Path, caplog: pytest.LogCaptureFixture, mode: int, expected: int) -> None:
    """A warning says that every user of the machine can change the file; it is used all the same."""
    file.chmod(mode)
    assert names(AllowListFile(file)) == {"ann"}
    assert len(errors(caplog)) == expected
    assert all(str(file) in said and "chmod o-w" in said for said in errors(caplog))


def test_check(file: Path) -> None:
    """`check` returns a list as text, or raises what the proxy would at its start."""
    assert check(file) == str(AllowListFile(file).current)
    file.write_text("")
    with pytest.raises(InvalidSettings, match="it has no clients"):
        check(file)
