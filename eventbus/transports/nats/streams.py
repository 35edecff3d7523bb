"""What is asked of JetStream, and what it answers. Pure; see https://docs.nats.io/reference/reference-protocols/nats_api_reference."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from eventbus.nats_options import NatsOptions, start_time
from eventbus.policies import Start

API = b"$JS.API."
MAX_ACK_PENDING = 20_000
_NANOSECONDS = 1_000_000_000
_INACTIVE_S = 60  # after which the server forgets a consumer that nobody asks for messages
_DUPLICATES_S = 120  # how long the server remembers identifiers

STREAM_NOT_FOUND, CONSUMER_NOT_FOUND, MESSAGE_NOT_FOUND = 10059, 10014, 10037
NAME_TAKEN, SUBJECTS_OVERLAP = 10058, 10065
CONSUMER_EXISTS = {10013, 10105, 10148}
NOT_ENABLED = {10039, 10076}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")
NO_SPACE = {10028, 10047}
TOO_LARGE = 10054

type Json = Mapping[str, Any]


class ApiError(NamedTuple):
    """What JetStream complains about.

    Attributes:
        code: its number; 0 if the answer cannot be read.
        text: the complaint.
    """

    code: int
    text: str


def answer_of(payload: bytes) -> tuple[dict[str, Any], ApiError | None]:
    """Read an answer, and the error in it."""
    try:
        answer = from_json(payload)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return {}, ApiError(0, "the answer cannot be read")
    error = answer.get("error")
    if not isinstance(error, dict):
        return answer, None
    return answer, ApiError(int(error.get("err_code") or error.get("code") or 0), str(error.get("description", "")))


def is_stored(answer: bytes) -> bool:
    """Whether an answer is certainly the acknowledgement of a publication, without a closer look."""
    return answer.startswith(b'{"stream":') and b'"error"' not in answer


def stream_config(options: NatsOptions, subjects: Iterable[str]) -> bytes:
    """The stream as it is made if it is missing."""
    store = options.stored
    duplicates = min(_DUPLICATES_S, store.max_age or _DUPLICATES_S)
    return to_json(
        {
            "name": options.stream,
            "subjects": list(subjects),
            "storage": store.storage,
            "retention": "limits",
            "discard": "old",
            "max_bytes": store.max_bytes or -1,
            "max_age": store.max_age * _NANOSECONDS,
            "num_replicas": store.replicas,
            "duplicate_window": duplicates * _NANOSECONDS,
            "allow_direct": True,
        }
    )


def differences(options: NatsOptions, config: Json) -> list[str]:
    """How an existing stream differs from `EVENTBUS_STORE`, for people."""
    store = options.stored
    wanted = {
        "storage": store.storage,
        "max_bytes": store.max_bytes or -1,
        "max_age": store.max_age * _NANOSECONDS,
        "num_replicas": store.replicas,
    }
    return [
        f"{name} is {_shown(name, config.get(name))}, not {_shown(name, value)}"
        for name, value in wanted.items()
        if config.get(name) != value
    ]


def _shown(name: str, value: object) -> str:
    return f"{value / _NANOSECONDS:g} s" if name == "max_age" and isinstance(value, int) else str(value)


def starting_policy(start: str) -> dict[str, object]:
    """The fields of a consumer that begins at `EVENTBUS_START`."""
    match start:
        case Start.NEW | Start.ALL:
            return {"deliver_policy": str(start)}
        case Start.LAST:
            return {"deliver_policy": "last_per_subject"}
        case _:
            time = start_time(start).astimezone(UTC).isoformat().replace("+00:00", "Z")
            return {"deliver_policy": "by_start_time", "opt_start_time": time}


def policy_after(position: int) -> dict[str, object]:
    """The fields of a consumer that goes on after a message."""
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": position + 1}


def policy_since(nanoseconds: int) -> dict[str, object]:
    """The fields of a consumer that begins with what was stored at a time or later, in nanoseconds since 1970."""
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    time = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    return {"deliver_policy": "by_start_time", "opt_start_time": time}


def ephemeral_config(name: str, subjects: Iterable[str], policy: Json) -> dict[str, object]:
    """A consumer of one client, which remembers its position itself."""
    return {
        "name": name,
        "ack_policy": "none",
        "replay_policy": "instant",
        "filter_subjects": sorted(subjects),
        "inactive_threshold": _INACTIVE_S * _NANOSECONDS,
        "mem_storage": True,
        "num_replicas": 1,
        **policy,
    }


def group_config(options: NatsOptions, subjects: Iterable[str], policy: Json) -> dict[str, object]:
    """A consumer that the workers of a group share, and whose position the server remembers."""
    return {
        "name": options.group,
        "durable_name": options.group,
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "filter_subjects": sorted(subjects),
        "ack_wait": round(options.ack_wait * _NANOSECONDS),
        "max_ack_pending": MAX_ACK_PENDING,
        "max_deliver": -1,
        **policy,
    }


def create_consumer(stream: str, config: Json, action: str = "") -> bytes:
    """The request that makes or changes a consumer."""
    request: dict[str, object] = {"stream_name": stream, "config": dict(config)}
    if action:
        request["action"] = action
    return to_json(request)


def filters_of(config: Json) -> set[str]:
    """The subjects that a consumer wants; none of them: it gets everything."""
    several = config.get("filter_subjects")
    if isinstance(several, list) and several:
        return {str(subject) for subject in several}
    one = config.get("filter_subject")
    return {str(one)} if one else set()


def ack_wait_of(config: Json) -> float:
    """The seconds that a consumer waits for a confirmation; 0: that is not said."""
    found = config.get("ack_wait")
    return found / _NANOSECONDS if isinstance(found, int) else 0.0


def pull(batch: int, expires: float, heartbeat: float) -> bytes:
    """The request for up to `batch` messages; the times are in seconds. No heartbeat: no signs while there are none."""
    request = {"batch": batch, "expires": round(expires * _NANOSECONDS)}
    if heartbeat:
        request["idle_heartbeat"] = round(heartbeat * _NANOSECONDS)
    return to_json(request)


def message(number: int) -> bytes:
    """The request for the message with a number."""
    return to_json({"seq": number})


def nanoseconds_of(time: object) -> int | None:
    """Read a time as the server writes it, since 1970; None: it is none."""
    found = _TIME.fullmatch(str(time))
    if found is None:
        return None
    seconds = datetime.fromisoformat(f"{found[1]}+00:00").timestamp()
    return round(seconds) * _NANOSECONDS + int((found[2] or "").ljust(9, "0"))


def last_on(subject: str) -> bytes:
    """The request for the newest message on a subject."""
    return to_json({"last_by_subj": subject})
