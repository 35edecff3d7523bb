"""Typed configuration. The environment is read when `EventBusSettings()` is constructed, and at no other time."""

from eventbus.settings.model import EventBusSettings

__all__ = ["EventBusSettings"]
