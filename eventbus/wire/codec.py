"""The codec: events to JSON and back, through pydantic's core."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from types import UnionType
from typing import Any, TypeAliasType, Union, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, core_schema, from_json, to_json

from eventbus._base.log import Log
from eventbus._base.printable import printable
from eventbus.errors import EventBusError, InvalidEvent
from eventbus.events import BaseEventType
from eventbus.wire.decoders import decoder_of, max_careless_bytes
from eventbus.wire.encoders import encoder_of
from eventbus.wire.frames import ARRAY, MAX_PACKED_BYTES
from eventbus.wire.rejects import MAX_TYPE_LENGTH, Reject, RejectReason
from eventbus.wire.required import FieldMissing
from eventbus.wire.unions import class_of_each_type, model_classes, tagged, type_values, with_subclasses

_MAX_ERROR_CHARACTERS = 300
_MAX_EXPLAINED_ELEMENTS = 1_000  # elements of one array that are rejected one by one, each with what is wrong
_TYPE_AT_BEGIN, _NEVER = re.compile(rb'\s*{\s*"type"\s*:\s*"([^"\\]*)"'), re.compile(rb"(?!)")
_MAX_LISTED_ERRORS = 1_000  # two bytes of a payload may make an error, which takes 400 bytes in a list


class Codec[EventClass: BaseModel]:
    """Encodes and decodes the events of one class with its subclasses, or of a union of classes. Any thread may use it.

    Args:
        event_class: a class; those subclasses that narrow its field `type`, and exist by now, are read as themselves. Or a
            union of classes, or a `TypeAdapter`, which is used as it is.

    Attributes:
        decode_one: decodes JSON of one event, which has no more than `max_bytes_at_once`; a function in C.
        decode_many: decodes an array of events, of no more bytes; a function in C.
        max_bytes_at_once: JSON of more bytes is to be decoded by `decode`, which does so carefully.
    """

    def __init__(self, event_class: type[EventClass] | TypeAdapter[EventClass] | UnionType | TypeAliasType) -> None:
        adapter = event_class if isinstance(event_class, TypeAdapter) else _adapter(event_class)
        if adapter.pydantic_complete is False:
            adapter.rebuild()
        schema = adapter.core_schema
        classes = tuple(model_classes(schema))
        if not classes:
            raise InvalidEvent(f"{event_class!r} is no event class: derive one from eventbus.BaseEvent")
        for cls in classes:
            if "type" not in cls.model_fields:
                raise InvalidEvent(f"{cls.__name__} has no field `type`: derive it from eventbus.BaseEvent")
        self.classes: tuple[type[BaseModel], ...] = classes
        self._class_of_each_type = class_of_each_type(classes) if len(classes) > 1 else None
        if self._class_of_each_type is not None:
            schema = tagged(schema, self._class_of_each_type)
        fields = [cls.model_fields["type"] for cls in classes]
        self._type_values = frozenset(value for cls in classes for value in type_values(cls))
        self._type_paths = frozenset(path for field in fields for path in _paths("type", field))
        self._type_at_begin = _TYPE_AT_BEGIN if self._type_paths == {("type",)} else _NEVER
        self._needs_type = all(field.is_required() for field in fields)
        self.event_types: frozenset[type[BaseEventType]] = frozenset(
            type(value) for value in self._type_values if isinstance(value, BaseEventType)
        )
        # One encoder for each class that was emitted: the serializer of a union or of a base class leaves out fields that a
        # derived class adds. Any: each encoder takes events of its own class.
        self.encoders: dict[type, Callable[[Any], bytes]] = {}
        self._log = Log()
        # Both raise pydantic's ValidationError; `salvage` then tells what was wrong.
        decoder = decoder_of(schema)
        self.decode_one: Callable[[bytes], EventClass] = decoder.validate_json
        self.decode_many: Callable[[bytes], list[EventClass]] = decoder_of(
            core_schema.list_schema(schema)  # `salvage` then looks at each
        ).validate_json
        # Larger JSON is decoded carefully.
        self.max_bytes_at_once: int = min(max_careless_bytes(schema), MAX_PACKED_BYTES)
        self._schema = schema
        self._validate: Callable[[dict[str, BaseEventType]], EventClass] = decoder.validate_python

    @property
    def name(self) -> str:
        """The event class's name, for messages."""
        return " | ".join(cls.__name__ for cls in self.classes)

    # Made when they are first needed, because making one takes milliseconds, and most events are small.

    @cached_property
    def _decode_large_one(self) -> Callable[[bytes], EventClass]:
        return decoder_of(self._schema, careful=True).validate_json

    @cached_property
    def _decode_large_many(self) -> Callable[[bytes], list[EventClass]]:
        return decoder_of(core_schema.list_schema(self._schema), careful=True).validate_json

    @cached_property
    def _decode_good(self) -> Callable[[bytes], list[EventClass]]:
        """Leaves out what is no event, without saying why."""
        tolerant = core_schema.with_default_schema(self._schema, on_error="omit")
        return decoder_of(core_schema.list_schema(tolerant), careful=True).validate_json

    @cached_property
    def _decode_type(self) -> Callable[[bytes], dict[str, object]]:
        """Reads nothing but what may be the type, or hold it."""
        anything = core_schema.typed_dict_field(core_schema.any_schema(), required=False)
        fields = {str(path[0]): anything for path in self._type_paths}
        return decoder_of(core_schema.typed_dict_schema(fields, extra_behavior="ignore")).validate_json

    def classes_of(self, event_type: BaseEventType) -> tuple[type[BaseModel], ...]:
        """The classes whose events may have this type, all that are known to have it or to have any text."""
        if self._class_of_each_type is not None:
            found = self._class_of_each_type.get(event_type.value)
            return () if found is None else (found,)
        allowed = {cls: list(type_values(cls)) for cls in self.classes}
        return tuple(cls for cls, values in allowed.items() if not values or event_type in values)

    def encoder_for(self, event: BaseModel | BaseEventType) -> Callable[[Any], bytes]:
        """Return the encoder of this event or bare type, and keep it in `encoders`.

        The first event of a class is decoded again: if that fails, the log says so, because no receiver could say it here.

        Raises:
            InvalidEvent: this is neither an event of the codec's class nor one of its types.
        """
        if isinstance(event, BaseEventType):
            encoder: Callable[[Any], bytes] = self._wrap
        elif isinstance(event, self.classes):
            encoder = encoder_of(type(event))
            self._check(event, encoder)
        else:
            raise InvalidEvent(f"cannot emit {event!r}: this client emits {self.name}")
        self.encoders[type(event)] = encoder
        return encoder

    def encode(self, event: BaseModel | BaseEventType) -> bytes:
        """Return the payload of one event or bare type.

        Raises:
            InvalidEvent: this is neither an event of the codec's class nor one of its types, or JSON cannot carry it.
        """
        encode = self.encoders.get(type(event)) or self.encoder_for(event)
        try:
            return encode(event)
        except EventBusError:
            raise
        except Exception as error:
            raise self.refusal(event, error) from error

    def encode_many(self, events: Iterable[BaseModel | BaseEventType]) -> list[bytes]:
        """Return the payload of each of many events, or bare types. Raises like `encode`."""
        events = list(events)
        one_of_each = dict(zip(map(type, events), events, strict=True))
        for cls, event in one_of_each.items():
            if cls not in self.encoders:
                self.encoder_for(event)
        encoders = self.encoders
        try:
            if len(one_of_each) == 1:
                return list(map(encoders[next(iter(one_of_each))], events))  # the loop is in C
            return [encoders[type(event)](event) for event in events]
        except Exception:
            return list(map(self.encode, events))  # raises what is to be raised

    def refusal(self, event: object, error: Exception) -> InvalidEvent:
        """Return what to raise instead of this error of an encoder. A service's own serializer may raise anything."""
        return InvalidEvent(
            f"{type(event).__name__} cannot be written as JSON: {printable(str(error), _MAX_ERROR_CHARACTERS)}"
        )

    def _check(self, event: BaseModel, encode: Callable[[Any], bytes]) -> None:
        """Warn if receivers, or the event's own class, could not read this event, or would read something else."""
        cls = type(event)
        try:
            payload = encode(event)
        except Exception:  # `encode` will raise it again
            return
        try:
            read: BaseModel = self.decode_one(payload)
            if type(read) is not cls:  # receivers may have this client's class, or the event's own
                read = cls.__pydantic_validator__.validate_json(payload)
            # Written again it is the same, but for the order of sets.
            same = read == event or (again := encode(read)) == payload or sorted(again) == sorted(payload)
            problem = "" if same else "they are read as different events"
        except ValidationError as error:
            problem = f"they are rejected ({self._reject(error, payload).detail})"
        except Exception as error:
            problem = f"reading them fails ({type(error).__name__}: {error})"
        if problem:
            self._log.warning(
                "%s cannot read its own events as they are sent: %s; receivers of this class have the same trouble",
                cls.__name__,
                printable(problem, _MAX_ERROR_CHARACTERS),
                event_class=cls.__name__,
            )

    def decode(self, json: bytes) -> list[EventClass]:
        """Return the event in JSON, or the events in an array.

        Raises:
            Exception: pydantic's ValidationError, FieldMissing, or what a validator of the service raises.
        """
        large = len(json) > self.max_bytes_at_once
        if json[:1] == ARRAY:
            return self._decode_large_many(json) if large else self.decode_many(json)
        return [self._decode_large_one(json) if large else self.decode_one(json)]

    def decode_good(self, payload: bytes, rejected: Callable[[Reject], object]) -> list[EventClass]:
        """Return the good events in a payload, in order; call `rejected` for the rest."""
        try:
            return self.decode(payload)
        except Exception as error:
            events: list[EventClass] = []
            for found in self.salvage(payload, error):
                if isinstance(found, Reject):
                    rejected(found)
                else:
                    events.append(found)
            return events

    def salvage(self, payload: bytes, error: Exception | None = None) -> Iterator[EventClass | Reject]:
        """Yield the good events in a payload that `decode_one` or `decode_many` refused, in order, and rejects for the rest.

        The elements of an array are decoded one by one until a thousand have been rejected. The rest is decoded at once; all
        that is no event there is one more reject, with the reason of the last one.

        Args:
            payload: what was refused.
            error: what `decode_one` raised, if it was called for this payload: a large one is not decoded again.
        """
        if payload.lstrip()[:1] != ARRAY:
            yield self._salvage_one(payload) if error is None else self._reject(error, payload)
            return
        try:
            elements = from_json(payload)
        except ValueError as error:
            yield Reject(RejectReason.JSON, str(error))
            return
        explained = 0
        for index, element in enumerate(elements):
            found = self._salvage_one(to_json(element))
            yield found
            explained += isinstance(found, Reject)
            if isinstance(found, Reject) and explained == _MAX_EXPLAINED_ELEMENTS:
                yield from self._salvage_rest(elements[index + 1 :], found.reason)
                return

    def _salvage_rest(self, elements: list[object], reason: RejectReason) -> Iterator[EventClass | Reject]:
        good: list[EventClass] = []
        likely = [one for one in elements if self._may_be_event(one)]
        with suppress(Exception):  # a validator of the service may raise anything
            good = self._decode_good(to_json(likely)) if likely else []
        yield from good
        if bad := len(elements) - len(good):
            yield Reject(reason, f"as the {_MAX_EXPLAINED_ELEMENTS} before them in the same message", count=bad)

    def _may_be_event(self, element: object) -> bool:
        """A quick look at what was in an array: pydantic goes through all fields of what is no event."""
        return isinstance(element, dict) and (not self._needs_type or any(path[0] in element for path in self._type_paths))

    def _salvage_one(self, payload: bytes) -> EventClass | Reject:
        large = len(payload) > self.max_bytes_at_once
        try:
            return self._decode_large_one(payload) if large else self.decode_one(payload)
        except Exception as error:
            return self._reject(error, payload)

    def _reject(self, error: Exception, payload: bytes) -> Reject:
        if isinstance(error, FieldMissing):
            unknown = self._unknown_type(payload)
            if unknown is not None:
                return Reject(RejectReason.TYPE, f"unknown type '{unknown}'", unknown)
            return Reject(RejectReason.SCHEMA, str(error))
        if not isinstance(error, ValidationError):  # a validator of the service may raise anything
            return Reject(RejectReason.SCHEMA, f"{type(error).__name__}: {error}")
        count = error.error_count()
        errors = (
            error.errors(include_url=False, include_input=False, include_context=False)
            if count <= _MAX_LISTED_ERRORS
            else []
        )
        if errors and errors[0]["type"] == "json_invalid":
            return Reject(RejectReason.JSON, errors[0]["msg"])
        if not errors or any(map(self._is_about_type, errors)):
            unknown = self._unknown_type(payload)
            if unknown is not None:
                return Reject(RejectReason.TYPE, f"unknown type '{unknown}'", unknown)
        if not errors:
            return Reject(RejectReason.SCHEMA, f"{count} errors")
        first = errors[0]
        where = ".".join(str(part) for part in first["loc"])
        return Reject(RejectReason.SCHEMA, f"{where}: {first['msg']}" if where else first["msg"])

    def _is_about_type(self, error: ErrorDetails) -> bool:
        """Whether the error is about the event's own `type`, not about a nested model's field of that name."""
        match error["type"]:
            case "union_tag_invalid":
                return not error["loc"]
            case "enum" | "literal_error":
                return error["loc"][len(self.classes) > 1 :] in self._type_paths  # in a union the member comes first
            case _:
                return False

    def _unknown_type(self, payload: bytes) -> str | None:
        content: object
        if begin := self._type_at_begin.match(payload):  # as publishers with this library write it
            content = {"type": begin[1].decode(errors="replace")}
        else:
            try:
                content = self._decode_type(payload)
            except ValidationError:  # it is no object
                return None
        for path in self._type_paths:
            value = _at(path, content)
            if isinstance(value, str) and value not in self._type_values:
                return printable(value, MAX_TYPE_LENGTH)
        return None

    def _wrap(self, event_type: BaseEventType) -> bytes:
        if self.event_types and type(event_type) not in self.event_types:
            known = " or ".join(sorted(enum.__name__ for enum in self.event_types))
            raise InvalidEvent(f"{type(event_type).__name__}.{event_type.name} is no type of {self.name}: use {known}")
        try:
            event = self._validate({"type": event_type})
        except ValidationError as error:
            fields = [str(part["loc"][-1]) for part in error.errors() if part["loc"]]
            if not fields or "type" in fields:
                raise InvalidEvent(f"no class of {self.name} has the type {event_type.name}") from None
            raise InvalidEvent(
                f"{self.name} needs more than the type {event_type.name}: emit a whole event with {', '.join(fields)}"
            ) from None
        return self.encode(event)


# Any: of the classes in a union.
def _adapter(event_class: object) -> TypeAdapter[Any]:
    """Return the adapter of a class with its subclasses, or of a union."""
    found = with_subclasses(event_class)
    if (isinstance(found, type) and issubclass(found, BaseModel)) or get_origin(found) in (Union, UnionType):
        return TypeAdapter(found)
    raise InvalidEvent(f"{event_class!r} is no event class: derive one from eventbus.BaseEvent")


def _paths(name: str, field: FieldInfo) -> Iterator[tuple[str | int, ...]]:
    """The places where an event's JSON may have the field: under its name, or under aliases."""
    yield (name,)
    match field.validation_alias:
        case str() as alias:
            yield (alias,)
        case AliasPath() as path:
            yield tuple(path.convert_to_aliases())
        case AliasChoices() as choices:
            yield from map(tuple, choices.convert_to_aliases())


def _at(path: tuple[str | int, ...], content: Any) -> object:
    """The value at this path of decoded JSON; None if there is none."""
    try:
        for step in path:
            content = content[step]
    except (LookupError, TypeError):
        return None
    return content
