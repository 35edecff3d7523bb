"""``eventbus asyncapi``: an AsyncAPI 3 document of a container (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

import json
import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from eventbus.container.description import Bus, Description, Flow
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
    messages: dict[str, object] = {}
    schemas: dict[str, object] = {}
    for bus in description.buses:
        schemas |= _schemas(bus)
        of_bus = {key: message for name in bus.types for key, message in _messages(bus, name)}
        messages |= of_bus
        for topic in bus.topics:
            channels[_key(topic)] = {
                "address": topic,
                "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in of_bus},
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": title or description.name,
            "version": version,
            "description": "Two frames over ZeroMQ: the topic in UTF-8, and the event as JSON.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": _operations(description, channels),
        "components": {"messages": messages, "schemas": schemas},
    }


def _schemas(bus: Bus) -> dict[str, object]:
    _, definitions = models_json_schema([(cls, "validation") for cls in bus.classes], ref_template=_REFERENCE)
    return {name: _plain(schema) for name, schema in definitions.get("$defs", {}).items()}


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


def _messages(bus: Bus, name: str) -> Iterator[tuple[str, Json]]:
    """The messages of one type: one for each class that its events may have."""
    classes = bus.types[name]
    for cls in classes:
        key = _key(name if len(classes) == 1 else f"{name}-{cls.__name__}")
        message: Json = {
            "name": name,
            "title": cls.__name__,
            "contentType": "application/json",
            "payload": {
                "allOf": [
                    {"$ref": _REFERENCE.format(model=_schema_name(cls))},
                    {"type": "object", "properties": {"type": {"const": name}}},
                ]
            },
        }
        if cls.__doc__ and cls.__doc__ != BaseModel.__doc__:
            message["description"] = cls.__doc__.strip()
        yield key, message


def _schema_name(cls: type[BaseModel]) -> str:
    """The name that pydantic gives the schema of a class; parts of generic ones are written differently."""
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", cls.__name__)


def _operations(description: Description, channels: Mapping[str, Json]) -> dict[str, Json]:
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
                        known += [one for one in _references(channel, flow, channels[channel]) if one not in known]
    for operation in operations.values():
        if not operation["messages"]:  # of any type
            del operation["messages"]
    return operations


def _references(channel: str, flow: Flow, of_channel: Json) -> list[Json]:
    """References to the messages of these types on a channel."""
    known = of_channel["messages"]
    assert isinstance(known, dict)
    keys = [key for key in known for name in flow.types if key == _key(name) or key.startswith(_key(f"{name}-"))]
    return [{"$ref": f"#/channels/{channel}/messages/{key}"} for key in dict.fromkeys(keys)]


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
