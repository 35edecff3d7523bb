"""The settings of keys and the allow-list: from variables, .env and files of secrets, and never shown."""

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from eventbus import ClientKeys, InvalidSettings
from eventbus.cli.settings import print_settings
from eventbus.keys import Secret
from eventbus.settings import EventBusSettings
from eventbus.settings.security import SecuritySettings
from tests.keys import pair

PROXY, CLIENT = pair("proxy"), pair("client")
PUBLIC, SECRET = PROXY.public, CLIENT.secret
VARIABLE = "EVENTBUS_SECURITY__"
SERVER_KEY, SECRET_KEY, SECRET_FILE, ALLOW_LIST = (
    f"{VARIABLE}{name}" for name in ("SERVER_PUBLIC_KEY", "SECRET_KEY", "SECRET_KEY_FILE", "ALLOW_LIST")
)

type Mount = Callable[..., Path]


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mount:
    """Makes a directory of secrets as /run/secrets is one, with these files, and has it read."""

    def do(**files: str) -> Path:
        directory = tmp_path / "secrets"
        directory.mkdir()
        for name, content in files.items():
            (directory / name).write_text(content)
        monkeypatch.setenv("EVENTBUS_SECRETS_DIR", str(directory))
        return directory

    return do


def security() -> SecuritySettings:
    """Settings from these variables of the environment."""
    return EventBusSettings().security


def refusal(**values: Any) -> str:
    """The error about these settings; neither it nor its traceback has any secret."""
    with pytest.raises(InvalidSettings) as caught:
        EventBusSettings(**values)
    text = str(caught.value)
    shown = text + "".join(traceback.format_exception(caught.value))
    for secret in (CLIENT.secret, PROXY.secret):
        assert secret[:-1] not in shown
        assert secret[1:] not in shown
    return text


# Where they come from


def test_without_any_nothing_is_encrypted() -> None:
    """Without any of these variables there are no keys."""
    assert security() == SecuritySettings()
    assert security().client_keys() is None
    assert security().proxy_secret_key() is None


def test_each_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read from EVENTBUS_SECURITY__ and its name in capitals, and `fields` knows each with its description."""
    nested = {EventBusSettings.variable(*path): field for path, field in EventBusSettings.fields() if len(path) > 1}
    of_nats = [f"{VARIABLE}{name}" for name in ("PASSWORD", "PASSWORD_FILE", "TOKEN", "CREDENTIALS", "CA_FILE")]
    pair = [f"{VARIABLE}CERT_FILE", f"{VARIABLE}KEY_FILE"]  # which go together
    assert list(nested) == [SERVER_KEY, SECRET_KEY, SECRET_FILE, ALLOW_LIST, *of_nats, *pair]
    assert all(field.description and field.default is None for field in nested.values())
    texts = (PUBLIC, SECRET, "keys/secret", "/etc/allow.toml", "pass word", "pw", "t0ken", "a.creds", "ca.pem")
    values = (
        *(PUBLIC, SecretStr(SECRET), Path("keys/secret"), Path("/etc/allow.toml")),
        *(SecretStr("pass word"), Path("pw"), SecretStr("t0ken"), Path("a.creds"), Path("ca.pem")),
    )
    for name, text, value in zip(list(nested)[:-2], texts, values, strict=True):
        field = name.removeprefix(VARIABLE).lower()
        with monkeypatch.context() as patch:
            patch.setenv(name, text)
            assert security() == SecuritySettings().model_copy(update={field: value})
        with monkeypatch.context() as patch:
            patch.setenv(name.lower(), text)
            assert getattr(security(), field) == value


def test_every_field_is_told_once() -> None:
    """`fields` has every field of the settings, in order, with the fields of nested ones in their place."""
    names = [path[0] for path, _ in EventBusSettings.fields()]
    assert list(dict.fromkeys(names)) == list(EventBusSettings.model_fields)
    assert len(names) == len(EventBusSettings.model_fields) - 1 + len(SecuritySettings.model_fields)
    assert EventBusSettings.variable("pub_port") == "EVENTBUS_PUB_PORT"
    assert EventBusSettings.variable("security", "secret_key") == SECRET_KEY


@pytest.mark.parametrize("surrounded", ["{}", "'{}'", '"{}"', " {}\n", "\t'{}'\r\n"])
def test_what_surrounds_a_value_does_not_count(monkeypatch: pytest.MonkeyPatch, surrounded: str) -> None:
    """Quotes and white space, which not everything takes off that sets variables, are no part of a key or a path."""
    monkeypatch.setenv(SERVER_KEY, surrounded.format(PUBLIC))
    monkeypatch.setenv(SECRET_KEY, surrounded.format(SECRET))
    monkeypatch.setenv(ALLOW_LIST, surrounded.format("/etc/allow.toml"))
    assert security().client_keys() == ClientKeys(PUBLIC, SECRET)
    assert security().allow_list == Path("/etc/allow.toml")


@pytest.mark.parametrize("nothing", ["", " ", "''", '""'])
def test_an_empty_one_counts_as_unset(monkeypatch: pytest.MonkeyPatch, nothing: str) -> None:
    """Empty variables are as good as none."""
    for name in (SERVER_KEY, SECRET_KEY, SECRET_FILE, ALLOW_LIST):
        monkeypatch.setenv(name, nothing)
    assert security() == SecuritySettings()


def test_an_empty_one_comes_before_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty variable also takes back what .env says."""
    (tmp_path / ".env").write_text(f"{SERVER_KEY}='{PUBLIC}'\n{SECRET_KEY}='{SECRET}'\n")
    monkeypatch.setenv(SERVER_KEY, "")
    monkeypatch.setenv(SECRET_KEY, "")
    assert security().client_keys() is None


