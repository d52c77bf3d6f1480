"""Imports go down the staircase only; network, SQL and heavy packages stay on the floors that may have them."""

from __future__ import annotations

from tests.house.source import Source, imports, parse, report, sources

FLOORS = {
    "policies": {"policies"},
    "routers": {"routers", "policies"},
    "local_runtime": {"local_runtime", "policies"},
    "gateway": {"gateway", "routers", "local_runtime", "policies"},
    "migrations": {"migrations", "gateway", "routers", "local_runtime", "policies"},
    "benchmarks": {"benchmarks", "gateway", "routers", "local_runtime", "policies"},
}
OWN = {*FLOORS, "tests"}
NETWORK_AND_SQL = {
    *("aiohttp", "fastapi", "httptools", "httpx", "httpx_aiohttp", "http", "requests", "socket", "socketserver"),
    *("starlette", "urllib", "uvicorn", "yarl", "aiosqlite", "alembic", "asyncpg", "redis", "sqlalchemy", "sqlite3"),
}
HEAVY = {
    *("gguf", "onnx", "onnxruntime", "safetensors", "sentence_transformers", "sklearn", "tokenizers"),
    *("torch", "torch_geometric", "transformers"),
}
FORBIDDEN = {
    "policies": NETWORK_AND_SQL | HEAVY | {"numpy"},
    "routers": NETWORK_AND_SQL,
    "local_runtime": NETWORK_AND_SQL,
    "gateway": HEAVY,
    "migrations": HEAVY,
    "benchmarks": set(),
}


def wrong_imports(source: Source) -> list[str]:
    """Imports that lead upwards, sideways, or to what this floor may not know."""
    wrong = []
    for line, name in imports(source):
        root = name.split(".")[0]
        if root in OWN and root not in FLOORS[source.folder]:
            wrong.append(source.at(line, f"{source.folder} may not import {name}"))
        if root in FORBIDDEN[source.folder]:
            wrong.append(source.at(line, f"{root} has no business in {source.folder}"))
    return wrong


def test_imports_go_down_the_staircase_only() -> None:
    found = [wrong for source in sources(*FLOORS) for wrong in wrong_imports(source)]

    assert not found, report(found)


def test_an_import_upwards_is_found_wherever_it_hides() -> None:
    text = """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from gateway.app import Front
        def late() -> None:
            import local_runtime.engine
            importlib.import_module("migrations.env")
    """

    found = wrong_imports(parse(text, "routers/snippet.py"))

    assert [one.split(": ")[1] for one in found] == [
        "routers may not import gateway.app.Front",
        "routers may not import local_runtime.engine",
        "routers may not import migrations.env",
    ]


def test_a_relative_import_upwards_is_found() -> None:
    assert wrong_imports(parse("from ..gateway import app", "policies/snippet.py")) != []


def test_network_and_weights_are_found_where_they_may_not_be() -> None:
    assert wrong_imports(parse("import httpx", "local_runtime/snippet.py")) != []
    assert wrong_imports(parse("from torch import nn", "gateway/snippet.py")) != []
    assert wrong_imports(parse("from torch import nn", "local_runtime/snippet.py")) == []
