"""Policies in the console, as a browser without scripts meets them: faults shown, versions saved, moved, taken back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from tests.integration.conftest import POLICY, catalogue
from tests.integration.console import Visitor, hidden, text_of, visiting
from tests.serving import ADMIN_KEY, Served, serving

ENV = {"UPSTREAM_SECRET": "sk-upstream-secret", "FINGERPOST_PRELOAD": "false"}
MINE = 'schema = 1\nname = "{name}"\nmodels = ["{model}"]\n\n# the trade\n[objective]\nquality = 1.0  # all of it\n'


@pytest.fixture(scope="module")
def served(upstream: UpstreamServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("console-policies")
    with serving(folder, catalogue=catalogue(upstream), policies={"default": POLICY}, env=ENV) as found:
        yield found


@pytest.fixture
def admin(served: Served) -> Iterator[Visitor]:
    with visiting(served.url, ADMIN_KEY) as found:
        yield found


def used(served: Served, policy: str) -> str | None:
    body = {"model": f"auto:{policy}", "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, headers=served.headers, timeout=20)
    model: str | None = answer.headers.get("x-fingerpost-model")
    return model


def saved(admin: Visitor, name: str, toml: str, act: str, **more: str) -> httpx.Response:
    return admin.send(f"/policies/{name}", {"toml": toml, "act": act, "revision": "0", **more})


def text_in_editor(page: str) -> str:
    found = re.search(r'<textarea id="toml".*?>\n(.*?)</textarea>', page, re.DOTALL)
    assert found is not None
    return unescape(found[1])


def test_a_policy_with_a_fault_is_kept_in_the_editor_and_saved_once_it_is_mended(
    served: Served, admin: Visitor
) -> None:
    wrong = MINE.format(name="mended", model="instant") + "colour = <1>\n"

    refused = saved(admin, "mended", wrong, "activate")
    mended = saved(admin, "mended", wrong.replace("colour = <1>\n", ""), "activate", note="mended it")

    assert refused.status_code == 400
    assert 'data-line="8"' in refused.text and "colour = <1>" in text_in_editor(refused.text)
    assert (mended.status_code, mended.headers["location"]) == (303, "/admin/console/policies/mended")
    assert used(served, "mended") == "instant"
    assert "mended it" in text_of(admin.get("/policies/mended/history").text)


def test_faults_are_told_while_somebody_writes(admin: Visitor) -> None:
    wrong = MINE.format(name="x", model="nobody") + "cost = -1\n"

    part = admin.send("/policies/-/check", {"toml": wrong, "policy": "x"}, hx_request="true")
    unmatched = admin.send("/policies/-/check", {"toml": wrong.replace("cost = -1\n", ""), "policy": "x"})

    assert "objective.cost" in part.text and "<html" not in part.text
    assert "can be put in force" in unmatched.text and "matches no chat model" in text_of(unmatched.text)


def test_fields_change_the_text_and_leave_comments_where_they_were(admin: Visitor) -> None:
    fields = {"objective.cost": "0.3", "objective.quality": "", "exploration": "0.1", "models": "instant\npaced"}

    part = admin.send("/policies/-/fields", {"toml": MINE.format(name="x", model="instant"), "policy": "x", **fields})
    wrong = admin.send("/policies/-/fields", {"toml": MINE.format(name="x", model="instant"), "exploration": "lots"})

    begin = 'schema = 1\nname = "x"\nmodels = ["instant", "paced"]\nexploration = 0.1\n\n'
    assert text_in_editor(part.text) == begin + "# the trade\n[objective]\ncost = 0.3\n"
    assert "is no number" in text_of(wrong.text) or "is no number" in wrong.text


def test_versions_are_compared_put_in_force_and_taken_back(served: Served, admin: Visitor) -> None:
    first = MINE.format(name="moved", model="instant")
    saved(admin, "moved", first, "activate")
    ready = saved(admin, "moved", first.replace("instant", "paced"), "ready")
    version = ready.headers["location"].rpartition("=")[2]
    revision = hidden(admin.get("/policies/moved").text, "revision")

    compared = admin.get(f"/policies/moved/diff?old=active&new={version}")
    forth = admin.send("/policies/moved/activate", {"version": version, "revision": revision})
    model = used(served, "moved")
    stale = admin.send("/policies/moved/activate", {"version": version, "revision": revision})
    back = admin.send("/policies/moved/rollback")

    assert "1 key differs" in text_of(compared.text) and "models" in compared.text
    assert (forth.status_code, model, stale.status_code, back.status_code) == (303, "paced", 412, 303)
    assert "was changed" in text_of(stale.text)
    assert used(served, "moved") == "instant"
    assert "rollback" in text_of(admin.get("/policies/moved/history").text)


def test_a_new_policy_begins_with_a_name(admin: Visitor) -> None:
    wrong, begun = admin.get("/policies/-/new?name=Wrong"), admin.get("/policies/-/new?name=night")

    assert wrong.status_code == 422 and "beginning with a letter" in text_of(wrong.text)
    assert 'name = "night"' in text_in_editor(begun.text)
    assert "can be put in force" in text_of(begun.text)


def test_a_dry_run_is_started_and_followed(admin: Visitor) -> None:
    begun = admin.send("/policies/default/dry-run", {"toml": POLICY})

    page = admin.client.get(begun.headers["location"])

    assert begun.status_code == 303 and "Dry run of default" in text_of(page.text)
    assert admin.get("/dry-runs/nobody").status_code == 404


def test_a_trial_is_begun_given_more_and_stopped(admin: Visitor) -> None:
    text = MINE.format(name="tried", model="instant")
    saved(admin, "tried", text, "activate")
    version = saved(admin, "tried", text.replace("instant", "paced"), "ready").headers["location"].rpartition("=")[2]
    wanted = {"policy": "tried", "version": version, "mode": "shadow", "percent": "20"}

    wrong = admin.send("/trials", wanted | {"percent": "lots"})
    begun = admin.send("/trials", wanted)
    path = begun.headers["location"].removeprefix("/admin/console")
    shared = admin.send(f"{path}/share", {"percent": "50", "revision": "1"})
    stale = admin.send(f"{path}/stop", {"revision": "1"})
    stopped = admin.send(f"{path}/stop", {"revision": "2"})

    assert wrong.status_code == 400 and "number of per cent" in text_of(wrong.text)
    assert [one.status_code for one in (begun, shared, stale, stopped)] == [303, 303, 412, 303]
    assert "stopped" in text_of(admin.get(path).text)
    assert "tried, version" in text_of(admin.get("/trials").text)
    assert admin.send(f"{path}/explode").status_code == 400


def test_who_only_looks_changes_nothing(served: Served) -> None:
    made = httpx.post(
        f"{served.url}/admin/keys",
        json={"name": "viewer", "role": "admin", "metadata": {"console_role": "viewer"}},
        headers=served.admin_headers,
        timeout=20,
    ).json()
    with visiting(served.url, made["key"]) as viewer:
        refused = [
            saved(viewer, "default", POLICY, "activate"),
            viewer.send("/policies/default/rollback"),
            viewer.send("/policies/default/dry-run", {"toml": POLICY}),
            viewer.send("/trials", {"policy": "default", "version": "1", "percent": "5"}),
        ]
        page = viewer.get("/policies/default")

    assert [one.status_code for one in refused] == [403] * 4
    assert "Save and put in force" not in page.text
