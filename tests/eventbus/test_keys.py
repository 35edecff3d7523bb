"""CURVE keys: what is one, which belong together, and the files that they lie in."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from pprint import pformat

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from eventbus import ClientKeys, EventBusProxy, InvalidSettings, ProxyOptions
from eventbus.keys import Secret, bare, checked_key, is_key, masked, public_key_of, read_key, write_pair
from eventbus.transports.zeromq import ZeroMQOptions
from tests.keys import pair
from tests.support import run_script

PROXY, CLIENT = pair("proxy"), pair("client")

NO_KEYS = {
    "empty": "",
    "white space": " \n",
    "short": CLIENT.secret[:-1],
    "long": CLIENT.secret + "a",
    "two": f"{CLIENT.secret}\n{CLIENT.secret}",
    "a blank inside": CLIENT.secret[:20] + " " + CLIENT.secret[21:],
    "no digit of Z85": CLIENT.secret[:-1] + "~",
    "no ASCII": CLIENT.secret[:-1] + "ä",
    "no ASCII digit": CLIENT.secret[:-1] + "\u0663",
    "more than 32 bytes hold": "#" * 40,
    "in hexadecimal": "ab" * 32,
}


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Files get the modes that they are made with."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_what_surrounds_a_key_is_no_part_of_it() -> None:
    """White space and quotes round a key, of whatever has set a variable or ended a file, do not count."""
    for text in (
        CLIENT.public,
        f"{CLIENT.public}\n",
        f"\t{CLIENT.public}\r\n",
        f'"{CLIENT.public}"',
        f" '{CLIENT.public}' ",
    ):
        assert checked_key(text, "it") == CLIENT.public
        assert bare(text) == CLIENT.public


@pytest.mark.parametrize("text", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key(text: str) -> None:
    """A text that is no key is refused by its name without being shown; the error shows a key's form and how to make one."""
    with pytest.raises(InvalidSettings) as caught:
        checked_key(text, "the client's key")
    assert str(caught.value) == "the client's key is no CURVE key: one has 40 characters, as `eventbus keygen` writes it"


@given(st.binary(min_size=32, max_size=32))
def test_every_32_bytes_are_a_key(raw: bytes) -> None:
    """Whatever key there can be is one as Z85 writes it, and libzmq takes what is taken here."""
    key = z85.encode(raw).decode()
    assert checked_key(key, "it") == key
    assert zmq.curve_public(key.encode()).decode() == public_key_of(key)


@given(st.text(alphabet="09azAZ.-:+=^!/*?&<>()[]{}@%$#", min_size=40, max_size=40))
def test_libzmq_takes_exactly_what_is_taken_here(text: str) -> None:
    """Our check of a key and libzmq's at connecting agree, both ways."""
    try:
        zmq.curve_public(text.encode())
    except zmq.ZMQError:
        with pytest.raises(InvalidSettings):
            checked_key(text, "it")
    else:
        assert checked_key(text, "it") == text


def test_the_public_key_is_derived() -> None:
    """The public key follows from the secret one."""
    assert public_key_of(CLIENT.secret) == CLIENT.public


@pytest.mark.parametrize("text", ["", "short", "#" * 40, "ä" * 40])
def test_no_public_key_without_a_secret_one(text: str) -> None:
    """A text that is no secret key has no public one: the error names the command that makes keys, and hides the text."""
    with pytest.raises(InvalidSettings, match="eventbus keygen") as caught:
        public_key_of(text)
    assert not text or text not in str(caught.value)


def test_the_keys_of_a_client() -> None:
    """A client's keys are compared as values, know its public key and are stored bare."""
    keys = ClientKeys(f'"{PROXY.public}"\n', f" {CLIENT.secret}\n")
    assert keys == ClientKeys(PROXY.public, CLIENT.secret)
    assert keys != ClientKeys(CLIENT.public, CLIENT.secret)
    assert (keys.server_public_key, keys.secret_key) == (PROXY.public, Secret(CLIENT.secret))
    assert keys.public_key == CLIENT.public
    assert ClientKeys(PROXY.public, Secret(f" {CLIENT.secret}")) == keys


