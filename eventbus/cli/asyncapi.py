"""``eventbus asyncapi``: an AsyncAPI 3 document of a container (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain, count

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from eventbus.container.description import Description, Flow
from eventbus.wire.requests import REPLY_TO

_REFERENCE = "#/components/schemas/{model}"
_NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9._-]")
_WORDS_OF_YAML = {"true", "false", "null", "y", "n", "yes", "no", "on", "off"}

type Json = dict[str, object]


def document(description: Description, *, title: str = "", version: str = "1.0.0") -> Json:
    """Return the document: each topic is a channel, each type an event a message, each handler and emitter an operation.

    Args:
        description: of the container.
        title: of the document; empty: the name of the container.
        version: of the document.
    """
    channels: dict[str, Json] = {}
    messages: dict[str, Json] = {}
    references, schemas = _schemas(description)
    for bus in description.buses:
        of_bus: dict[str, object] = {}
        for name, classes in bus.types.items():
            for cls in classes:
                message = _message(name, cls, references[cls])
                key = _free_key(messages, message, name if len(classes) == 1 else f"{name}-{cls.__name__}")
                messages[key] = message
                of_bus[key] = {"$ref": f"#/components/messages/{key}"}
        for topic in bus.topics:
            known = channels.setdefault(_key(topic), {"address": topic, "messages": {}})["messages"]
            assert isinstance(known, dict)
            known |= of_bus
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": title or description.name,
            "version": version,
            "description": "Two frames over ZeroMQ: the topic in UTF-8, and the event as JSON.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": _operations(description, channels, messages),
        "components": {"messages": messages, "schemas": schemas},
    }


def _schemas(description: Description) -> tuple[dict[type[BaseModel], object], dict[str, object]]:
    """The reference to each event class, and the schemas; those of classes with the same name have longer names."""
    classes = dict.fromkeys(cls for bus in description.buses for cls in bus.classes)
    found, definitions = models_json_schema([(cls, "validation") for cls in classes], ref_template=_REFERENCE)
    schemas = {name: _plain(schema) for name, schema in definitions.get("$defs", {}).items()}
    return {cls: found[cls, "validation"] for cls in classes}, schemas


def _plain(schema: object) -> object:
    """A schema as AsyncAPI has it: a discriminator is the name of a field only."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(part) for key, part in schema.items()}
    if isinstance(found := schema.get("discriminator"), dict):
        plain["discriminator"] = found["propertyName"]
    return plain


def _message(name: str, cls: type[BaseModel], reference: object) -> Json:
    """The message of one type and one of the classes that its events may have."""
    message: Json = {
        "name": name,
        "title": cls.__name__,
        "contentType": "application/json",
        "payload": {"allOf": [reference, {"type": "object", "properties": {"type": {"const": name}}}]},
    }
    if cls.__doc__ and cls.__doc__ != BaseModel.__doc__:
        message["description"] = cls.__doc__.strip()
    return message


def _free_key(messages: Mapping[str, Json], message: Json, name: str) -> str:
    """The key of a message: its name, unless a message of another bus has that."""
    names = chain((name, f"{name}-{message['title']}"), (f"{name}-{number}" for number in count(2)))
    return next(key for key in map(_key, names) if messages.get(key, message) == message)


def _operations(description: Description, channels: Mapping[str, Json], messages: Mapping[str, Json]) -> dict[str, Json]:
    """One operation for each method, direction and topic; on any topic if that is computed."""
    operations: dict[str, Json] = {}
    for component in description.components:
        for action, flows in (("send", component.emits), ("receive", component.handles)):
            for flow in flows:
                topics = [flow.topic] if flow.topic is not None else [str(each["address"]) for each in channels.values()]
                for channel in map(_key, topics):
                    if channel in channels:
                        name = _key(f"{component.name}.{flow.member}.{action}.{channel}")
                        operation = operations.setdefault(
                            name, {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "messages": []}
                        )
                        if flow.answered:
                            operation["reply"] = {"address": {"location": f"$message.header#/{REPLY_TO}"}}
                        known = operation["messages"]
                        assert isinstance(known, list)
                        found = _references(channel, flow, channels[channel], messages)
                        known += [one for one in found if one not in known]
    for operation in operations.values():
        if not operation["messages"]:  # of any type
            del operation["messages"]
    return operations


def _references(channel: str, flow: Flow, of_channel: Json, messages: Mapping[str, Json]) -> list[Json]:
    """References to the messages of these types on a channel."""
    known = of_channel["messages"]
    assert isinstance(known, dict)
    keys = [key for key in known if messages[key]["name"] in flow.types]
    return [{"$ref": f"#/channels/{channel}/messages/{key}"} for key in keys]


def _key(text: str) -> str:
    """A text as a key, which may have few signs."""
    return _NOT_IN_KEYS.sub("_", text)


def as_json(content: Json) -> str:
    """The document as JSON."""
    return json.dumps(content, indent=2, ensure_ascii=False)


def as_yaml(content: Json) -> str:
    """The document as YAML: block style, with all texts in JSON's quotes, which YAML reads, too."""
    return "\n".join(_yaml(content, ""))


def _yaml(value: object, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(f"{indent}{_yaml_key(key)}:", inner, indent)
    elif isinstance(value, list) and value:
        for inner in value:
            first, *rest = _yaml(inner, f"{indent}  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest
    else:
        yield indent + json.dumps(value, ensure_ascii=False)


def _entry(start: str, inner: object, indent: str) -> Iterator[str]:
    if isinstance(inner, dict | list) and inner:
        yield start
        yield from _yaml(inner, f"{indent}  ")
    else:
        yield f"{start} {json.dumps(inner, ensure_ascii=False)}"


def _yaml_key(key: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) and key.lower() not in _WORDS_OF_YAML
    return key if plain else json.dumps(key)