def test_from_the_file(tmp_path: Path) -> None:
    """They can stand in .env, indented as `eventbus keygen` prints them, or as for a shell."""
    (tmp_path / ".env").write_text(f"    {SERVER_KEY}='{PUBLIC}'\nexport {SECRET_KEY}=\"{SECRET}\"\nOTHER=1\n")
    assert security().client_keys() == ClientKeys(PUBLIC, SECRET)


def test_as_arguments() -> None:
    """In code they are an argument `security`, of fields or of the values that they are made of."""
    given = SecuritySettings(server_public_key=PUBLIC, secret_key=SecretStr(SECRET))
    assert EventBusSettings(security=given).security == given
    assert EventBusSettings(security={"server_public_key": PUBLIC, "secret_key": SECRET}).security == given


def test_each_comes_from_the_first_that_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mount: Mount) -> None:
    """Arguments come before variables, variables before .env, that before files of secrets: each field by itself."""
    (tmp_path / ".env").write_text(f"{SECRET_FILE}=from_env\n{ALLOW_LIST}=from_env\n{SERVER_KEY}={pair().public}\n")
    mount(**dict.fromkeys((SECRET_FILE, ALLOW_LIST, SERVER_KEY), "from_secrets") | {"EVENTBUS_HOST": "from_secrets"})
    monkeypatch.setenv(ALLOW_LIST, "from_variable")
    monkeypatch.setenv(SERVER_KEY, pair().public)
    settings = EventBusSettings(security={"server_public_key": PUBLIC})
    assert settings.security == SecuritySettings(
        server_public_key=PUBLIC, secret_key_file=Path("from_env"), allow_list=Path("from_variable")
    )
    assert settings.host == "from_secrets"


# Files of secrets


