"""The admin routes as strangers and admins meet them: who may enter, what is refused, what never breaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from gateway.app import front
from gateway.build import build
from gateway.settings import Settings
from tests.serving import Served

EXAMPLES = (
    'schema = 1\nname = "examples"\nmodels = ["*"]\n[[category]]\nname = "greeting"\n'
    'examples = ["hello there", "good morning to you"]\n'
)
# A new route is written down here, so that somebody has thought of who may use it.
ADMIN_ROUTES = [
    ("DELETE", "/admin/budgets/budget_id"),
    ("DELETE", "/admin/dry-runs/report_id"),
    ("DELETE", "/admin/keys/key_id"),
    ("DELETE", "/admin/limits/limit_id"),
    ("DELETE", "/admin/organisations/organisation_id"),
    ("DELETE", "/admin/teams/team_id"),
    ("GET", "/admin/audit"),
    ("GET", "/admin/audit/verify"),
    ("GET", "/admin/budgets"),
    ("GET", "/admin/budgets/budget_id"),
    ("GET", "/admin/budgets/budget_id/level"),
    ("GET", "/admin/cache"),
    ("GET", "/admin/cache/entries"),
    ("GET", "/admin/cache/entries/entry_id"),
    ("GET", "/admin/cache/trust"),
    ("GET", "/admin/dry-runs"),
    ("GET", "/admin/dry-runs/report_id"),
    ("GET", "/admin/keys"),
    ("GET", "/admin/keys/key_id"),
    ("GET", "/admin/limits"),
    ("GET", "/admin/limits/limit_id"),
    ("GET", "/admin/organisations"),
    ("GET", "/admin/organisations/organisation_id"),
    ("GET", "/admin/policies"),
    ("GET", "/admin/policies/name"),
    ("GET", "/admin/policies/name/diff"),
    ("GET", "/admin/policies/name/moves"),
    ("GET", "/admin/policies/name/versions"),
    ("GET", "/admin/policies/name/versions/version_id"),
    ("GET", "/admin/requests"),
    ("GET", "/admin/requests/request_id"),
    ("GET", "/admin/requests/totals"),
    ("GET", "/admin/teams"),
    ("GET", "/admin/teams/team_id"),
    ("GET", "/admin/trials"),
    ("GET", "/admin/trials/trial_id"),
    ("GET", "/admin/usage"),
    ("GET", "/admin/usage/budgets/budget_id"),
    ("GET", "/admin/usage/cache"),
    ("GET", "/admin/usage/forecasts"),
    ("PATCH", "/admin/budgets/budget_id"),
    ("PATCH", "/admin/keys/key_id"),
    ("PATCH", "/admin/limits/limit_id"),
    ("PATCH", "/admin/organisations/organisation_id"),
    ("PATCH", "/admin/teams/team_id"),
    ("PATCH", "/admin/trials/trial_id"),
    ("POST", "/admin/budgets"),
    ("POST", "/admin/cache/invalidate"),
    ("POST", "/admin/cache/trust/reset"),
    ("POST", "/admin/dry-runs"),
    ("POST", "/admin/keys"),
    ("POST", "/admin/keys/key_id/rotate"),
    ("POST", "/admin/limits"),
    ("POST", "/admin/organisations"),
    ("POST", "/admin/policies/check"),
    ("POST", "/admin/policies/name/activate"),
    ("POST", "/admin/policies/name/rollback"),
    ("POST", "/admin/policies/name/versions"),
    ("POST", "/admin/teams"),
    ("POST", "/admin/trials"),
    ("POST", "/admin/trials/trial_id/promote"),
    ("POST", "/admin/trials/trial_id/rollback"),
    ("POST", "/admin/trials/trial_id/stop"),
    ("PUT", "/admin/policies"),
]


@pytest.fixture
def admin(gateway: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers=gateway.admin_headers, timeout=20) as found:
        yield found


def admin_routes(folder: Path) -> list[tuple[str, str]]:
    """Method and path of every admin route that the application has, described or not."""
    app = front(build(Settings(data_dir=folder))).app
    routes = [(method, one.path or "") for one in iter_route_contexts(app.routes) for method in one.methods or ()]
    return sorted((method, path.replace("{", "").replace("}", "")) for method, path in routes if "admin" in path)


def chunks() -> Iterator[bytes]:
    """A body without a length, larger than any bound."""
    yield from (b"x" * 65536 for _ in range(32))


@pytest.mark.parametrize("body", ["none", "text", "endless"])
def test_every_admin_route_asks_who_it_is_before_it_looks_at_anything_else(
    gateway: Served, tmp_path: Path, body: str
) -> None:
    wrong = {"Authorization": "Bearer fp-nobody-knows-this-key-0123456789"}
    routes = admin_routes(tmp_path)
    assert routes == ADMIN_ROUTES

    for method, path in routes:
        for headers, status in (({}, 401), (wrong, 401), (gateway.headers, 403)):
            content = {"none": None, "text": b"{nonsense", "endless": chunks()}[body]
            url = f"{gateway.url}{path}?days=x&limit=x"
            assert httpx.request(method, url, headers=headers, content=content).status_code == status, (method, path)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
        ({"expires_at": "9999-06-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": " "}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"policy": "nobody"}, "policy"),
        ({"allowed_models": ["nothing"]}, "allowed_models"),
        ({"role": "king"}, "role"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_key_that_could_not_work_is_refused_and_not_stored(
    admin: httpx.Client, fields: dict[str, Any], param: str
) -> None:
    before = admin.get("/admin/keys").json()

    refused = admin.post("/admin/keys", json={"name": "x"} | fields)

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert admin.get("/admin/keys").json() == before


@pytest.mark.parametrize("body", [b'{"name": "\\ud800"}', b"[]", b"", b"\xff", b'{"name": "x"'])
def test_a_body_that_is_no_key_is_a_clear_400(admin: httpx.Client, body: bytes) -> None:
    refused = admin.post("/admin/keys", content=body)

    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_request"


def test_a_body_over_the_bound_is_refused(admin: httpx.Client) -> None:
    assert admin.post("/admin/keys", content=b" " * 100_000).status_code == 413


def test_too_many_days_are_refused(admin: httpx.Client) -> None:
    assert admin.get("/admin/requests/totals", params={"days": "1" + "0" * 320}).status_code == 400
    assert admin.get("/admin/requests/totals", params={"days": "36500"}).status_code == 200


def test_unknown_paths_and_methods_keep_their_own_errors(admin: httpx.Client) -> None:
    assert admin.get("/admin/nothing").json()["error"]["code"] == "not_found"
    assert admin.patch("/admin/keys").json()["error"]["code"] == "method_not_allowed"


def test_examples_of_a_pushed_policy_count_at_once(admin: httpx.Client, client: httpx.Client) -> None:
    pushed = admin.put("/admin/policies", content=EXAMPLES)
    body = {"model": "auto:examples", "messages": [{"role": "user", "content": "hello there, good morning"}]}

    explained = client.post("/v1/route", json=body)

    assert pushed.status_code == 200
    assert explained.json()["category"] == "greeting"


def test_the_description_lets_a_browser_send_the_key(admin: httpx.Client) -> None:
    described = admin.get("/openapi.json").json()

    assert described["paths"]["/admin/keys"]["post"]["security"] == [{"HTTPBearer": []}]
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert "requestBody" in described["paths"]["/admin/keys"]["post"]
