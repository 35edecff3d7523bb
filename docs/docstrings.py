"""How the reference reads docstrings: a griffe extension that makes Markdown of the few things in them that are not."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from griffe import Extension, Object

_LITERAL = re.compile(r"^(?P<text>.*\S)?::$", re.MULTILINE)
_TREE = re.compile(r"^\S+\n(?:[│├└].*\n?)+", re.MULTILINE)
_CODE = re.compile(r"(?<!`)`(?P<name>[A-Za-z_][\w.]*)`(?!`)")
_FENCE = "```"


def as_markdown(text: str, target: Callable[[str], str | None] = lambda name: None) -> str:
    """A docstring as Markdown.

    What follows a line that ends in ``::`` becomes a block of Python or TOML, a tree that is drawn with lines one of text,
    and a name in single backticks a link.

    Args:
        text: the docstring, without its indentation.
        target: gives the full path of what a name stands for; None where nothing is to be linked.
    """

    def link(found: re.Match[str]) -> str:
        path = target(found["name"])
        # Optional: what no page shows is no link then.
        return found[0] if path is None else f'<autoref identifier="{path}" optional><code>{found["name"]}</code></autoref>'

    parts = list(_parts(text))
    return "".join(part if is_code else _CODE.sub(link, part) for part, is_code in parts)


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The text in parts, and whether each is a block of code, which is fenced here."""
    rest = text
    while (found := _next(rest)) is not None:
        before, code, rest = found
        yield before, False
        yield code, True
    yield rest, False


def _next(text: str) -> tuple[str, str, str] | None:
    """What is before the first block of code, that block, and what follows it."""
    literal, tree = _LITERAL.search(text), _TREE.search(text)
    if tree is not None and (literal is None or tree.start() < literal.start()):
        return text[: tree.start()], f"{_FENCE}text\n{tree[0].rstrip()}\n{_FENCE}\n", text[tree.end() :]
    if literal is None:
        return None
    margin = _indentation(literal[0])
    lines = text[literal.end() :].lstrip("\n").splitlines(keepends=True)
    block = []
    while lines and (not lines[0].strip() or _indentation(lines[0]) > margin):
        block.append(lines.pop(0))
    within = min((_indentation(line) for line in block if line.strip()), default=0)
    code = "".join(line[within:] if line.strip() else "\n" for line in block).rstrip()
    before = text[: literal.start()] + (literal["text"] or "") + ":\n\n"
    indent = " " * margin
    language = "toml" if code.startswith("[") else "python"
    fenced = "".join(f"{indent}{line}".rstrip() + "\n" for line in [f"{_FENCE}{language}", *code.splitlines(), _FENCE])
    return before, fenced + "\n", "".join(lines)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


class Docstrings(Extension):
    """Has every docstring pass through `as_markdown`."""

    def on_package(self, *, pkg: Object, **_: Any) -> None:
        """Rewrite the docstrings of a package that has been loaded."""
        objects = list(_objects(pkg))
        classes = {each.name: each.path for each in objects if each.is_class}
        for each in objects:
            if each.docstring is not None:
                each.docstring.value = as_markdown(each.docstring.value, partial(_target, each, classes))


def _target(where: Object, classes: Mapping[str, str], name: str) -> str | None:
    """What a name in a docstring stands for: a member of the class that it is in, or a class, or a member of one."""
    owner = where if where.is_class else where.parent
    if owner is not None and owner.is_class and name in owner.members:
        return f"{owner.path}.{name}"
    first, dot, rest = name.partition(".")
    if first in classes:
        return f"{classes[first]}{dot}{rest}"
    return name if name.startswith("eventbus.") else None


def _objects(module: Object) -> Iterator[Object]:
    """An object and everything in it that is not from elsewhere."""
    yield module
    for member in module.members.values():
        if not member.is_alias:
            yield from _objects(member)  # type: ignore[arg-type] # what is no alias is an object
