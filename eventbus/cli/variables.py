"""``eventbus settings``: the effective settings as variables."""

import functools

from eventbus.keys import masked
from eventbus.settings import EventBusSettings


def print_variables(settings: EventBusSettings) -> None:
    """Print each variable with its value, and before it what it means."""
    for path, field in EventBusSettings.fields():
        print(f"# {field.description}")
        value = _as_variable(functools.reduce(getattr, path, settings))
        print(f"{settings.variable(*path)}={value if path[-1] == 'server_public_key' else masked(value)}")


def _as_variable(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case _:
            return str(value)
