"""Links between pages, and to files of the repository, lead somewhere, on a forge as on the site."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, pages, path_of, sections

_FENCED = re.compile(r"^ *(```+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^)\s]+)\)")
_SCHEME = re.compile(r"[a-z]+:")


def targets(page: str) -> Iterator[str]:
    """The targets of the page's links, but for those to other sites."""
    text = _CODE.sub("code", _FENCED.sub("", path_of(page).read_text()))
    for found in _LINK.finditer(text):
        if not _SCHEME.match(found["target"]):
            yield found["target"]


def anchors(path: Path) -> set[str]:
    """The names of a page's headings, as forges and mkdocs make them."""
    page = path.name if path == ROOT / "README.md" else str(path.relative_to(ROOT / "docs"))
    headings = (part.heading for part in sections(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    """Each leads to a file of the repository, and if it names a heading, to one that is there."""
    broken = []
    for target in targets(page):
        name, _, anchor = target.partition("#")
        path = (path_of(page).parent / name).resolve() if name else path_of(page)
        inside = path.is_relative_to(ROOT) and path.exists()
        if not inside or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def test_named_files_are_there() -> None:
    """Each Python file that the contributors' pages and the comments of the sources name is there."""
    sources = [path for top in ("container", "docs", "eventbus", "settings", "tests") for path in (ROOT / top).rglob("*.py")]
    paths = {f"/{path.relative_to(ROOT)}" for path in sources}
    pages_of_contributors = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "design.md", ROOT / "docs" / "fast-path.md"]
    missing = [
        (str(path.relative_to(ROOT)), name)
        for path in [*pages_of_contributors, *(path for path in sources if "tests" not in path.parts)]
        for name in re.findall(r"[\w/]*\w\.py\b", path.read_text() if path.suffix == ".md" else _comments(path))
        if not any(other.endswith(f"/{name}") for other in paths)
    ]
    assert missing == []


def test_each_package_is_on_the_map() -> None:
    """docs/design.md names each package."""
    text = (ROOT / "docs" / "design.md").read_text()
    packages = {path.parent.name for path in (ROOT / "eventbus").glob("*/__init__.py")}
    assert {name for name in packages if f"`{name}/`" not in text} == set()


def _comments(path: Path) -> str:
    """The comments of a source, and the docstrings that begin a module."""
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    return "\n".join([docstring, *re.findall(r"# .*", text)])
