"""The documentation site: it can be built, and its reference has everything that is public."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import eventbus
import eventbus.container
import eventbus.settings
from eventbus import errors
from eventbus.cli.spec import BY_NAME
from eventbus.settings import EventBusSettings
from eventbus.transports.contract import Transport
from eventbus.transports.memory import MemoryHub, MemoryTransport
from tests.docs.pages import ROOT, needs_group, pages


class Page(HTMLParser):
    """The links of a built page.

    Attributes:
        anchors: the names that links can lead to.
        fetched: what a browser fetches by itself to show the page.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        if tag != "a" and (given.get("rel") or "") != "canonical":
            self.fetched |= {given[name] or "" for name in ("src", "href") if name in given}


def public() -> list[set[str]]:
    """The public things of the package: of each, the names that it may have in the reference."""
    exported = [(module, name) for module in (eventbus, eventbus.container, eventbus.settings) for name in module.__all__]
    exported += [(errors, name) for name, thing in vars(errors).items() if isinstance(thing, type)]
    things: dict[int, set[str]] = {}
    for module, name in exported:
        thing = getattr(module, name)
        things.setdefault(id(thing), set()).update({f"{module.__name__}.{name}", f"{thing.__module__}.{name}"})
    return [
        *things.values(),
        *({f"{thing.__module__}.{thing.__name__}"} for thing in (MemoryHub, MemoryTransport, Transport)),
    ]


@pytest.mark.timeout(180)  # all pages, and the reading of all code
def test_the_site(tmp_path: Path) -> None:
    """It builds without a warning, its reference has each public name, variable and command, and it fetches nothing."""
    needs_group("docs")
    # In a copy, so that nothing of an earlier build is there.
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for floor in ("eventbus", "container", "settings"):
        (tmp_path / floor).symlink_to(ROOT / floor)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    site = tmp_path / "build" / "site"
    built = {str(path.relative_to(site)): Page(path.read_text()) for path in site.rglob("*.html")}

    reference = {anchor for name, page in built.items() if name.startswith("reference/") for anchor in page.anchors}
    assert [names for names in public() if reference.isdisjoint(names)] == []
    variables = {EventBusSettings.variable(*path) for path, _ in EventBusSettings.fields()}
    assert variables <= built["reference/settings.html"].anchors
    assert {f"eventbus-{name}" for name in BY_NAME} <= built["reference/command-line.html"].anchors

    elsewhere = {url for page in built.values() for url in page.fetched if re.match(r"(https?:)?//", url)}
    assert elsewhere == set()
    assert not list(site.rglob("*.py"))


def test_every_page_is_in_the_navigation() -> None:
    """No page can be found by search alone."""
    listed = set(re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    assert listed == set(pages()) - {"README.md"}