@pytest.mark.parametrize("name", [SECRET_KEY, SECRET_KEY.lower(), "EventBus_security__Secret_KEY"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\n"])
def test_a_file_of_secrets(mount: Mount, name: str, end: str) -> None:
    """In a directory of secrets each file is a variable: in capitals or not, with a line's end or without."""
    mount(**{name: SECRET + end, SERVER_KEY: PUBLIC, "eventbus_pub_port": f"7559{end}", "EVENTBUS_HOST": f"bus{end}"})
    settings = EventBusSettings()
    assert settings.security.client_keys() == ClientKeys(PUBLIC, SECRET)
    assert (settings.pub_port, settings.host) == (7559, "bus")


def test_files_of_secrets_as_some_editors_begin_them(mount: Mount, tmp_path: Path) -> None:
    """A mark of the encoding at their begin is no part of the secret."""
    directory = mount()
    for file in (directory / "EVENTBUS_SECURITY__TOKEN", directory / "EVENTBUS_HOST", tmp_path / "password"):
        file.write_text("secret\n", "utf-8-sig")
    settings = EventBusSettings(security={"password_file": tmp_path / "password"})
    options = settings.nats_options()
    assert (settings.host, options.token, options.password) == ("secret", Secret("secret"), Secret("secret"))


@pytest.mark.parametrize(
    ("given", "secret"),
    [("it's", "it's"), ("its'", "its'"), ("'its\"", "'its\""), (' "its" ', "its"), ("'its'\n", "its"), ("'", "'")],
)
def test_quotes_in_secrets(given: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair of quotes around a password, which some programs leave on, is no part of it; a single quote is."""
    monkeypatch.setenv("EVENTBUS_SECURITY__PASSWORD", given)
    assert EventBusSettings().nats_options().password == Secret(secret)


def test_secrets_as_kubernetes_mounts_them(mount: Mount) -> None:
    """Links through ..data, which is swapped as a whole, are followed; folders and files of others are passed over."""
    directory = mount()
    for version, secret in (("..2026_01", PROXY.secret), ("..2026_02", SECRET)):
        (directory / version).mkdir()
        (directory / version / SECRET_KEY).write_text(secret)
    (directory / "..data").symlink_to("..2026_01")
    (directory / SECRET_KEY).symlink_to(f"..data/{SECRET_KEY}")
    (directory / "kubernetes.io" / "serviceaccount").mkdir(parents=True)
    assert security().own_secret_key() == Secret(PROXY.secret)
    (directory / "..tmp").symlink_to("..2026_02")
    (directory / "..tmp").rename(directory / "..data")
    assert security().own_secret_key() == Secret(SECRET)


def test_secrets_of_others(mount: Mount) -> None:
    """Files without our prefix are not read, whatever their content and permissions; other names do not count."""
    directory = mount(database_password="x", EVENTBUSES="3", eventbus="y", eventbus_proxy_key=SECRET)
    (directory / "binary").write_bytes(b"\xff\xfe")
    (directory / "gone").symlink_to("nowhere")
    (directory / "eventbus_keys").mkdir()
    assert EventBusSettings() == EventBusSettings(host="localhost")


def test_a_misspelt_file_of_secrets(mount: Mount) -> None:
    """A file with our prefix that means nothing is refused like a variable, with where it lies, and not with its content."""
    directory = mount(EVENTBUS_SECURITY__SECRETKEY=SECRET)
    assert refusal().startswith(
        f"EVENTBUS_SECURITY__SECRETKEY (a file in {directory}) is unknown: did you mean EVENTBUS_SECURITY__SECRET_KEY?"
    )


def test_a_bad_value_in_a_file_of_secrets(mount: Mount) -> None:
    """A bad value is named by its variable, one that may be a secret without the value."""
    mount(**{SECRET_KEY: f"{SECRET}!!", "eventbus_pub_port": "many"})
    said = refusal()
    assert f"{SECRET_KEY}: it is no CURVE key" in said
    assert "EVENTBUS_PUB_PORT='many': " in said


def test_an_unreadable_file_of_secrets(mount: Mount) -> None:
    """A file of ours that cannot be read, or is no text, is named with the reason."""
    directory = mount()
    file = directory / SECRET_KEY
    file.symlink_to("nowhere")
    assert refusal() == f"cannot read the secret {file}: No such file or directory"
    file.unlink()
    file.write_bytes(b"\xff" + SECRET.encode())
    assert refusal() == f"cannot read the secret {file}: it is not text"


def test_a_directory_of_secrets_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory that was asked for has to be there; the default one need not, nor is an empty variable a wish."""
    monkeypatch.setenv("EVENTBUS_SECRETS_DIR", str(tmp_path / "nowhere"))
    assert refusal() == f"cannot read EVENTBUS_SECRETS_DIR={tmp_path / 'nowhere'}: No such file or directory"
    monkeypatch.setenv("EVENTBUS_SECRETS_DIR", "")
    assert security() == SecuritySettings()


def test_the_directory_of_secrets_is_no_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The directory of secrets is set in the environment: elsewhere, or in other letters, it would be ignored silently."""
    complaint = "EVENTBUS_SECRETS_DIR is read from the environment only, and in capitals only"
    (tmp_path / ".env").write_text(f"EVENTBUS_SECRETS_DIR={tmp_path}\n")
    assert refusal() == complaint
    (tmp_path / ".env").unlink()
    monkeypatch.setenv("eventbus_secrets_dir", str(tmp_path))
    assert refusal() == complaint


# What is wrong


def _bad(key: str) -> dict[str, str]:
    return {"short": key[:-1], "long": f"{key}a", "twice": key + key, "no Z85": f"{key[:-1]}~", "too much": "#" * 40}


@pytest.mark.parametrize("kind", _bad(SECRET))
@pytest.mark.parametrize("name", [SECRET_KEY, SERVER_KEY])
def test_what_is_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, kind: str) -> None:
    """A text that is no key is refused by its variable, whatever its source, and never shown: it may be almost a secret."""
    text = _bad(SECRET)[kind]
    expected = f"{name}: it is no CURVE key: one has 40 characters, as `eventbus keygen` writes it"
    assert refusal(security={name.removeprefix(VARIABLE).lower(): text}) == expected
    with monkeypatch.context() as patch:
        patch.setenv(name, text)
        assert refusal() == expected
    (tmp_path / ".env").write_text(f"{name}='{text}'\n")
    assert refusal() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTBUS_SECURITY__SECRETKEY", SECRET),
        ("EVENTBUS_SECURITY__SECRET", SECRET),
        ("EVENTBUS_SECURITY__SECRET_KEY__", SECRET),
        ("EVENTBUS_SECURITY__SECRET_KEY__VALUE", SECRET),
        ("EVENTBUS_SECURITY_SECRET_KEY", SECRET),
        ("EVENTBUS_SECRET_KEY", SECRET),
        ("EVENTBUS_SECURITY", SECRET),
        ("EVENTBUS_SECURITY", json.dumps({"secret_key": SECRET})),
        ("EVENTBUS_SECURITY", json.dumps({"secret_key": {"a": SECRET}})),
        ("EVENTBUS_SECURITY", json.dumps([SECRET])),
    ],
)
def test_a_misspelt_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A name of ours that means nothing is refused without its value, which may be the secret."""
    monkeypatch.setenv(name, value)
    assert refusal().startswith(f"{name} is unknown: ")


@pytest.mark.parametrize("value", [SECRET, [SECRET], {"secret": SECRET}, {"secret_key": [SECRET]}, {"secret_key": 1.5}, 3])
def test_a_bad_argument(value: object) -> None:
    """A text given in code is not shown either."""
    refusal(security=value)


def test_a_misplaced_argument() -> None:
    """A secret that is given as a setting of its own is not shown."""
    assert refusal(secret_key=SECRET) == "secret_key is no setting"


def test_settings_of_other_places_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad values of other settings are shown, beside a good secret that is not."""
    monkeypatch.setenv(SECRET_KEY, SECRET)
    monkeypatch.setenv("EVENTBUS_PUB_PORT", "many")
    monkeypatch.setenv("EVENTBUS_HOTS", "x")
    said = refusal()
    assert "EVENTBUS_PUB_PORT='many'" in said
    assert "EVENTBUS_HOTS is unknown" in said


def test_two_secrets(monkeypatch: pytest.MonkeyPatch, mount: Mount) -> None:
    """A secret key and a file with one are one too many, also from different places."""
    monkeypatch.setenv(SECRET_FILE, "/etc/secret")
    mount(**{SECRET_KEY: SECRET})
    assert refusal() == f"{SECRET_KEY} and {SECRET_FILE} are both set: unset one of them"


# Keys from settings


def test_the_keys_of_a_client(tmp_path: Path) -> None:
    """A client has the proxy's public key and its own secret one, given or in a file."""
    file = tmp_path / "client.secret"
    file.write_text(f"{SECRET}\n")
    expected = ClientKeys(PUBLIC, SECRET)
    for secret in ({"secret_key": SECRET}, {"secret_key_file": file}, {"secret_key_file": str(file)}):
        assert EventBusSettings(security={"server_public_key": PUBLIC, **secret}).security.client_keys() == expected


def test_the_key_of_a_proxy() -> None:
    """A proxy has its own secret key; the public one may be set if it belongs to that."""
    for values in ({}, {"server_public_key": PUBLIC}, {"allow_list": "allow.toml"}):
        given = EventBusSettings(security={"secret_key": PROXY.secret, **values}).security
        assert given.proxy_secret_key() == Secret(PROXY.secret)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"secret_key": SECRET}, f"also needs the proxy's public one: set {SERVER_KEY}"),
        ({"server_public_key": PUBLIC}, f"{SERVER_KEY} needs a secret key of the client's own: set {SECRET_FILE}"),
    ],
)
def test_half_the_keys_of_a_client(values: dict[str, str], expected: str) -> None:
    """A client with one key lacks the other: it does not start without encryption, and the error says what to set."""
    with pytest.raises(InvalidSettings) as caught:
        EventBusSettings(security=values).security.client_keys()
    assert expected in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_allow_list_alone_is_nothing_to_a_client() -> None:
    """The list of clients belongs to the proxy: a client that happens to have it set does not encrypt because of it."""
    assert EventBusSettings(security={"allow_list": "allow.toml"}).security.client_keys() is None


