"""Who a client is, and whom it trusts: TLS, keys and credentials files, against a real server."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from eventbus.errors import InvalidSettings, TlsFailed, WrongCredentials
from eventbus.nats_options import NatsOptions
from eventbus.transports.nats.core import CoreTransport
from tests.container.support import free_ports
from tests.eventbus.transports.nats.support import QUICK, TOPIC, Values, client
from tests.nats import Server, running
from tests.support import PATIENCE, event, eventually

pytestmark = pytest.mark.process

_REQUEST = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"


def certificate(directory: Path, name: str, holder: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """A certificate of its own authority, for this machine or another holder, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate")
    directory.mkdir(exist_ok=True)
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        [
            openssl,
            *_REQUEST.split(),
            "-subj",
            f"/CN={name}",
            "-addext",
            f"subjectAltName={holder}",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def passes(options: NatsOptions) -> bool:
    """Whether messages pass, a large one among them."""
    transport = CoreTransport(options, QUICK)
    transport.subscribe(b"t")
    transport.open(PATIENCE)
    large = b"{" + b"x" * 900_000 + b"}"
    for _ in range(10):
        transport.send(b"t", large)
    received: list[bytes] = []
    while len(received) < 10:
        batch = transport.receive()
        assert batch is not None
        received += batch[1]
    transport.close(PATIENCE)
    return received == [large] * 10


def test_tls_protects_both_directions(tmp_path: Path) -> None:
    """The client trusts the authority that it is given, and no other; a server that asks for one gets its certificate."""
    cert, key = certificate(tmp_path / "certs", "server")
    own_cert, own_key = certificate(tmp_path / "certs", "client")
    config = f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{own_cert}", verify: true }}'
    with running(tmp_path / "nats", config, jetstream=False) as server:
        url = server.url.replace("nats:", "tls:")
        assert passes(NatsOptions(url=url, ca_file=cert, cert_file=own_cert, key_file=own_key))
        with pytest.raises(TlsFailed, match="EVENTBUS_SECURITY__CA_FILE"):
            CoreTransport(NatsOptions(url=url), QUICK).open(PATIENCE)


def test_a_server_that_is_told_by_its_address_has_the_certificate_of_the_cluster_s_name(tmp_path: Path) -> None:
    """Servers tell each other's addresses; certificates are for names: that of the server in the URL."""
    cert, key = certificate(tmp_path / "certs", "server", "DNS:localhost")
    (port,) = free_ports()[:1]
    config = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}\ncluster {{ name: "c", listen: "127.0.0.1:%s", %s }}'
    with (
        running(tmp_path / "one", config % (port, ""), jetstream=False) as one,
        running(tmp_path / "two", config % (-1, f'routes: ["nats://127.0.0.1:{port}"]'), jetstream=False) as two,
    ):
        url = f"tls://localhost:{one.port}"
        with client(CoreTransport(NatsOptions(url=url, ca_file=cert), QUICK), TOPIC) as bus:
            link = bus._transport._link  # type: ignore[attr-defined] # of a transport over NATS
            eventually(lambda: len(link._servers) > 1)
            one.kill()
            eventually(lambda: link.connection is not None and link.connection.server.port == two.port)
            bus.wait_ready(PATIENCE)
            values = Values(bus)
            bus.emit_event(event(1.0), TOPIC)
            assert values.wait_for(1) == [1]


def test_tls_that_a_server_does_not_have(shared: Server) -> None:
    """A URL that demands it is never used without."""
    with pytest.raises(TlsFailed):
        CoreTransport(NatsOptions(url=shared.url.replace("nats:", "tls:")), QUICK).open(PATIENCE)


def test_a_file_that_cannot_be_read(shared: Server, tmp_path: Path) -> None:
    """The error names the variable and the file."""
    missing = tmp_path / "nothing"
    with pytest.raises(Exception, match=r"EVENTBUS_SECURITY__CA_FILE .*nothing"):
        CoreTransport(shared.options(ca_file=missing), QUICK).open(0.5)


