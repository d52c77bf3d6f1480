"""Every file says in its first lines what it is for."""

from __future__ import annotations

import ast

from tests.house.source import OWN, Source, parse, report, sources


def without_docstring(source: Source) -> list[str]:
    """The file, when it has no module docstring; the empty files that only mark a folder of tests need none."""
    marker = source.folder == "tests" and source.path.endswith("__init__.py") and not source.text
    return [] if marker or ast.get_docstring(source.tree) else [source.at(1, "no module docstring")]


def test_every_module_has_a_docstring() -> None:
    found = [one for source in sources(*OWN) for one in without_docstring(source)]

    assert not found, report(found)


def test_a_module_without_docstring_is_found() -> None:
    assert without_docstring(parse("import os\n")) == ["gateway/snippet.py:1: no module docstring"]
    assert without_docstring(parse("")) != []
