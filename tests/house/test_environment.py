"""The environment is read in one file, which `fingerpost` users find documented as settings."""

from __future__ import annotations

import ast

from tests.house.source import Source, dotted, parse, report, sources

HOME = "gateway/settings.py"
NAMES = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def environment_reads(source: Source) -> list[str]:
    """Uses of `os.environ` and its kin, and command-line options that read a variable by themselves."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and dotted(node.value) == "os" and node.attr in NAMES:
            found.append(source.at(node, f"os.{node.attr}"))
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            found += [source.at(node, f"os.{alias.name}") for alias in node.names if alias.name in NAMES]
        elif isinstance(node, ast.keyword) and node.arg == "envvar":
            found.append(source.at(node.value, "envvar="))
    return found


def test_the_environment_is_read_in_one_file_only() -> None:
    found = [one for source in sources() if source.path != HOME for one in environment_reads(source)]

    assert not found, report(found)


def test_the_one_file_does_read_it() -> None:
    assert [source.path for source in sources("gateway") if source.path == HOME and environment_reads(source)]


def test_every_way_to_read_the_environment_is_found() -> None:
    text = """
        import os
        from os import getenv
        home = os.environ["HOME"]
        key = typer.Option(envvar="KEY")
    """

    found = environment_reads(parse(text))

    assert {one.split(": ")[1] for one in found} == {"os.getenv", "os.environ", "envvar="}
