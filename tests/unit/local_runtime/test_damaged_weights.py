"""Files cut off, absurd or hostile: a typed error, no crash, no memory taken for what they claim."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.local_runtime.tiny import save_tiny, save_tokenizer
from tests.unit.local_runtime.tiny_gguf import write_gguf

ATTEMPTS = 60


def damage(folder: Path, seed: int) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.unit.local_runtime.damaging", str(folder), str(seed), str(ATTEMPTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, int] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(
    "name", ["llama wide", "gemma3_text wide", "qwen3_moe wide raw", "deepseek_v2"], ids=lambda name: name.split()[0]
)
def test_damaged_folders_are_refused_by_a_typed_error(name: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    save_tiny(name, tmp_path)

    told = damage(tmp_path, seed=1)

    assert told.pop("computed", 0) + sum(told.values()) == ATTEMPTS
    assert sum(told.values()) > ATTEMPTS / 4, told


@pytest.mark.parametrize(("quantisation", "name"), [("Q8_0", "llama wide"), ("Q4_0", "gemma2 wide")])
def test_damaged_files_are_refused_by_a_typed_error(quantisation: str, name: str, tmp_path: Path) -> None:
    made, folder = tmp_path / "made", tmp_path / "folder"
    made.mkdir()
    folder.mkdir()
    write_gguf(save_tiny(name, made), folder / "m.gguf", quantisation=quantisation)

    told = damage(folder, seed=2)

    assert told.pop("computed", 0) + sum(told.values()) == ATTEMPTS
    assert sum(told.values()) > ATTEMPTS / 4, told
