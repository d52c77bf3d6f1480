"""Running it: several workers, changes while requests are served, and an end that cuts nobody off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from tests.command_line import fingerpost
from tests.eventually import comes_true
from tests.integration.conftest import POLICY, catalogue
from tests.integration.test_proxy_line import HELLO
from tests.serving import Served, environment, serving

ENV = {"UPSTREAM_SECRET": "sk", "FINGERPOST_PRELOAD": "false"}
PUSHED = 'schema = 1\nname = "pushed"\nmodels = ["{model}"]\n'


@pytest.fixture
def served(upstream: UpstreamServer, tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=ENV) as found:
        yield found


def ask(served: Served, model: str = "instant", key: str | None = None, **fields: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else served.headers
    body = {"model": model, "messages": HELLO} | fields
    return httpx.post(f"{served.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def command(served: Served, *arguments: str) -> str:
    return fingerpost(*arguments, env=environment(served.data_dir), check=True).stdout


def test_a_pushed_policy_is_in_force_within_seconds_and_so_is_its_next_version(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "pushed.toml"
    assert ask(served, "auto:pushed").status_code == 404

    path.write_text(PUSHED.format(model="instant"))
    command(served, "policy", "push", str(path))
    assert comes_true(lambda: ask(served, "auto:pushed").headers.get("x-fingerpost-model") == "instant", 5)
    path.write_text(PUSHED.format(model="paced"))
    command(served, "policy", "push", str(path))
    assert comes_true(lambda: ask(served, "auto:pushed").headers.get("x-fingerpost-model") == "paced", 5)


def test_a_policy_file_that_changes_is_taken_up_and_a_wrong_one_is_refused(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "policies" / "default.toml"

    path.write_text(POLICY.replace('models = ["*"]', 'models = ["paced"]'))
    assert comes_true(lambda: ask(served).status_code == 403, 5)
    path.write_text("schema = 1\nname = 3\n")
    assert comes_true(lambda: bool(httpx.get(f"{served.url}/health/ready").json()["refused_policies"]), 5)
    assert ask(served, "paced").status_code == 200


def test_an_issued_key_opens_at_once_and_a_revoked_one_closes_within_seconds(served: Served) -> None:
    made = httpx.post(f"{served.url}/admin/keys", json={"name": "x"}, headers=served.admin_headers).json()
    assert ask(served, key=made["key"]).status_code == 200

    command(served, "key", "revoke", made["id"])

    assert comes_true(lambda: ask(served, key=made["key"]).status_code == 401, 8)


def test_a_key_may_be_held_to_a_policy_and_to_models(served: Served) -> None:
    limited = {"name": "x", "allowed_models": ["paced"]}
    made = httpx.post(f"{served.url}/admin/keys", json=limited, headers=served.admin_headers).json()

    assert ask(served, "instant", made["key"]).status_code == 403
    assert ask(served, "auto", made["key"]).headers["x-fingerpost-model"] == "paced"
    assert {model["id"] for model in _models(served, made["key"])} == {
        "auto",
        "auto:best",
        "auto:default",
        "auto:learned",
        "auto:thrifty",
        "paced",
    }


def _models(served: Served, key: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = httpx.get(
        f"{served.url}/v1/models", headers={"Authorization": f"Bearer {key}"}
    ).json()["data"]
    return found


def test_a_stop_lets_running_streams_finish_and_logs_them(served: Served, upstream: UpstreamServer) -> None:
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(ask(served, "paced", stream=True).text)) for _ in range(5)]
    before = upstream.stats.streams
    for thread in threads:
        thread.start()
    assert comes_true(lambda: upstream.stats.streams == before + 5, 5)

    code = served.stop()
    for thread in threads:
        thread.join(30)

    assert code == 0
    assert [text.endswith("data: [DONE]\n\n") for text in texts] == [True] * 5
    with serving(served.data_dir.parent, env=ENV) as again:
        rows = httpx.get(f"{again.url}/admin/requests", headers=again.admin_headers).json()["data"]
    assert [row["status"] for row in rows] == [200] * 5


def test_two_workers_share_keys_ledger_and_metrics(upstream: UpstreamServer, tmp_path: Path) -> None:
    with serving(
        tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=ENV, arguments=("--workers", "2")
    ) as served:
        for _ in range(40):
            with httpx.Client() as fresh:
                body = {"model": "instant", "messages": HELLO}
                assert fresh.post(f"{served.url}/v1/chat/completions", json=body, headers=served.headers).is_success
        labels = 'endpoint="instant-1",model="instant",policy="default",route="chat",status="200"'
        total = f"fingerpost_requests_total{{{labels}}} 40.0"
        assert comes_true(lambda: total in httpx.get(f"{served.url}/metrics").text, 5)
        listed = f"{served.url}/admin/requests?limit=100"
        assert comes_true(lambda: len(httpx.get(listed, headers=served.admin_headers).json()["data"]) == 40, 5)
        assert sum(line.startswith("ready ") for line in served.lines) == 1
        assert served.stop() == 0


def test_who_waits_longer_than_the_grace_is_told_and_logged(upstream: UpstreamServer, tmp_path: Path) -> None:
    patient = catalogue(upstream).replace("first_byte_timeout_s = 1.0", "first_byte_timeout_s = 60")
    env = ENV | {"FINGERPOST_GRACE_S": "1"}
    answers: list[httpx.Response] = []
    with serving(tmp_path, catalogue=patient, policies={"default": POLICY}, env=env) as served:
        before = upstream.stats.requests
        waiting = threading.Thread(target=lambda: answers.append(ask(served, "hang")))
        waiting.start()
        assert comes_true(lambda: upstream.stats.requests > before, 5)
        code = served.stop()
        waiting.join(30)
    with serving(tmp_path, env=ENV) as again:
        rows = httpx.get(f"{again.url}/admin/requests", headers=again.admin_headers).json()["data"]

    assert code == 0
    assert [answer.status_code for answer in answers] == [503]
    assert [(row["status"], row["error_code"]) for row in rows] == [(503, "shutting_down")]
