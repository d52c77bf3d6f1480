"""Trials in two serving workers: who is served by what, what counts, how soon workers hear, and shadows."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from tests.command_line import fingerpost
from tests.eventually import comes_true
from tests.integration.conftest import POLICY, catalogue
from tests.integration.tenants import tenant
from tests.serving import Served, environment, serving

ENV = {"UPSTREAM_SECRET": "sk-upstream-secret", "FINGERPOST_PRELOAD": "false"}
TEXT = 'schema = 1\nname = "{name}"\nmodels = ["{model}"]\n[router]\nkind = "rules"\n'
CACHED = TEXT + '[cache]\nmode = "exact"\nttl_s = 600\n'
USERS = [f"user-{number}" for number in range(40)]


@pytest.fixture(scope="module")
def served(upstream: UpstreamServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("trials")
    two = ("--workers", "2")
    with serving(folder, catalogue=catalogue(upstream), policies={"default": POLICY}, env=ENV, arguments=two) as found:
        yield found


@pytest.fixture
def admin(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{served.url}/admin", headers=served.admin_headers, timeout=20) as found:
        yield found


def ask(served: Served, policy: str, user: str | None = None, path: str = "chat/completions", **more: Any) -> Any:
    """On a connection of its own, so that both workers are asked."""
    named = {"user": user} if user else {}
    body = {"model": f"auto:{policy}", "messages": [{"role": "user", "content": "hello"}], **named, **more}
    return httpx.post(f"{served.url}/v1/{path}", json=body, headers=served.headers, timeout=20)


def models(served: Served, policy: str) -> dict[str, str]:
    """Who serves each end user."""
    return {user: ask(served, policy, user).headers["x-fingerpost-model"] for user in USERS}


def drafted(admin: httpx.Client, name: str, text: str = TEXT, control: str = "instant", draft: str = "paced") -> int:
    """A policy in force everywhere, and a draft of it by its number."""
    pushed = admin.put("/policies", content=text.format(name=name, model=control).encode())
    assert pushed.status_code == 200, pushed.text
    explained = {"model": f"auto:{name}", "messages": [{"role": "user", "content": "hello"}]}
    route = str(admin.base_url).replace("/admin/", "/v1/route")  # answered, and counted, by nobody
    assert agreed(lambda: httpx.post(route, json=explained, headers=admin.headers, timeout=20).is_success)
    saved = admin.post(f"/policies/{name}/versions", content=text.format(name=name, model=draft).encode())
    return int(saved.json()["id"])


def begun(admin: httpx.Client, name: str, version: int, mode: str = "canary", **more: Any) -> dict[str, Any]:
    body = {"policy": name, "version": version, "mode": mode, "share": 0.5, **more}
    started = admin.post("/trials", json=body)
    assert started.status_code == 201, started.text
    found: dict[str, Any] = started.json()
    return found


def agreed(holds: Callable[[], bool]) -> bool:
    """Whether it is so twelve times in a row, by then in both workers."""
    return comes_true(lambda: all(holds() for _ in range(12)), within_s=20)


def sql(served: Served, statement: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(served.data_dir / "fingerpost.sqlite3") as database:
        return list(database.execute(statement))


def test_units_stay_in_their_arm_and_a_larger_share_takes_nobody_out(served: Served, admin: httpx.Client) -> None:
    trial = begun(admin, "sticky", drafted(admin, "sticky"))
    assert comes_true(lambda: models(served, "sticky") == models(served, "sticky"))
    before = models(served, "sticky")

    more = admin.patch(f"/trials/{trial['id']}", json={"share": 0.8}, headers={"if-match": '"1"'})
    stale = admin.patch(f"/trials/{trial['id']}", json={"share": 0.1}, headers={"if-match": '"1"'})
    place = {user for user, model in before.items() if model == "paced"}
    assert comes_true(lambda: sum(one == "paced" for one in models(served, "sticky").values()) > len(place))
    assert comes_true(lambda: models(served, "sticky") == models(served, "sticky"))
    after = models(served, "sticky")
    admin.post(f"/trials/{trial['id']}/stop", json={"note": "enough"})

    assert (more.status_code, more.headers["etag"], stale.status_code) == (200, '"2"', 412)
    assert 8 < len(place) < 32
    assert place < {user for user, model in after.items() if model == "paced"}
    assert agreed(lambda: set(models(served, "sticky").values()) == {"instant"})
    ended = admin.get(f"/trials/{trial['id']}").json()
    assert (ended["state"], ended["reason"]) == ("stopped", "enough")
    assert admin.post(f"/trials/{trial['id']}/stop", json={}).status_code == 409


def test_only_requests_that_the_policy_routes_count(served: Served, admin: httpx.Client) -> None:
    trial = begun(admin, "counted", drafted(admin, "counted"))
    ids = {
        "routed": ask(served, "counted", "ann").headers["x-request-id"],
        "explained": ask(served, "counted", "ann", path="route").headers["x-request-id"],
        "elsewhere": ask(served, "default", "ann", models=["instant"]).headers["x-request-id"],
    }
    assert comes_true(lambda: ask(served, "counted", "ann").headers["x-request-id"] and trial["id"] in arms(served))
    assert comes_true(lambda: len(rows_of(served, ids)) == 3)

    found = rows_of(served, ids)
    assert found["explained"] == found["elsewhere"] == (None, None)
    assert found["routed"][0] in (trial["id"], None)
    units = sql(
        served, f"select distinct trial_unit, trial_arm, trial_share from request_log where trial_id = '{trial['id']}'"
    )
    assert len(units) == 1 and units[0][2] == 0.5 and "ann" not in units[0][0]
    admin.post(f"/trials/{trial['id']}/rollback", json={})
    assert admin.get("/trials", params={"policy": "counted"}).json()["data"][0]["state"] == "rolled_back"


def arms(served: Served) -> set[str]:
    return {row[0] for row in sql(served, "select distinct trial_id from request_log")}


def rows_of(served: Served, ids: dict[str, str]) -> dict[str, tuple[Any, Any]]:
    names = {value: name for name, value in ids.items()}
    quoted = ", ".join(f"'{one}'" for one in names)
    rows = sql(served, f"select id, trial_id, trial_arm from request_log where id in ({quoted})")
    return {names[row[0]]: (row[1], row[2]) for row in rows}


def test_no_answer_leaks_from_one_arm_into_the_other(served: Served, admin: httpx.Client) -> None:
    version = drafted(admin, "warm", CACHED)
    assert comes_true(lambda: ask(served, "warm", "u").headers["x-fingerpost-cache"] == "hit-exact")
    trial = begun(admin, "warm", version, share=0.9)

    def seen() -> set[tuple[str, str]]:
        answers = [ask(served, "warm", user) for user in USERS]
        return {(one.headers["x-fingerpost-model"], one.headers["x-fingerpost-cache"]) for one in answers}

    assert comes_true(lambda: ("paced", "hit-exact") in seen())
    assert comes_true(lambda: trial["id"] in arms(served))
    wrong = sql(
        served,
        "select count(*) from request_log where policy = 'warm' and trial_id is not null"
        " and (model = 'paced') <> (trial_arm = 'canary')",
    )
    hits = sql(
        served, f"select count(*) from request_log where trial_id = '{trial['id']}' and cache_status = 'hit-exact'"
    )
    admin.post(f"/trials/{trial['id']}/stop", json={})
    assert wrong == [(0,)] and hits[0][0] > 0


def test_a_trial_has_whom_its_scope_names_and_nobody_who_has_a_version_of_their_own(
    served: Served, admin: httpx.Client
) -> None:
    ours, others = tenant(served, name="ours"), tenant(served, name="others")
    version = drafted(admin, "scoped")
    own = admin.post(
        "/policies/scoped/versions",
        params={"state": "ready"},
        content=TEXT.format(name="scoped", model="realistic").encode(),
    ).json()["id"]
    admin.post("/policies/scoped/activate", json={"version": own, "scope": f"team:{others.team_id}"})

    def seen(key: str | None) -> set[str]:
        named = {"Authorization": f"Bearer {key}"} if key else served.headers
        body = {"model": "auto:scoped", "messages": [{"role": "user", "content": "hello"}]}
        answers = [
            httpx.post(f"{served.url}/v1/chat/completions", json={**body, "user": user}, headers=named, timeout=20)
            for user in USERS[:16]
        ]
        return {one.headers["x-fingerpost-model"] for one in answers}

    narrow = begun(admin, "scoped", version, scope=f"team:{ours.team_id}")
    assert comes_true(lambda: seen(ours.key) == {"instant", "paced"})
    alone = seen(None), seen(others.key)
    admin.post(f"/trials/{narrow['id']}/stop", json={})
    wide = begun(admin, "scoped", version)
    assert comes_true(lambda: seen(None) == seen(ours.key) == {"instant", "paced"})
    bound = seen(others.key)
    admin.post(f"/trials/{wide['id']}/stop", json={})

    assert alone == ({"instant"}, {"realistic"}) and bound == {"realistic"}
    teams = sql(served, f"select distinct team_id from request_log where trial_id = '{narrow['id']}'")
    assert teams == [(ours.team_id,)]


def test_a_shadow_decides_and_serves_nobody(served: Served, admin: httpx.Client) -> None:
    trial = begun(admin, "shade", drafted(admin, "shade"), "shadow", share=1.0)

    def decided() -> dict[str, Any]:
        answers = [ask(served, "shade", user) for user in USERS[:5]]
        assert {one.headers["x-fingerpost-model"] for one in answers} == {"instant"}
        found: dict[str, Any] = admin.get(f"/trials/{trial['id']}").json()
        return found

    assert comes_true(lambda: decided()["shadow"]["requests"] >= 10)
    found = decided()
    assert (found["shadow"]["agrees"], found["shadow"]["faults"]) == (0, 0)
    assert {(one["control_model"], one["model"]) for one in found["models"]} == {("instant", "paced")}
    rows = sql(served, f"select distinct trial_arm, model from request_log where trial_id = '{trial['id']}'")
    assert rows == [("shadow", "instant")]
    assert sql(served, "select count(*) from shadow_decision where model is null") == [(0,)]
    promoted = admin.post(f"/trials/{trial['id']}/promote", json={"note": "by hand"})
    assert promoted.json()["state"] == "promoted"
    assert agreed(lambda: ask(served, "shade").headers["x-fingerpost-model"] == "paced")


def test_a_shadow_that_finds_nobody_says_so(served: Served, admin: httpx.Client) -> None:
    trial = begun(admin, "empty", drafted(admin, "empty", draft="nobody-*"), "shadow", share=1.0)

    def faults() -> int:
        assert ask(served, "empty").status_code == 200
        return int(admin.get(f"/trials/{trial['id']}").json()["shadow"]["faults"])

    assert comes_true(lambda: faults() >= 3)
    assert "found nobody to answer" in admin.get(f"/trials/{trial['id']}").json()["verdict"]
    admin.post(f"/trials/{trial['id']}/stop", json={})


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"version": 999}, 404, "version"),
        ({"policy": "nobody"}, 404, "policy"),
        ({"share": 1.5}, 400, "share"),
        ({"share": "much"}, 400, "share"),
        ({"mode": "loud"}, 400, "mode"),
        ({"scope": "planet:x"}, 400, "scope"),
        ({"scope": "team:nobody"}, 404, "scope"),
        ({"tolerance": {"beauty": 0.1}}, 400, "tolerance.beauty.[key]"),
        ({"tolerance": {"latency": 0.1}}, 400, "tolerance.latency"),
        ({"tolerance": {}}, 400, "tolerance"),
        ({"alpha": 2}, 400, "alpha"),
        ({"colour": "red"}, 400, "colour"),
    ],
)
def test_what_can_not_be_tried_names_the_field(
    admin: httpx.Client, fields: dict[str, Any], status: int, param: str
) -> None:
    version = drafted(admin, "wrong")

    refused = admin.post(
        "/trials", json={"policy": "wrong", "version": version, "mode": "canary", "share": 0.1, **fields}
    )

    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), refused.text
    assert admin.get("/trials", params={"policy": "wrong"}).json()["data"] == []
    assert admin.get("/trials/trial_none").status_code == 404


def test_the_same_from_the_command_line(served: Served, admin: httpx.Client) -> None:
    version = drafted(admin, "shell")
    env = environment(served.data_dir, ENV) | {
        "FINGERPOST_CATALOGUE": str(served.data_dir.parent / "catalogue.toml"),
        "FINGERPOST_POLICIES": str(served.data_dir.parent / "policies"),
    }

    def run(*arguments: str) -> Any:
        return fingerpost("trial", *arguments, env=env)

    limits = ("--tolerance", "errors=0.05", "--tolerance", "latency=0.1", "--slow-ms", "100")
    started = run("start", "shell", str(version), "--share", "0.5", "--note", "let us see", *limits, "--json")
    trial = json.loads(started.stdout)
    again = run("start", "shell", str(version))
    assert comes_true(lambda: len(Counter(models(served, "shell").values())) == 2)
    raised = run("share", trial["id"], "0.9", "--if-revision", "1")
    shown, listed = run("show", trial["id"]), json.loads(run("list", "--policy", "shell", "--json").stdout)
    stale, stopped = run("stop", trial["id"], "--if-revision", "1"), run("stop", trial["id"], "--note", "done")
    nobody = run("promote", "trial_none")

    assert trial["limits"]["tolerance"] == {"errors": 0.05, "latency": 0.1}
    assert (again.returncode, raised.returncode, shown.returncode, stopped.returncode) == (1, 0, 0, 0)
    assert trial["id"] in again.stderr and "latency" in shown.stdout
    assert (stale.returncode, nobody.returncode) == (1, 1) and "changed meanwhile" in stale.stderr
    assert [one["share"] for one in listed] == [0.9]
    assert agreed(lambda: set(models(served, "shell").values()) == {"instant"})
    lines = admin.get("/audit").json()["data"]
    mine = [one for one in lines if one["detail"].get("trial") == trial["id"]]
    assert [one["action"] for one in mine] == ["trial.stop", "trial.share", "trial.start"]
    assert all(one["actor"].startswith("cli:") for one in mine)
