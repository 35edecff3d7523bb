"""Draws the pictures of the documentation into ``docs/pictures/``: ``python -m docs.drawings``. A test compares the files.

`house.svg` and `way-of-an-event.svg` are drawn by hand. All pictures have the same style, in light and in dark.
"""

from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

PICTURES = Path(__file__).parent / "pictures"

_STYLE = """\
.bg{fill:#fff}.box{fill:#eef1f6;stroke:#7a8699}.proc{fill:none;stroke:#7a8699;stroke-dasharray:5 4}
.strong{fill:#dfe6fb;stroke:#4058b5}.good{fill:#e0f2e4;stroke:#2e7d44}.bad{fill:#fdeaea;stroke:#b3382f}
text{font-family:system-ui,sans-serif;fill:#1c2430}.t{font-size:15px;font-weight:600}.s{font-size:12.5px}
.f{font-size:12px;font-family:ui-monospace,monospace;fill:#4a5568}.m{text-anchor:middle}.e{text-anchor:end}
.l{stroke:#4058b5;stroke-width:1.8;fill:none}.h{fill:#4058b5}.r{stroke:#2e7d44;stroke-width:1.8;fill:none}.g{fill:#2e7d44}
.x{stroke:#b3382f;stroke-width:1.8;fill:none;stroke-dasharray:4 3}.y{fill:#b3382f}
@media (prefers-color-scheme:dark){.bg{fill:#1e2129}.box{fill:#2a303c;stroke:#8b97ab}.strong{fill:#2c3560;stroke:#9fb0ff}
.good{fill:#20402a;stroke:#7fd197}.bad{fill:#4a2322;stroke:#ff9d94}.proc{stroke:#8b97ab}text{fill:#e7ebf2}.f{fill:#b3bdcc}
.l{stroke:#9fb0ff}.h{fill:#9fb0ff}.r{stroke:#7fd197}.g{fill:#7fd197}.x{stroke:#ff9d94}.y{fill:#ff9d94}}"""
_HEADS = {"l": "h", "r": "g", "x": "y"}  # the class of an arrow's head, by that of its line


