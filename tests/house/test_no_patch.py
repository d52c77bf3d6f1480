"""Tests hand in fakes; they never patch a name of ours from outside."""

from __future__ import annotations

import ast

from tests.house.source import OWN, Source, called, calls, dotted, parse, report, sources


def patches(source: Source) -> list[str]:
    """Uses of `unittest.mock.patch`, in any form, on something of ours."""
    ours = _names_of_ours(source)
    patching = [call for call in calls(source.tree) if "patch" in called(call).split(".") and call.args]
    return [
        source.at(call, f"{called(call)}({ast.unparse(call.args[0])}, ...)")
        for call in patching
        if _is_ours(call.args[0], ours)
    ]


def _names_of_ours(source: Source) -> set[str]:
    """Names that a file has imported from our own folders."""
    names: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OWN:
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            ours = [alias for alias in node.names if alias.name.split(".")[0] in OWN]
            names |= {(alias.asname or alias.name).split(".")[0] for alias in ours}
    return names


def _is_ours(target: ast.expr, ours: set[str]) -> bool:
    name = target.value if isinstance(target, ast.Constant) else dotted(target)
    return isinstance(name, str) and name.split(".")[0] in {*OWN, *ours}


def test_no_test_patches_a_name_of_ours() -> None:
    found = [one for source in sources("tests", "benchmarks") for one in patches(source)]

    assert not found, report(found)


def test_every_form_of_patching_is_found() -> None:
    text = """
        from unittest.mock import patch
        from gateway import pipeline
        @patch("gateway.pipeline.choose")
        def test_one(chosen):
            with patch.object(pipeline, "choose"): ...
            mock.patch.dict(pipeline.__dict__)
            with patch("sys.argv", []): ...
    """

    assert len(patches(parse(text, "tests/snippet.py"))) == 3
