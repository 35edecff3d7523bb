"""Every code block of every page is executed by the suite."""

import ast
from pathlib import Path

from tests.docs.pages import pages, sections

HERE = Path(__file__).parent


def taken() -> set[tuple[str, str]]:
    """The sections that tests take: the literal arguments of their calls of `section`."""
    return {
        (page, heading)
        for path in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "section"
        for page, heading in [[ast.literal_eval(argument) for argument in node.args]]
    }


def test_every_section_with_code_is_executed() -> None:
    """No page shows code that no test takes."""
    with_code = {(page, part.heading) for page in pages() for part in sections(page) if part.blocks}
    assert with_code - taken() == set()
