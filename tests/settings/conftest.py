"""The fixtures of the tests of settings."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, and an empty working directory."""
    for name in os.environ:
        if name.upper().startswith("EVENTBUS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
