"""docs/troubleshooting.md names things that there are."""

import builtins
import re

import eventbus
from eventbus import DropReason, errors
from eventbus.settings import EventBusSettings
from tests.docs.pages import path_of

PAGE = path_of("troubleshooting.md").read_text()
CODE = re.findall(r"`([^`]+)`", PAGE)


def test_what_it_names_exists() -> None:
    """Each variable, error, count and public name on the page is one of this version."""
    variables = {EventBusSettings.variable(*path) for path, _ in EventBusSettings.fields()}
    named = {name for code in CODE for name in re.findall(r"EVENTBUS_[A-Z_]+(?![A-Z_…])", code)} - {"EVENTBUS_"}
    assert named <= variables
    reasons = {reason for code in CODE for reason in re.findall(r'drops\["(\w+)"\]', code)}
    assert reasons
    assert reasons <= {reason.value for reason in DropReason}
    classes = {code for code in CODE if re.fullmatch(r"[A-Z][a-z]+([A-Z][a-z]+)+", code)}
    assert "ProxyUnreachable" in classes
    assert [name for name in classes if not any(hasattr(home, name) for home in (errors, eventbus, builtins))] == []
