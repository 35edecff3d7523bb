"""Who may see the page. Pure.

Without a token the page is for this machine. Any website that a person visits can make the browser ask it, under a name that
it lets point to a loopback address (DNS rebinding): so a request must then name this machine or an address. With a token,
the name does not matter, because a browser sends the cookie to the name that has set it.
"""

import hashlib
import hmac
from collections.abc import Mapping

from eventbus._base.addresses import is_address

_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


class Access:
    """Decides whom to answer. Any thread may use it.

    Args:
        token: what a visitor must know; None: nothing.
        port: where the page is served; cookies do not tell ports apart, so that it is in their name.
        host: another name of this machine.
    """

    def __init__(self, token: str | None, port: int, host: str = "localhost") -> None:
        self.cookie = f"eventbus_ui_{port}"
        self._token = None if token is None else token.encode()
        # Not the token itself: who sees the cookie cannot open other pages with it.
        self.pass_ = "" if token is None else hmac.new(token.encode(), b"eventbus ui", hashlib.sha256).hexdigest()
        self._names = _LOCAL_NAMES | {host.lower()}

    @property
    def needs_token(self) -> bool:
        """Whether a visitor needs a token."""
        return self._token is not None

    def is_host_known(self, host: str) -> bool:
        """Whether the request's header Host may stand there."""
        if self.needs_token:
            return True
        name = host.lower()
        if name.startswith("["):
            name, bracket, port = name[1:].partition("]")
            return bool(bracket) and is_address(name) and (not port or port[1:].isdecimal())
        name, _, port = name.partition(":")
        return (name in self._names or is_address(name)) and (not port or port.isdecimal())

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes the same time for each wrong one of a length."""
        return self._token is not None and hmac.compare_digest(given.encode(errors="replace"), self._token)

    def may_enter(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers, in lower case, comes from somebody who has shown the token."""
        if not self.needs_token:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(bearer.strip()):
            return True
        # Not by `http.cookies`, which gives up at what another program of this host has set, such as JSON.
        cookies = (cookie.strip().partition("=") for cookie in headers.get("cookie", "").split(";"))
        given = [value.encode(errors="replace") for name, _, value in cookies if name == self.cookie]
        return any(hmac.compare_digest(value, self.pass_.encode()) for value in given)
