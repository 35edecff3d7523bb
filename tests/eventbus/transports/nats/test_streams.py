"""What JetStream is asked, and what its answers say: without a server."""

import json

import pytest
from hypothesis import settings

from eventbus.nats_options import NatsOptions, Store, parse_store
from eventbus.transports.nats import streams
from eventbus.transports.nats.streams import ApiError

FEWER = settings(max_examples=100)


def test_answers() -> None:
    """What was asked for, or an error with its number."""
    assert streams.answer_of(b'{"a": 1}') == ({"a": 1}, None)
    _, error = streams.answer_of(b'{"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}')
    assert error == ApiError(10059, "stream not found")
    assert streams.answer_of(b'{"error": {"code": 500}}')[1] == ApiError(500, "")
    for strange in (b"", b"[]", b"x"):
        assert streams.answer_of(strange)[1] == ApiError(0, "the answer cannot be read")


def test_where_a_consumer_begins() -> None:
    """EVENTBUS_START, and after that the position."""
    assert streams.starting_policy("new") == {"deliver_policy": "new"}
    assert streams.starting_policy("all") == {"deliver_policy": "all"}
    assert streams.starting_policy("last") == {"deliver_policy": "last_per_subject"}
    assert streams.starting_policy("2026-01-31T13:00:00+01:00") == {
        "deliver_policy": "by_start_time",
        "opt_start_time": "2026-01-31T12:00:00Z",
    }
    assert streams.starting_policy("10m")["deliver_policy"] == "by_start_time"
    assert streams.policy_after(7) == {"deliver_policy": "by_start_sequence", "opt_start_seq": 8}
    time = "2026-01-31T12:00:00.000000007Z"
    assert streams.policy_since(1_769_860_800_000_000_007) == {"deliver_policy": "by_start_time", "opt_start_time": time}


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2026-01-31T12:00:00.123456789Z", 1_769_860_800_123_456_789),
        ("2026-01-31T12:00:00.5Z", 1_769_860_800_500_000_000),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000_000_000),
        ("", None),
        (None, None),
    ],
)
def test_times_of_the_server(text: object, nanoseconds: int | None) -> None:
    """It leaves out zeros at the end."""
    assert streams.nanoseconds_of(text) == nanoseconds


def test_consumers() -> None:
    """That of one client is forgotten when nobody asks it any more; that of a group is kept, and confirmed one by one."""
    own = streams.ephemeral_config("x", {"eb.b", "eb.a"}, {})
    assert own["inactive_threshold"] == 60_000_000_000
    assert (own["ack_policy"], own["filter_subjects"]) == ("none", ["eb.a", "eb.b"])
    group = streams.group_config(NatsOptions(group="g", ack_wait=2.5), {"eb.a"}, {"deliver_policy": "all"})
    assert (group["durable_name"], group["ack_policy"], group["ack_wait"]) == ("g", "explicit", 2_500_000_000)
    assert "inactive_threshold" not in group
    assert (streams.ack_wait_of(group), streams.ack_wait_of({})) == (2.5, 0.0)
    assert streams.filters_of(group) == {"eb.a"}
    assert streams.filters_of({"filter_subject": "eb.>"}) == {"eb.>"}
    assert streams.filters_of({}) == set()


def test_requests() -> None:
    """As the server takes them; times are in nanoseconds."""
    config = {"name": "x"}
    assert json.loads(streams.create_consumer("eb", config)) == {"stream_name": "eb", "config": config}
    assert json.loads(streams.create_consumer("eb", config, "create"))["action"] == "create"
    assert json.loads(streams.message(7)) == {"seq": 7}
    assert json.loads(streams.pull(5, 2.0, 0.5)) == {
        "batch": 5,
        "expires": 2_000_000_000,
        "idle_heartbeat": 500_000_000,
    }
    assert "idle_heartbeat" not in json.loads(streams.pull(5, 2.0, 0.0))
    assert json.loads(streams.last_on("eb.a")) == {"last_by_subj": "eb.a"}


def test_streams() -> None:
    """EVENTBUS_STORE, and how an existing one differs from it."""
    options = NatsOptions(store="memory,1MiB,1h,3", prefix="site.eb")
    config = json.loads(streams.stream_config(options, ["site.eb.>"]))
    assert (config["name"], config["subjects"], config["storage"]) == ("site-eb", ["site.eb.>"], "memory")
    assert (config["max_bytes"], config["max_age"], config["num_replicas"]) == (1_048_576, 3_600_000_000_000, 3)
    assert streams.differences(options, config) == []
    assert streams.differences(NatsOptions(store="file,1MiB,2h,3"), config) == [
        "storage is memory, not file",
        "max_age is 3600 s, not 7200 s",
    ]


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ("file", Store()),
        ("memory,500MB", Store("memory", 500_000_000)),
        ("file,2KiB,30m", Store("file", 2_048, 1_800)),
        ("file, 1GiB, 0, 5", Store("file", 1_073_741_824, 0, 5)),
    ],
)
def test_how_a_store_is_written(text: str, store: Store) -> None:
    """What is left out has its default; what is shown can be read again."""
    assert parse_store(text) == store
    assert parse_store(str(store)) == store