def test_the_seed_of_a_key_lets_a_client_in(tmp_path: Path) -> None:
    """The server has the public half; the library of the extra signs what the server asks for."""
    pair = user_key()
    seed = tmp_path / "user.nk"
    seed.write_bytes(pair.seed)
    config = f"authorization {{ users: [ {{ nkey: {pair.public_key.decode()} }} ] }}"
    with running(tmp_path / "nats", config, jetstream=False) as server:
        assert passes(server.options(credentials=seed))
        other = tmp_path / "other.nk"
        other.write_bytes(user_key().seed)
        with pytest.raises(WrongCredentials, match=r"the credentials in .*other\.nk"):
            CoreTransport(server.options(credentials=other), QUICK).open(PATIENCE)


def test_a_credentials_file_lets_a_client_in(tmp_path: Path) -> None:
    """A token that an account has signed, and the seed of the user, as `nsc` writes them."""
    operator, account, user = (new_key(kind) for kind in (b"O", b"A", b"U"))
    of_operator = signed(operator, operator, "operator", {})
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    of_account = signed(operator, account, "account", {"limits": limits | {"wildcards": True}})
    of_user = signed(account, user, "user", {"subs": -1, "data": -1, "payload": -1})
    credentials = tmp_path / "user.creds"
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    public = account.public_key.decode()
    config = f"operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {public}: {of_account} }}"
    with running(tmp_path / "nats", config, jetstream=False) as server:
        assert passes(server.options(credentials=credentials))


def test_a_file_that_holds_no_credentials(shared: Server, tmp_path: Path) -> None:
    """The error names it, and does not show what is in it."""
    file = tmp_path / "no.creds"
    file.write_text("geheim")
    with pytest.raises(Exception, match=r"EVENTBUS_SECURITY__CREDENTIALS: .*holds no credentials") as caught:
        CoreTransport(shared.options(credentials=file), QUICK).open(0.5)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"url": "nats://ada:secret@host:4222"}, "EVENTBUS_SECURITY__PASSWORD_FILE"),
        ({"url": "http://host"}, "no URL of a NATS server"),
        ({"url": " , "}, "it is empty"),
        ({"url": "nats://host:99999"}, "no URL of a NATS server"),
        ({"group": "a b"}, "no name of a group"),
        ({"group": "a.b"}, "no name of a group"),
        ({"start": "yesterday"}, "no start"),
        ({"store": "disk"}, "does not say how a stream is made"),
        ({"store": "file,many"}, "does not say how a stream is made"),
        ({"store": "file,1GiB,7d,2"}, "does not say how a stream is made"),
        ({"prefix": "a.>"}, "cannot begin subjects"),
        ({"prefix": "_INBOX"}, "cannot begin subjects"),
    ],
)
def test_options_that_cannot_be_right(options: dict[str, Any], text: str) -> None:
    """They are refused when they are made; a password is not repeated."""
    with pytest.raises(InvalidSettings, match=text) as caught:
        NatsOptions(**options)
    assert "secret" not in str(caught.value).replace("SECURITY__PASSWORD", "")


def test_secrets_are_not_shown() -> None:
    """Not in a repr, which tracebacks show."""
    shown = repr(NatsOptions(password="geheim", token="geheim"))
    assert "geheim" not in shown


def new_key(kind: bytes) -> Any:
    """A key of NATS: of an operator, an account or a user."""
    nkeys = pytest.importorskip("nkeys")
    prefix = {b"O": nkeys.PREFIX_BYTE_OPERATOR, b"A": nkeys.PREFIX_BYTE_ACCOUNT, b"U": nkeys.PREFIX_BYTE_USER}[kind]
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def user_key() -> Any:
    return new_key(b"U")


def signed(issuer: Any, subject: Any, kind: str, claims: dict[str, object]) -> str:
    """A token of NATS, as its tools write them."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    header = part({"typ": "JWT", "alg": "ed25519-nkey"})
    payload = part(
        {
            "jti": "x",
            "iat": 1_700_000_000,
            "iss": issuer.public_key.decode(),
            "sub": subject.public_key.decode(),
            "name": kind,
            "nats": {"type": kind, "version": 2, **claims},
        }
    )
    text = f"{header}.{payload}"
    return f"{text}.{base64.urlsafe_b64encode(issuer.sign(text.encode())).rstrip(b'=').decode()}"
