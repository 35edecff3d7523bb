"""The settings of encryption: keys, and who may connect."""

from collections.abc import Iterator
from os.path import exists
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from eventbus.errors import InvalidSettings
from eventbus.keys import (
    PUBLIC_SUFFIX,
    SECRET_SUFFIX,
    ClientKeys,
    Secret,
    bare,
    checked_key,
    is_key,
    public_key_of,
    read_key,
)
from eventbus.settings.values import masked_arguments, unquoted
from eventbus.settings.variables import SECURITY

_MAY_END_WITH_QUOTES = ("password", "token")


class SecuritySettings(BaseModel):
    """Keys, and who may connect. A client has the proxy's public key and its own secret key, a proxy its own and a list."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    server_public_key: str | None = Field(
        default=None, description="the proxy's public key: the client encrypts, and talks to no other proxy"
    )
    secret_key: SecretStr | None = Field(
        default=None, description="the client's or the proxy's own secret key, as `eventbus keygen` writes it"
    )
    secret_key_file: Path | None = Field(
        default=None, description="a file that holds the secret key, instead of the key itself"
    )
    allow_list: Path | None = Field(default=None, description="the proxy's: the TOML file that says who may connect")
    password: SecretStr | None = Field(default=None, description="NATS: the password of the user that the URL names")
    password_file: Path | None = Field(default=None, description="NATS: a file that holds it instead")
    token: SecretStr | None = Field(default=None, description="NATS: a token, instead of a user with a password")
    credentials: Path | None = Field(
        default=None, description="NATS: a credentials file, or one with the seed of an NKEY; needs eventbus[nats]"
    )
    ca_file: Path | None = Field(default=None, description="NATS: certificates to trust instead of the system's, for TLS")
    cert_file: Path | None = Field(default=None, description="NATS: the client's own certificate, if the server wants one")
    key_file: Path | None = Field(default=None, description="NATS: the private key of that")

    @field_validator("*", mode="before")
    @classmethod
    def _bare(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        return (unquoted(value) if info.field_name in _MAY_END_WITH_QUOTES else bare(value)) or None

    @field_validator("server_public_key")
    @classmethod
    def _check_public_key(cls, value: str | None) -> str | None:
        return None if value is None else checked_key(value, "it")

    @field_validator("secret_key")
    @classmethod
    def _check_secret_key(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(checked_key(value.get_secret_value(), "it"))

    @field_validator("secret_key_file", "allow_list", mode="before")
    @classmethod
    def _check_file(cls, value: object) -> object:
        # A path of a key's length may look like one, but then there is such a file. (Path.exists would raise for one that
        # must not be looked at.)
        if isinstance(value, str) and is_key(bare(value)) and not exists(value):
            raise InvalidSettings(
                f"it is a key, where the name of a file belongs: a key goes into {SECURITY}SECRET_KEY, "
                f"or into a file that {SECURITY}SECRET_KEY_FILE names"
            )
        return value

    @field_validator("secret_key_file")
    @classmethod
    def _check_secret_file(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix == PUBLIC_SUFFIX:
            raise InvalidSettings(
                f"{value} is the file of a public key: name that of the secret one, {value.with_suffix(SECRET_SUFFIX)}"
            )
        return value

    @model_validator(mode="after")
    def _check_one_secret(self) -> Self:
        if self.secret_key is not None and self.secret_key_file is not None:
            raise InvalidSettings(f"{SECURITY}SECRET_KEY and {SECURITY}SECRET_KEY_FILE are both set: unset one of them")
        if self.password is not None and self.password_file is not None:
            raise InvalidSettings(f"{SECURITY}PASSWORD and {SECURITY}PASSWORD_FILE are both set: unset one of them")
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidSettings(f"{SECURITY}CERT_FILE and {SECURITY}KEY_FILE go together: set both, or none")
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        return masked_arguments(super().__repr_args__())

    def own_secret_key(self) -> Secret | None:
        """Return the secret key, from its file if there is one; None: there is no secret key.

        Raises:
            InvalidSettings: the file cannot be read, or does not hold a key.
        """
        if self.secret_key_file is not None:
            return Secret(read_key(self.secret_key_file, f"{SECURITY}SECRET_KEY_FILE", secret=True))
        return None if self.secret_key is None else Secret(self.secret_key.get_secret_value())

    def client_keys(self) -> ClientKeys | None:
        """Return the keys of a client; None: it does not encrypt.

        Raises:
            InvalidSettings: one of the two keys is missing, or is not a key.
        """
        secret_key = self.own_secret_key()
        if self.server_public_key is None and secret_key is None:
            return None
        if self.server_public_key is None:
            raise InvalidSettings(
                f"a client with a secret key also needs the proxy's public one: set {SECURITY}SERVER_PUBLIC_KEY"
            )
        if secret_key is None:
            raise InvalidSettings(
                f"{SECURITY}SERVER_PUBLIC_KEY needs a secret key of the client's own: "
                f"set {SECURITY}SECRET_KEY_FILE (`eventbus keygen` makes one)"
            )
        if secret_key == Secret(self.server_public_key):
            raise InvalidSettings(
                f"{SECURITY}SERVER_PUBLIC_KEY is the client's secret key: set it to the public key of the proxy"
            )
        return ClientKeys(self.server_public_key, secret_key)

    def proxy_secret_key(self) -> Secret | None:
        """Return the proxy's secret key; None: it does not encrypt.

        Raises:
            InvalidSettings: the key is missing or not a key, or does not belong to the public key that is set.
        """
        secret_key = self.own_secret_key()
        if secret_key is None and (self.server_public_key is not None or self.allow_list is not None):
            raise InvalidSettings(
                f"the proxy's secret key is missing: set {SECURITY}SECRET_KEY_FILE (`eventbus keygen` makes one)"
            )
        if secret_key is not None and self.server_public_key not in (None, public_key_of(secret_key)):
            raise InvalidSettings(
                f"{SECURITY}SERVER_PUBLIC_KEY does not belong to the proxy's secret key: is that one of a client? "
                f"The public key of the secret one is {public_key_of(secret_key)}"
            )
        return secret_key
