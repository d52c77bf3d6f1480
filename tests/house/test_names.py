"""Names that say nothing, and files that hide the module they import, are refused."""

from __future__ import annotations

import ast

from tests.house.source import OWN, Source, imports, parse, report, sources

EMPTY_NAMES = {"common", "helper", "helpers", "misc", "util", "utils"}
EMPTY_ENDINGS = ("Handler", "Helper", "Manager")


def empty_names(source: Source) -> list[str]:
    """Folders, files and classes whose name tells nothing."""
    parts = source.path.removesuffix(".py").split("/")
    found = [source.at(1, f"a module named {part}") for part in parts if part in EMPTY_NAMES]
    classes = [node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    return found + [source.at(one, f"a class named {one.name}") for one in classes if one.name.endswith(EMPTY_ENDINGS)]


def hiding(source: Source) -> list[str]:
    """Imports of a foreign module that has the importing file's own name (`redis_store.py`, not `redis.py`)."""
    stem = source.path.removesuffix(".py").split("/")[-1]
    return [source.at(line, f"imports {name}") for line, name in imports(source) if name.split(".")[0] == stem]


def test_every_name_says_something() -> None:
    found = [one for source in sources(*OWN) for one in empty_names(source)]

    assert not found, report(found)


def test_no_file_bears_the_name_of_a_module_that_it_imports() -> None:
    found = [one for source in sources(*OWN) for one in hiding(source)]

    assert not found, report(found)


def test_an_empty_name_is_found() -> None:
    assert empty_names(parse("", "gateway/utils.py")) == ["gateway/utils.py:1: a module named utils"]
    assert empty_names(parse("", "gateway/common/keys.py")) != []
    assert empty_names(parse("class KeyManager: ...")) == ["gateway/snippet.py:1: a class named KeyManager"]


def test_a_file_that_hides_its_import_is_found() -> None:
    assert hiding(parse("from redis.asyncio import Redis", "gateway/cache/redis.py")) != []
    assert hiding(parse("from redis.asyncio import Redis", "gateway/cache/redis_store.py")) == []
