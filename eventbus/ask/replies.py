"""What an answer holds: values of handlers to JSON, and JSON to the class that is asked for. Pure."""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from eventbus._base.printable import printable
from eventbus.ask.waiting import Answer
from eventbus.errors import CompressionMissing, InvalidAnswer, PayloadDamaged, PayloadTooLarge, RequestFailed
from eventbus.wire.complexity import has_more_values
from eventbus.wire.compression import inflate, is_compressed
from eventbus.wire.decoders import decoder_of, max_careless_bytes
from eventbus.wire.encoders import encoder_of
from eventbus.wire.frames import MAX_PACKED_BYTES
from eventbus.wire.requests import ERROR_TEXT, ERROR_TYPE
from eventbus.wire.required import FieldMissing

_MAX_ERROR_TYPE, _MAX_ERROR_TEXT = 100, 1_000  # characters
_MAX_SHOWN_ERROR = 300  # characters


class Limits(NamedTuple):
    """How large an answer may be: `max_event_bytes` and `max_event_values` of `ClientOptions`."""

    max_bytes: int
    max_values: int


_encoder_of = lru_cache(maxsize=1_000)(encoder_of)


def encode_answer(value: object) -> bytes:
    """Return the payload of an answer.

    What is no JSON object begins with a space: subscribers to all topics tell by the first byte where a message begins, and
    take an array for several events.

    Raises:
        ValueError: pydantic cannot write it; a service's own serializer may raise anything.
    """
    payload = _encoder_of(type(value))(value) if isinstance(value, BaseModel) else to_json(value, inf_nan_mode="constants")
    return payload if payload[:1] == b"{" else b" " + payload


def failure_headers(error: BaseException) -> dict[str, str]:
    """The headers of an answer that says why there is none: the type and the text of an error, without a traceback."""
    try:
        text = str(error)
    except Exception:  # a service's own __str__ may raise anything
        text = "its text cannot be told"
    text = text.encode(errors="backslashreplace").decode()  # lone surrogates cannot travel
    return {ERROR_TYPE: type(error).__name__[:_MAX_ERROR_TYPE], ERROR_TEXT: printable(text, _MAX_ERROR_TEXT)}


def raise_failure(answer: Answer, topic: str, event_type: str) -> None:
    """Raise RequestFailed if the answer says that the handler has failed. Its headers may hold anything."""
    headers = answer.headers
    if ERROR_TYPE in headers:
        error_type, text = headers[ERROR_TYPE], headers.get(ERROR_TEXT, "")
        raise RequestFailed(topic, event_type, printable(error_type, _MAX_ERROR_TYPE), printable(text, _MAX_ERROR_TEXT))


def json_of(answer: Answer, topic: str, event_type: str, limits: Limits) -> bytes:
    """Return what an answer holds, not decoded.

    Raises:
        RequestFailed: the answer says that the handler has failed.
        InvalidAnswer: it is too large, or damaged.
    """
    max_bytes, max_values = limits
    raise_failure(answer, topic, event_type)
    json = answer.payload
    try:
        if is_compressed(json):
            json = inflate(json, max_bytes)
        if len(json) > max_bytes:
            raise PayloadTooLarge(max_bytes)
        if has_more_values(json, max_values):
            raise InvalidAnswer(
                topic, event_type, "JSON", f"it has more than {max_values} values (EVENTBUS_MAX_EVENT_VALUES)"
            )
        return json
    except (PayloadTooLarge, PayloadDamaged, CompressionMissing) as error:
        raise InvalidAnswer(topic, event_type, "JSON", str(error)) from None


class Reader[Reply]:
    """Reads answers to one request.

    Args:
        reply: the class of the answers, anything that a `pydantic.TypeAdapter` can be of, or one of those.
        topic: the topic of the request, for errors.
        event_type: the type of its event.
        limits: of what is read.
    """

    def __init__(self, reply: type[Reply] | TypeAdapter[Reply], topic: str, event_type: str, limits: Limits) -> None:
        self._reply = reply
        self._topic = topic
        self._type = event_type
        self._limits = limits

    def read(self, answer: Answer) -> Reply:
        """Return the value of an answer.

        Raises:
            RequestFailed: the answer says that the handler has failed.
            InvalidAnswer: it is not of the class, too large, or damaged.
        """
        json = json_of(answer, self._topic, self._type, self._limits)
        try:
            value: Reply = _decoder_of(self._reply)(json)
        except ValidationError as error:
            raise self._invalid(_shown(error)) from error
        except FieldMissing as error:
            raise self._invalid(str(error)) from error
        except Exception as error:  # a validator of the service may raise anything
            raise self._invalid(f"{type(error).__name__}: {error}") from error
        return value

    def _invalid(self, detail: str) -> InvalidAnswer:
        return InvalidAnswer(self._topic, self._type, _name_of(self._reply), printable(detail, _MAX_SHOWN_ERROR))


# Any: what a TypeAdapter takes, and a value of that class.
def _decoder_of(reply: Any) -> Callable[[bytes], Any]:
    try:
        return _remembered_decoder(reply)
    except TypeError:  # it cannot be hashed, as an Annotated with a list cannot
        return _make_decoder(reply)


def _make_decoder(reply: Any) -> Callable[[bytes], Any]:
    adapter = reply if isinstance(reply, TypeAdapter) else TypeAdapter(reply)
    if adapter.pydantic_complete is False:
        adapter.rebuild()
    schema = adapter.core_schema
    most = min(max_careless_bytes(schema), MAX_PACKED_BYTES)
    decode_small = decoder_of(schema).validate_json
    careful = cache(lambda: decoder_of(schema, careful=True))

    def decode(json: bytes) -> Any:
        return decode_small(json) if len(json) <= most else careful().validate_json(json)

    return decode


_remembered_decoder = lru_cache(maxsize=1_000)(_make_decoder)


def _name_of(reply: Any) -> str:
    if isinstance(reply, TypeAdapter):
        return str(reply)
    return reply.__name__ if isinstance(reply, type) and not hasattr(reply, "__args__") else str(reply)


def _shown(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
