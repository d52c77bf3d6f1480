"""The command line as a person uses it: real database files, real exit codes, one clear line on failure."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import fingerpost
from tests.serving import APPLICATION_KEY, Served, environment

POLICY = 'schema = 1\nname = "mine"\nmodels = ["smollm2-*"]\n[objective]\nquality = 1.0\n'


class Shell:
    """Runs `fingerpost` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = environment(folder / "data", {"FINGERPOST_PRELOAD": "false"})

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return fingerpost(*arguments, env=self.env | env)

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_key_is_issued_listed_and_revoked(shell: Shell) -> None:
    assert shell.run("db", "upgrade").returncode == 0

    issued = json.loads(shell.run("key", "issue", "my app", "--days", "3", "--json").stdout)
    listed = shell.run("key", "list", "--json")
    revoked = shell.run("key", "revoke", issued["id"])
    again = shell.run("key", "revoke", issued["id"])

    assert issued["key"].startswith(f"fp-{issued['id']}-")
    assert [row["name"] for row in json.loads(listed.stdout)] == ["my app"]
    assert issued["key"] not in listed.stdout
    assert (revoked.returncode, again.returncode) == (0, 1)


def test_a_database_without_tables_says_which_command_makes_them(shell: Shell) -> None:
    (shell.folder / "data").mkdir()
    (shell.folder / "data" / "fingerpost.sqlite3").touch()
    before = shell.run("db", "check")
    listed = shell.run("key", "list")
    shell.run("db", "upgrade")
    after = shell.run("db", "check", "--json")

    assert (before.returncode, after.returncode) == (1, 0)
    assert "fingerpost db upgrade" in listed.stderr
    assert "Traceback" not in listed.stderr + before.stderr
    assert json.loads(after.stdout)["problem"] is None


