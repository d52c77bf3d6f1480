"""What pages do, seen from the outside: an act in the console is the same as by the API, and is in the audit log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.eventually import comes_true
from tests.integration.console import BASE, Visitor, hidden, text_of, visiting
from tests.serving import ADMIN_KEY, Served


@pytest.fixture
def admin(gateway: Served) -> Iterator[Visitor]:
    with visiting(gateway.url, ADMIN_KEY) as found:
        yield found


@pytest.fixture
def api(gateway: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers=gateway.admin_headers, timeout=20) as found:
        yield found


def rows(api: httpx.Client, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/admin/{path}").json()["data"]
    return found


def last_act(api: httpx.Client) -> tuple[str, str]:
    (row,) = rows(api, "audit?limit=1")
    return row["action"], row["subject"]


def new_id(answer: httpx.Response) -> str:
    """Of what was made, from where one is led."""
    assert answer.status_code == 303, text_of(answer.text)
    return answer.headers["location"].rsplit("/", 1)[1]


def organisation(admin: Visitor, **fields: str) -> str:
    return new_id(admin.send("/organisations", {"name": f"org {uuid4().hex}", **fields}))


def test_an_organisation_with_a_team_and_its_end(admin: Visitor, api: httpx.Client) -> None:
    org = organisation(admin, policy="kept", tags="a, b", allowed_models="instant\npaced")
    team = new_id(admin.send("/teams", {"name": "crew", "organisation_id": org}))

    stored = api.get(f"/admin/organisations/{org}").json()
    assert (stored["policy"], stored["allowed_models"]) == ("kept", ["instant", "paced"])
    assert stored["metadata"] == {"tags": ["a", "b"]}
    assert "crew" in text_of(admin.get(f"/organisations/{org}").text)

    admin.send(f"/teams/{team}", {"name": "crew renamed"})
    assert api.get(f"/admin/teams/{team}").json()["name"] == "crew renamed"
    assert admin.send(f"/organisations/{org}/revoke").headers["location"] == f"{BASE}/organisations"
    assert last_act(api) == ("organisation.revoke", org)
    assert admin.send(f"/organisations/{org}/revoke").status_code == 404


def test_changing_terms_here_keeps_what_the_form_does_not_show(admin: Visitor, api: httpx.Client) -> None:
    metadata = {"cost_centre": 17, "tags": ["old"]}
    key = api.post("/admin/keys", json={"name": "k", "metadata": metadata}).json()["id"]

    done = admin.send(f"/keys/{key}", {"name": "renamed", "tags": "new"})

    assert done.status_code == 303
    now = api.get(f"/admin/keys/{key}").json()
    assert (now["name"], now["metadata"]) == ("renamed", {"cost_centre": 17, "tags": ["new"]})


def test_what_was_done_is_told_once(admin: Visitor, api: httpx.Client) -> None:
    key = api.post("/admin/keys", json={"name": "to be <revoked>"}).json()["id"]

    admin.send(f"/keys/{key}/revoke")  # looks at a page first, so nothing is told there
    first, second = admin.get("/keys"), admin.get("/keys")

    assert "The key 'to be <revoked>' is revoked" in text_of(first.text) and "<revoked>" not in first.text
    assert "is revoked, on all workers" not in text_of(second.text)


def test_a_rotated_key_goes_on_beside_the_new_one(gateway: Served, admin: Visitor, api: httpx.Client) -> None:
    old = api.post("/admin/keys", json={"name": "k"}).json()

    page = admin.send(f"/keys/{old['id']}/rotate", {"overlap_s": "3600"})

    secret = re.search(r'id="secret">([^<]+)<', page.text)
    assert secret is not None
    for key in (old["key"], secret[1]):
        assert httpx.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert "being replaced" in text_of(admin.get(f"/keys/{old['id']}").text)
    assert admin.send(f"/keys/{old['id']}/rotate", {"overlap_s": "0"}).status_code == 400


def test_a_console_role_is_one_of_three(admin: Visitor, api: httpx.Client) -> None:
    made = admin.send("/keys", {"name": "looks", "role": "admin", "console_role": "viewer"})
    refused = admin.send("/keys", {"name": "x", "role": "admin", "console_role": "king"})

    assert made.status_code == 200 and refused.status_code == 400
    assert api.get(f"/admin/keys/{last_act(api)[1]}").json()["metadata"] == {"console_role": "viewer"}


@pytest.mark.parametrize(
    ("window", "stored"),
    [
        ("month", ("calendar", "month", None)),
        ("rolling-7", ("rolling", None, 604_800)),
        ("total", ("total", None, None)),
    ],
)
def test_a_budget_from_its_setting_to_its_end(
    admin: Visitor, api: httpx.Client, window: str, stored: tuple[str, str | None, int | None]
) -> None:
    org = organisation(admin)
    told = {"subject": f"organisation:{org}", "window": window, "limit_usd": "1,250.5", "hard": "no"}

    admin.send("/budgets", told)
    (budget,) = rows(api, f"budgets?scope=organisation&scope_id={org}")
    assert (budget["window"], budget["period"], budget["window_s"]) == stored
    assert (budget["limit_nanousd"], budget["hard"]) == (1_250_500_000_000, False)

    admin.send(f"/budgets/{budget['id']}", {"limit_usd": "0.000000001", "hard": "yes"})
    (budget,) = rows(api, f"budgets?scope=organisation&scope_id={org}")
    assert (budget["limit_nanousd"], budget["hard"]) == (1, True)
    assert 'value="0.000000001"' in admin.get(f"/budgets/{budget['id']}").text

    admin.send(f"/budgets/{budget['id']}/delete")
    assert rows(api, f"budgets?scope=organisation&scope_id={org}") == []
    assert last_act(api) == ("budget.delete", budget["id"])


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"limit_usd": "5"}, "subject", "Choose whom it is for"),
        ({"subject": "model:instant"}, "limit_usd", "Give an amount"),
        ({"subject": "model:instant", "limit_usd": "much"}, "limit_usd", "valid decimal"),
        ({"subject": "model:instant", "limit_usd": "-1"}, "limit_usd", "must be a number of dollars"),
        ({"subject": "model:nothing", "limit_usd": "5"}, "subject", "no model"),
        ({"subject": "tag:", "limit_usd": "5"}, "tag", "must name what"),
        ({"subject": "model:instant", "limit_usd": "5", "webhook_url": "nowhere"}, "webhook_url", "must be a URL"),
    ],
)
def test_what_is_wrong_with_a_budget_is_said_where_it_was_typed(
    admin: Visitor, api: httpx.Client, fields: dict[str, str], field: str, says: str
) -> None:
    before = rows(api, "budgets")

    refused = admin.send("/budgets", fields)

    assert refused.status_code == 400
    hint = refused.text[refused.text.index(f'id="h-{field}"') :].partition("</p>")[0]
    assert says in text_of(hint) and rows(api, "budgets") == before


def test_a_rate_limit_from_its_setting_to_its_end(admin: Visitor, api: httpx.Client) -> None:
    org = organisation(admin)
    path = f"limits?scope=organisation&scope_id={org}"

    admin.send("/limits", {"subject": f"organisation:{org}", "requests_per_minute": "1,000"})
    (limit,) = rows(api, path)
    assert (limit["requests_per_minute"], limit["tokens_per_minute"]) == (1000, None)

    refused = admin.send(f"/limits/{limit['id']}", {})
    assert refused.status_code == 400 and "at least one" in text_of(refused.text)
    admin.send(f"/limits/{limit['id']}", {"tokens_per_minute": "5000"})
    (limit,) = rows(api, path)
    assert (limit["requests_per_minute"], limit["tokens_per_minute"]) == (None, 5000)

    admin.send(f"/limits/{limit['id']}/delete")
    assert rows(api, path) == []


def test_the_overview_shows_what_was_just_asked(gateway: Served, admin: Visitor, api: httpx.Client) -> None:
    body = {"model": "instant", "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(3):
        httpx.post(f"{gateway.url}/v1/chat/completions", headers=gateway.headers, json=body, timeout=20)
    assert comes_true(lambda: rows(api, "requests?limit=1"))

    page, part = admin.get("?period=1h"), admin.get("?period=1h", HX_Request="true", X_Unasked="1")

    assert "instant" in text_of(page.text) and "instant" in text_of(part.text)
    assert "<html" in page.text and "<html" not in part.text
    assert "data-chart=" in page.text and "<table" in page.text[page.text.index('id="spend"') :]


def test_the_models_page_tells_which_endpoint_is_held_back(gateway: Served, admin: Visitor) -> None:
    body = {"model": "dead", "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(4):
        httpx.post(f"{gateway.url}/v1/chat/completions", headers=gateway.headers, json=body, timeout=20)

    page = admin.get("/models").text

    row = page[page.index('<th scope="row">dead-1') :].partition("</tr>")[0]
    assert re.search(r"held back|on trial|unsure", text_of(row))
    assert "vectors" not in text_of(page[: page.index("Endpoints")])


def test_the_audit_log_is_paged_and_verified(admin: Visitor, api: httpx.Client) -> None:
    while len(rows(api, "audit?limit=60")) < 60:
        admin.send("/organisations", {"name": uuid4().hex})

    first = admin.get("/audit")
    older = re.search(r"/audit\?before=(\d+)", first.text)
    assert older is not None
    second = admin.get(f"/audit?before={older[1]}")
    assert int(older[1]) > int(re.findall(r'<div class="hint">(\d+)</div>', second.text)[0])

    sound = text_of(admin.send("/audit/verify").text)
    head = re.search(r"[0-9a-f]{64}", sound)
    assert "lines are sound" in sound and head is not None
    assert "your hash is among them" in text_of(admin.send("/audit/verify", {"noted_sha256": head[0].upper()}).text)
    assert "its end was cut off" in text_of(admin.send("/audit/verify", {"noted_sha256": "0" * 63 + "1"}).text)


@pytest.mark.parametrize("path", ["/keys/%00", "/audit?before=x", "/budgets/x", "/limits/x", "/teams/x", "/x?period=y"])
def test_nonsense_is_answered_by_a_page(admin: Visitor, path: str) -> None:
    answer = admin.get(path)

    assert answer.status_code in (400, 404) and "<main" in answer.text


def test_a_form_too_large_or_unreadable_is_refused(admin: Visitor) -> None:
    token = hidden(admin.get().text, "csrf")
    post = admin.client.post

    large = post(f"{BASE}/keys", content=b"x" * (2 * 1024 * 1024 + 1), headers={"x-csrf-token": token})
    unreadable = post(f"{BASE}/keys", content=b"\xff\xfe", headers={"x-csrf-token": token})

    assert (large.status_code, unreadable.status_code) == (413, 400)
