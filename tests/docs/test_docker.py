"""docs/docker.md: the files are those of examples/docker, and what they start runs, though without Docker."""

import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # its types are a distribution of their own

from tests.docs.pages import ROOT, section
from tests.docs.running import done, free_port, running, surroundings
from tests.support import PATIENCE, eventually
from tests.web import ask

EXAMPLES = ROOT / "examples" / "docker"


@dataclass
class Stage:
    """A stage of the Dockerfile with what it has from those that it is built on."""

    copies: list[tuple[list[str], str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    """The stages by their names; an instruction that this does not know is an error."""
    found: dict[str, Stage] = {}
    stage = Stage()
    for line in (EXAMPLES / "Dockerfile").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        instruction, _, rest = line.partition(" ")
        match instruction:
            case "FROM":
                image, _, name = rest.partition(" AS ")
                base = found.get(image, Stage())
                stage = found[name] = Stage(environment=dict(base.environment), user=base.user)
            case "COPY" if not rest.startswith("--from="):
                *sources, target = rest.split()
                stage.copies.append((sources, target))
            case "ENV":
                stage.environment |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "USER":
                stage.user = rest
            case "HEALTHCHECK":
                stage.health = json.loads(rest.partition("CMD ")[2])
            case "CMD":
                stage.command = json.loads(rest)
            case _:
                assert instruction in {"COPY", "RUN", "WORKDIR"}
    return found


@dataclass
class Container:
    """A service of the Compose file as a process: its hosts are loopback, its secrets a folder, its ports free ones."""

    command: list[str]
    health: list[str]
    environment: dict[str, str]


def container(name: str, folder: Path, ports: tuple[int, int], http_port: int, checkout: Path) -> Container:
    """Lay out what the container would have in the folder, which has what the page makes beside the Compose file."""
    composed: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    service = composed["services"][name]
    stage = stages()[service["build"]["target"]]
    secrets = folder / "run-secrets" / name
    secrets.mkdir(parents=True)
    for secret in service["secrets"]:
        shutil.copy(folder / composed["secrets"][secret["source"]]["file"], secrets / secret["target"])
    (volume,) = service.get("volumes", [":"])
    source, target, *_ = volume.split(":")

    def here(text: str) -> str:
        text = text.replace("9464", str(http_port)).replace("0.0.0.0", "127.0.0.1")
        return text.replace(target, str(folder / source)) if target else text

    variables = {variable: here(text) for variable, text in (stage.environment | service.get("environment", {})).items()}
    variables |= {"EVENTBUS_HOST": "127.0.0.1", "PATH": surroundings()["PATH"], "EVENTBUS_SECRETS_DIR": str(secrets)}
    variables |= {"EVENTBUS_PUB_PORT": str(ports[0]), "EVENTBUS_SUB_PORT": str(ports[1])}
    return Container(
        stage.command,
        [here(part) for part in stage.health],
        variables | {"PYTHONPATH": str(checkout), "PYTHONWARNINGS": "error"},
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The part of the checkout that the images have, and nothing else."""
    copied = tmp_path / "src"
    copied.mkdir()
    for sources, target in [*stages()["build"].copies, *stages()["service"].copies]:
        for source in sources:
            if (ROOT / source).is_dir():
                leave_out = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, copied / Path(target).name, symlinks=True, ignore=leave_out)
            else:
                shutil.copy(ROOT / source, copied)
    return copied


def test_the_page_shows_the_examples(tmp_path: Path) -> None:
    """Every file on the page is one of examples/docker, and each of those is on the page."""
    with section("docker.md", "Images") as part:
        part.write(tmp_path)
    with section("docker.md", "Compose") as part:
        part.write(tmp_path)
        part.take("sh")
    shown = {file.name: file.read_text() for file in tmp_path.iterdir()}
    # Who has followed the page in the checkout has folders with keys there, too.
    files = [file for file in EXAMPLES.iterdir() if file.is_file() and file.name != ".gitignore"]
    assert shown == {file.name: file.read_text() for file in files}


def test_the_dockerfile() -> None:
    """Nothing runs as root; the last stage is the proxy; the context has what is copied, and all packages are."""
    assert list(stages())[-1] == "proxy"
    assert {stages()[name].user for name in ("service", "proxy")} == {"10001"}
    ignored = (EXAMPLES / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [source for stage in stages().values() for sources, _ in stage.copies for source in sources]
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(copied)
    assert all((ROOT / source).exists() for source in copied)


def test_the_secrets_that_are_mounted() -> None:
    """Every service names secrets that there are, and runs as the user whose keys they are."""
    composed = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    used = {secret["source"] for service in composed["services"].values() for secret in service["secrets"]}
    assert used == set(composed["secrets"])
    assert {service["user"] for service in composed["services"].values()} == {"${BUS_UID:-1000}"}


def test_both_containers(tmp_path: Path, checkout: Path, ports: tuple[int, int]) -> None:
    """With the keys that the page makes they find each other, are healthy, and end with status 0 at SIGTERM."""
    with section("docker.md", "Compose") as part:
        part.take("yaml")
        done(["sh", "-e", "-c", part.one("sh")], tmp_path, surroundings())
    of_service = free_port(*ports)
    of_proxy = free_port(*ports, of_service)
    service = container("thermostat", tmp_path, ports, of_service, checkout)
    proxy = container("proxy", tmp_path, ports, of_proxy, checkout)
    with (
        running(service.command, tmp_path, service.environment) as serving,
        running(proxy.command, tmp_path, proxy.environment) as program,
    ):
        program.wait_for("encrypted, 1 client may connect")
        done(proxy.health, tmp_path, proxy.environment)
        checked = done([sys.executable, "-m", "eventbus", "check"], tmp_path, service.environment)
        assert re.search("^ok +security ", checked.stdout, re.MULTILINE)
        eventually(lambda: is_ready(f"http://127.0.0.1:{of_service}/readyz"), PATIENCE, "a service that is ready")
        done(service.health, tmp_path, service.environment)
        assert serving.end() == 0
        assert program.end() == 0
    assert "Traceback" not in serving.text
    assert "Traceback" not in program.text


def is_ready(url: str) -> bool:
    """Whether a probe says so; it may not be there yet."""
    try:
        return ask(url).status == 200
    except OSError:
        return False


def test_an_unhealthy_proxy(tmp_path: Path) -> None:
    """The health check of a proxy that does not answer has another status than 0."""
    health = [part.replace("9464", str(free_port())) for part in stages()["proxy"].health]
    done(health, tmp_path, surroundings(), status=1)
