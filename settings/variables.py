"""Environment variables and files of secrets: the sources of values, and the errors about wrong ones."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from eventbus.errors import InvalidSettings
from eventbus.keys import masked

PREFIX = "EVENTBUS_"
NESTED = "__"
SECURITY = f"{PREFIX}SECURITY{NESTED}"

# Where Docker and Kubernetes mount secrets, one file each.
SECRETS_DIR, _DEFAULT_SECRETS_DIR = f"{PREFIX}SECRETS_DIR", "/run/secrets"

# How similar a misspelt name is to the right one, from 0 to 1. A file may have a name of its own, such as one that
# SECRET_KEY_FILE names, so it has to be more similar.
_SIMILARITY, _SIMILARITY_OF_FILES = 0.75, 0.85

# Kubernetes describes a service called `eventbus`, or `eventbus-…`, to every pod in variables with these names. It also sets
# EVENTBUS_…_PORT, to a URL.
_KUBERNETES = re.compile(r"EVENTBUS_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
_KUBERNETES_PORT = re.compile(r"EVENTBUS_((?P<service>\w+)_)?PORT=(tcp|udp|sctp)://")


# Pydantic's texts that do not say how the value is to be written.
_TEXTS = {
    "bool_parsing": "it must be true or false",
    "byte_size": "it must be a number of bytes, or one with a unit, such as 64MiB",
    "float_parsing": "it must be a number, without a unit",
    "int_parsing": "it must be a whole number, without a unit",
}


class SecretFiles(EnvSettingsSource):
    """Files of a directory as variables: the name of each is that of a variable, in any case."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in _secret_files(self.env_prefix.upper() or PREFIX)}


def unknown_variables(
    known: Set[str], of_env_file: Mapping[str, str | None], prefix: str = PREFIX, prefixes: tuple[str, ...] = ()
) -> Iterator[str]:
    """Yield a complaint for each variable that has our prefix and is no setting: most likely it is misspelt.

    Args:
        known: the names of all variables, in capitals.
        of_env_file: what the ``.env`` file holds.
        prefix: ours, in capitals.
        prefixes: variables that begin with one of these are known, too.
    """
    variables = {**of_env_file, **os.environ}
    given = {name.upper(): value for name, value in (dict(_secret_files(prefix)) | variables).items()}
    in_files = given.keys() - {name.upper() for name in variables}
    for name, value in sorted(given.items()):
        foreign = (
            not name.startswith(prefix)
            or name.startswith(prefixes)
            or _KUBERNETES.match(name)
            or _KUBERNETES_PORT.match(f"{name}={value}")
        )
        if name == SECRETS_DIR:
            if name not in os.environ:
                yield f"{name} is read from the environment only, and in capitals only"
        elif name not in known and not foreign:
            is_file = name in in_files
            alike = _alike(name, known, prefix, _SIMILARITY_OF_FILES if is_file else _SIMILARITY)
            if is_file and not alike:
                continue
            remedy = (
                f"did you mean {' or '.join(filter(None, (', '.join(alike[:-1]), alike[-1])))}?"
                if alike
                else "`eventbus settings` lists the known ones"
            )
            yield f"{name}{f' (a file in {masked(str(_secrets_directory()))})' if is_file else ''} is unknown: {remedy}"


def lines_without_value(files: Iterable[str | Path], encoding: str | None, prefix: str = PREFIX) -> Iterator[str]:
    """Yield a complaint for each line of ``.env`` files that begins with our prefix and gives no value, as ``NAME: value``.

    Args:
        files: their paths; those that are not there are left out.
        encoding: theirs; None: UTF-8.
        prefix: ours, in capitals.
    """
    ours = re.compile(rf"\s*(?:export\s+)?({re.escape(prefix)}\w+)")  # how such a line begins
    for path in files:
        if not Path(path).expanduser().is_file():
            continue
        from dotenv.parser import parse_stream  # late, because most services have no such file

        with Path(path).expanduser().open(encoding=encoding or "utf-8-sig") as stream:
            for read in parse_stream(stream):
                text = read.original.string
                found = ours.match(text)
                if found and read.value is None:
                    line = read.original.line + text[: found.start(1)].count("\n")
                    yield f"line {line} of {masked(str(path))} gives {found[1]} no value: write {found[1]}=…"


def explain(variable: Callable[..., str], error: ValidationError) -> Iterator[str]:
    """Yield what is wrong with each value, by its variable.

    Args:
        variable: returns the name of a field's variable, given the names that lead to the field.
        error: pydantic's.
    """
    for part in error.errors(include_url=False, include_context=False):
        path = tuple(step for step in part["loc"] if isinstance(step, str))  # without the places in lists
        name = variable(*path) if path else ""
        text = _TEXTS.get(part["type"]) or part["msg"].removeprefix("Value error, ")
        if part["input"] == "" and part["type"] != "value_error":
            text = "it is empty: leave the variable out for the default"
        if not path or path == ("security",):  # about several values
            yield masked(text)
        elif path[0] in ("security", "url", "ui_token"):  # the value may be a secret, also that of another field
            yield f"{name}: {text}"
        elif found := _KUBERNETES_PORT.match(f"{name}={part['input']}"):
            service = f"eventbus-{found['service']}".lower().replace("_", "-")
            yield (
                f"{name}={part['input']} is set by Kubernetes for a service called {service}: "
                "set `enableServiceLinks: false` in the pod's spec, or rename the service"
            )
        else:
            yield masked(f"{name}={part['input']!r}: {text}")


def _alike(name: str, known: Set[str], prefix: str, similarity: float) -> list[str]:
    """Return the known variables that may be meant, the most similar one alone if one is similar enough."""
    import difflib  # late, because few people mistype

    bare_names = {one.removeprefix(prefix): one for one in sorted(known)}
    bare_name = name.removeprefix(prefix)
    close = difflib.get_close_matches(bare_name, bare_names, n=1, cutoff=similarity)
    longer = [one for one in bare_names if one.endswith(f"_{bare_name}") or bare_name.endswith(f"_{one}")]
    return [bare_names[one] for one in close or longer]


def _secrets_directory() -> Path:
    return Path(os.environ.get(SECRETS_DIR) or _DEFAULT_SECRETS_DIR)


def _secret_files(prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the content of each file with our prefix in the directory of secrets; no other file is read."""
    directory = _secrets_directory()
    try:
        files = [file for file in directory.iterdir() if file.name.upper().startswith(prefix) and not file.is_dir()]
    except OSError as error:
        if os.environ.get(SECRETS_DIR):
            raise InvalidSettings(f"cannot read {SECRETS_DIR}={masked(str(directory))}: {error.strerror}") from None
        return
    for file in files:
        try:
            yield file.name, file.read_text("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise InvalidSettings(f"cannot read the secret {masked(str(file))}: {reason}") from None
