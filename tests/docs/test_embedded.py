"""docs/embedded.md: three services without a proxy; when the one that runs it is killed, the others go on."""

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import section
from tests.docs.running import running, shell, surroundings


@pytest.mark.timeout(120)
def test_services_without_a_proxy(tmp_path: Path, ports: tuple[int, int]) -> None:
    """Every service hears every other one; so do those that are left, also after they have been killed one by one."""
    with section("embedded.md", "Services without a proxy") as part:
        part.write(tmp_path)
        start = part.one("sh")
    environment = surroundings(EVENTBUS_PUB_PORT=ports[0], EVENTBUS_SUB_PORT=ports[1])
    with ExitStack() as stack:
        one = stack.enter_context(running(shell(start), tmp_path, environment))
        one.wait_for("proxy listens on localhost")
        two, three = (
            stack.enter_context(running(shell(start.replace("one", name)), tmp_path, environment))
            for name in ("two", "three")
        )
        for listening, other in ((one, "three 1"), (two, "one "), (three, "one "), (two, "three 1")):
            listening.wait_for(other)
        one.end(signal.SIGKILL)
        heard = two.text.count("\nthree "), three.text.count("\ntwo ")
        two.wait_for("\nthree ", heard[0] + 5)
        three.wait_for("\ntwo ", heard[1] + 5)
        assert (two.text + three.text).count("took over the embedded proxy") == 1
        assert two.end() == three.end() == 0
    assert "Traceback" not in two.text + three.text
