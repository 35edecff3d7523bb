"""Who may see the page."""

import pytest

from eventbus.ui.access import Access

TOKEN = "a-token-that-nobody-guesses"


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("localhost", True),
        ("localhost:5561", True),
        ("LOCALHOST:5561", True),
        ("127.0.0.1:5561", True),
        ("[::1]:5561", True),
        ("[::1]", True),
        ("192.168.1.7:80", True),
        ("bus.plant.example:5561", True),
        ("evil.example", False),
        ("evil.example:5561", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:5561", False),
        ("localhost@evil.example", False),
        ("localhost:5561.evil.example", False),
        ("[evil.example]", False),
        ("[::1].evil.example", False),
        ("[::1", False),
        ("", False),
        ("\xe9vil", False),
    ],
)
def test_names_of_the_page(host: str, is_known: bool) -> None:
    """Without a token, only this machine's names and addresses are known; with one, the name does not matter."""
    assert Access(None, 5561, "bus.plant.example").is_host_known(host) is is_known
    assert Access(TOKEN, 5561).is_host_known(host)


def test_without_a_token_everybody_may_enter() -> None:
    """It is for this machine then, and no text is the token."""
    access = Access(None, 5561)
    assert access.may_enter({})
    assert not access.is_token("")
    assert not access.needs_token


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        ({}, False),
        ({"authorization": f"Bearer {TOKEN}"}, True),
        ({"authorization": f"bearer  {TOKEN}"}, True),
        ({"authorization": f"Basic {TOKEN}"}, False),
        ({"authorization": "Bearer "}, False),
        ({"authorization": "Bearer \xe9\udcff"}, False),
        ({"cookie": f"other=1; eventbus_ui_5561={Access(TOKEN, 5561).pass_}"}, True),
        ({"cookie": f'seen={{"a": 1}}; it is; é="; eventbus_ui_5561={Access(TOKEN, 5561).pass_}'}, True),
        ({"cookie": f"eventbus_ui_5561=old; eventbus_ui_5561={Access(TOKEN, 5561).pass_}"}, True),
        ({"cookie": f"eventbus_ui_5561={TOKEN}"}, False),
        ({"cookie": "eventbus_ui_5561="}, False),
        ({"cookie": f"eventbus_ui_5562={Access(TOKEN, 5561).pass_}"}, False),
        ({"cookie": f"eventbus_ui_5561={Access(TOKEN + 'x', 5561).pass_}"}, False),
        ({"cookie": "\udcff;=;;eventbus_ui_5561"}, False),
    ],
    ids=range(14),
)
def test_with_a_token(headers: dict[str, str], may: bool) -> None:
    """The token itself, or the cookie that somebody got for it, lets a visitor in; nothing else does."""
    assert Access(TOKEN, 5561).may_enter(headers) is may


def test_the_cookie_is_not_the_token() -> None:
    """Who sees the cookie does not know the token, and it is the same after a restart."""
    assert TOKEN not in Access(TOKEN, 5561).pass_
    assert Access(TOKEN, 5561).pass_ == Access(TOKEN, 5561).pass_ != Access(TOKEN[:-1], 5561).pass_