@pytest.mark.parametrize("values", [{"server_public_key": PUBLIC}, {"allow_list": "allow.toml"}])
def test_a_proxy_without_its_secret_key(values: dict[str, str]) -> None:
    """A proxy that was to encrypt does not start without its key, and the error says what to set."""
    with pytest.raises(InvalidSettings, match=f"the proxy's secret key is missing: set {SECRET_FILE}"):
        EventBusSettings(security=values).security.proxy_secret_key()


def test_a_proxy_with_the_key_of_a_client() -> None:
    """A secret key to which the proxy's public one does not belong is most likely a client's: no client would get in."""
    with pytest.raises(InvalidSettings) as caught:
        EventBusSettings(security={"server_public_key": PUBLIC, "secret_key": SECRET}).security.proxy_secret_key()
    assert SERVER_KEY in str(caught.value)
    assert CLIENT.public in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), ("", "no CURVE key"), (SECRET[:-1], "no CURVE key"), (f"key: {SECRET}", "no CURVE key")],
)
def test_a_file_without_a_key(tmp_path: Path, content: str | None, reason: str) -> None:
    """A file that is missing, or holds no key, is refused when the key is asked for: with variable, path and reason."""
    file = tmp_path / "client.secret"
    if content is not None:
        file.write_text(content)
    given = EventBusSettings(security={"server_public_key": PUBLIC, "secret_key_file": file}).security
    for action in (given.client_keys, given.proxy_secret_key):
        with pytest.raises(InvalidSettings) as caught:
            action()
        for part in (SECRET_FILE, str(file), reason):
            assert part in str(caught.value)
        assert SECRET[:-1] not in str(caught.value)


