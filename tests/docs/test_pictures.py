"""The pictures of the documentation: drawn as their script says, whole by themselves, in light and in dark."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.drawings import DRAWINGS, PICTURES
from tests.docs.pages import pages, path_of


@pytest.mark.parametrize("name", DRAWINGS)
def test_each_picture_is_as_drawn(name: str) -> None:
    """The file is what the script draws. If not: uv run python -m docs.drawings"""
    assert (PICTURES / name).read_text() == DRAWINGS[name]().svg()


@pytest.mark.parametrize("path", sorted(PICTURES.glob("*.svg")), ids=lambda path: path.name)
def test_each_picture_stands_alone(path: Path) -> None:
    """It is XML with a title and a description, has colours for the dark, fetches nothing, and some page shows it."""
    text = path.read_text()
    tags = [element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()]
    assert {"title", "desc"} <= set(tags)
    assert not {"image", "script", "a", "use"} & set(tags)
    assert re.search(r"@media ?\(prefers-color-scheme: ?dark\)", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert any(f"pictures/{path.name})" in path_of(page).read_text() for page in pages())
