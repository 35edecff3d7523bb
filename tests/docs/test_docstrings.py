"""docs/docstrings.py: docstrings as Markdown."""

from collections.abc import Callable

import pytest

from tests.docs.pages import needs_group

TARGETS = {"close": "eventbus.EventBusClient.close"}.get


@pytest.fixture
def as_markdown() -> Callable[..., str]:
    """The function under test, whose module imports griffe."""
    needs_group("docs")
    from docs.docstrings import as_markdown

    return as_markdown


def test_a_literal_block_becomes_code(as_markdown: Callable[..., str]) -> None:
    """A block indented behind a double colon is fenced, without its indentation; the text after it stays text."""
    rest = "It starts.\n\nRaises:\n    OSError: none is left."
    assert as_markdown(f"Use it::\n\n    with lifespan(App()) as app:\n        ...\n\n{rest}") == (
        f"Use it:\n\n```python\nwith lifespan(App()) as app:\n    ...\n```\n\n{rest}"
    )


def test_a_table_of_toml_becomes_toml(as_markdown: Callable[..., str]) -> None:
    """A block that begins with a bracket is TOML."""
    assert "```toml\n[clients.one]\n```" in as_markdown("A file::\n\n    [clients.one]\n")


def test_a_tree_becomes_text(as_markdown: Callable[..., str]) -> None:
    """A drawing with lines keeps them."""
    assert as_markdown("As one tree.\n\nError\n├── One  first\n│   └── Two\n\nEnd.") == (
        "As one tree.\n\n```text\nError\n├── One  first\n│   └── Two\n```\n\nEnd."
    )


def test_names_become_links_outside_of_code(as_markdown: Callable[..., str]) -> None:
    """A name in single backticks is linked if it stands for something; in double ones, and in blocks, it is not."""
    link = '<autoref identifier="eventbus.EventBusClient.close" optional><code>close</code></autoref>'
    assert as_markdown("As `close`, not `open`, and ``close``::\n\n    `close`\n", TARGETS) == (
        f"As {link}, not `open`, and ``close``:\n\n```python\n`close`\n```\n\n"
    )
