"""No test waits for another process for ever: one that hangs would hold up all others."""

from __future__ import annotations

import ast

import pytest

from tests.house.source import Source, called, calls, parse, report, sources

RUNS = ("subprocess.run", "subprocess.check_call", "subprocess.check_output")


def unbounded(source: Source) -> list[str]:
    """Programs that are run, and outputs that are read to their end, without a time-out."""
    awaited = {id(node.value) for node in ast.walk(source.tree) if isinstance(node, ast.Await)}
    found = []
    for call in calls(source.tree):
        bounded = any(one.arg == "timeout" for one in call.keywords)
        ends = called(call) in RUNS or called(call).endswith(".communicate")
        # What is awaited is bounded by the block around it, or by the bound of each test.
        if ends and not bounded and id(call) not in awaited:
            found.append(source.at(call, f"{called(call)}(...) without timeout"))
    return found


def test_every_program_that_a_test_runs_has_a_bound() -> None:
    found = [one for source in sources("tests", "benchmarks") for one in unbounded(source)]

    assert not found, report(found)


@pytest.mark.parametrize("text", ["subprocess.run(x, {})", "process.communicate({})", "subprocess.check_output(x, {})"])
def test_a_wait_without_a_bound_is_found(text: str) -> None:
    assert unbounded(parse(text.format(""), "tests/x.py"))
    assert not unbounded(parse(text.format("timeout=5"), "tests/x.py"))