def test_the_secret_key_of_a_client_is_not_shown() -> None:
    """A repr of a client's keys, or of a proxy with its options, shows nothing of the secret one."""
    keys = ClientKeys(PROXY.public, CLIENT.secret)
    assert repr(keys) == str(keys) == "ClientKeys(server_public_key=(a key, not shown), secret_key=Secret('**********'))"
    proxy = EventBusProxy(pub_port=0, sub_port=0, secret_key=CLIENT.secret, allow_list="allow.toml")
    shown = [asdict(keys), vars(proxy), asdict(ProxyOptions(secret_key=CLIENT.secret)), ZeroMQOptions(keys=keys)]
    assert not [value for value in shown if CLIENT.secret in str(value) or CLIENT.secret in pformat(value)]


@pytest.mark.parametrize(
    ("server", "secret", "named"),
    [
        ("x", CLIENT.secret, "the proxy's public key"),
        (PROXY.public, CLIENT.secret[:-1], "the client's secret key"),
        ("#" * 40, CLIENT.secret, "the proxy's public key"),
    ],
)
def test_what_are_no_keys_of_a_client(server: str, secret: str, named: str) -> None:
    """A client's keys that are none are refused where they are given, by name and without being shown."""
    with pytest.raises(InvalidSettings, match=named) as caught:
        ClientKeys(server, secret)
    assert CLIENT.secret[:-1] not in str(caught.value)


def test_a_key_from_a_file(tmp_path: Path) -> None:
    """A file has a key, with or without a line's end, and nothing else."""
    file = tmp_path / "key"
    for text in (CLIENT.secret, CLIENT.secret + "\n", CLIENT.secret + "\r\n"):
        file.write_text(text)
        assert read_key(file, "the key") == CLIENT.secret


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"", "no CURVE key"), (b"secret = 1", "no CURVE key"), (b"\xff" * 40, "not text")],
)
def test_a_file_without_a_key(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A file that is missing, or holds no key, is named with what it was for and the reason, but not with what it holds."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidSettings) as caught:
        read_key(file, "the proxy's key")
    text = str(caught.value)
    assert "the proxy's key" in text
    assert str(file) in text
    assert reason in text
    assert "secret = 1" not in text


def test_what_is_no_file_has_no_key(tmp_path: Path) -> None:
    """A folder, and a pipe that nobody writes to, are refused at once; so is a file that does not end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InvalidSettings, match=f"cannot read the key from {path}: it is not a regular file"):
            read_key(path, "the key")
    (tmp_path / "long").write_text(CLIENT.secret * 1_000_000)
    with pytest.raises(InvalidSettings, match="no CURVE key"):
        read_key(tmp_path / "long", "the key")


def test_a_key_as_a_path_is_not_shown() -> None:
    """A key in the place of its file's path is not part of the error."""
    with pytest.raises(InvalidSettings, match=r"cannot read the key from \(a key, not shown\): No such file") as caught:
        read_key(Path(CLIENT.secret), "the key")
    assert CLIENT.secret not in str(caught.value)


@pytest.mark.usefixtures("no_umask")
def test_a_new_pair(tmp_path: Path) -> None:
    """Each key of a new pair is in a file of its own; the secret one only its owner may read, whatever the umask."""
    directory = tmp_path / "not" / "there yet"
    made = write_pair("plant", directory)
    assert (made.public_file, made.secret_file) == (directory / "plant.pub", directory / "plant.secret")
    assert read_key(made.public_file, "it") == made.public_key
    assert public_key_of(read_key(made.secret_file, "it")) == made.public_key
    assert stat.S_IMODE(made.secret_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.public_file.stat().st_mode) == 0o644
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (directory, directory.parent)] == [0o700, 0o700]
    assert {len(file.read_text()) for file in directory.iterdir()} == {len(made.public_key) + 1}
    assert made.secret_file.read_text().strip() not in repr(made)


def test_new_keys_mean_the_same_everywhere(tmp_path: Path) -> None:
    """No new key contains a $, by which .env files and those of Compose would replace what follows it."""
    for number in range(20):
        made = write_pair(str(number), tmp_path)
        assert "$" not in made.public_file.read_text() + made.secret_file.read_text()


def test_each_pair_is_another_one(tmp_path: Path) -> None:
    """No two pairs have the same keys."""
    assert write_pair("one", tmp_path).public_key != write_pair("two", tmp_path).public_key


