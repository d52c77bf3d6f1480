"""Policies as admins handle them over HTTP: drafts, versions, moves, scopes, two editors, files beside the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from tests.integration.conftest import POLICY, catalogue
from tests.integration.load import OK, Ask, Load
from tests.integration.postgres import postgres_server, postgres_url
from tests.serving import Served, serving

__all__ = ["postgres_server", "postgres_url"]

ENV = {"UPSTREAM_SECRET": "sk-upstream-secret", "FINGERPOST_PRELOAD": "false"}
MINE = 'schema = 1\nname = "mine"\nmodels = ["{model}"]\n[router]\nkind = "rules"\n'
TOML = {"content-type": "application/toml"}
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def served(upstream: UpstreamServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("policies")
    with serving(folder, catalogue=catalogue(upstream), policies={"default": POLICY}, env=ENV) as found:
        yield found


@pytest.fixture
def admin(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{served.url}/admin", headers=served.admin_headers, timeout=20) as found:
        yield found


def used(served: Served, policy: str, key: str | None = None) -> str | None:
    headers = {"Authorization": f"Bearer {key}"} if key else served.headers
    body = {"model": f"auto:{policy}", "messages": HELLO}
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, headers=headers, timeout=20)
    model: str | None = answer.headers.get("x-fingerpost-model")
    return model


def save(admin: httpx.Client, name: str, text: str, **params: Any) -> httpx.Response:
    return admin.post(f"/policies/{name}/versions", params=params, content=text.encode(), headers=TOML)


def named(name: str, model: str = "instant") -> str:
    return MINE.replace("mine", name).format(model=model)


def activate(
    admin: httpx.Client, name: str, version: int | None, etag: str | None = None, **more: Any
) -> httpx.Response:
    headers = {"if-match": etag} if etag else {}
    return admin.post(f"/policies/{name}/activate", json={"version": version, **more}, headers=headers)


def test_a_policy_is_drafted_checked_made_ready_put_in_force_and_taken_back(
    served: Served, admin: httpx.Client
) -> None:
    half = save(admin, "life", named("life").replace('kind = "rules"', "kind ="), note="begun")
    draft = save(admin, "life", named("life", "nobody"), parent=half.json()["id"])
    ready = save(admin, "life", named("life"), state="ready", parent=draft.json()["id"])
    other = save(admin, "life", named("life", "paced"), state="ready")

    assert [one.status_code for one in (half, draft, ready, other)] == [201] * 4
    assert [one.json()["ready"] for one in (half, draft, ready)] == [False, True, True]
    assert half.json()["problems"][0]["line"] == 5
    assert "'nobody' matches no chat model" in draft.json()["warnings"][0]
    assert admin.get("/policies/life").status_code == 404
    for version in (ready.json()["id"], other.json()["id"]):
        assert activate(admin, "life", version).status_code == 200
    assert used(served, "life") == "paced"
    assert admin.post("/policies/life/rollback", json={}).json()["version_id"] == ready.json()["id"]
    assert used(served, "life") == "instant"
    rows = admin.get("/policies/life/versions").json()["data"]
    assert [(row["state"], row["parent_id"]) for row in rows] == [
        ("ready", None),
        ("ready", draft.json()["id"]),
        ("draft", half.json()["id"]),
        ("draft", None),
    ]
    assert [one["action"] for one in admin.get("/policies/life/moves").json()["data"]] == [
        "rollback",
        "activate",
        "activate",
    ]


def test_what_can_not_serve_is_neither_ready_nor_put_in_force(admin: httpx.Client) -> None:
    lost = named("lost").replace('kind = "rules"', 'kind = "knn"\nartifact = "nowhere"')
    draft = save(admin, "lost", lost)

    ready = save(admin, "lost", lost, state="ready")
    forced = activate(admin, "lost", draft.json()["id"])
    pushed = admin.put("/policies", content=lost.encode(), headers=TOML)

    assert not draft.json()["ready"]
    assert [one.status_code for one in (ready, forced, pushed)] == [400, 409, 400]
    assert "nowhere" in ready.json()["error"]["message"] and ready.json()["error"]["param"] == "router"
    assert len(admin.get("/policies/lost/versions").json()["data"]) == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("nobody/activate", {"version": 1}, 404, "version"),
        ("default/activate", {"version": 999999}, 404, "version"),
        ("default/activate", {"version": "x"}, 400, "version"),
        ("default/activate", {}, 400, "version"),
        ("default/activate", {"version": None, "scope": "planet:x"}, 400, "scope"),
        ("default/activate", {"version": None, "scope": "team:nobody"}, 404, "scope"),
        ("nobody/activate", {"version": None}, 404, "name"),
        ("default/rollback", {"force": True}, 400, "force"),
        ("nobody/rollback", {}, 409, "name"),
    ],
)
def test_a_move_that_leads_nowhere_names_the_field(
    admin: httpx.Client, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    refused = admin.post(f"/policies/{path}", json=body)

    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize(
    ("name", "text", "param"),
    [
        ("Wrong", named("wrong"), "name"),
        ("other", named("mine"), "name"),
        ("mine", named("mine") + "colour = 1\n", "router.colour"),
        ("mine", "\0", "body"),
        ("mine", "schema = ", "body"),
    ],
)
def test_a_text_that_is_no_policy_of_that_name_is_not_ready(
    admin: httpx.Client, name: str, text: str, param: str
) -> None:
    refused = save(admin, name, text, state="ready")

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_the_second_of_two_editors_is_told_and_nothing_is_lost(served: Served, admin: httpx.Client) -> None:
    first = admin.put("/policies", content=named("edited").encode(), headers=TOML)
    etag = admin.get("/policies/edited").headers["etag"]
    mine, theirs = (named("edited", model) for model in ("paced", "realistic"))

    won = admin.put("/policies", content=theirs.encode(), headers=TOML | {"if-match": etag})
    late = admin.put("/policies", content=mine.encode(), headers=TOML | {"if-match": etag})
    moved = activate(admin, "edited", first.json()["version"], etag)
    odd = activate(admin, "edited", first.json()["version"], "W/yesterday")

    assert (first.headers["etag"], won.status_code, won.headers["etag"]) == (etag, 200, '"2"')
    assert [one.status_code for one in (late, moved, odd)] == [412, 412, 400]
    assert "it is at revision 2" in late.json()["error"]["message"]
    assert used(served, "edited") == "realistic"


def test_a_team_may_have_a_version_of_its_own(served: Served, admin: httpx.Client) -> None:
    organisation = admin.post("/organisations", json={"name": "scoped"}).json()
    team = admin.post("/teams", json={"name": "t", "organisation_id": organisation["id"]}).json()
    key = admin.post("/keys", json={"name": "k", "team_id": team["id"]}).json()["key"]
    admin.put("/policies", content=named("ours").encode(), headers=TOML)
    theirs = save(admin, "ours", named("ours", "paced"), state="ready").json()["id"]

    put = activate(admin, "ours", theirs, scope=f"team:{team['id']}")

    assert put.status_code == 200
    assert (used(served, "ours"), used(served, "ours", key)) == ("instant", "paced")
    row = next(one for one in admin.get("/policies").json()["data"] if one["name"] == "ours")
    assert [one["scope"] for one in row["scopes"]] == [f"team:{team['id']}"]
    assert admin.get("/policies/ours", params={"scope": f"team:{team['id']}"}).json()["version"] == theirs
    admin.post("/policies/ours/rollback", json={"scope": f"team:{team['id']}"})
    assert used(served, "ours", key) == "instant"


def test_a_file_that_says_something_else_than_what_is_in_force_is_told(served: Served, admin: httpx.Client) -> None:
    pushed = POLICY.replace('models = ["*"]', 'models = ["instant", "paced"]')
    assert admin.put("/policies", content=pushed.encode(), headers=TOML).status_code == 200

    shown, told = admin.get("/policies/default").json(), admin.get("/policies/default/diff").json()
    back = activate(admin, "default", None)

    assert "default.toml says something else than database version" in shown["differs"]
    assert told["text"] == '~ models: ["*"] -> ["instant", "paced"]'
    assert back.status_code == 200
    after = admin.get("/policies/default").json()
    assert (after["differs"], after["version"]) == (None, None)
    assert after["source"].endswith("default.toml") and after["toml"] == POLICY


async def test_an_edit_acts_on_every_worker_within_a_second_and_no_request_fails(
    postgres_url: str, upstream: UpstreamServer, tmp_path: Path
) -> None:
    env = ENV | {"FINGERPOST_DATABASE_URL": postgres_url}
    arguments = ("--workers", "4")
    with serving(
        tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=env, arguments=arguments
    ) as served:
        asks = [Ask(served.headers["Authorization"].split()[1], "auto:mine")] * 4
        with httpx.Client(base_url=f"{served.url}/admin", headers=served.admin_headers, timeout=20) as admin:
            admin.put("/policies", content=named("mine").encode(), headers=TOML)
            await asyncio.to_thread(converged, served, "instant")
            async with Load(served.url, asks) as load:
                await load.answered(50)
                for model in ("paced", "instant", "paced"):
                    await asyncio.to_thread(admin.put, "/policies", content=named("mine", model).encode(), headers=TOML)
                    took_s = await asyncio.to_thread(converged, served, model)
                    assert took_s < 3  # a second when nothing else runs; the benchmark measures it
                await load.answered(50)
                assert set(load.seen.counts) == {OK}


def converged(served: Served, model: str, asked: int = 24) -> float:
    """Seconds until that many new connections in turn, spread over the workers, have met this model."""
    began, last_other = monotonic(), monotonic()
    streak = 0
    while streak < asked:
        assert monotonic() < began + 20
        if used(served, "mine") == model:
            streak += 1
        else:
            streak, last_other = 0, monotonic()
            sleep(0.02)
    return last_other - began
