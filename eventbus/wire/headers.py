"""Headers: texts that travel beside an event, such as a trace context, and that no receiver has to know.

They travel as a JSON object in the first frame (see `first_frame`). A receiver that knows no headers still finds the topic
before the first NUL: subscriptions are prefixes, and the original client looks at the payload only.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pydantic_core import from_json, to_json

from eventbus.errors import InvalidHeaders

type Headers = Mapping[str, str]

MAX_HEADER_BYTES = 8_192

NO_HEADERS: Headers = MappingProxyType({})


def encode_headers(headers: Headers) -> bytes:
    """Return headers as they stand in a frame.

    Raises:
        InvalidHeaders: a name or a value is no text, or all together are longer than 8,192 bytes.
    """
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise InvalidHeaders(f"names and values of headers must be texts, not {dict(headers)!r}")
    try:
        encoded = to_json(dict(headers))
    except ValueError:  # lone surrogates
        raise InvalidHeaders(f"headers {dict(headers)!r} are no text that UTF-8 can carry") from None
    if len(encoded) > MAX_HEADER_BYTES:
        raise InvalidHeaders(f"the headers {', '.join(headers)} have {len(encoded)} bytes, the limit is {MAX_HEADER_BYTES}")
    return encoded


def decode_headers(encoded: bytes) -> Headers:
    """Return the headers that `encode_headers` has encoded; none if these bytes are something else. Anything may come."""
    if not encoded or len(encoded) > MAX_HEADER_BYTES:
        return NO_HEADERS
    try:
        headers = from_json(encoded)
    except ValueError:
        return NO_HEADERS
    if not isinstance(headers, dict):
        return NO_HEADERS
    return MappingProxyType({name: value for name, value in headers.items() if isinstance(value, str)})
