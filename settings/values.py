"""Values of settings as people write them."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, SecretStr
from pydantic_settings import NoDecode

from eventbus._base.addresses import bare_host
from eventbus._base.moments import moment_of
from eventbus.errors import InvalidSettings
from eventbus.keys import bare, masked
from eventbus.policies import Start, Timed

_MIN_TOKEN_CHARACTERS = 16


def unquoted(text: str) -> str:
    """Return a secret without white space and a pair of quotes around it. A single quote is part of it."""
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def parse_host(value: object) -> object:
    """Return a host without what surrounds it: white space, quotes, the brackets of an IPv6 address.

    Raises:
        InvalidSettings: it has a port, or cannot be the name or the address of a host.
    """
    if not isinstance(value, str):
        return value
    host = bare(value)
    if not host:
        raise InvalidSettings("it is empty: leave the variable out for the default")
    if masked(host) != host:
        raise InvalidSettings("it is a key, where the name or address of a host belongs")
    return bare_host(host)


def parse_topics(value: object) -> object:
    """Return the topics in a text such as ``a,b`` or ``["a", "b"]``; anything else as it is.

    Raises:
        InvalidSettings: it is neither of both.
    """
    if not isinstance(value, str):
        return value
    text = bare(value)
    if text.startswith(("[", "{")):
        try:
            topics = json.loads(text)
        except ValueError:
            topics = None
        if isinstance(topics, list) and all(isinstance(topic, str) for topic in topics):
            return tuple(topics)
        raise InvalidSettings('it is not a JSON list of texts, such as ["a", "b"]; a,b will do, too')
    topics = [bare(part) for part in text.split(",")]
    if any(re.search(r"[;\s'\"]", topic) for topic in topics):
        raise InvalidSettings('topics are separated by commas: a,b; if a topic has such a sign in it, write ["a b", "c"]')
    if any("*" in topic for topic in topics):
        raise InvalidSettings('topics match exactly, and * stands for no others; if a topic has it in its name, write ["*"]')
    return tuple(topic for topic in topics if topic)


def _path_or_none(value: object) -> object:
    """An empty text names no file; a `Path` of it would name the current folder."""
    return bare(value) or None if isinstance(value, str) else value


def parse_start(value: object) -> object:
    """Return where subscriptions begin, checked.

    Raises:
        InvalidSettings: it is neither a word for that nor a time.
    """
    if isinstance(value, str):
        value = bare(value)
        if value not in set(Start):
            moment_of(value, 0.0)
    return value


def parse_token(value: object) -> object:
    """Return a token without what surrounds it: white space and quotes. An empty one is none.

    Raises:
        InvalidSettings: it is so short that others may guess it.
    """
    if not isinstance(value, str):
        return value
    token = unquoted(value)
    if not token:
        return None
    if len(token) < _MIN_TOKEN_CHARACTERS:
        raise InvalidSettings(
            f"it needs at least {_MIN_TOKEN_CHARACTERS} characters, because others may guess a shorter one: "
            'python3 -c "import secrets; print(secrets.token_urlsafe())" makes one'
        )
    return token


def parse_timed(value: object) -> Timed:
    """Return which calls are timed.

    Raises:
        InvalidSettings: it is neither `auto` nor a number from 0 to 1.
    """
    text = bare(value) if isinstance(value, str) else value
    if text == "auto":
        return "auto"
    if isinstance(text, str | float | int):
        with suppress(ValueError):
            if 0 <= (share := float(text)) <= 1:
                return share
    raise InvalidSettings("it is neither `auto` nor a number from 0 to 1")


def masked_arguments(arguments: Iterable[tuple[str | None, object]]) -> Iterator[tuple[str | None, object]]:
    """Yield what a `repr` shows, without keys that were given where another value belongs."""
    for name, value in arguments:
        shown = "" if isinstance(value, BaseModel) else str(value)
        yield name, value if masked(shown) == shown else masked(shown)


OptionalPath = Annotated[Path | None, BeforeValidator(_path_or_none)]
type Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
UiToken = Annotated[SecretStr | None, BeforeValidator(parse_token)]
Host = Annotated[str, BeforeValidator(parse_host)]
Beginning = Annotated[str, BeforeValidator(parse_start)]
TimedCalls = Annotated[
    Timed,
    PlainValidator(parse_timed, json_schema_input_type=Annotated[float, Field(ge=0, le=1)] | Literal["auto"]),
]
# No `type`: pydantic-settings looks for NoDecode in the annotation itself.
Topics = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_topics)]
