"""The commands in a terminal, driven as a person would: what is on the screen, in which colours, what is left at the end."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from eventbus import EventBusProxy
from eventbus.cli.terminal import Paint, ProgressBar, Style, bar, understands_codes, wants_colours
from eventbus.keys import reveal
from tests.commands import ports
from tests.security import Guarded
from tests.support import Bus, MyEventTopic, RawPeers, client_of, event, in_thread, json_of
from tests.terminal import Terminal, terminal

pytestmark = pytest.mark.terminal

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"  # the alternate screen
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"  # the cursor
CODES = re.compile(rb"\x1b\[[\d;]*m")

type Open = Callable[..., AbstractContextManager[Terminal]]


class Tty(io.StringIO):
    """A stream to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def open_terminal(proxy: EventBusProxy, tmp_path: Path) -> Open:
    """Opens a terminal in which a command runs, at the proxy."""

    def do(*arguments: object, **options: Any) -> AbstractContextManager[Terminal]:
        return terminal(*arguments, *ports(proxy), cwd=tmp_path, **options)

    return do


@pytest.fixture
def flowing(proxy: EventBusProxy) -> Iterator[None]:
    """Two services that emit values from 0 to 19 without end: numbered ones on `my_service`, packed ones on `other`."""
    stop = Event()

    def emit() -> None:
        with client_of(proxy, numbered=True) as numbered, client_of(proxy) as plain:
            for number in cycle(range(20)):
                if stop.wait(0.01):
                    return
                numbered.emit_event(event(number), MyEventTopic.my_service)
                plain.emit_events([event(number)] * 3, MyEventTopic.other)

    with in_thread(emit):
        yield
        stop.set()


# Where colours are wanted


