"""Files stay under 400 lines, functions under 60."""

from __future__ import annotations

from tests.house.source import OWN, Source, functions, parse, report, sources

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def too_long(source: Source) -> list[str]:
    """The file and its functions that are over the bound."""
    found = []
    lines = source.text.count("\n")
    if lines > MAX_FILE_LINES:
        found.append(source.at(1, f"{lines} lines"))
    for name, node in functions(source.tree):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_FUNCTION_LINES:
            found.append(source.at(node, f"{name} has {length} lines"))
    return found


def test_no_file_and_no_function_is_too_long() -> None:
    found = [one for source in sources(*OWN) for one in too_long(source)]

    assert not found, report(found)


def test_a_long_file_is_found() -> None:
    assert too_long(parse("x = 1\n" * 401)) == ["gateway/snippet.py:1: 401 lines"]


def test_a_long_method_is_found() -> None:
    text = "class Thing:\n    async def act(self):\n" + "        x = 1\n" * 60

    assert too_long(parse(text)) == ["gateway/snippet.py:2: Thing.act has 61 lines"]
