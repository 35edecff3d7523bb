"""A historian that is killed and restarted while it answers a beginning: nothing is missing, nothing comes twice."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from eventbus import HistorianMissing
from eventbus.history.server import PAGE_BYTES
from tests.faults.peers import TOPIC
from tests.faults.proxies import ProxyProcess, running_proxy
from tests.support import PATIENCE, Bus, MyEvent, MyEventType, Recorder, eventually

pytestmark = pytest.mark.process

LARGE = " " * 20_000
STORED = 3 * PAGE_BYTES // len(LARGE)  # events: an answer takes several pages
WITHIN_FIRST_PAGE = PAGE_BYTES // len(LARGE) * 3 // 4
LIVE = 50  # events, which pass while there is no historian


@contextmanager
def historian(proxy: ProxyProcess, file: Path) -> Iterator[subprocess.Popen[str]]:
    """`eventbus historian` beside a proxy, which has ended at the end of the block."""
    ports = ["--pub-port", str(proxy.pub_port), "--sub-port", str(proxy.sub_port)]
    keeping = ["--history", str(2 * STORED), "--history-file", str(file)]
    command = [sys.executable, "-m", "eventbus", "historian", *ports, *keeping]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("historian of"), process.wait(PATIENCE)
            yield process
        finally:
            process.terminate()


@pytest.mark.parametrize("numbered", [False, True])
def test_a_beginning_outlives_its_historian(tmp_path: Path, numbered: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It asks the restarted one for the rest; what has passed meanwhile comes live, after it."""
    file = tmp_path / "history"
    total = 0

    def connect() -> Bus:
        return Bus(MyEvent, proxy.host, proxy.pub_port, proxy.sub_port, connect_timeout=PATIENCE, numbered=numbered)

    def emit(count: int, padding: str = "") -> None:
        nonlocal total
        for value in range(total, total + count):
            emitting.emit_event(MyEvent(type=MyEventType.updated, time=padding, value=value), TOPIC)
        total += count

    with running_proxy(plain=True) as proxy, connect() as emitting, connect() as client:
        with historian(proxy, file):
            emit(STORED, LARGE)
            eventually(lambda: (last := emitting.last(TOPIC)) is not None and last.value == total - 1, PATIENCE)

        recorder, may_restart = Recorder(), Event()

        def handle(event: MyEvent) -> None:
            recorder(event)
            if event.value == WITHIN_FIRST_PAGE:
                first.kill()
                first.wait()
                eventually(is_gone, PATIENCE)
                emit(LIVE)
                may_restart.set()

        def is_gone() -> bool:
            try:
                client.last(TOPIC, timeout=0.1)
            except HistorianMissing:
                return True
            return False

        def restart() -> None:
            assert may_restart.wait(PATIENCE)
            with historian(proxy, file):
                recorder.wait_for(STORED + LIVE)
                emit(LIVE)
                recorder.wait_for(total)

        restarting = Thread(target=restart)
        client.attach_callback(MyEventType.updated, handle)
        client.start_consumer()
        with historian(proxy, file) as first:
            restarting.start()
            client.subscribe(TOPIC, start="all")
            restarting.join()
        assert recorder.values == list(range(STORED + 2 * LIVE))
        assert client.stats().lost == 0
    assert not [record for record in caplog.records if "historian" in record.getMessage()]
