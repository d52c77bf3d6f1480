"""No SQL is put together from pieces: what a database is told as text is written out in full where it is told."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.source import Source, called, calls, functions, parse, report, sources

# What takes SQL as text; of each, the first argument is the statement.
TAKES_SQL = {"text", "exec_driver_sql", "execute", "executemany", "executescript", "literal_column"}
MIGRATION = "migrations/versions/v0002_tenants_and_budgets.py"
# File and function, and why nothing that a client sends gets in; none of these statements can take parameters.
ALLOWED = {
    "gateway/ledger/engine.py _prepare_sqlite._on_connect": "PRAGMA with a number from our own code",
    "gateway/ledger/schema.py _run": "SET LOCAL with a constant of the same file",
    f"{MIGRATION} _extend_api_key": "a constraint's constant text, written once more readably",
    f"{MIGRATION} _protect_audit_log": "triggers with constants of the same file",
}


def told(source: Source) -> Iterator[ast.Call]:
    """Calls of functions that take SQL as text."""
    for call in calls(source.tree):
        if (called(call) or _last(call.func)).split(".")[-1] in TAKES_SQL and call.args:
            yield call


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ""


def assembled(source: Source) -> list[str]:
    """Statements that are f-strings, sums, `%`, `.format()` or `.join()`, or names that such a thing was given to."""
    suspects = {name for node in ast.walk(source.tree) for name in _given(node)}
    found = [call.lineno for call in told(source) if _is_assembled(call.args[0], suspects)]
    return [f"{source.path} {_function(source, line)}" for line in found]


def _function(source: Source, line: int) -> str:
    """The innermost function around a line."""
    around = [name for name, node in functions(source.tree) if node.lineno <= line <= (node.end_lineno or line)]
    return max(around, key=len, default="")


def _given(node: ast.AST) -> Iterator[str]:
    """Names that an assembled text is given to, also one among others in a loop."""
    if isinstance(node, ast.For):
        values = node.iter.elts if isinstance(node.iter, ast.Tuple | ast.List) else []
        targets: list[ast.expr] = [node.target]
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        values, targets = [node.value], node.targets if isinstance(node, ast.Assign) else [node.target]
    else:
        return
    if any(_is_assembled(value, set()) for value in values):
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _is_assembled(node: ast.expr, suspects: set[str]) -> bool:
    """Whether text is put together here; a constant in several literals is one constant by then."""
    if isinstance(node, ast.Name):
        return node.id in suspects
    if isinstance(node, ast.JoinedStr):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return any(_is_text(part) or _is_assembled(part, suspects) for part in (node.left, node.right))
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join", "replace", "format_map"):
            return _is_text(node.func.value) or _is_assembled(node.func.value, suspects)
        return _last(node.func) == "text" and bool(node.args) and _is_assembled(node.args[0], suspects)
    return False


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_no_sql_is_put_together_from_pieces() -> None:
    found = [one for source in sources("gateway", "migrations") for one in assembled(source)]

    assert not set(found) - set(ALLOWED), report(sorted(set(found) - set(ALLOWED)))


def test_every_allowance_is_still_needed() -> None:
    found = [one for source in sources("gateway", "migrations") for one in assembled(source)]

    assert set(ALLOWED) - set(found) == set()


def test_statements_as_text_are_seen_at_all() -> None:
    assert sum(1 for source in sources("gateway", "migrations") for _ in told(source)) > 50


def test_every_way_to_put_sql_together_is_found() -> None:
    text = """
        def a(): connection.execute(text(f"SELECT {name}"))
        def b(): connection.exec_driver_sql("SELECT " + name)
        def c(): connection.exec_driver_sql("SELECT %s" % name)
        def d(): text("SELECT {}".format(name))
        def e():
            sql = f"DELETE FROM {table}"
            engine.connect().exec_driver_sql(sql)
        def f():
            for pragma in ("A", f"PRAGMA a={b}"):
                cursor.execute(pragma)
        def bound():
            connection.execute(select(table).where(table.c.id == name))
            text("SELECT :name")
    """

    found = {one.split()[1] for one in assembled(parse(text))}

    assert found == {"a", "b", "c", "d", "e", "f"}
