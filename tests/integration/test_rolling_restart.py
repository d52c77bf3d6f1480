"""Restarts under constant load, with real Redis, PostgreSQL and nginx: what clients see, and what the books say after.

The bound of every test: no client sees anything but whole 200s where the restart was asked for; nothing is retried by
the clients. A worker that is killed breaks its own streams, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.gateway.upstream import UpstreamServer
from tests.eventually import eventually
from tests.integration.conftest import POLICY, catalogue
from tests.integration.load import OK, Ask, Load, Seen, mixed
from tests.integration.nginx import nginx_before
from tests.integration.postgres import PostgresServer, postgres_server, postgres_url
from tests.integration.redis_server import RedisServer, redis_running, redis_server
from tests.integration.tenants import Tenant, tenant
from tests.serving import Served, serving

__all__ = ["postgres_server", "postgres_url", "redis_running", "redis_server"]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
LAME_DUCK_S = 0.5
LEASE_S = 2
RESTART_S = 90.0
# A starting process needs the processor, too: the load must leave it some.
PAUSE_S = 0.05


@pytest.fixture
def stores(postgres_url: str, redis_server: RedisServer) -> dict[str, str]:
    """Settings of processes that share Redis and PostgreSQL."""
    return {
        "UPSTREAM_SECRET": "sk",
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_DATABASE_URL": postgres_url,
        "FINGERPOST_REDIS_URL": redis_server.url,
        # This machine may be busy; how long Redis may take is the kill table's subject.
        "FINGERPOST_REDIS_TIMEOUT_S": "2",
        "FINGERPOST_LAME_DUCK_S": str(LAME_DUCK_S),
    }


@pytest.fixture
def two_workers(upstream: UpstreamServer, stores: dict[str, str], tmp_path: Path) -> Iterator[Served]:
    """One supervisor, two workers, one listener."""
    arguments = ("--workers", "2")
    with serving(
        tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=stores, arguments=arguments
    ) as served:
        yield served


def clients_of(team: Tenant) -> list[Ask]:
    """Whole answers, instant streams, and streams that take about 0.2 and 1.3 s."""
    return [
        *mixed(team.key, 6),
        *[Ask(team.key, "paced", stream=True, name="slow")] * 2,
        *[Ask(team.key, "typical", stream=True, name="slowest")] * 2,
    ]


def rows(postgres: PostgresServer, url: str) -> tuple[int, int]:
    """Rows in the ledger that were answered, and distinct ids among them."""
    found = postgres.sql(
        "select count(*), count(distinct id) from request_log where status = 200", url.rsplit("/", 1)[1]
    )
    count, distinct = found.split("|")
    return int(count), int(distinct)


def workers_of(served: Served) -> list[int]:
    """Process ids of a supervisor's workers."""
    pid = served.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def report(capsys: pytest.CaptureFixture[str], what: str, seen: Seen) -> None:
    with capsys.disabled():
        print(f"\n  {what}: {seen.told()}")


