"""`import gateway.app` and the command line load nothing heavy: what a policy does not name costs no memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.house.source import ROOT

HEAVY = (
    *("onnx", "onnxruntime", "scipy", "sentence_transformers", "sklearn"),
    *("torch", "torch_geometric", "transformers"),
)


def loaded(module: str, names: tuple[str, ...]) -> list[str]:
    """Which of `names` are in memory after a fresh interpreter has imported `module`."""
    code = f"import json, sys, {module}; print(json.dumps([name for name in {names!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("module", ["gateway.app", "gateway.cli.main"])
def test_importing_the_gateway_loads_nothing_heavy(module: str) -> None:
    assert loaded(module, HEAVY) == []


def test_what_an_import_loads_is_seen() -> None:
    assert loaded("json.tool", ("argparse", "torch")) == ["argparse"]