def test_settings_do_not_show_the_secret() -> None:
    """Neither repr, str nor any dump has the secret; asking for it by name gives it."""
    settings = EventBusSettings(security={"server_public_key": PUBLIC, "secret_key": f"'{SECRET}'\n"})
    shown = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]
    shown += [repr(settings.model_dump(mode="json")), repr(settings.security), f"{settings.security.secret_key}"]
    assert not [text for text in shown if SECRET in text]
    assert all(PUBLIC in text for text in shown[2:-2])  # dumps, which programs read
    assert settings.security.own_secret_key() == Secret(SECRET)


# A key in the wrong place


@pytest.mark.parametrize("name", [SECRET_FILE, ALLOW_LIST])
@pytest.mark.parametrize("written", ["{}", "'{}'", " {}\n"])
def test_a_key_where_a_file_belongs(monkeypatch: pytest.MonkeyPatch, name: str, written: str) -> None:
    """A key that is given where the name of a file belongs is refused, with where it belongs, and not shown."""
    monkeypatch.setenv(name, written.format(SECRET))
    assert refusal() == (
        f"{name}: it is a key, where the name of a file belongs: a key goes into {SECRET_KEY}, "
        f"or into a file that {SECRET_FILE} names"
    )


def test_every_key_where_a_file_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for every key, also one that a path would not keep as it is."""
    for key in (f"{SECRET[:19]}//{SECRET[21:]}", f"./{SECRET[2:]}", f"{SECRET[:-1]}/", *(pair().secret for _ in range(50))):
        monkeypatch.setenv(ALLOW_LIST, key)
        assert "it is a key" in refusal()


def test_a_file_whose_path_could_be_a_key(tmp_path: Path) -> None:
    """A path of a key's length and signs is a path where there is such a file."""
    name = "a.path/that/is/as/long/as/a/key/and.toml"
    assert len(name) == 40
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("")
    assert EventBusSettings(security={"allow_list": name}).security.allow_list == Path(name)