async def test_a_rolling_restart_of_two_workers_is_seen_by_nobody(
    two_workers: Served,
    postgres_server: PostgresServer,
    postgres_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    team = tenant(two_workers, limit_usd=1000)
    before = workers_of(two_workers)
    async with Load(two_workers.url, clients_of(team), PAUSE_S) as load:
        await load.answered(100)
        two_workers.process.send_signal(signal.SIGHUP)
        await eventually(lambda: len(found := workers_of(two_workers)) == 2 and not set(before) & set(found), RESTART_S)
        await load.answered(100)
    level = await team.settled()
    code = two_workers.stop()

    report(capsys, "SIGHUP, two workers", load.seen)
    assert load.seen.counts == {OK: len(load.seen.outcomes)}
    assert level["reserved_nanousd"] == 0
    assert rows(postgres_server, postgres_url) == (load.seen.answered, load.seen.answered)
    assert code == 0


async def test_two_processes_behind_nginx_are_replaced_one_by_one_and_nobody_sees_it(
    upstream: UpstreamServer,
    stores: dict[str, str],
    postgres_server: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def instance(name: str, port: int = 0) -> AbstractContextManager[Served]:
        arguments = ("--port", str(port)) if port else ()
        rows = catalogue(upstream)
        return serving(tmp_path / name, catalogue=rows, policies={"default": POLICY}, env=stores, arguments=arguments)

    with ExitStack() as stack:
        served = [stack.enter_context(instance(name)) for name in "ab"]
        ports = [int(one.url.rsplit(":", 1)[1]) for one in served]
        nginx = stack.enter_context(nginx_before(ports, tmp_path / "nginx"))
        team = tenant(served[0], limit_usd=1000)
        async with Load(nginx.url, clients_of(team), PAUSE_S) as load:
            await load.answered(100)
            codes = []
            for place, port in enumerate(ports):
                codes.append(await asyncio.to_thread(served[place].stop))
                await load.answered(50)
                # It waits for a new process; the load goes on meanwhile.
                served[place] = await asyncio.to_thread(stack.enter_context, instance(f"new{place}", port))
                await load.answered(50)
        level = await replace(team, url=served[0].url).settled()
        codes += [one.stop() for one in served]

    report(capsys, "two processes behind nginx", load.seen)
    assert load.seen.counts == {OK: len(load.seen.outcomes)}, nginx.errors
    assert level["reserved_nanousd"] == 0
    assert rows(postgres_server, postgres_url) == (load.seen.answered, load.seen.answered)
    assert codes == [0, 0, 0, 0]


async def test_a_killed_worker_breaks_its_own_streams_only_and_its_leases_are_charged_and_end(
    upstream: UpstreamServer,
    stores: dict[str, str],
    postgres_server: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    env = {**stores, "FINGERPOST_LEASE_S": str(LEASE_S)}
    arguments = ("--workers", "2")
    with serving(
        tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=env, arguments=arguments
    ) as served:
        team = tenant(served, limit_usd=1000)
        streams = [Ask(team.key, "typical", stream=True)] * 8
        async with Load(served.url, streams, PAUSE_S) as load:
            await load.answered(16)
            # One of two workers holds half of the connections at least: some of the streams under way are its own.
            await eventually(lambda: load.streaming >= 6)
            victim = max(workers_of(served), key=partial(clients_at, served))
            os.kill(victim, signal.SIGKILL)
            await eventually(lambda: gone(victim))
            await asyncio.sleep(0.01)  # until the load has heard of it, too, and opens new connections
            gone_at = time.monotonic()
            await eventually(lambda: len(found := workers_of(served)) == 2 and victim not in found, RESTART_S)
            await load.answered(8)
        level = await team.settled(10 * LEASE_S)
        code = served.stop()
    before, after = load.seen.between(0, gone_at), load.seen.between(gone_at)

    report(capsys, "SIGKILL of one of two workers", load.seen)
    assert after.counts == {OK: len(after.outcomes)}
    # The system closes a connection with a reset where the victim had not read all that was sent to it.
    broken = {"broken stream (closed early)", "broken stream (reset)"}
    assert set(before.counts) <= {OK, "closed early", "reset", *broken}
    assert broken & set(before.counts)
    assert level["reserved_nanousd"] == 0
    assert expired(postgres_server, postgres_url) > 0
    assert code == 0


def gone(pid: int) -> bool:
    """Whether a process holds nothing any more: its connections are closed, even where nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def expired(postgres: PostgresServer, url: str) -> int:
    """Leases in the ledger that were charged whole because nobody had renewed them."""
    database = url.rsplit("/", 1)[1]
    return int(postgres.sql("select count(*) from request_log where error_code = 'lease_expired'", database))


def clients_at(served: Served, pid: int) -> int:
    """How many connections of clients a worker holds: those at the port that the server listens on."""
    port = f":{int(served.url.rsplit(':', 1)[1]):04X}"
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {f"socket:[{row[9]}]" for row in fields if row[1].endswith(port) and row[3] == "01"}
    return sum(1 for fd in Path(f"/proc/{pid}/fd").iterdir() if str(fd.readlink()) in established)
