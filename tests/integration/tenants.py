"""A team with a key, a hard and a soft budget and a rate limit, made over the admin API."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

from tests.serving import Served

PLENTY = 10_000_000


@dataclass(frozen=True, slots=True)
class Tenant:
    """`budget_id` is that of the hard budget."""

    url: str
    admin: dict[str, str]
    key: str
    team_id: str
    budget_id: str = ""

    async def level(self) -> dict[str, Any]:
        """Where the hard budget stands."""
        async with httpx.AsyncClient(base_url=self.url, headers=self.admin, timeout=20) as client:
            answer = await client.get(f"/admin/budgets/{self.budget_id}/level")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return {name: round(value * 1e9) if name.endswith("_usd") else value for name, value in found.items()} | found

    async def settled(self, within_s: float = 15.0) -> dict[str, Any]:
        """The level once nothing is reserved any more, or as it is when the time is over."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + within_s
        while (level := await self.level())["reserved_nanousd"] and loop.time() < ends:
            await asyncio.sleep(0.1)
        return level


def tenant(
    served: Served,
    *,
    name: str = "web",
    limit_usd: float | None = None,
    soft_usd: float | None = None,
    rpm: int | None = PLENTY,
    policy: str | None = None,
) -> Tenant:
    """Made at once; `limit_usd` None: without a hard budget."""
    with httpx.Client(base_url=served.url, headers=served.admin_headers, timeout=20) as admin:
        organisation = _made(admin, "/admin/organisations", name=f"of {name}")
        team = _made(admin, "/admin/teams", name=name, organisation_id=organisation["id"])
        key = _made(admin, "/admin/keys", name=name, team_id=team["id"], policy=policy)
        of_team = {"scope": "team", "scope_id": team["id"]}
        budget_id = ""
        if limit_usd is not None:
            budget_id = _made(admin, "/admin/budgets", **of_team, limit_usd=limit_usd)["id"]
        if soft_usd is not None:
            _made(admin, "/admin/budgets", **of_team, limit_usd=soft_usd, hard=False)
        if rpm is not None:
            _made(admin, "/admin/limits", **of_team, requests_per_minute=rpm, tokens_per_minute=PLENTY * 1000)
    return Tenant(served.url, served.admin_headers, key["key"], team["id"], budget_id)


def _made(admin: httpx.Client, path: str, **fields: Any) -> dict[str, Any]:
    answer = admin.post(path, json={name: value for name, value in fields.items() if value is not None})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found
