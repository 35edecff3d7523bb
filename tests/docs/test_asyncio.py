"""docs/asyncio.md: the service and the program that asks it run as they stand, and end well however they are ended."""

import signal
import sys
from pathlib import Path

from eventbus import EventBusProxy
from tests.docs.pages import section
from tests.docs.running import done, running, shell, surroundings
from tests.support import PATIENCE, eventually


def write_service(folder: Path) -> list[str]:
    """Write it, and return what runs it."""
    with section("asyncio.md", "A service") as part:
        part.write(folder)
        return shell(part.one("sh"))


def write_asking(folder: Path) -> list[str]:
    """Write the program that asks the service, and return what runs it."""
    with section("asyncio.md", "Without a container") as part:
        part.write(folder)
        return shell(part.one("sh"))


def test_a_service(proxy: EventBusProxy, tmp_path: Path) -> None:
    """It answers a question, and ends with status 0 and without a word at SIGTERM."""
    environment = surroundings(proxy)
    with running(write_service(tmp_path), tmp_path, environment) as service:
        service.wait_for("ready")
        assert done(write_asking(tmp_path), tmp_path, environment).stdout == "heating by 2.5\n"
        assert service.end() == 0
    assert service.text == "ready\n"
    eventually(lambda: proxy.health().connections.publishers == 0, PATIENCE, "clients that have closed")


def test_ctrl_c(proxy: EventBusProxy, tmp_path: Path) -> None:
    """It ends at SIGINT in the same way."""
    with running(write_service(tmp_path), tmp_path, surroundings(proxy)) as service:
        service.wait_for("ready")
        assert service.end(signal.SIGINT) == 0
    assert service.text == "ready\n"


CANCELLED = """
import asyncio
from service import Bus, PlantEvent, PlantEventType, PlantTopic
from eventbus.settings import EventBusSettings

async def main() -> None:
    settings = EventBusSettings()
    async with Bus(PlantEvent, settings.host, settings.pub_port, settings.sub_port, topics=[PlantTopic.plant]) as bus:
        waiting = asyncio.create_task(bus.arecv_event(None))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await bus.aemit_event(PlantEvent(type=PlantEventType.heating, value=1), topic=PlantTopic.plant)
        event = await bus.arecv_event(None)
        print(waiting.cancelled(), event.value)

asyncio.run(main())
"""


def test_cancellation(proxy: EventBusProxy, tmp_path: Path) -> None:
    """A task that waits for an event can be cancelled; the next one gets it."""
    write_service(tmp_path)
    assert done([sys.executable, "-c", CANCELLED], tmp_path, surroundings(proxy)).stdout == "True 1.0\n"
