"""The project's own files as texts and syntax trees, for the laws; knows no law."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
PRODUCT = ("policies", "routers", "local_runtime", "gateway", "migrations")
OWN = (*PRODUCT, "benchmarks", "tests")
LATE = ("__import__", "import_module", "importlib.import_module")
Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file; `path` is relative to the root, with slashes."""

    path: str
    text: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        """The top-level folder that the file belongs to."""
        return self.path.split("/")[0]

    def at(self, node: ast.stmt | ast.expr | ast.excepthandler | int, words: str) -> str:
        """A finding as `path:line: words`."""
        return f"{self.path}:{node if isinstance(node, int) else node.lineno}: {words}"


@cache
def tracked() -> tuple[str, ...]:
    """Paths of all files that are, or would be, under version control."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    return tuple(sorted(path for path in set(listed.splitlines()) if (ROOT / path).is_file()))


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """The Python files of some top-level folders, those of the product unless named."""
    wanted = folders or PRODUCT
    paths = [path for path in tracked() if path.endswith(".py") and path.split("/")[0] in wanted]
    return tuple(parse((ROOT / path).read_text(encoding="utf-8"), path) for path in paths)


def parse(text: str, path: str = "gateway/snippet.py") -> Source:
    """A file, or a snippet that a law is tried on."""
    text = dedent(text)
    return Source(path, text, ast.parse(text, path))


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports: at the top, late, for types only, or by a literal name."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(source, node)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call) and called(node) in LATE and node.args and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def _base(source: Source, node: ast.ImportFrom) -> str:
    """The absolute name behind `from ... import`."""
    if not node.level:
        return node.module or ""
    parents = source.path.removesuffix(".py").split("/")[: -node.level]
    return ".".join([*parents, node.module] if node.module else parents)


def called(node: ast.Call) -> str:
    """The dotted name of what is called, empty where it has none."""
    return dotted(node.func)


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute, empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call in a tree."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Every function with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def import_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that is evaluated when the module is imported: not the bodies of functions, nor type-only code."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition | ast.Lambda):
            yield from _defaults(node)
        elif not (isinstance(node, ast.If) and _never_imported(node)):
            yield node
            yield from import_time(node)


def _defaults(node: Definition | ast.Lambda) -> Iterator[ast.AST]:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    for part in (*node.args.defaults, *node.args.kw_defaults, *decorators):
        if part is not None:
            yield from ast.walk(part)


def _never_imported(node: ast.If) -> bool:
    return "TYPE_CHECKING" in ast.unparse(node.test) or "__name__" in ast.unparse(node.test)


def report(findings: list[str]) -> str:
    """Findings as pytest shows them whole: one a line."""
    return "\n" + "\n".join(findings)
