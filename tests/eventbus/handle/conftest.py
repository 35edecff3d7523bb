"""Fixtures of the tests of handlers."""

import pytest


@pytest.fixture(params=["handle", "handle_async"])
def kind(request: pytest.FixtureRequest) -> str:
    """The method of one of the two kinds of handler."""
    name: str = request.param
    return name
