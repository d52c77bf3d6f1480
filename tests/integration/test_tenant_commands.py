"""Organisations, teams, keys, budgets, limits, secrets and the audit log from the command line."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main
from tests.serving import environment

CATALOGUE = """
[[model]]
id = "m"
context_tokens = 1000
[[endpoint]]
id = "stored"
model = "m"
provider = "openai"
base_url = "https://a.example/v1"
key_ref = "secret:A_KEY"
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


class Shell:
    """Runs `fingerpost` on a database of its own, in this process: a new one for each command would take minutes."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        (folder / "catalogue.toml").write_text(CATALOGUE)
        self.folder, self._patch, self._capture = folder / "data", patch, capture
        self.env = environment(self.folder, {"FINGERPOST_CATALOGUE": str(folder / "catalogue.toml")})
        self.run("db", "upgrade")

    def run(self, *arguments: str, said: str = "", **env: str) -> Ended:
        """A command, with `said` on its standard input."""
        with self._patch.context() as patch:
            patch.setattr(os, "environ", self.env | env)
            patch.setattr(sys, "argv", ["fingerpost", *arguments])
            patch.setattr(sys, "stdin", StringIO(said))
            with pytest.raises(SystemExit) as ended:
                main()
        return Ended(int(ended.value.code or 0), *self._capture.readouterr())

    def json(self, *arguments: str, **env: str) -> Any:
        """What a command says with --json."""
        ended = self.run(*arguments, "--json", **env)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, monkeypatch, capsys)


def test_tenants_are_made_changed_listed_and_revoked(shell: Shell) -> None:
    organisation = shell.json("org", "create", "acme", "--policy", "best", "--model", "m")
    team = shell.json("team", "create", "web", "--org", organisation["id"], "--days", "3")
    changed = shell.json("team", "update", team["id"], "--name", "net", "--days", "0", "--metadata", '{"a": 1}')
    bare = shell.json("org", "update", organisation["id"], "--policy", "", "--model", "")

    assert (organisation["policy"], organisation["allowed_models"]) == ("best", ["m"])
    assert (bare["policy"], bare["allowed_models"]) == (None, None)
    assert changed == team | {"name": "net", "expires_at": None, "metadata": {"a": 1}}
    assert shell.json("team", "list", "--org", organisation["id"]) == [changed]
    assert [shell.run("org", "revoke", organisation["id"]).returncode for _ in range(2)] == [0, 1]
    assert "net" in shell.run("team", "list").stdout


def test_a_key_is_made_for_a_team_updated_and_rotated(shell: Shell) -> None:
    organisation = shell.json("org", "create", "acme")
    team = shell.json("team", "create", "web", "--org", organisation["id"])

    key = shell.json("key", "issue", "k", "--team", team["id"], "--tag", "beta", "--metadata", '{"a": 1}')
    changed = shell.json("key", "update", key["id"], "--tag", "x", "--tag", "y", "--team", "")
    made = shell.json("key", "rotate", key["id"], "--overlap-hours", "0.5")

    assert key["metadata"] == {"a": 1, "tags": ["beta"]} and key["team_id"] == team["id"]
    assert (changed["metadata"], changed["team_id"]) == ({"a": 1, "tags": ["x", "y"]}, None)
    assert made["rotated_from"] == key["id"] and made["key"] != key["key"]
    assert shell.run("key", "rotate", key["id"]).returncode == 2
    listed = shell.run("key", "list").stdout
    assert made["id"] in listed and made["key"] not in listed


def test_budgets_and_limits_are_set_changed_listed_and_deleted(shell: Shell) -> None:
    budget = shell.json("budget", "create", "model", "m", "2.50", "--window", "calendar", "--period", "day", "--soft")
    limit = shell.json("limit", "create", "tag", "beta", "--rpm", "10")

    assert (budget["limit_usd"], budget["period"], budget["hard"]) == (2.5, "day", False)
    assert shell.json("budget", "update", budget["id"], "--limit-usd", "3", "--hard")["limit_usd"] == 3
    assert shell.json("limit", "update", limit["id"], "--rpm", "0", "--tpm", "5") == limit | {
        "requests_per_minute": None,
        "tokens_per_minute": 5,
    }
    assert [len(shell.json("budget", "list")), len(shell.json("limit", "list", "--scope", "tag"))] == [1, 1]
    for group, one in (("budget", budget), ("limit", limit)):
        assert [shell.run(group, "delete", one["id"]).returncode for _ in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("org", "create", " "), "'name'"),
        (("org", "create", "x", "--policy", "nobody"), "no policy 'nobody'"),
        (("team", "create", "x", "--org", "nobody"), "no organisation 'nobody'"),
        (("team", "create", "x"), "--org"),
        (("key", "issue", "x", "--team", "nobody"), "no team 'nobody'"),
        (("key", "issue", "x", "--metadata", "[]"), "JSON object"),
        (("key", "update", "nobody", "--name", "x"), "no key 'nobody'"),
        (("budget", "create", "model", "nothing", "1"), "no model 'nothing'"),
        (("budget", "create", "tag", "x", "much"), "no number of dollars"),
        (("budget", "create", "tag", "x", "--", "-1"), "from 0 to"),
        (("budget", "create", "planet", "x", "1"), "planet"),
        (("budget", "create", "tag", "x", "1", "--window", "rolling"), "window_s"),
        (("limit", "create", "tag", "x"), "at least one"),
        (("limit", "create", "tag", "x", "--rpm", "-1"), "requests_per_minute"),
        (("secrets", "set", "A_KEY"), "FINGERPOST_SECRET_KEYS"),
        (("secrets", "remove", "A_KEY"), "no secret 'A_KEY'"),
        (("audit", "verify", "--noted", "f" * 64), "cut off"),
    ],
)
def test_what_can_not_be_done_ends_in_one_clear_line(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    ended = shell.run(*arguments, said="sk-1")

    assert ended.returncode in (1, 2)
    assert words in ended.stderr and "Traceback" not in ended.stderr


def test_a_stored_key_enables_its_endpoint_and_is_never_printed(shell: Shell) -> None:
    first, second = (shell.run("secrets", "new-key").stdout.strip() for _ in range(2))
    keys = {"FINGERPOST_SECRET_KEYS": first}
    before = _state(shell, **keys)

    done = shell.run("secrets", "set", "A_KEY", said="sk-very-secret\n", **keys)
    listed = shell.run("secrets", "list", **keys)
    rotated = shell.run("secrets", "rotate", FINGERPOST_SECRET_KEYS=f"{second},{first}")

    assert before == "needs the secret A_KEY: fingerpost secrets set A_KEY"
    assert (done.returncode, rotated.returncode) == (0, 0)
    assert _state(shell, FINGERPOST_SECRET_KEYS=second) == "enabled" != _state(shell, **keys)
    assert "very-secret" not in done.stdout + listed.stdout + shell.run("audit", "list").stdout
    assert [row["readable"] for row in shell.json("secrets", "list", FINGERPOST_SECRET_KEYS=second)] == [True]


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        (("models",), "FINGERPOST_SECRET_KEYS"),
        (("secrets", "list"), "FINGERPOST_SECRET_KEYS"),
        (("doctor",), "FINGERPOST_SECRET_KEYS"),
        (("doctor",), "FINGERPOST_CACHE_KEYS"),
    ],
)
def test_keys_that_are_none_are_told_in_one_line_and_not_shown(
    shell: Shell, command: tuple[str, ...], setting: str
) -> None:
    ended = shell.run(*command, **{setting: "hunter2"})

    assert ended.returncode in (1, 2)
    assert setting in ended.stderr + ended.stdout and "new-key" in ended.stderr + ended.stdout
    assert "hunter2" not in ended.stderr + ended.stdout and "Traceback" not in ended.stderr


def test_acts_stand_in_the_audit_log_under_the_users_name(shell: Shell) -> None:
    shell.json("org", "create", "acme")
    policy = shell.folder / "mine.toml"
    policy.write_text('schema = 1\nname = "mine"\nmodels = ["*"]\n')
    shell.run("policy", "push", str(policy))

    entries = shell.json("audit", "list")
    verdict = shell.json("audit", "verify", "--noted", entries[1]["sha256"])

    assert [entry["action"] for entry in entries] == ["policy.push", "organisation.create"]
    assert all(entry["actor"].startswith("cli:") for entry in entries)
    assert (verdict["rows"], verdict["sound"], verdict["head_sha256"]) == (2, True, entries[0]["sha256"])


def _state(shell: Shell, **env: str) -> str:
    rows: list[dict[str, str]] = shell.json("models", **env)
    return next(row["state"] for row in rows if row["endpoint"] == "stored")
