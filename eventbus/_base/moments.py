"""Moments as people write them: a time in ISO format, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

from eventbus.errors import InvalidSettings

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}


def moment_of(value: str | datetime | timedelta | float, now: float) -> float:
    """Return a moment in seconds since 1970. What is longer ago than that is 1970: no event is older.

    Args:
        value: a time; without a time zone it is local time. A duration, or a number of seconds: so long ago. A text has the
            time in ISO format, or a duration such as ``90s``, ``10m``, ``1.5h`` or ``2d``.
        now: the time, in seconds since 1970.

    Raises:
        InvalidSettings: it is neither.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, int | float):
        return max(now - value, 0.0)
    if isinstance(value, str):
        ago = _AGO.fullmatch(value.strip())
        if ago is not None:
            return max(now - float(ago[1]) * _SECONDS[ago[2]], 0.0)
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidSettings(
                f"{value!r} is no time: write it as 2026-01-31T12:00, or say how long ago: 90s, 10m, 1.5h, 2d"
            ) from None
    try:
        return value.astimezone(UTC).timestamp()
    except (AttributeError, ValueError, OverflowError, OSError):  # the first: it is of another type
        raise InvalidSettings(f"{value} is no time that this machine knows") from None
