"""The imports between the rooms of the house: they point one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WORDS = {"errors", "events", "exports", "policies"}
BELOW_TRANSPORTS = WORDS | {"_base", "keys", "nats_options", "observe", "options", "wire"}
BELOW_CLIENT = BELOW_TRANSPORTS | {"ask", "emit", "handle", "history", "receive", "transports"}

KNOWS: dict[str, set[str]] = {
    "exports": set(),
    "errors": {"exports"},
    "policies": {"exports"},
    "events": {"exports"},
    "stamped_event": {"events", "exports"},
    "_base": {"errors"},
    "keys": {"errors", "exports", "_base"},
    "options": {"_base", "errors", "exports", "keys", "policies"},
    "nats_options": {"_base", "errors", "options", "policies"},
    "wire": WORDS | {"_base"},
    "observe": WORDS | {"_base", "wire"},
    "handle": WORDS | {"_base", "wire", "observe"},
    "transports": BELOW_TRANSPORTS,
    "emit": BELOW_TRANSPORTS | {"handle", "transports"},
    "history": BELOW_TRANSPORTS | {"ask", "receive", "transports"},
    "receive": BELOW_TRANSPORTS | {"handle", "transports"},
    "ask": BELOW_TRANSPORTS | {"emit", "handle", "transports"},
    "assembly": BELOW_CLIENT,
    "client": BELOW_CLIENT | {"assembly"},
    "telemetry": WORDS | {"_base", "handle", "observe", "wire"},
    "proxy": WORDS | {"_base", "history", "keys", "options", "telemetry", "wire"},
    "settings": {"_base", "errors", "keys", "nats_options", "options", "policies"},
    "testing": BELOW_CLIENT | {"client", "container", "eventbus", "proxy", "settings"},
    "ui": WORDS | {"_base", "ask", "observe", "receive", "transports", "wire"},
    "cli": BELOW_CLIENT | {"client", "container", "proxy", "settings", "telemetry", "ui"},
    "container": BELOW_CLIENT | {"client", "proxy", "settings", "telemetry", "eventbus"},
    "__main__": {"cli"},
}
"""The imports that each room may have; `eventbus` stands for the public names. A room that is missing may import nothing."""

EMPTY = {"_base", "wire"}
"""Packages whose `__init__.py` imports nothing, because the lean process of a proxy imports modules of theirs."""


def room_of(path: Path) -> str:
    """The folder of `eventbus/` that a file is in, its own name if it is in none, or its floor."""
    floor, *inner = path.relative_to(ROOT).parts
    if floor != "eventbus":
        return floor
    return inner[0] if len(inner) > 1 else path.stem


def sources() -> Iterator[Path]:
    """All files of the three floors; rglob does not follow the links, so each stands on its own floor."""
    for floor in ("eventbus", "container", "settings"):
        yield from sorted((ROOT / floor).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each module that import statements name wherever they stand, and the name that is taken from it.

    What is imported for type checkers alone does not count.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from ((node.module or "", alias.name) for alias in node.names)
        else:
            yield from imported(node)


def rooms_known(source: str) -> set[str]:
    """The rooms that code imports; `eventbus` if it takes the public names."""
    found = set()
    for module, name in imported(ast.parse(source)):
        package, _, rest = module.partition(".")
        if package == "eventbus":
            found.add(rest.split(".")[0] if rest else name if (ROOT / "eventbus" / name).is_dir() else "eventbus")
    return found


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path) -> None:
    """A module imports rooms below its own only."""
    room = room_of(path)
    if path == ROOT / "eventbus" / "__init__.py":
        pytest.skip("it hands on the public names")
    assert rooms_known(path.read_text()) - {room} <= KNOWS.get(room, set())


def test_the_table_has_no_circle() -> None:
    """No room knows itself, directly or through others."""

    def visit(room: str, way: tuple[str, ...]) -> None:
        assert room not in way, " -> ".join((*way, room))
        for known in KNOWS.get(room, ()):
            visit(known, (*way, room))

    for room in KNOWS:
        visit(room, ())


def test_the_table_names_rooms_that_exist() -> None:
    """A room that is gone is gone from the table too."""
    rooms = {room_of(path) for path in sources()}
    assert KNOWS.keys() <= rooms
    assert rooms - {"__init__"} <= KNOWS.keys()


@pytest.mark.parametrize("package", sorted(EMPTY))
def test_these_packages_import_nothing(package: str) -> None:
    """Their `__init__.py` has a docstring only."""
    (statement,) = ast.parse((ROOT / "eventbus" / package / "__init__.py").read_text()).body
    assert isinstance(statement, ast.Expr)


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_floors_are_imported_by_their_full_names(path: Path) -> None:
    """Nobody imports `container` or `settings`: that works in the repository's own folder only, and makes two of each."""
    packages = {module.split(".")[0] for module, _ in imported(ast.parse(path.read_text()))}
    assert not packages & {"container", "settings"}
    if room_of(path) not in ("container", "testing"):
        assert "dependency_injector" not in packages


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("import eventbus.wire.frames", {"wire"}),
        ("from eventbus import proxy", {"proxy"}),
        ("from eventbus import on", {"eventbus"}),
        ("def late():\n    from eventbus.cli.main import main", {"cli"}),
        ("if TYPE_CHECKING:\n    from eventbus.client import EventBusClient", set()),
        ("import zmq", set()),
    ],
)
def test_how_imports_are_found(source: str, rooms: set[str]) -> None:
    """The search sees imports inside of functions, and both ways to write them."""
    assert rooms_known(source) == rooms
