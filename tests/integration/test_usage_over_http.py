"""`GET /admin/usage` and the log search of `GET /admin/requests` before a running gateway."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.eventually import comes_true
from tests.integration.test_feedback_over_http import asked
from tests.serving import Served


@pytest.fixture
def admin(gateway: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers=gateway.admin_headers, timeout=20) as found:
        yield found


def test_what_was_answered_shows_up_in_the_sums_and_is_found_in_the_log(
    client: httpx.Client, admin: httpx.Client
) -> None:
    ids = [asked(client, user="ann", metadata={"n": "1"}) for _ in range(3)]
    assert comes_true(lambda: admin.get(f"/admin/requests/{ids[-1]}").is_success, 5)
    row = admin.get(f"/admin/requests/{ids[0]}").json()

    usage = admin.get("/admin/usage", params={"period": "1h", "by": "model", "key_id": row["key_id"]}).json()
    found = admin.get("/admin/requests", params={"model": "instant", "status": "ok", "since": row["at"], "count": True})

    (group,) = (one for one in usage["groups"] if one["name"] == "instant")
    assert usage["total"]["requests"] == sum(point["requests"] for point in usage["points"]) >= group["requests"] >= 3
    assert len(usage["points"]) == 12 and usage["step_s"] == 300
    listed = [one["id"] for one in found.json()["data"]]
    assert set(ids) <= set(listed) and found.json()["count"] == {"requests": len(listed), "exact": True}
    assert found.json()["looked_back_to"] is None


def test_pages_follow_each_other_to_the_end(client: httpx.Client, admin: httpx.Client) -> None:
    first = asked(client)
    ids = [first, *(asked(client) for _ in range(4))]
    assert comes_true(lambda: admin.get(f"/admin/requests/{ids[-1]}").is_success, 5)
    since = admin.get(f"/admin/requests/{first}").json()["at"]

    seen, after = [], None
    while True:
        page = admin.get("/admin/requests", params={"since": since, "limit": 2, **({"after": after} if after else {})})
        seen += [one["id"] for one in page.json()["data"]]
        after = page.json()["next"]
        if after is None:
            break

    assert sorted(seen) == sorted(ids) and "decision" in page.json()["data"][0]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"after": "nonsense"}, "after"),
        ({"status": "3xx"}, "status"),
        ({"since": "nan"}, "since"),
        ({"limit": "0"}, "limit"),
        ({"colour": "red"}, "colour"),
        ({"key_id": "a\0b"}, "key_id"),
        ({"id_prefix": "REQ%"}, "id_prefix"),
        ({"min_cost_usd": "-1"}, "min_cost_usd"),
    ],
)
def test_a_search_that_can_mean_nothing_is_refused_by_name(
    admin: httpx.Client, params: dict[str, str], param: str
) -> None:
    refused = admin.get("/admin/requests", params=params)

    assert refused.status_code == 400
    assert param in str(refused.json()["error"])


def test_lines_that_cannot_be_combined_are_refused_with_the_way_out(admin: httpx.Client) -> None:
    refused = admin.get("/admin/usage", params={"policy": "default", "key_id": "k"})

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "by")
    assert "log search" in refused.json()["error"]["message"]


def test_budgets_burn_down_and_forecasts_and_false_hits_are_told(client: httpx.Client, admin: httpx.Client) -> None:
    request_id = asked(client)
    client.post("/v1/feedback", json={"request_id": request_id, "rating": "good"}).raise_for_status()
    body = {
        "scope": "model",
        "scope_id": "instant",
        "limit_usd": 5,
        "window": "calendar",
        "period": "day",
        "hard": False,
    }
    budget = admin.post("/admin/budgets", json=body).raise_for_status().json()
    assert comes_true(lambda: admin.get(f"/admin/requests/{request_id}").is_success, 5)

    burn = admin.get(f"/admin/usage/budgets/{budget['id']}").json()
    (told,) = (one for one in admin.get("/admin/usage/forecasts").json()["data"] if one["model"] == "instant")
    cache = admin.get("/admin/usage/cache").json()
    admin.delete(f"/admin/budgets/{budget['id']}").raise_for_status()

    assert burn["limit_nanousd"] == 5 * 10**9 and burn["points"][-1] > 0 and burn["step_s"] == 300
    assert told["rated"] >= 1 and told["costs"]["real_nanousd"] > 0
    assert cache["checked_wrong"] == [0.0, 1.0] and cache["hits"] == 0
    assert admin.get("/admin/usage/budgets/none").status_code == 404