@pytest.mark.parametrize("suffix", [".pub", ".secret"])
def test_keys_are_not_overwritten(tmp_path: Path, suffix: str) -> None:
    """If one of the two files exists already, nothing is written, and the error names it."""
    taken = tmp_path / f"plant{suffix}"
    taken.write_text("the key of today")
    with pytest.raises(InvalidSettings, match=r"exists already.*move it away first") as caught:
        write_pair("plant", tmp_path)
    assert str(taken) in str(caught.value)
    assert list(tmp_path.iterdir()) == [taken]
    assert taken.read_text() == "the key of today"


def test_a_link_to_nowhere_is_not_followed(tmp_path: Path) -> None:
    """If a file would be written through a link, none is."""
    (tmp_path / "plant.secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidSettings, match=r"plant\.secret"):
        write_pair("plant", tmp_path)
    (tmp_path / "other.pub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidSettings, match=r"other\.pub"):
        write_pair("other", tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"plant.secret", "other.pub"}


@pytest.mark.parametrize("name", ["", ".", "..", "../plant", "a/b", "a b", "-a", ".hidden", "a\n", "a\0", "a'", 'a"', "a$b"])
def test_what_is_no_name_for_keys(tmp_path: Path, name: str) -> None:
    """A name that leads out of the directory, or that would have to be quoted, is refused with what may be in one."""
    directory = tmp_path / "keys"
    with pytest.raises(InvalidSettings, match="letters, digits"):
        write_pair(name, directory)
    assert list(tmp_path.rglob("*")) == []


def test_where_no_file_can_be_written(tmp_path: Path) -> None:
    """A directory that is none is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSettings, match=r"cannot write .*: File name too long"):
        write_pair(300 * "a", tmp_path)
    with pytest.raises(InvalidSettings, match=r"cannot write .*file"):
        write_pair("plant", tmp_path / "file")


@pytest.mark.process
def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    """If a key does not fit, no file is left: neither an empty one nor one that is not finished."""
    done = run_script(
        "import resource\n"
        "from pathlib import Path\n"
        "from eventbus import InvalidSettings\n"
        "from eventbus.keys import write_pair\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try:\n"
        f"    write_pair('plant', Path({str(tmp_path)!r}))\n"
        "except InvalidSettings as error:\n"
        "    print(error)\n"
    )
    assert done.stdout == f"cannot write {tmp_path / 'plant.secret'}: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no hard links takes keys, too."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    made = write_pair("plant", tmp_path)
    assert public_key_of(read_key(made.secret_file, "it")) == made.public_key
    assert {file.name for file in tmp_path.iterdir()} == {"plant.pub", "plant.secret"}


@pytest.mark.parametrize("key", [PROXY.public, *(pair(str(number)).secret for number in range(20))])
def test_keys_are_masked(key: str) -> None:
    """In a text for people no key is left, alone or beside other words."""
    assert is_key(key)
    for text in (key, f"'{key}'", f"name={key}", f"name: {key}", f"a,{key};b", f"{key}\n{key}"):
        assert key not in masked(text)


def test_a_key_that_begins_like_a_name_and_a_value() -> None:
    """Characters that divide names from values stand in keys, too: a key is found wherever it may begin."""
    key = "y)RK%@:yV%fgwpsEr.gB1jrOUFa(eS+tD::/3#lA"
    assert is_key(key)
    assert (
        masked(f"unrecognized arguments: --key={key}; see --help")
        == "unrecognized arguments: --key=(a key, not shown); see --help"
    )
    assert masked(f"{key} {key}") == "(a key, not shown) (a key, not shown)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.path/that/is/as/long/as/a/key/and.toml",
        "proxy.line1.plant.svc.production.example",
        "x" * 41,
        "#" * 40,
        "ä" * 40,
    ],
)
def test_what_is_not_masked(text: str) -> None:
    """Names and paths of a key's length are left, and so is what is no key."""
    assert masked(text) == text


@pytest.mark.process
def test_no_core_dump() -> None:
    """A process can rule out core dumps, which would hold its key."""
    done = run_script(
        "import resource\n"
        "from eventbus.keys import forbid_core_dumps\n"
        "forbid_core_dumps()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    assert done.stdout == "(0, 0)\n"
