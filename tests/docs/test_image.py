"""The image of examples/docker is built and run, where there is a builder of images and the base image."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.commands import command
from tests.docs.pages import ROOT
from tests.support import PATIENCE, eventually

BASE = "docker.io/library/python:3.13-slim"
# Without namespaces and control groups, so that it works inside of a container, too.
CHROOT = ("--isolation", "chroot")


def buildah(*arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["buildah", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture
def image() -> Iterator[str]:
    """The proxy's image, built as the page says."""
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed")
    with suppress(subprocess.TimeoutExpired):
        if buildah("pull", "--policy", "missing", BASE, timeout=120).returncode == 0:
            name = "localhost/eventbus-proxy-test"
            dockerfile = "examples/docker/Dockerfile"
            done = buildah("build", *CHROOT, "--format", "docker", "-f", dockerfile, "-t", name, ".", timeout=240)
            assert done.returncode == 0, done.stderr
            yield name
            buildah("rmi", name)
            return
    pytest.skip(f"{BASE} cannot be had here")


@pytest.mark.timeout(400)  # it may download the base image, and does download the dependencies
def test_the_image(image: str, ports: tuple[int, int]) -> None:
    """The proxy of the image answers, does not run as root, and ends at SIGTERM."""
    container = buildah("from", image).stdout.strip()
    try:
        # With chroot it has the network of this machine.
        numbers = [f"EVENTBUS_{name}_PORT={port}" for name, port in zip(("PUB", "SUB"), ports, strict=True)]
        arguments = [option for variable in [*numbers, "EVENTBUS_HTTP_PORT=0"] for option in ("--env", variable)]
        assert buildah("run", *CHROOT, container, "--", "python", "-c", "import os; print(os.getuid())").stdout == "10001\n"
        running = subprocess.Popen(["buildah", "run", *CHROOT, *arguments, container, "--", "eventbus", "proxy"])
        with running:
            flags = ["--host=127.0.0.1", f"--pub-port={ports[0]}", f"--sub-port={ports[1]}", "--connect-timeout=0.5"]

            def answers() -> bool:
                return subprocess.run(command("check", *flags), capture_output=True, check=False).returncode == 0

            eventually(answers, PATIENCE)
            running.terminate()
    finally:
        buildah("rm", container)