@pytest.mark.parametrize(
    "arguments",
    [("key", "list"), ("key", "issue", "x"), ("policy", "show"), ("db", "check"), ("policy", "push", "FILE")],
)
def test_a_command_without_a_database_says_where_it_looked_and_makes_none(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    mine = shell.file("mine.toml", POLICY)

    ended = shell.run(*(mine if word == "FILE" else word for word in arguments))

    assert ended.returncode == 1
    assert f"no Fingerpost database at {shell.folder / 'data' / 'fingerpost.sqlite3'}" in ended.stderr
    assert "FINGERPOST_DATA_DIR" in ended.stderr
    assert not (shell.folder / "data").exists()


def test_commands_that_only_look_leave_nothing_behind(shell: Shell) -> None:
    looked = shell.run("doctor", "--json")
    shell.run("models")
    shell.run("policy", "check", shell.file("mine.toml", POLICY))

    found = {finding["check"]: finding["found"] for finding in json.loads(looked.stdout)}
    assert found["database"] == "made at the first start"
    assert found["redis"].startswith("not configured")
    assert not (shell.folder / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("",), "'name'"),
        ((b"\xff".decode(errors="surrogateescape"),), "'name'"),
        (("x", "--policy", "nobody"), "no policy 'nobody'; known: best, default, learned, thrifty"),
        (("x", "--model", "nothing"), "no model 'nothing'"),
        (("x", "--days", "99999999"), "36500"),
    ],
)
def test_a_key_that_could_not_work_is_not_issued(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    shell.run("db", "upgrade")

    refused = shell.run("key", "issue", *arguments)

    assert refused.returncode == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert json.loads(shell.run("key", "list", "--json").stdout) == []


@pytest.mark.parametrize("arguments", [("route", "x"), ("db", "upgrade"), ("key", "list"), ("doctor",), ("chat", "x")])
def test_a_data_folder_that_cannot_be_made_is_told_without_a_traceback(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    ended = shell.run(*arguments, FINGERPOST_DATA_DIR="/proc/none")

    assert ended.returncode in (1, 2)
    assert "/proc/none" in ended.stderr + ended.stdout
    assert "FINGERPOST_DATA_DIR" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


def test_what_is_not_text_or_not_a_url_is_told_without_a_traceback(shell: Shell) -> None:
    prompt = shell.run("route", b"\xff".decode(errors="surrogateescape"))
    redis = shell.run("doctor", FINGERPOST_REDIS_URL="redis://[::1")
    url = shell.run("chat", "x", "--url", "http://[::1", "--key", "k")

    assert "not UTF-8" in prompt.stderr
    assert "FINGERPOST_REDIS_URL is not a URL" in redis.stdout
    assert "can't be reached" in url.stderr
    assert "Traceback" not in prompt.stderr + redis.stderr + url.stderr


def test_the_version_is_told(shell: Shell) -> None:
    command = [sys.executable, "-m", "gateway.cli.main", "--version"]

    told = subprocess.run(command, env=shell.env, capture_output=True, text=True, timeout=120, check=True)

    assert told.stdout.startswith("fingerpost 0.") and told.stderr == ""


def test_tables_shorten_nothing_whatever_the_terminal(shell: Shell) -> None:
    shell.run("db", "upgrade")
    key_id = json.loads(shell.run("key", "issue", "a name that is rather long " * 4, "--json").stdout)["id"]

    models = shell.run("models", "--all", COLUMNS="40").stdout
    keys = shell.run("key", "list", COLUMNS="40").stdout

    assert "needs OPENAI_API_KEY in the environment" in models
    assert "…" not in models + keys
    assert [line.split()[0] for line in keys.splitlines()] == ["id", key_id]


def test_a_wrong_policy_is_told_by_file_line_key_and_fix(shell: Shell) -> None:
    path = shell.file("mine.toml", POLICY.replace("quality = 1.0", "quality = -1\nprice = 2"))

    checked = shell.run("policy", "check", path)

    assert checked.returncode == 2
    assert f"{path}:5: objective.quality" in checked.stderr
    assert f"{path}:6: objective.price" in checked.stderr
    assert checked.stderr.count("Fix:") == 2
    assert "Traceback" not in checked.stderr


def test_a_policy_is_checked_pushed_and_shown(shell: Shell) -> None:
    shell.run("db", "upgrade")
    path = shell.file("mine.toml", POLICY)

    checked = shell.run("policy", "check", path, "--json")
    pushed = shell.run("policy", "push", path, "--note", "first")
    shown = json.loads(shell.run("policy", "show", "mine").stdout)
    names = {row["name"] for row in json.loads(shell.run("policy", "show", "--json").stdout)}

    assert json.loads(checked.stdout)[0]["warnings"] == []
    assert pushed.returncode == 0
    assert (shown["source"], shown["policy"]["models"]) == ("database version 1", ["smollm2-*"])
    assert {"default", "thrifty", "best", "mine"} <= names


def test_models_tell_what_is_enabled_and_what_is_missing(shell: Shell) -> None:
    rows = {row["endpoint"]: row for row in json.loads(shell.run("models", "--json").stdout)}

    assert rows["local-smollm2"]["state"] == "enabled"
    assert any("OPENAI_API_KEY" in row["state"] for row in rows.values())
    with_key = json.loads(shell.run("models", "--json", OPENAI_API_KEY="sk-x").stdout)
    assert sum(row["state"] == "enabled" for row in with_key) > sum(row["state"] == "enabled" for row in rows.values())


def test_route_explains_without_calling(shell: Shell) -> None:
    found = json.loads(shell.run("route", "hello there, how are you?", "--json").stdout)
    read = shell.run("route", "hello there, how are you?").stdout

    assert found["chosen"]["model"] == "smollm2-135m-instruct"
    assert found["candidates"][0]["propensity"] == 1.0
    assert found["reason"] in read


def test_chat_answers_without_a_server(shell: Shell) -> None:
    said = shell.run("chat", "What is the capital of France? Answer in English.", "--json")

    assert "Paris" in json.loads(said.stdout)["choices"][0]["message"]["content"]


def test_doctor_looks_at_everything_and_says_how_to_mend(shell: Shell) -> None:
    shell.run("db", "upgrade")
    well = shell.run("doctor", "--json")
    ill = shell.run("doctor", FINGERPOST_DATABASE_URL="postgresql://u:secret@127.0.0.1:9/x")

    findings = {finding["check"]: finding for finding in json.loads(well.stdout)}
    assert {"python", "disk", "database", "redis", "local model", "embedder", "port", "catalogue"} <= set(findings)
    assert findings["database"]["ok"]
    assert ill.returncode == 1
    assert "mend:" in ill.stdout
    assert "secret" not in ill.stdout + ill.stderr


def test_training_a_kind_that_cannot_learn_says_so(shell: Shell) -> None:
    refused = shell.run("train", "--kind", "rules", "--data", "x", "--out", "y")

    assert refused.returncode == 2
    assert "learns nothing" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (("--port", "99999"), {}, "PORT"),
        (("--port", "0"), {"FINGERPOST_CATALOGUE": "/nonexistent.toml"}, "does not exist"),
        (("--port", "0"), {"FINGERPOST_POLICIES": "/nonexistent"}, "is not a folder"),
        (("--port", "0"), {"FINGERPOST_DATABASE_URL": "postgresql://u:secret@127.0.0.1:9/x"}, "127.0.0.1:9"),
        (("--port", "0"), {"FINGERPOST_DATABASE_URL": "mysql://x/y"}, "mysql"),
        (("--port", "0", "--data-dir", "/proc/none"), {}, "--data-dir"),
        (("--port", "0"), {"FINGERPOST_EMBEDDER": "nobody"}, "minilm_onnx"),
        (("--port", "0"), {"FINGERPOST_ADMIN_KEY": APPLICATION_KEY}, "same key"),
        (("--port", "0"), {"FINGERPOST_ADMIN_KEY": "secret"}, "16 characters"),
    ],
)
def test_a_start_that_cannot_succeed_ends_in_one_clear_line(
    shell: Shell, arguments: tuple[str, ...], env: dict[str, str], words: str
) -> None:
    ended = shell.run("serve", *arguments, **env)

    complaints = [line for line in ended.stderr.splitlines() if line.startswith("fingerpost:")]
    assert ended.returncode == 2
    assert len(complaints) == 1
    assert words in complaints[0]
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr


def test_a_taken_port_is_told_with_the_way_out(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = shell.run("serve", "--port", str(taken.getsockname()[1]))

    assert ended.returncode == 2
    assert "--port" in ended.stderr


def test_a_port_that_a_gateway_holds_is_fine_and_its_ready_lines_can_be_followed(shell: Shell, gateway: Served) -> None:
    port = gateway.url.rpartition(":")[2]

    looked = json.loads(shell.run("doctor", "--json", FINGERPOST_PORT=port).stdout)
    refused = shell.run("chat", "x", "--url", f"{gateway.url}/v1/", "--key", "wrong")

    assert {one["check"]: one["found"] for one in looked}["port"] == f"127.0.0.1:{port} is in use by a running gateway"
    assert refused.stderr == "fingerpost: The API key is unknown, expired or revoked.\n"
    ready, key, curl = gateway.lines
    assert ready == f"ready {gateway.url}"
    assert "FINGERPOST_BOOTSTRAP_KEY" in key
    assert "$FINGERPOST_KEY" in curl and "capital of France" in curl
