"""An upstream that tells our keys to everybody, clients that write into logs: neither shows in anything we produce."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.eventually import comes_true
from tests.integration.guarded import JSON, KEY, SSE, STORED_KEY, VENDOR_KEY, Guarded, guarded
from tests.serving import ADMIN_KEY, APPLICATION_KEY

HELLO = [{"role": "user", "content": "hi"}]
METRICS_KEY = "words-for-the-scraper"
# A client's own key in the wrong place, of a shape that can be known.
MISPLACED = "sk-proj-0123456789abcdefghij"
TELLTALES: list[tuple[int, str, str]] = [
    (400, JSON, f'{{"error":{{"message":"bad key {KEY}","type":"{KEY}","param":"{KEY}","code":"{KEY}"}}}}'),
    (400, JSON, f'{{"detail":[{{"key":"{KEY}"}}]}}'),
    (422, "text/html", f"<html>{KEY}</html>"),
    (400, JSON, json.dumps({"error": {"message": "x" * 1_985 + KEY}})),
    (401, JSON, f'{{"error":{{"message":"Incorrect API key provided: {KEY}"}}}}'),
    (429, "text/plain", KEY),
    (500, f"text/plain; key={KEY}", KEY),
    (200, f"text/html; key={KEY}", KEY),
    (200, JSON, f"no JSON: {KEY}"),
    (200, SSE, f'data: {{"error":{{"message":"{KEY}","type":"error"}}}}\n\n'),
    (200, SSE, f'event: error\ndata: {{"type":"error","error":{{"type":"x","message":"{KEY}"}}}}\n\n'),
    (302, "text/html", KEY),
]
ASKS: list[tuple[str, dict[str, Any]]] = [
    *(("chat/completions", {"model": name, "messages": HELLO}) for name in ("openai", "anthropic", "gemini", "stored")),
    ("messages", {"model": "anthropic", "max_tokens": 9, "messages": HELLO}),
    ("responses", {"model": "native", "input": "hi"}),
    ("completions", {"model": "native", "prompt": "hi"}),
    ("embeddings", {"model": "vectors", "input": "hi"}),
    ("rerank", {"model": "ranker", "query": "hi", "documents": ["a"]}),
]
FORGED = 'x"}\r\n{"event":"request","id":"forged"}\x1b[2J\x9b31m\u202e\u2028'


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """With a key in the environment, and one that is set while the gateway runs."""
    with guarded(tmp_path_factory.mktemp("secrets"), FINGERPOST_METRICS_KEY=METRICS_KEY) as found:
        found.shell("secrets", "set", "STORED", said=STORED_KEY)
        assert comes_true(
            lambda: "stored" in httpx.get(f"{found.served.url}/v1/models", headers=found.served.headers).text
        )
        yield found


def _ask(gate: Guarded, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    given = gate.served.headers | headers
    said = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    return httpx.post(f"{gate.served.url}/v1/{path}", json=body, headers=said, timeout=20)


def _ledger(gate: Guarded) -> str:
    """Every row of every table but the keys' own."""
    with sqlite3.connect(gate.served.data_dir / "fingerpost.sqlite3") as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "".join(repr(database.execute(f'SELECT * FROM "{name}"').fetchall()) for name in names)


def _admin(gate: Guarded) -> str:
    paths = ("requests?limit=1000", "keys", "audit", "policies", "policies/default", "budgets", "limits", "teams")
    url, headers = gate.served.url, gate.served.admin_headers
    return "".join(httpx.get(f"{url}/admin/{path}", headers=headers).text for path in paths)


def _metrics(gate: Guarded) -> str:
    return httpx.get(f"{gate.served.url}/metrics", headers={"Authorization": f"Bearer {METRICS_KEY}"}).text


def _traces(gate: Guarded) -> list[bytes]:
    return [one.body for one in gate.upstream.asked if one.path == "/v1/traces"]


