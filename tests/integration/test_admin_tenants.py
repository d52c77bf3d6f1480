"""Organisations, teams, keys, budgets and limits over HTTP, as an admin meets them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serving import Served

CHAT = {"model": "instant", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def admin(gateway: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers=gateway.admin_headers, timeout=20) as found:
        yield found


@pytest.fixture
def team(admin: httpx.Client) -> dict[str, Any]:
    """A fresh team of a fresh organisation."""
    name = f"acme {time.time_ns()}"
    organisation = made(admin.post("/admin/organisations", json={"name": name}))
    return made(admin.post("/admin/teams", json={"name": "web", "organisation_id": organisation["id"]}))


def made(answer: httpx.Response) -> dict[str, Any]:
    """What was created."""
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def chat(gateway: Served, key: str, **fields: Any) -> httpx.Response:
    """A request with a key."""
    return httpx.post(
        f"{gateway.url}/v1/chat/completions", json=CHAT | fields, headers={"Authorization": f"Bearer {key}"}, timeout=20
    )


def test_a_key_of_a_team_may_do_what_team_and_organisation_allow(
    gateway: Served, admin: httpx.Client, team: dict[str, Any]
) -> None:
    key = made(admin.post("/admin/keys", json={"name": "k", "team_id": team["id"]}))

    before = chat(gateway, key["key"]).status_code
    narrowed = admin.patch(f"/admin/teams/{team['id']}", json={"allowed_models": ["realistic"]})
    after = chat(gateway, key["key"]).status_code

    assert (before, narrowed.status_code, after) == (200, 200, 403)
    assert admin.get(f"/admin/teams/{team['id']}").json()["allowed_models"] == ["realistic"]
    assert [row["id"] for row in admin.get("/admin/keys", params={"team_id": team["id"]}).json()["data"]] == [key["id"]]


@pytest.mark.parametrize("above", ["team", "organisation"])
def test_a_revoked_tenant_shuts_its_keys_out_at_once(
    gateway: Served, admin: httpx.Client, team: dict[str, Any], above: str
) -> None:
    key = made(admin.post("/admin/keys", json={"name": "k", "team_id": team["id"]}))["key"]
    path = f"/admin/teams/{team['id']}" if above == "team" else f"/admin/organisations/{team['organisation_id']}"
    before = chat(gateway, key).status_code

    revoked = [admin.delete(path).status_code for _ in range(2)]

    assert (before, revoked, chat(gateway, key).status_code) == (200, [200, 404], 401)


def test_a_rotated_key_works_beside_the_new_one_for_the_overlap(gateway: Served, admin: httpx.Client) -> None:
    old = made(admin.post("/admin/keys", json={"name": "k", "metadata": {"tags": ["beta"]}}))

    new = made(admin.post(f"/admin/keys/{old['id']}/rotate", json={"overlap_s": 60}))
    during = [chat(gateway, key).status_code for key in (old["key"], new["key"])]
    last = made(admin.post(f"/admin/keys/{new['id']}/rotate", json={"overlap_s": 0}))
    after = [chat(gateway, key).status_code for key in (old["key"], new["key"], last["key"])]

    assert (during, after) == ([200, 200], [200, 401, 200])
    assert (last["rotated_from"], last["metadata"]) == (old["id"], {"tags": ["beta"]})
    assert admin.get(f"/admin/keys/{old['id']}").json()["rotated_to"] == new["id"]
    assert admin.post(f"/admin/keys/{old['id']}/rotate", json={}).json()["error"]["param"] == "id"


def test_an_update_changes_what_is_given_and_null_takes_away(admin: httpx.Client, team: dict[str, Any]) -> None:
    key = made(admin.post("/admin/keys", json={"name": "k", "team_id": team["id"], "allowed_models": ["instant"]}))

    changed = admin.patch(f"/admin/keys/{key['id']}", json={"name": "other", "allowed_models": None}).json()

    assert changed == {name: key[name] for name in changed} | {"name": "other", "allowed_models": None}


def test_a_budget_stands_where_its_key_has_spent(gateway: Served, admin: httpx.Client) -> None:
    key = made(admin.post("/admin/keys", json={"name": "k"}))
    body = {"scope": "key", "scope_id": key["id"], "limit_usd": "2.5", "window": "calendar", "period": "month"}
    budget = made(admin.post("/admin/budgets", json=body))

    cost = chat(gateway, key["key"]).json()["usage"]["cost"]
    level = _settled(admin, budget["id"])

    assert (budget["limit_usd"], budget["limit_nanousd"]) == (2.5, 2_500_000_000)
    assert level["spent_usd"] == pytest.approx(cost) and cost > 0
    assert level["free_nanousd"] == 2_500_000_000 - level["spent_nanousd"] and level["resets_at"] > time.time()


def test_a_budget_set_now_counts_for_the_next_request_and_follows_a_rotation(
    gateway: Served, admin: httpx.Client
) -> None:
    key = made(admin.post("/admin/keys", json={"name": "k"}))
    before = chat(gateway, key["key"]).status_code
    budget = made(admin.post("/admin/budgets", json={"scope": "key", "scope_id": key["id"], "limit_usd": 0}))

    refused = chat(gateway, key["key"])
    new = made(admin.post(f"/admin/keys/{key['id']}/rotate", json={}))["key"]
    refused_too = chat(gateway, new)
    admin.patch(f"/admin/budgets/{budget['id']}", json={"limit_usd": 5})

    assert (before, refused.status_code, refused.json()["error"]["code"]) == (200, 402, "budget_exceeded")
    assert (refused_too.status_code, chat(gateway, new).status_code) == (402, 200)
    assert admin.delete(f"/admin/budgets/{budget['id']}").json() == {"id": budget["id"], "deleted": True}
    assert admin.get(f"/admin/budgets/{budget['id']}").status_code == 404


@pytest.mark.parametrize("scope", ["model", "tag"])
def test_limits_of_models_and_tags_count_for_the_next_request(gateway: Served, admin: httpx.Client, scope: str) -> None:
    tag = f"tag {time.time_ns()}"
    key = made(admin.post("/admin/keys", json={"name": "k", "metadata": {"tags": [tag]}}))["key"]
    subject = {"model": "realistic", "tag": tag}[scope]
    limit = made(admin.post("/admin/limits", json={"scope": scope, "scope_id": subject, "requests_per_minute": 1}))

    answers = [chat(gateway, key, model="realistic").status_code for _ in range(2)]
    admin.delete(f"/admin/limits/{limit['id']}")

    assert (answers, chat(gateway, key, model="realistic").status_code) == ([200, 429], 200)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("organisations", {"name": ""}, "name"),
        ("organisations", {"name": "x", "policy": "nobody"}, "policy"),
        ("organisations", {"name": "x", "allowed_models": ["nothing"]}, "allowed_models"),
        ("organisations", {"name": "x", "metadata": {"tags": "a"}}, "metadata.tags"),
        ("organisations", {"name": "x", "colour": "red"}, "colour"),
        ("teams", {"name": "x"}, "organisation_id"),
        ("teams", {"name": "x", "organisation_id": "nobody"}, "organisation_id"),
        ("teams", {"name": "x", "organisation_id": "\0"}, "organisation_id"),
        ("keys", {"name": "x", "team_id": "nobody"}, "team_id"),
        ("keys", {"name": "x", "metadata": {"imported": True}}, "metadata.imported"),
        ("budgets", {"scope": "team", "scope_id": "nobody", "limit_usd": 1}, "scope_id"),
        ("budgets", {"scope": "model", "scope_id": "nothing", "limit_usd": 1}, "scope_id"),
        ("budgets", {"scope": "tag", "scope_id": "a,b", "limit_usd": 1}, "scope_id"),
        ("budgets", {"scope": "planet", "scope_id": "x", "limit_usd": 1}, "scope"),
        ("budgets", {"scope": "tag", "scope_id": "x", "limit_usd": -1}, "limit_usd"),
        ("budgets", {"scope": "tag", "scope_id": "x", "limit_usd": 1e300}, "limit_usd"),
        ("budgets", {"scope": "tag", "scope_id": "x"}, "limit_usd"),
        ("budgets", {"scope": "tag", "scope_id": "x", "limit_usd": 1, "window": "calendar"}, "period"),
        ("budgets", {"scope": "tag", "scope_id": "x", "limit_usd": 1, "window": "rolling", "window_s": 1}, "window_s"),
        ("budgets", {"scope": "tag", "scope_id": "x", "limit_usd": 1, "webhook_url": "x"}, "webhook_url"),
        ("limits", {"scope": "tag", "scope_id": "x"}, "requests_per_minute"),
        ("limits", {"scope": "tag", "scope_id": "x", "tokens_per_minute": 0}, "tokens_per_minute"),
        ("limits", {"scope": "tag", "scope_id": "x", "concurrent_requests": 1.5}, "concurrent_requests"),
    ],
)
def test_what_could_not_work_is_refused_by_its_field_and_not_stored(
    admin: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    before = admin.get(f"/admin/{path}").json()

    refused = admin.post(f"/admin/{path}", json=body)

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert admin.get(f"/admin/{path}").json() == before


@pytest.mark.parametrize("path", ["organisations", "teams", "keys", "budgets", "limits"])
@pytest.mark.parametrize("name", ["nobody", "%00", "%ff", "x" * 300])
def test_what_is_not_there_is_a_404_or_a_400_for_every_method(admin: httpx.Client, path: str, name: str) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        answer = admin.request(method, f"/admin/{path}/{name}", content=b"{}")

        assert answer.status_code == (400 if name == "%00" else 404), (method, answer.text)


def test_a_subject_has_one_rate_limit_and_a_name_one_team(admin: httpx.Client, team: dict[str, Any]) -> None:
    limit = {"scope": "team", "scope_id": team["id"], "concurrent_requests": 3}
    there = made(admin.post("/admin/limits", json=limit))

    again = admin.post("/admin/limits", json=limit)
    namesake = admin.post("/admin/teams", json={"name": "web", "organisation_id": team["organisation_id"]})
    changed = admin.patch(f"/admin/limits/{there['id']}", json={"concurrent_requests": 4}).json()

    assert (again.status_code, namesake.status_code) == (400, 400)
    assert there["id"] in again.json()["error"]["message"]
    assert changed == there | {"concurrent_requests": 4}
    params = {"scope": "team", "scope_id": team["id"]}
    assert admin.get("/admin/limits", params=params).json()["data"] == [changed]


def test_every_write_stands_in_the_audit_log_with_its_actor(admin: httpx.Client, team: dict[str, Any]) -> None:
    url = "https://hooks.example.com/T000/s3cret-path"
    body = {"scope": "team", "scope_id": team["id"], "limit_usd": 1, "webhook_url": url}
    budget = made(admin.post("/admin/budgets", json=body))
    admin.patch(f"/admin/teams/{team['id']}", json={"metadata": {"note": "s3cret-note"}})

    entries = admin.get("/admin/audit", params={"limit": 4}).json()["data"]
    older = admin.get("/admin/audit", params={"limit": 1, "before_id": entries[0]["id"]}).json()["data"]
    verdict = admin.get("/admin/audit/verify", params={"noted_sha256": entries[1]["sha256"]}).json()

    assert [entry["action"] for entry in entries] == [
        "team.update",
        "budget.create",
        "team.create",
        "organisation.create",
    ]
    assert [entry["subject"] for entry in entries[:3]] == [team["id"], budget["id"], team["id"]]
    assert entries[0]["detail"] == {"metadata": ["note"]} and older == [entries[1]]
    assert entries[1]["detail"]["webhook_url"] == "hooks.example.com" and "s3cret" not in str(entries)
    assert len({entry["actor"] for entry in entries}) == 1 and len(entries[0]["actor"]) == 12
    assert verdict["sound"] and verdict["head_sha256"] == entries[0]["sha256"]


def test_the_hash_of_a_key_never_appears_in_any_answer(gateway: Served, admin: httpx.Client) -> None:
    key = made(admin.post("/admin/keys", json={"name": "k"}))
    answers = [
        admin.patch(f"/admin/keys/{key['id']}", json={"name": "other"}).text,
        admin.get(f"/admin/keys/{key['id']}").text,
        admin.post(f"/admin/keys/{key['id']}/rotate", json={}).text,
        admin.delete(f"/admin/keys/{key['id']}").text,
        *(admin.get(f"/admin/{path}").text for path in ("keys", "teams", "budgets", "limits", "requests")),
        admin.get("/admin/audit", params={"limit": 1000}).text,
        admin.get("/metrics").text,
    ]

    with sqlite3.connect(gateway.data_dir / "fingerpost.sqlite3") as database:
        hashes = [row[0] for row in database.execute("SELECT sha256 FROM api_key")]

    assert len(hashes) > 3 and not [one for one in hashes if any(one in answer for answer in answers)]
    assert sum(key["key"] in answer for answer in answers) == 0


def _settled(admin: httpx.Client, budget_id: str) -> dict[str, Any]:
    """The level once nothing is reserved any more: settlements come a moment after the answer."""
    deadline = time.monotonic() + 5
    while True:
        level: dict[str, Any] = admin.get(f"/admin/budgets/{budget_id}/level").json()
        if level["reserved_nanousd"] == 0 or time.monotonic() > deadline:
            return level
