"""Responses of the HTTP server as bytes: pure functions, except for the date."""

import json
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from eventbus._base.printable import printable

JSON = "application/json"


def head_of(status: HTTPStatus, length: int, kind: str) -> bytes:
    """Return the status line and the headers for `length` bytes of content; they do not name the server's software."""
    lines = [
        f"HTTP/1.0 {status.value} {status.phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def refusal(reason: str) -> bytes:
    """Return the content of an error: the reason as JSON."""
    return json_of({"ok": False, "reason": printable(reason, 1_000)})


def json_of(content: Mapping[str, object]) -> bytes:
    """Return facts as one line of JSON."""
    return json.dumps(content).encode() + b"\n"
