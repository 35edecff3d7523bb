"""The fixtures of the container's tests."""

import os
from pathlib import Path

import pytest

from eventbus import EventBusProxy


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, and an empty working directory."""
    for name in os.environ:
        if name.upper().startswith("EVENTBUS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def at_proxy(proxy: EventBusProxy, monkeypatch: pytest.MonkeyPatch) -> EventBusProxy:
    """A running proxy that the variables lead to."""
    monkeypatch.setenv("EVENTBUS_HOST", "127.0.0.1")
    monkeypatch.setenv("EVENTBUS_PUB_PORT", str(proxy.pub_port))
    monkeypatch.setenv("EVENTBUS_SUB_PORT", str(proxy.sub_port))
    monkeypatch.setenv("EVENTBUS_CONNECT_TIMEOUT", "20")
    return proxy
