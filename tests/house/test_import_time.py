"""Importing a module does nothing: no global statement, no client, engine, thread or settings made on the way."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from tests.house.source import OWN, PRODUCT, Source, called, import_time, parse, report, sources

FOREIGN = {
    *("create_engine", "create_async_engine", "async_sessionmaker", "sessionmaker", "connect"),
    *("AsyncClient", "AsyncOpenAI", "Client", "ClientSession", "OpenAI", "Redis", "TCPConnector", "from_url"),
    *("CollectorRegistry", "Counter", "Gauge", "Histogram", "FastAPI", "InferenceSession", "SentenceTransformer"),
    *("Popen", "ProcessPoolExecutor", "Thread", "ThreadPoolExecutor", "basicConfig", "getenv", "open", "socket"),
    *("build", "create", "open_engine"),
}


def parts(files: Iterable[Source]) -> set[str]:
    """Our classes that are more than values: those with a constructor of their own, and the settings."""
    return {"Settings"} | {
        node.name
        for source in files
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and _has_constructor(node) and not node.name.endswith("Error")
    }


def _has_constructor(node: ast.ClassDef) -> bool:
    return any(isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in node.body)


def made_at_import(source: Source, own: set[str]) -> list[str]:
    """Calls at module level that make something which should be made by `gateway.build`."""
    found = []
    for node in import_time(source.tree):
        if isinstance(node, ast.Call):
            name = called(node).split(".")[-1]
            if name in own or name in FOREIGN:
                found.append(source.at(node, f"{called(node)} at import"))
    return found


def global_statements(source: Source) -> list[str]:
    """Every `global`."""
    return [source.at(node, "global") for node in ast.walk(source.tree) if isinstance(node, ast.Global)]


def test_nothing_is_made_at_import() -> None:
    own = parts(sources())

    found = [one for source in sources(*PRODUCT, "benchmarks") for one in made_at_import(source, own)]

    assert not found, report(found)


def test_there_is_no_global_statement() -> None:
    found = [one for source in sources(*OWN) for one in global_statements(source)]

    assert not found, report(found)


def test_what_is_made_at_import_is_found() -> None:
    text = """
        settings = Settings()
        class Front:
            client = aiohttp.ClientSession()
        def serve(engine=create_async_engine("sqlite://")): ...
        def later():
            return Settings()
    """

    assert made_at_import(parse(text), {"Settings"}) == [
        "gateway/snippet.py:2: Settings at import",
        "gateway/snippet.py:4: aiohttp.ClientSession at import",
        "gateway/snippet.py:5: create_async_engine at import",
    ]


def test_a_class_with_a_constructor_is_a_part() -> None:
    text = "class Store:\n    def __init__(self): ...\nclass Row: ...\n"

    assert parts([parse(text)]) == {"Settings", "Store"}


def test_a_global_statement_is_found() -> None:
    assert global_statements(parse("def count():\n    global total\n    total = 1")) == ["gateway/snippet.py:2: global"]
