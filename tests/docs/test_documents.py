"""docs/documents.md: the commands print what is shown of its service."""

from pathlib import Path

from tests.docs.pages import ROOT, Reader, commands, path_of, section


def test_the_commands(tmp_path: Path) -> None:
    """Graph, AsyncAPI and schemas of the page's service, as a person would type them one after the other."""
    reader = Reader(tmp_path)
    with section("documents.md", "What a container says of itself") as part:
        part.write(tmp_path)
    with section("documents.md", "Draw who emits and handles what") as part:
        (graph,) = commands(part.one("console"))
    assert reader.run(graph.text) == graph.output
    assert reader.run(f"{graph.text} --format svg") == (ROOT / "docs" / "pictures" / "graph.svg").read_text()
    with section("documents.md", "Describe it for others") as part:
        (asyncapi,) = commands(part.one("console"))
    assert reader.run(asyncapi.text) == asyncapi.output
    with section("documents.md", "Notice a change that breaks others") as part:
        typed = commands(part.one("console"))
    for command in typed:
        assert reader.run(command.text, status=int("BREAKS" in command.output)) == command.output


def test_the_glossary_is_sorted() -> None:
    """Words are found where people look for them."""
    lines = [line for line in path_of("glossary.md").read_text().splitlines() if line.startswith("| ")][1:]
    words = [line.split("|")[1].strip().lower() for line in lines]
    assert words == sorted(words)
