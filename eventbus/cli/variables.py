"""``eventbus settings``: the effective settings as variables."""

import functools

from eventbus.settings import EventBusSettings


def print_variables(settings: EventBusSettings) -> None:
    """Print each variable with its value, and before it what it means."""
    for path, field in EventBusSettings.fields():
        print(f"# {field.description}")
        print(f"{settings.variable(*path)}={_as_variable(functools.reduce(getattr, path, settings))}")


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
