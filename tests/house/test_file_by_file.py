"""A test that hangs or ends its process fails by its name, once, and every other test of the suite still runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.house.source import ROOT

HANGS = "import threading\ndef test_hangs():\n    lock = threading.Lock()\n    lock.acquire()\n    lock.acquire()\n"
DIES = "import os\ndef test_dies():\n    os._exit(3)\n"
WELL = "def test_well_{0}():\n    pass\n"


def test_who_hangs_or_dies_fails_by_name_and_all_others_run(tmp_path: Path) -> None:
    files = {"a": HANGS + WELL.format(1), "b": WELL.format(2), "c": WELL.format(3) + WELL.format(4), "d": DIES}
    for name, text in files.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    arguments = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--timeout", "1", "-q", "-c", "none.ini"]
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "pytest_timeout", *arguments, str(tmp_path)]
    (tmp_path / "none.ini").write_text("[pytest]\n")
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}

    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)

    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 2, done.stdout
    assert "2 failed, 4 passed" in done.stdout.splitlines()[-1]
    assert any("test_hangs - Failed: Timeout" in line for line in failed)
    assert "crashed while running 'test_d.py::test_dies'" in done.stdout
