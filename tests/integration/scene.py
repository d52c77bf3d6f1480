"""Four callers of one gateway, an outage under load, and the books afterwards: what the kill table's tests share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.eventually import eventually
from tests.integration.conftest import POLICY
from tests.integration.load import Ask, Load, Seen, mixed
from tests.integration.postgres import PostgresServer
from tests.integration.tenants import Tenant, tenant
from tests.serving import Served

OPEN = POLICY.replace('"default"', '"open"') + '[budget]\nwhen_store_is_away = "open"\n'
POLICIES = {"default": POLICY, "open": OPEN}
ENV = {"UPSTREAM_SECRET": "sk", "FINGERPOST_PRELOAD": "false"}
REFUSED = "503 budget_store_unavailable"
PAUSE_S = 0.02


@dataclass(slots=True)
class Scene:
    """A gateway with four callers: bound by a hard budget that fails closed, by one that fails open, by limits and a
    soft budget only, and by nothing."""

    served: Served
    hard: Tenant
    open: Tenant
    soft: Tenant
    free: Tenant

    @property
    def asks(self) -> list[Ask]:
        """Two clients of each, one of which streams."""
        named = {"hard": self.hard, "open": self.open, "soft": self.soft, "free": self.free}
        return [ask for name, one in named.items() for ask in mixed(one.key, 2, name=name)]

    async def health(self) -> dict[str, str]:
        """What readiness says."""
        async with httpx.AsyncClient(base_url=self.served.url, timeout=10) as client:
            answer = await client.get("/health/ready")
        assert answer.status_code == 200, answer.text
        found: dict[str, str] = answer.json()
        return found

    async def metric(self, prefix: str, name: str) -> float:
        """One of our own gauges."""
        async with httpx.AsyncClient(base_url=self.served.url, timeout=10) as client:
            lines = (await client.get("/metrics")).text.splitlines()
        (line,) = [one for one in lines if one.startswith(f'fingerpost_{prefix}{{name="{name}"}}')]
        return float(line.rsplit(" ", 1)[1])

    async def says(self, what: str, state: str, within_s: float = 20.0) -> None:
        """Wait until readiness says so."""

        async def said() -> bool:
            return (await self.health())[what].startswith(state)

        await eventually(said, within_s, every_s=0.2)  # such a client costs as much as many requests


def scene(served: Served) -> Scene:
    """Everybody has plenty of money and room; what is refused is refused for the outage."""
    return Scene(
        served,
        tenant(served, name="hard", limit_usd=1000, soft_usd=1000),
        tenant(served, name="open", limit_usd=1000, policy="open"),
        tenant(served, name="soft", soft_usd=1000),
        tenant(served, name="free", rpm=None),
    )


@dataclass(slots=True)
class Outage:
    """When it began and when the last client had noticed its end."""

    load: Load
    began_s: float = 0.0
    over_s: float = 0.0

    @property
    def before(self) -> Seen:
        """What began before it: how long this machine takes where nothing is wrong."""
        return self.load.seen.between(0, self.began_s)

    @property
    def during(self) -> Seen:
        """What began in it."""
        return self.load.seen.between(self.began_s, self.over_s)

    @property
    def after(self) -> Seen:
        """What began after it."""
        return self.load.seen.between(self.over_s)


@asynccontextmanager
async def outage(load: Load, more: int = 150) -> AsyncIterator[Outage]:
    """Load before, during and after; the block ends the outage and says when clients have noticed that."""
    await load.answered(more)
    found = Outage(load, time.monotonic())
    yield found
    found.over_s = time.monotonic()
    await load.answered(more)


def spent(postgres: PostgresServer, url: str, team: Tenant) -> int:
    """What the ledger says a team has cost, in nano-dollars."""
    statement = f"select coalesce(sum(cost_nanousd), 0) from request_log where team_id = '{team.team_id}'"
    return int(postgres.sql(statement, url.rsplit("/", 1)[1]))


def logged(postgres: PostgresServer, url: str) -> tuple[int, int]:
    """Rows of the ledger, and distinct ids among them."""
    count, ids = postgres.sql("select count(*), count(distinct id) from request_log", url.rsplit("/", 1)[1]).split("|")
    return int(count), int(ids)


def report(capsys: pytest.CaptureFixture[str], what: str, found: Outage) -> None:
    with capsys.disabled():
        print(f"\n  {what}, {found.over_s - found.began_s:.1f} s:")
        for name in ("hard", "open", "soft", "free"):
            if told := found.during.between(0, name=name).outcomes:
                print(f"    {name}: {Seen(told).told()}")
