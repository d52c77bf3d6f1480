"""Dry runs against a real gateway: requests with feedback, then a draft judged by them, by HTTP and by command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from tests.command_line import fingerpost
from tests.integration.conftest import catalogue
from tests.serving import Served, environment, serving

LOGGED = (
    'schema = 1\nname = "default"\nmodels = ["instant", "paced"]\nexploration = 0.5\n[router]\nkind = "rules"\n'
    "[log]\nembeddings = false\n"
)
ENV = {"UPSTREAM_SECRET": "sk-upstream-secret", "FINGERPOST_PRELOAD": "false"}
ASKED = 80


def draft(models: str, more: str = "") -> str:
    return f'schema = 1\nname = "default"\nmodels = [{models}]\n{more}[router]\nkind = "rules"\n'


@pytest.fixture(scope="module")
def served(upstream: UpstreamServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway whose 'instant' model was called good by its users and whose 'paced' one bad."""
    folder: Path = tmp_path_factory.mktemp("dry")
    with serving(folder, catalogue=catalogue(upstream), policies={"default": LOGGED}, env=ENV) as found:
        with httpx.Client(base_url=found.url, headers=found.headers, timeout=30) as client:
            scores = {}
            for number in range(ASKED):
                body = {"model": "auto", "messages": [{"role": "user", "content": f"hello {number}"}]}
                answer = client.post("/v1/chat/completions", json=body)
                model = answer.headers["x-fingerpost-model"]
                scores[answer.headers["x-request-id"]] = 1.0 if model == "instant" else 0.0
            for request_id, score in scores.items():
                said = {"request_id": request_id, "score": score}
                assert client.post("/v1/feedback", json=said).status_code == 200
            body = {"model": "paced", "messages": [{"role": "user", "content": "named"}]}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        yield found


@pytest.fixture
def admin(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{served.url}/admin", headers=served.admin_headers, timeout=30) as found:
        yield found


def started(admin: httpx.Client, **asked: Any) -> dict[str, Any]:
    answer = admin.post("/dry-runs", json={"policy": "default", **asked})
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


def ended(admin: httpx.Client, report_id: str) -> dict[str, Any]:
    until = monotonic() + 60
    while monotonic() < until:
        told: dict[str, Any] = admin.get(f"/dry-runs/{report_id}").json()
        if told["state"] != "running":
            return told
        sleep(0.1)
    raise AssertionError("the dry run did not end")


def test_a_draft_that_asks_only_the_better_model_is_proved_better(admin: httpx.Client) -> None:
    begun = started(admin, toml=draft('"instant"'), effective_rows=10)
    told = ended(admin, begun["id"])

    assert (begun["state"], told["state"], told["done"], told["error"]) == ("running", "done", 1.0, None)
    found = told["result"]
    assert (found["rows"], found["decided"]) == (ASKED + 1, ASKED)
    assert found["left_out"] == {"named its model itself": 1}
    quality = found["estimates"]["quality"]
    assert quality["draft"]["snips"]["value"] == 1.0
    assert quality["difference"]["low"] > 0.2 and quality["difference"]["surely_above"] > 0
    assert found["support"]["unsupported_traffic"] == 0
    assert "Estimated quality changes by +" in found["verdict"] and "higher" in found["verdict"]
    assert [one["id"] for one in admin.get("/dry-runs", params={"limit": 1}).json()["data"]] == [begun["id"]]


def test_of_a_model_that_was_never_asked_nothing_is_claimed(admin: httpx.Client) -> None:
    told = ended(admin, started(admin, toml=draft('"realistic"'), last=50)["id"])["result"]

    assert (told["rows"], told["changes"]["share"]) == (50, 1.0)
    assert told["support"]["never_tried"] == {"realistic": 1.0}
    assert "Nothing is claimed of 100.0% of traffic" in told["verdict"]
    assert all("refused" in one for one in told["estimates"].values())


def test_what_is_in_force_changes_nothing(admin: httpx.Client) -> None:
    told = ended(admin, started(admin)["id"])["result"]

    assert told["changes"]["share"] == 0 and told["changes"]["expected_share"] == 0
    assert told["estimates"]["quality"]["difference"]["value"] == 0


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({"toml": "schema = "}, 400, "toml"),
        ({"toml": draft('"instant"').replace("default", "other")}, 400, "toml"),
        ({"version": 77}, 404, None),
        ({"version": 1, "toml": "x"}, 400, "toml"),
        ({"last": 0}, 400, "last"),
        ({"delta": 0.9}, 400, "delta"),
        ({"policy": "nobody"}, 404, "name"),
    ],
)
def test_what_can_not_be_run_names_the_field(
    admin: httpx.Client, asked: dict[str, Any], status: int, param: str | None
) -> None:
    refused = admin.post("/dry-runs", json={"policy": "default", **asked})

    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


def test_one_runs_at_a_time_and_may_be_cancelled(admin: httpx.Client) -> None:
    begun = started(admin)
    second = admin.post("/dry-runs", json={"policy": "default"})
    cancelled = admin.delete(f"/dry-runs/{begun['id']}").json()
    again = ended(admin, started(admin)["id"])

    assert (second.status_code, cancelled["cancelled"]) == (409, True)
    assert begun["id"] in second.json()["error"]["message"]
    assert admin.get(f"/dry-runs/{begun['id']}").json()["state"] == "cancelled"
    assert not admin.delete(f"/dry-runs/{begun['id']}").json()["cancelled"]
    assert again["state"] == "done"
    assert admin.delete("/dry-runs/nobody").status_code == 404


def test_the_command_says_the_same(served: Served, tmp_path: Path) -> None:
    folder = served.data_dir.parent
    env = environment(served.data_dir, ENV | {"FINGERPOST_CATALOGUE": str(folder / "catalogue.toml")})
    path = tmp_path / "draft.toml"
    path.write_text(draft('"instant"'))

    told = fingerpost("policy", "dry-run", str(path), "--json", env=env)
    shown = fingerpost("policy", "dry-run", str(path), "--last", "60", env=env)
    wrong = fingerpost("policy", "dry-run", str(tmp_path / "nothing.toml"), env=env)

    assert json.loads(told.stdout)["decided"] == ASKED
    assert "requests would be asked of another model" in shown.stdout and "surely above" in shown.stdout
    assert wrong.returncode == 2 and "can't be read" in wrong.stderr and "Traceback" not in wrong.stderr
