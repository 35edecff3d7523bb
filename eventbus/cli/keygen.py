"""``eventbus keygen``: makes a pair of keys, and prints where to put them."""

import re
from pathlib import Path

from eventbus.errors import InvalidSettings
from eventbus.keys import is_key, write_pair

# The quotes are for shells and .env files; the settings accept values with and without them.
_TEXT = """\
The public key of {name}:

    {public_key}

If these are a client's keys, put them into its environment
    EVENTBUS_SECURITY__SECRET_KEY_FILE='{file}'
and into the proxy's allow-list
    [clients.{table}]
    public_key = "{public_key}"

If they are the proxy's, put them into its environment
    EVENTBUS_SECURITY__SECRET_KEY_FILE='{file}'
    EVENTBUS_SECURITY__ALLOW_LIST='the allow-list'
and into that of every client
    EVENTBUS_SECURITY__SERVER_PUBLIC_KEY='{public_key}'

Keep {file} secret: anybody who has it can connect as {name}."""

_BARE_TOML_KEY = re.compile(r"[A-Za-z0-9_-]+")


def keygen(name: str, directory: Path) -> None:
    """Write the two files, and print what to do with them.

    Raises:
        InvalidSettings: the name is not fit for a file, or the files cannot be written; see `write_pair`.
    """
    if is_key(str(directory)):  # the directory is shown
        raise InvalidSettings("--directory is a key, where the name of a directory belongs")
    made = write_pair(name, directory)
    table = name if _BARE_TOML_KEY.fullmatch(name) else f'"{name}"'
    print(_TEXT.format(name=name, table=table, public_key=made.public_key, file=made.secret_file.absolute()))