@pytest.mark.parametrize(
    ("stream", "environment", "codes", "colours"),
    [
        (Tty(), {"TERM": "xterm"}, True, True),
        (Tty(), {"TERM": "xterm", "NO_COLOR": ""}, True, True),
        (Tty(), {"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        (Tty(), {"TERM": "dumb"}, False, False),
        (Tty(), {}, False, False),
        (io.StringIO(), {"TERM": "xterm"}, False, False),
    ],
)
def test_where_colours_are_wanted(stream: io.StringIO, environment: dict[str, str], codes: bool, colours: bool) -> None:
    """On a terminal that has them, unless NO_COLOR says otherwise; never in a pipe."""
    assert understands_codes(stream, environment) == codes
    assert wants_colours(stream, environment) == colours


def test_paint() -> None:
    """A style ends where its text does; without colours the text is as it was."""
    assert Paint(True)("text", Style.GREEN) == "\x1b[32mtext\x1b[0m"
    assert Paint(False)("text", Style.GREEN) == "text"


def test_signs_that_the_terminal_does_not_have(open_terminal: Open, raw: RawPeers) -> None:
    """They are written as escapes, and end nothing."""
    with open_terminal("tail", "--count=1", PYTHONIOENCODING="ascii") as screen:
        raw.publisher(b"").send_multipart(["größe".encode(), json_of()])
        assert screen.wait() == 0
        assert r" gr\xf6\xdfe updated " in screen.text


# emit

STARTED = '{"type": "started"}'


def test_emit_says_that_nobody_was_subscribed(open_terminal: Open, bus: Bus) -> None:
    """On a terminal, and in a colour; where somebody is subscribed, nothing is said. The status is 0 in both cases."""
    with open_terminal("emit", "other", STARTED) as screen:
        assert screen.wait() == 0
        assert screen.lines == ["nobody is subscribed to other: the event went to no one"]
        assert screen.colour_of("nobody") == "brown"  # what pyte calls yellow
    with open_terminal("emit", "my_service", STARTED) as screen:
        assert screen.wait() == 0
        assert screen.lines == []


def test_emit_says_that_it_was_denied(tmp_path: Path) -> None:
    """A client whose rule does not permit the topic is told so, with status 1; one that may send is not."""
    with Guarded(tmp_path) as guarded:
        keys = guarded.admit("bound", publish=["plant"], subscribe=["*"])
        (tmp_path / ".env").write_text(
            f"EVENTBUS_SECURITY__SERVER_PUBLIC_KEY='{keys.server_public_key}'\n"
            f"EVENTBUS_SECURITY__SECRET_KEY='{reveal(keys.secret_key)}'\n"
        )
        with terminal(
            "emit", "other", STARTED, *ports(guarded.proxy), "--connect-timeout=20", cwd=tmp_path, columns=250
        ) as screen:
            assert screen.wait() == 1
            assert "the proxy's allow-list does not permit this client to publish on topic b'other'" in screen.text
        with terminal(
            "emit", "plant", STARTED, *ports(guarded.proxy), "--connect-timeout=20", cwd=tmp_path, columns=250
        ) as screen:
            assert screen.wait() == 0
            assert screen.lines == []  # under rules the proxy tells publishers nothing of subscribers


def test_an_error_is_red(open_terminal: Open) -> None:
    """The word that begins the line of an error is red, unless colours are not wanted."""
    with open_terminal("emit", "", STARTED) as screen:
        assert screen.wait() == 2
        assert screen.lines == ["eventbus: the topic is empty"]
        assert (screen.colour_of("eventbus:"), screen.colour_of("topic")) == ("red", "default")
    with open_terminal("emit", "", STARTED, NO_COLOR="1") as screen:
        assert screen.wait() == 2
        assert screen.written == b"eventbus: the topic is empty\r\n"


# tail


def test_tail_in_colour(open_terminal: Open, flowing: None) -> None:
    """On a terminal `tail` prints lines for people: topic and type in colours. Ctrl-C ends it without a word."""
    with open_terminal("tail", "my_service", "--full", columns=100) as screen:
        screen.wait_for(lambda: len(screen.lines) > 2)
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} my_service updated value=\d+\.0 time=\S+", screen.lines[1])
        assert (screen.colour_of("my_service"), screen.colour_of("updated"), screen.colour_of("value")) == (
            "cyan", "green", "default",
        )  # fmt: skip
        screen.press_ctrl_c()
        assert screen.wait() == 130
        assert "Traceback" not in screen.text
        assert "time=" in screen.lines[-1] or screen.lines[-1] == "^C"


def test_tail_selects(open_terminal: Open, flowing: None) -> None:
    """With --where, --count and --since-start: as many events as asked for, with seconds, then the prompt is back."""
    flags = "--where", "value=5", "--type", "updated", "--count", "2", "--since-start"
    with open_terminal("tail", "other", *flags) as screen:
        assert screen.wait() == 0
        assert len(screen.lines) == 2
        for line in screen.lines:
            assert re.fullmatch(r"\+\d+\.\d{3}s time=\S+", line)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_tail_without_colours(open_terminal: Open, flowing: None, variables: dict[str, str]) -> None:
    """With NO_COLOR, and where there are none, the same lines come without any codes."""
    with open_terminal("tail", "other", "--count=1", **variables) as screen:
        assert screen.wait() == 0
        assert b" updated " in screen.written
        assert b"\x1b" not in screen.written


def test_tail_as_json(open_terminal: Open, flowing: None) -> None:
    """--format json prints JSON on a terminal too."""
    with open_terminal("tail", "other", "--count=1", "--format=json", columns=200) as screen:
        assert screen.wait() == 0
        assert screen.text.startswith('{"topic": "other", "event": {"type": "updated"')


# top


def test_top(open_terminal: Open, flowing: None) -> None:
    """A live table on the whole screen: topics, the numbered publisher and the others, with rates and sparklines that grow;
    another size of the window is followed; Ctrl-C gives back the screen and the cursor."""
    with open_terminal("top", "--interval=0.2") as screen:
        screen.wait_for_text("ready", "TOPIC", "my_service", "other", "PUBLISHER", "not numbered")
        screen.wait_for(lambda: re.search(r"^other +[1-9].*[▂-█]{3}$", screen.text, re.MULTILINE), "a sparkline")
        assert ENTER in screen.written
        assert screen.cursor_is_hidden
        assert screen.colour_of("other ") == "cyan"
        faster_first = re.compile(r"^other .*\nmy_service ", re.MULTILINE)
        screen.wait_for(lambda: faster_first.search(screen.text), "the faster one first")
        screen.resize(80, 8)
        screen.wait_for(lambda: "TOPIC 1/2" in screen.text and "PUBLISHER 1/2" in screen.text)
        assert len(screen.lines) <= 8
        assert max(map(len, screen.lines)) <= 80
        screen.resize(120, 40)
        screen.wait_for_text("my_service", "not numbered")
        screen.press_ctrl_c()
        assert screen.wait() == 130
        assert not screen.cursor_is_hidden
        assert screen.written.count(ENTER) == screen.written.count(LEAVE) == 1
        assert screen.written.rindex(SHOW) > screen.written.rindex(HIDE)
        assert b"Traceback" not in screen.written


def test_a_window_is_followed_at_once(open_terminal: Open, flowing: None) -> None:
    """Another size is not first seen at the end of the interval: what is shown then are the same figures."""
    with open_terminal("top", "--interval=1") as screen:
        screen.wait_for_text("not numbered")

        def same_figures(lines: int, expected: str) -> bool:
            before = screen.lines[1]
            screen.resize(80, lines)
            screen.wait_for_text(expected)
            return screen.lines[1] == before

        # An interval may end just then.
        assert any(same_figures(*size) for size in 10 * ((8, "PUBLISHER 1/2"), (30, "not numbered")))


def test_top_is_terminated(open_terminal: Open, flowing: None) -> None:
    """SIGTERM gives the screen and the cursor back too."""
    with open_terminal("top", "--interval=0.2") as screen:
        screen.wait_for_text("TOPIC")
        screen.terminate()
        assert screen.wait() == 143
        assert not screen.cursor_is_hidden
        assert screen.written.count(LEAVE) == 1


def test_top_is_suspended(open_terminal: Open, flowing: None) -> None:
    """Ctrl-Z gives the shell its screen and the cursor; `fg` shows the tables again."""
    script = 'set -m; "$@"; echo "the shell is back"; read answer; fg; exit $?'
    with open_terminal("top", "--interval=0.1", script=script) as screen:
        screen.wait_for_text("TOPIC")
        screen.press_ctrl_z()
        screen.wait_for_text("the shell is back")
        assert not screen.cursor_is_hidden
        assert screen.written.count(ENTER) == screen.written.count(LEAVE) == 1
        screen.press_enter()
        screen.wait_for(lambda: screen.written.count(ENTER) == 2 and "TOPIC" in screen.text, "the tables")
        screen.press_ctrl_c()
        assert screen.wait() == 130
        assert not screen.cursor_is_hidden
        assert screen.written.count(LEAVE) == 2


def test_top_while_the_proxy_is_away(open_terminal: Open, proxy: EventBusProxy) -> None:
    """The screen shows that the proxy is away, with the reason; no line of the log falls into the midst of it."""
    with open_terminal("top", "--interval=0.2") as screen:
        screen.wait_for_text("ready")
        proxy.stop()
        screen.wait_for_text("event bus degraded", "the proxy has been away for", "down")
        assert screen.lines[0].startswith("127.0.0.1, ports ")
        assert screen.colour_of("the proxy has been away") == "red"
        assert screen.colour_of("event bus degraded") == "brown"  # as pyte calls yellow
        screen.press_ctrl_c()
        assert screen.wait() == 130


@pytest.mark.parametrize(("variables", "codes"), [({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False)])
def test_top_without_colours(open_terminal: Open, flowing: None, variables: dict[str, str], codes: bool) -> None:
    """With NO_COLOR the table is live and without colours; a terminal that can do nothing gets one table after the other."""
    with open_terminal("top", "--interval=0.2", **variables) as screen:
        screen.wait_for_text("other", "not numbered")
        screen.press_ctrl_c()
        assert screen.wait() == 130
        assert (ENTER in screen.written) == codes
        assert (b"\x1b" in screen.written) == codes
        assert not [code for code in CODES.findall(screen.written) if re.search(rb"\b3\d\b", code)]


def test_top_once(open_terminal: Open, flowing: None) -> None:
    """`--once` leaves its tables on the terminal, in colours."""
    with open_terminal("top", "--once", "--interval=0.3") as screen:
        assert screen.wait() == 0
        assert ENTER not in screen.written
        assert screen.colour_of("my_service") == "cyan"
        assert "not numbered" in screen.text


# check


def test_check_in_colour(open_terminal: Open) -> None:
    """A good result is green."""
    with open_terminal("check") as screen:
        assert screen.wait() == 0
        assert screen.colour_of("ok    settings") == "green"
        assert screen.colour_of("settings") == "default"
        assert screen.lines[-1].startswith("ok: tcp://")


def test_check_tells_trouble_in_colour(tmp_path: Path, dead_ports: tuple[int, int]) -> None:
    """A bad result is red."""
    flags = "--host=127.0.0.1", f"--pub-port={dead_ports[0]}", f"--sub-port={dead_ports[1]}"
    with terminal("check", *flags, cwd=tmp_path, columns=200) as screen:
        assert screen.wait() == 1
        assert screen.colour_of("FAIL") == "red"
        assert "FAIL  publishers   nothing listens" in screen.text
    with terminal("check", *flags, cwd=tmp_path, columns=200, NO_COLOR="1") as screen:
        assert screen.wait() == 1
        assert b"\x1b" not in screen.written


# bench


def test_a_progress_bar() -> None:
    """A name, a bar and how much of all is done; never less than nothing or more than all."""
    assert bar("throughput", 0) == f"{'throughput':24}{'░' * 30}   0 %"
    assert bar("throughput", 0.5) == f"{'throughput':24}{'█' * 15}{'░' * 15}  50 %"
    assert bar("throughput", 1) == bar("throughput", 1.5) == f"{'throughput':24}{'█' * 30} 100 %"
    assert bar("throughput", -1) == bar("throughput", 0)
    assert bar("throughput", 0.5, 40) == f"{'throughput':24}{'█' * 5}{'░' * 5}  50 %"
    assert bar("throughput", 0.5, 20) == f"{'':14}  50 %"


def test_no_progress_bar_without_a_terminal() -> None:
    """In a pipe or a file not a byte is written."""
    stream = io.StringIO()
    with ProgressBar("throughput", 100, stream) as progress:
        progress(50)
    assert stream.getvalue() == ""


def test_bench_shows_a_bar(tmp_path: Path) -> None:
    """While `bench` measures, a bar shows how far it is, in a narrow terminal, too; then only figures are there."""
    with terminal("bench", "--events=2000", "--rate=200", cwd=tmp_path, columns=50) as screen:
        screen.wait_for(lambda: re.search(r"^latency at 200/s +█+░+ +\d+ %$", screen.text, re.MULTILINE))
        assert screen.wait() == 0
        assert screen.text.count("events/s") == 2
        assert not {"█", "░"} & set(screen.text)
        assert "p99" in screen.text
        assert "eventbus, emit_event    ░".encode() in screen.written


def test_bench_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C takes the bar away and ends it without a traceback, of its processes either."""
    with terminal("bench", "--events=5000000", cwd=tmp_path) as screen:
        screen.wait_for(lambda: not re.search(r"░   0 %$", screen.text) and "░" in screen.text, "a bar that has moved")
        screen.press_ctrl_c()
        assert screen.wait() == 130
        assert "Traceback" not in screen.text
        assert "░" not in screen.text
