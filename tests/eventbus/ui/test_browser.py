"""The page in a real browser: what a person sees, reaches with the keyboard, and is told by a screen reader."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from eventbus.ui.clients import KnownClient
from eventbus.ui.notices import Level
from eventbus.ui.overview import Overview
from eventbus.ui.probe_facts import ProbeFacts
from tests.eventbus.ui.chromium import chromium, run, show
from tests.eventbus.ui.serving import Served, served
from tests.support import PATIENCE, eventually

pytestmark = pytest.mark.browser

TOKEN = "a-token-that-nobody-guesses"
MOST_ROWS = 200  # that the page shows of each list
HOSTILE = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>&lt;b&gt; \u202e {{7*7}} ${7*7} \'";'


class Visitor:
    """Somebody who looks at a page."""

    def __init__(self, driver: Chrome, page: Served) -> None:
        self.driver = driver
        self.page = page

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)"
        return list(run(self.driver, script, selector))

    def waits_for(self, selector: str, text: str) -> None:
        """Wait until an element that matches has this text."""
        eventually(lambda: any(text in found for found in self.texts(selector)), PATIENCE, f"{text!r} in {selector}")

    def presses(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def complaints(self) -> list[Any]:
        """What the browser has complained about since the last call: a policy, a script, a file."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    """One browser for all these tests."""
    with chromium() as running:
        yield running


@pytest.fixture
def visitor(driver: Chrome) -> Iterator[Visitor]:
    """Somebody at a page of a bus with three topics."""
    with served() as page:
        show(driver, 1400, 1000)
        driver.get(f"{page.url}/")
        made = Visitor(driver, page)
        made.waits_for("#state", "ready")
        page.send("plant", type="measured", sensor={"id": 3}, value=20.5)
        page.send("plant", type="alarm", text="pump is hot", value=99)
        page.send("control", type="measured", text=HOSTILE)
        made.waits_for("#topics tr", "control")
        made.waits_for("#list li", "pump is hot")
        made.waits_for("#list li", "window.broken")
        yield made
        assert made.complaints() == []
        driver.get("about:blank")


def test_what_a_person_sees(visitor: Visitor) -> None:
    """Topics with their figures and trends, events, who sends what, health, and that all is well."""
    visitor.waits_for("#n-topics", "2")
    assert visitor.texts("#topics .topic") == ["control", "plant"]
    assert all(points.count(",") >= 1 for points in run(visitor.driver, SPARKS))
    assert [line.split() for line in visitor.texts("#list .of-topic")] == [["control"], ["plant"], ["plant"]]
    assert visitor.texts("#graph .topic-node text") == ["control", "plant"]
    assert visitor.texts("#graph .node:not(.topic-node) text") == ["without numbers"]
    assert visitor.texts("#health h3")[0].endswith("ready")
    visitor.page.bus.send(b"plant", b"no JSON")
    visitor.waits_for("#notices li", "not an event, on plant")


def test_clients_by_name(visitor: Visitor) -> None:
    """Clients that say who they are stand in the graph on the side of what they do, and with their figures in a table."""
    opc = KnownClient("opc", emits={"plant": None}, state="ready", facts={"out/s": "9.5", "errors": "0"})
    log = KnownClient("log<b>", topics=("", "silent"), state="degraded", facts={"out/s": "0.0", "errors": "3"})
    visitor.page.watcher.note(lambda overview: overview.note_clients([opc, log]))
    visitor.waits_for("#graph .node text", "log<b>")
    assert visitor.texts("#graph .node:not(.topic-node) text") == ["opc", "without numbers", "log<b>"]
    assert visitor.texts("#graph .topic-node text") == ["plant", "control", "silent"]
    visitor.one("#graph-details summary").click()
    visitor.waits_for("#graph-list li", "silent → log<b>")
    assert [row.split() for row in visitor.texts(".clients tbody tr")] == [["opc9.50"], ["degradedlog<b>0.03"]]
    assert visitor.texts(".clients .bad") == ["3"]


SPARKS = "return [...document.querySelectorAll('#topics polyline')].map((line) => line.getAttribute('points'))"


def test_texts_stay_texts(visitor: Visitor) -> None:
    """What comes from the bus is never markup: not in a topic, a type, a field or a notice."""
    visitor.page.send(f"t{HOSTILE[:40]}", type=HOSTILE, **{HOSTILE: HOSTILE})
    visitor.page.bus.send(b"x<img src=x>", b"{no JSON<script>")
    visitor.waits_for("#topics tr", "t<img")
    visitor.waits_for("#list .type", "<script>")
    visitor.waits_for("#notices li", "x<img src=x>")
    visitor.one("#list summary").click()
    visitor.waits_for("#list dl dd", "window.broken")
    visitor.one("#graph-details summary").click()
    visitor.waits_for("#graph-list li", "<img")
    assert run(
        visitor.driver, "return [window.broken, document.querySelectorAll('main img, main script, main b').length]"
    ) == [None, 0]
    assert not any("\u202e" in text for text in visitor.texts("body"))


def test_filters(visitor: Visitor) -> None:
    """Events are selected by topic, type and text, also those that have passed; `Show all` ends it."""

    def shown() -> list[str]:
        return visitor.texts("#list .type")

    Select(visitor.one("#f-type")).select_by_value("alarm")
    assert shown() == ["alarm"]
    visitor.one("#filter button").click()
    eventually(lambda: len(shown()) == 3)
    visitor.one("#topics tr:nth-child(2) .topic").click()
    assert (shown(), visitor.one("#f-topic").get_attribute("value")) == (["alarm", "measured"], "plant")
    visitor.one("#f-text").send_keys("sensor.id=3")
    assert shown() == ["measured"]
    visitor.page.send("plant", type="measured", sensor={"id": 4})
    visitor.page.send("plant", type="measured", sensor={"id": 3}, value=21.5)
    visitor.waits_for("#list li", "21.5")
    assert len(shown()) == 2
    assert visitor.texts("#events-said") == ["1 event matches"]


def test_pause(visitor: Visitor) -> None:
    """While it is paused the list stands still, and says how much waits; then it goes on with all of it."""
    visitor.one("#pause").click()
    visitor.page.send("plant", type="alarm", text="later")
    visitor.waits_for("#events-note", "1 more wait")
    assert not any("later" in text for text in visitor.texts("#list li"))
    assert visitor.one("#pause").get_attribute("aria-pressed") == "true"
    visitor.one("#pause").click()
    visitor.waits_for("#list li", "later")


def test_many_events(visitor: Visitor) -> None:
    """A fast topic does not fill the browser, and hides nothing of a slow one."""
    for number in range(5_000):
        visitor.page.send("fast", type="measured", number=number)
    visitor.page.send("slow", type="alarm", text="look here")
    visitor.waits_for("#list li", "look here")
    visitor.waits_for("#topics tr", "5,000")
    assert len(visitor.texts("#list li")) <= 200


def test_many_notices(visitor: Visitor) -> None:
    """The list has a limit, and the page forgets what has left it: it may be open for weeks."""

    def tell(overview: Overview, batch: int) -> None:
        for number in range(MOST_ROWS):
            overview.notices.add(Level.INFO, "log", f"notice {batch}.{number}", 1.0)

    def nodes() -> int:
        visitor.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        return int(visitor.driver.execute_cdp_cmd("Memory.getDOMCounters", {})["nodes"])

    counts = []
    for batch in range(5):
        visitor.page.watcher.note(partial(tell, batch=batch))
        visitor.waits_for("#notices li", f"notice {batch}.{MOST_ROWS - 1}")
        counts.append(nodes())
    assert len(visitor.texts("#notices li")) == MOST_ROWS
    assert counts[-1] < counts[0] + 5 * MOST_ROWS, "nodes of notices that are shown no more"


def test_with_the_keyboard(visitor: Visitor) -> None:
    """Everything can be reached and used without a mouse, from the link past the figures to the lines of the graph."""
    visitor.presses(Keys.TAB)
    assert run(visitor.driver, "return document.activeElement.textContent") == "To the events"
    visitor.presses(Keys.TAB, Keys.TAB)
    assert run(visitor.driver, "return document.activeElement.dataset.sort") == "name"
    visitor.presses(Keys.ENTER)
    assert visitor.texts("#topics .topic") == ["plant", "control"]
    assert visitor.one("th[aria-sort]").get_attribute("aria-sort") == "descending"
    visitor.presses(Keys.TAB * 5, Keys.ENTER)
    assert visitor.one("#f-topic").get_attribute("value") == "plant"
    run(visitor.driver, "document.querySelector('#graph .topic-node').focus()")
    assert visitor.texts("#graph .chosen .edge.on") == [""]
    visitor.page.send("plant", type="measured")
    visitor.waits_for("#topics tr:nth-child(1)", "3")
    assert run(visitor.driver, "return document.activeElement.classList.contains('topic-node')")  # figures come, it stays
    visitor.page.send("another", type="measured")
    visitor.waits_for("#graph .topic-node text", "another")
    assert run(visitor.driver, "return document.activeElement.getAttribute('aria-label')").startswith("topic control: ")
    visitor.presses(Keys.SPACE)
    assert visitor.one("#f-topic").get_attribute("value") == "control"


def test_for_a_screen_reader(visitor: Visitor) -> None:
    """Everything that can have the focus, and every region, has a name; changes of the state and notices are told."""
    tree = visitor.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = dict[str, list[str]]()
    for node in tree:
        properties = {each["name"]: each["value"].get("value") for each in node.get("properties", ())}
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        roles.setdefault(role, []).append(name)
        if properties.get("focusable") and role not in ("RootWebArea", "ListMarker"):
            assert name, node
    assert {"Topics", "What happens", "Who talks to whom", "Health", "Events"} <= set(roles["heading"])
    assert "In short" in roles["region"]
    assert any(name.startswith("topic plant: ") for name in roles["button"])
    assert visitor.one("#state").get_attribute("role") == "status"
    assert visitor.one("#notices").get_attribute("role") == "log"


def is_wide(visitor: Visitor, width: int) -> bool:
    return bool(run(visitor.driver, "return innerWidth") == width)


CONTRASTS = """
const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const bright = (colour) => {
  probe.fillStyle = colour;
  probe.fillRect(0, 0, 1, 1);
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = [...probe.getImageData(0, 0, 1, 1).data].map((value) => linear(value / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const style = getComputedStyle(document.documentElement), pairs = {};
for (const [text, back] of arguments[0]) {
  const [one, two] = [text, back].map((name) => bright(style.getPropertyValue(`--${name}`))).sort((a, b) => b - a);
  pairs[`${text} on ${back}`] = (one + 0.05) / (two + 0.05);
}
return pairs;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_wide(visitor: Visitor, scheme: str) -> None:
    """In both colour schemes texts have contrast (WCAG 2.2: 4.5); nothing long sticks out of a narrow window."""
    client = KnownClient("c" * 200, topics=("",), state="ready", facts={"out/s": "9,999.5", "process": f"1 on {'h' * 200}"})
    probe = ProbeFacts("proxy", False, "r" * 200, {})
    visitor.page.watcher.note(lambda overview: overview.note_clients([client]))
    visitor.page.watcher.note(lambda overview: overview.note_probes({f"http://{'h' * 200}:9464": probe}))
    visitor.page.watcher.note(lambda overview: overview.notices.add(Level.ERROR, "log", "n" * 200, 1.0))
    visitor.page.send("t" * 200, type="x" * 200, **{"k" * 100: "v" * 200})
    visitor.one("#graph-details summary").click()
    visitor.waits_for("#graph-list li", "c" * 200)
    visitor.waits_for("#health h3", "h" * 200)
    visitor.waits_for("#list li", "v" * 200)
    for width in (320, 390, 768, 1400, 2000):
        show(visitor.driver, width, 844, scheme=scheme, mobile=width < 500)
        eventually(partial(is_wide, visitor, width))
        assert run(visitor.driver, "return document.documentElement.scrollWidth") <= width
    texts = [
        ("text", "card"),
        ("text", "back"),
        ("muted", "card"),
        ("muted", "back"),
        ("accent", "card"),
        ("on-accent", "accent"),
    ]
    levels = [(level, f"{level}-back") for level in ("good", "warn", "bad")] + [
        ("bad", "card"),
        ("warn", "card"),
        ("muted", "hover"),
    ]
    contrasts = run(visitor.driver, CONTRASTS, texts + levels)
    assert {pair: ratio for pair, ratio in contrasts.items() if ratio < 4.5} == {}


def test_the_token(driver: Chrome) -> None:
    """The page asks for the token, refuses another one, and then shows the bus, without the token in its address."""
    with served(TOKEN) as page:
        visitor = Visitor(driver, page)
        driver.get(f"{page.url}/")
        visitor.one("#token").send_keys("something else" + Keys.ENTER)
        visitor.waits_for("#complaint", "That is not the token")
        visitor.one("#token").send_keys(TOKEN + Keys.ENTER)
        visitor.waits_for("#state", "ready")
        assert driver.current_url == f"{page.url}/"
        assert run(driver, "return document.cookie") == ""
        driver.delete_all_cookies()
        driver.get(f"{page.url}/?token={TOKEN}")
        visitor.waits_for("#state", "ready")
        driver.get("about:blank")
        visitor.complaints()


def test_a_server_that_comes_back(driver: Chrome) -> None:
    """A page that has lost its server says so, and shows the bus again when it is back."""
    with contextlib.ExitStack() as first:
        page = first.enter_context(served())
        visitor = Visitor(driver, page)
        driver.get(f"{page.url}/")
        visitor.waits_for("#state", "ready")
        page.send("plant", type="before")
        visitor.waits_for("#list li", "before")
        first.close()
        visitor.waits_for("#state", "no answer")
    with served(port=int(page.url.rpartition(":")[2])) as again:
        visitor.waits_for("#state", "ready")
        again.send("plant", type="after")
        visitor.waits_for("#list li", "after")
        driver.get("about:blank")
        visitor.complaints()
