"""`fingerpost privacy erase`, beside a running gateway that keeps prompts."""

from __future__ import annotations

import json
import sqlite3
import subprocess

import httpx

from tests.command_line import fingerpost
from tests.eventually import comes_true
from tests.serving import Served, environment

USER = "ada-lovelace@example.org"


def _run(gateway: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    return fingerpost("privacy", *arguments, env=environment(gateway.data_dir))


def _everything(gateway: Served) -> str:
    with sqlite3.connect(gateway.data_dir / "fingerpost.sqlite3") as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "".join(repr(database.execute(f'SELECT * FROM "{name}"').fetchall()) for name in names)


def _said(client: httpx.Client, gateway: Served, user: str, words: str) -> None:
    body = {"model": "auto:kept", "messages": [{"role": "user", "content": words}], "user": user}
    request_id = client.post("/v1/chat/completions", json=body).raise_for_status().headers["x-request-id"]
    assert comes_true(lambda: request_id in _everything(gateway))


def test_what_a_person_said_is_gone_from_every_table_and_the_act_is_written_down(
    client: httpx.Client, gateway: Served
) -> None:
    _said(client, gateway, USER, "the words of ada")
    _said(client, gateway, "somebody else", "the words of another")
    before = _everything(gateway)

    erased = _run(gateway, "erase", "--user", USER, "--json")
    after = _everything(gateway)

    assert USER in before and "the words of ada" in before
    assert json.loads(erased.stdout) == {"requests": 1, "conversations": 0}
    assert USER not in after and "the words of ada" not in after
    assert "the words of another" in after
    acts = httpx.get(f"{gateway.url}/admin/audit", headers=gateway.admin_headers).json()["data"]
    assert (acts[0]["action"], acts[0]["detail"]) == ("privacy.erase", {"conversations": 0, "requests": 1})


def test_nobody_is_no_user(gateway: Served) -> None:
    refused = _run(gateway, "erase", "--user", "")

    assert refused.returncode == 2
    assert refused.stderr == "fingerpost: --user must not be empty\n"