@pytest.mark.parametrize("name", [name for name in EventBusSettings.model_fields if name != "security"])
def test_a_key_in_any_other_variable(monkeypatch: pytest.MonkeyPatch, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A key in any other variable is not shown either: not by the error, a `repr` or `eventbus settings`."""
    monkeypatch.setenv(EventBusSettings.variable(name), SECRET)
    try:
        settings = EventBusSettings()
    except InvalidSettings as error:
        shown = str(error)
    else:
        shown = repr(settings)
        print_settings(settings)
    shown += capsys.readouterr().out
    assert shown
    assert SECRET not in shown


def test_a_key_within_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a key shown that is a part of a value."""
    for value in (f"{SECRET_KEY}={SECRET}", f"key: {SECRET}", f'"{SECRET}"', f"a,{SECRET};b"):
        monkeypatch.setenv("EVENTBUS_PUB_PORT", value)
        assert "(a key, not shown)" in refusal()


def test_the_secret_key_as_the_public_one() -> None:
    """A client's secret key in the place of the proxy's public one, which is shown, is refused."""
    given = EventBusSettings(security={"server_public_key": SECRET, "secret_key": SECRET}).security
    with pytest.raises(InvalidSettings, match=f"{SERVER_KEY} is the client's secret key"):
        given.client_keys()


def test_the_file_of_a_public_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that `eventbus keygen` has written for others is refused as one's own, with the name of the right one."""
    monkeypatch.setenv(SECRET_FILE, "keys/client.pub")
    assert refusal() == (
        f"{SECRET_FILE}: keys/client.pub is the file of a public key: name that of the secret one, keys/client.secret"
    )


def test_a_secret_that_others_can_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file with a secret that others may read is warned of, as ssh does; one of this user alone is not."""
    file = tmp_path / "client.secret"
    file.write_text(SECRET)
    security = EventBusSettings(security={"server_public_key": PUBLIC, "secret_key_file": file}).security
    for mode in (0o600, 0o400):
        file.chmod(mode)
        security.client_keys()
    assert caplog.records == []
    for mode in (0o640, 0o604, 0o620):
        file.chmod(mode)
        assert security.client_keys() == ClientKeys(PUBLIC, SECRET)
        (record,) = caplog.records
        assert record.getMessage() == f"other users may read the secret key in {file}: chmod 600 it"
        caplog.clear()