class Picture:
    """A picture that grows.

    Args:
        title: of the picture.
        about: what can be seen, for those who cannot see it.
        width: in pixels, as all lengths.
        height: of the picture.
    """

    def __init__(self, title: str, about: str, width: int, height: int) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="t d">',
            f'<title id="t">{escape(title)}</title>',
            f'<desc id="d">{escape(about)}</desc>',
            f"<style>\n{_STYLE}\n</style>",
            "<defs>"
            + "".join(
                f'<marker id="{line}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
                f'orient="auto-start-reverse"><path class="{head}" d="M0 0L8 4L0 8z"/></marker>'
                for line, head in _HEADS.items()
            )
            + "</defs>",
            f'<rect class="bg" width="{width}" height="{height}" rx="8"/>',
        ]

    def box(self, x: int, y: int, width: int, height: int, title: str, *lines: str, kind: str = "box") -> None:
        """Draw a box with a title and lines; a line that begins with ` is code."""
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')
        if title:
            self.text(x + 11, y + 22, title, "t")
        for number, line in enumerate(lines):
            at = y + 41 + 17 * number - (0 if title else 19)
            self.text(x + 11, at, line.removeprefix("`"), "f" if line.startswith("`") else "s")

    def process(self, x: int, y: int, width: int, height: int, title: str) -> None:
        """Draw the frame of a process or a machine, with its name above."""
        self._parts.append(f'<rect class="proc" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>')
        self.text(x + 12, y - 8, title, "t")

    def text(self, x: int, y: int, text: str, kind: str = "s") -> None:
        """Write a text; `m` in its kind centres it, `e` ends it there."""
        self._parts.append(f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>')

    def arrow(self, path: str, kind: str = "l", *, both: bool = False) -> None:
        """Draw an arrow along an SVG path: l is an event, r another good thing, x a loss."""
        start = f' marker-start="url(#{kind})"' if both else ""
        self._parts.append(f'<path class="{kind}" marker-end="url(#{kind})"{start} d="{path}"/>')

    def svg(self) -> str:
        """The whole picture."""
        return "\n".join([*self._parts, "</svg>"]) + "\n"


def services() -> Picture:
    """Services, the proxy and its two ports."""
    picture = Picture(
        "Services, proxy and ports",
        "Three services, each connected to both ports of one proxy: they publish to port 5559 and receive from port 5560. "
        "No service is connected to another one.",
        920,
        360,
    )
    for number, (name, does) in enumerate(
        [("sensor", "emits measured"), ("thermostat", "handles measured, emits heating"), ("display", "handles both")]
    ):
        x = 20 + 305 * number
        picture.box(x, 20, 270, 66, name, does, kind="strong")
        picture.text(x + 11, 78, "client", "f")
        picture.arrow(f"M{x + 90} 86C{x + 90} 165 {250 + 20 * number} 150 {250 + 20 * number} 226")
        picture.arrow(f"M{630 + 20 * number} 226C{630 + 20 * number} 150 {x + 180} 165 {x + 180} 88", "r")
    picture.process(90, 206, 740, 130, "")
    picture.box(120, 228, 270, 62, "5559, XSUB", "publishers connect here")
    picture.box(530, 228, 270, 62, "5560, XPUB", "subscribers connect here")
    picture.arrow("M390 259L526 259")
    picture.text(458, 250, "by topic", "s m")
    picture.text(458, 322, "proxy: one process, decodes nothing, stores nothing", "s m")
    picture.text(58, 170, "emit_event", "f")
    picture.text(862, 170, "@on handlers", "f e")
    return picture


def states() -> Picture:
    """States of a client."""
    picture = Picture(
        "States of a client",
        "CLOSED, then CONNECTING after connect(), READY when the path is proven, DEGRADED when a connection breaks or an "
        "echo is overdue, READY again when the path is proven anew, CLOSED after close() or when the client gives up.",
        920,
        330,
    )
    picture.box(20, 40, 200, 84, "CLOSED", "emitting is refused:", "`NotConnected")
    picture.box(350, 40, 220, 84, "CONNECTING", "the path is not proven yet;", "events are kept")
    picture.box(690, 40, 210, 84, "READY", "a subscription went through", "and came back; events go out", kind="good")
    picture.box(690, 214, 210, 84, "DEGRADED", "a connection is down, or", "an echo late; events are kept", kind="bad")
    picture.arrow("M220 70L346 70")
    picture.text(283, 60, "connect()", "f m")
    picture.arrow("M570 82L686 82", "r")
    picture.text(628, 72, "echo is back", "s m")
    picture.arrow("M740 124L740 210", "x")
    picture.text(732, 172, "broken, or echo overdue", "s e")
    picture.arrow("M850 214L850 128", "r")
    picture.text(858, 176, "echo", "s")
    picture.arrow("M690 256L120 256L120 128", "x")
    picture.text(400, 246, "EVENTBUS_RECONNECT_ATTEMPTS are used up: ReconnectFailed", "f m")
    picture.arrow("M795 40C795 8 120 8 120 36")
    picture.text(458, 34, "close(), from every state", "s m")
    picture.arrow("M350 112L224 112", "x")
    picture.text(287, 130, "no proxy in time", "s m")
    return picture


def delivery() -> Picture:
    """Delivery, and where an event can end."""
    picture = Picture(
        "Delivery, and where an event can end",
        "From the send buffer through the proxy, its queue for the subscriber, the receive queue and the consumer to "
        "handlers; below each place: when an event ends there, and what counts it.",
        1080,
        330,
    )
    places = [
        ("send buffer", "EVENTBUS_SEND_HWM", "full, or closed", "while the proxy", "is away", "drops: send_buffer, closed"),
        ("proxy", "rules, size", "not permitted, or", "too large; or nobody", "is subscribed", "drops: denied, too_large"),
        ("proxy's queue", "EVENTBUS_PROXY_HWM", "the subscriber", "is too slow", "", "lost, with numbers"),
        ("receive queue", "EVENTBUS_RECEIVE_HWM", "its process", "is killed", "", "nothing, "),
        ("consumer", "JSON, schema", "it cannot be read,", "or has a type", "that is unknown", "rejects, unknown_types"),
        (
            "handlers",
            "@on, recv_event",
            "one raises; or",
            "recv_event is",
            "called too seldom",
            "handler_errors, drops: unread",
        ),
    ]
    for number, (name, limit, *ends, counted) in enumerate(places):
        x = 14 + 178 * number
        picture.box(x, 40, 160, 62, name, f"`{limit}", kind="strong" if number in (0, 5) else "box")
        if number:
            picture.arrow(f"M{x - 18} 71L{x - 3} 71")
        picture.arrow(f"M{x + 80} 102L{x + 80} 152", "x")
        picture.box(x, 156, 160, 78, "", *ends, kind="bad")
        picture.text(x + 80, 258, "counted as", "s m")
        first, _, second = counted.partition(", ")
        picture.text(x + 80, 276, first + ("," if second else ""), "f m")
        picture.text(x + 80, 292, second, "f m")
    picture.text(14, 26, "publishing service", "t")
    picture.text(192, 26, "proxy", "t")
    picture.text(548, 26, "subscribing service", "t")
    picture.text(540, 320, "client.stats() has all counts; each reason is logged as a warning at most once a minute", "s m")
    return picture


def reliable() -> Picture:
    """Reliable mode and repair."""
    picture = Picture(
        "Numbered messages: what a lost connection took is sent again",
        "A publisher sends messages 41, 42 and 43. The connection breaks after 42. After the reconnection the publisher "
        "sends 42 and 43 again; the receiver skips 42, which it has, and misses nothing.",
        920,
        440,
    )
    for x, name in ((150, "publisher"), (460, "proxy"), (770, "receiver")):
        more = ["`EVENTBUS_NUMBERED=true"] if name == "publisher" else []
        picture.box(x - 100, 12, 200, 50 if more else 40, name, *more, kind="strong")
        picture.arrow(f"M{x} {62 if more else 52}L{x} 428", "l")
    for y, number in ((92, 41), (122, 42)):
        picture.arrow(f"M150 {y}L456 {y + 6}")
        picture.arrow(f"M460 {y + 6}L766 {y + 12}")
        picture.text(303, y - 4, f"#{number}", "f m")
        picture.text(613, y + 2, f"#{number}", "f m")
    picture.arrow("M150 158L330 161", "x")
    picture.text(240, 152, "#43", "f m")
    picture.box(342, 142, 236, 52, "", "the proxy is killed, or the cable", "is pulled: 43 is gone", kind="bad")
    picture.text(140, 190, "keeps the last", "s e")
    picture.text(140, 207, "seconds, up to", "s e")
    picture.text(140, 224, "RESEND_BYTES", "f e")
    picture.arrow("M150 246L456 246", "r", both=True)
    picture.text(303, 238, "connected again, echo is back", "s m")
    for y, number in ((282, 42), (312, 43)):
        picture.arrow(f"M150 {y}L456 {y + 6}")
        picture.arrow(f"M460 {y + 6}L766 {y + 12}")
        picture.text(303, y - 4, f"#{number} again", "f m")
    picture.text(782, 296, "has 42: skips it,", "s")
    picture.text(782, 312, "repeated + 1", "f")
    picture.text(782, 334, "43 is handled", "s")
    picture.arrow("M150 372L456 378")
    picture.arrow("M460 378L766 384")
    picture.text(303, 368, "#46", "f m")
    picture.text(782, 378, "44, 45 never came:", "s")
    picture.text(782, 394, "lost + 2", "f")
    return picture


def machines() -> Picture:
    """Several machines, with keys."""
    picture = Picture(
        "Several machines, with keys",
        "One machine runs the proxy with its secret key and an allow-list of public keys. Two other machines run services, "
        "each with a secret key of its own and the proxy's public key. All connections go to the proxy, and are encrypted.",
        920,
        390,
    )
    picture.process(330, 40, 260, 330, "machine 192.0.2.1")
    picture.box(350, 60, 220, 84, "eventbus proxy", "ports 5559 and 5560", "`EVENTBUS_HOST=192.0.2.1", kind="strong")
    picture.box(350, 164, 220, 52, "", "`proxy.secret", "who the proxy is")
    picture.box(
        350,
        236,
        220,
        116,
        "allow.toml",
        "`thermostat = <public key>",
        "`display = <public key>",
        "who may connect, and",
        "what each may do",
    )
    for x, name, other in ((20, "thermostat", "machine A"), (690, "display", "machine B")):
        picture.process(x, 40, 210, 330, other)
        picture.box(x + 16, 60, 178, 84, name, "`EVENTBUS_HOST=", "`  192.0.2.1", kind="strong")
        picture.box(x + 16, 164, 178, 52, "", f"`{name}.secret", "who it is")
        picture.box(x + 16, 236, 178, 52, "", "`proxy.pub", "whom it trusts")
    picture.arrow("M214 90L346 90", both=False)
    picture.arrow("M706 90L574 90", both=False)
    picture.text(280, 80, "CURVE", "f m")
    picture.text(640, 80, "CURVE", "f m")
    picture.text(280, 110, "encrypted", "s m")
    picture.text(640, 110, "encrypted", "s m")
    picture.text(125, 322, "nothing listens here", "s m")
    picture.text(795, 322, "nothing listens here", "s m")
    return picture


def transports() -> Picture:
    """Transports side by side."""
    picture = Picture(
        "Transports side by side",
        "Memory joins clients of one process, ZeroMQ services through a proxy, NATS through its server, and JetStream "
        "stores events, too.",
        920,
        360,
    )
    columns = [
        ("memory", "tests; one process", None, ["nothing to run", "no network", "exact topics, ordered"]),
        ("ZeroMQ", "one machine, or a few", "eventbus proxy", ["the default", "one small process", "CURVE keys, rules"]),
        ("NATS", "many machines", "nats-server", ["a server, or a cluster", "no proxy of ours", "accounts, TLS"]),
        ("JetStream", "events that must stay", "nats-server, disk", ["stored for later", "acknowledged", "work groups"]),
    ]
    for number, (name, purpose, middle, facts) in enumerate(columns):
        x = 16 + 226 * number
        picture.text(x + 105, 28, name, "t m")
        picture.text(x + 105, 46, purpose, "s m")
        picture.box(x, 62, 98, 40, "service", kind="strong")
        picture.box(x + 112, 62, 98, 40, "service", kind="strong")
        if middle is None:
            picture.arrow(f"M{x + 49} 102C{x + 49} 170 {x + 161} 170 {x + 161} 106", both=True)
            picture.text(x + 105, 180, "MemoryHub", "f m")
        else:
            picture.box(x + 20, 150, 170, 44, middle)
            picture.arrow(f"M{x + 49} 102L{x + 75} 146", both=True)
            picture.arrow(f"M{x + 161} 102L{x + 135} 146", both=True)
        if name == "JetStream":
            picture.box(x + 50, 204, 110, 30, "", "stream")
        for line, fact in enumerate(facts):
            picture.text(x + 105, 262 + 18 * line, fact, "s m")
    picture.text(460, 344, "the same client, handlers and tests on each of them: only the settings differ", "s m")
    return picture


DRAWINGS: dict[str, Callable[[], Picture]] = {
    "services.svg": services,
    "states.svg": states,
    "delivery.svg": delivery,
    "reliable.svg": reliable,
    "machines.svg": machines,
    "transports.svg": transports,
}


def write(names: Iterable[str] = DRAWINGS) -> None:
    """Draw the pictures of these names."""
    for name in names:
        (PICTURES / name).write_text(DRAWINGS[name]().svg())


if __name__ == "__main__":
    write()