def test_an_upstream_that_tells_our_keys_tells_nobody(gate: Guarded) -> None:
    told = []
    for status, kind, body in TELLTALES:
        gate.says(status, kind, body.encode())
        for path, fields in ASKS:
            for stream in (False, True) if path not in ("embeddings", "rerank") else (False,):
                answer = _ask(gate, path, fields | ({"stream": True} if stream else {}))
                told.append(f"{answer.headers} {answer.text}")
    assert comes_true(lambda: _ledger(gate).count("'req_") >= len(told) and len(_traces(gate)) > 0)

    produced = {
        "answers": "".join(told),
        "log": gate.log + "".join(gate.served.lines),
        "metrics": _metrics(gate),
        "traces": b"".join(_traces(gate)).decode("latin-1"),
        "ledger": _ledger(gate),
        "admin": _admin(gate),
        "public": "".join(httpx.get(f"{gate.served.url}/{path}").text for path in ("health/ready", "openapi.json")),
    }

    secrets = (VENDOR_KEY, STORED_KEY, APPLICATION_KEY, ADMIN_KEY, METRICS_KEY, gate.env["FINGERPOST_SECRET_KEYS"])
    halves = tuple(one[:14] for one in (VENDOR_KEY, STORED_KEY))
    assert [(place, one) for place, text in produced.items() for one in (*secrets, *halves) if one in text] == []
    assert "[redacted]" in produced["answers"]


def test_nobody_writes_lines_of_their_own_into_the_log(gate: Guarded) -> None:
    gate.well()
    tagged = _ask(gate, "chat/completions", {"model": "openai", "messages": HELLO}, **{"x-fingerpost-tags": "a\x9b31m"})
    _ask(gate, "chat/completions", {"model": FORGED, "messages": HELLO, "user": FORGED})
    _ask(gate, "chat/completions", {"model": "openai", "messages": HELLO, "user": FORGED, "metadata": {FORGED: FORGED}})
    _ask(gate, "chat/completions", {"model": MISPLACED, "messages": HELLO}, **{"x-fingerpost-session": "\x9b2J"})
    last = _ask(gate, "embeddings", {"model": FORGED, "input": "hi"}).headers["x-request-id"]
    assert comes_true(lambda: last in gate.log)

    log = gate.log.split("\n")
    lines = [json.loads(line) for line in log if line.startswith("{")]
    assert tagged.status_code == 400
    assert [line for line in log if line and not line.startswith(("{", "  "))] == []
    assert not [one for one in lines if one.get("id") == "forged"]
    assert not set(gate.log) & set("\r\x1b\x7f\x9b\u2028\u202e")
    assert MISPLACED not in gate.log


def test_metrics_ask_for_their_key_where_one_is_set(gate: Guarded) -> None:
    def status(key: str | None) -> int:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{gate.served.url}/metrics", headers=headers).status_code

    assert [status(key) for key in (None, "wrong", METRICS_KEY[:-1], METRICS_KEY + "x")] == [401] * 4
    assert status(APPLICATION_KEY) == 403
    assert [status(METRICS_KEY), status(ADMIN_KEY)] == [200, 200]


def test_labels_of_metrics_are_not_what_clients_name(gate: Guarded) -> None:
    for name in ("made-up-by-a-client", FORGED):
        _ask(
            gate, "chat/completions", {"model": name, "messages": HELLO, "user": name}, **{"x-fingerpost-session": "s"}
        )

    assert "made-up" not in _metrics(gate) and "forged" not in _metrics(gate)


def test_a_new_value_of_a_secret_replaces_the_old_one_at_once(gate: Guarded) -> None:
    gate.well()
    gate.shell("secrets", "set", "STORED", said="newer-words-in-the-database")

    def sent() -> str:
        gate.upstream.asked.clear()
        _ask(gate, "chat/completions", {"model": "stored", "messages": HELLO})
        return next(one.headers["authorization"] for one in gate.upstream.asked if one.path.startswith("/s/"))

    assert comes_true(lambda: sent() == "Bearer newer-words-in-the-database")
