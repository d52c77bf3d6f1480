"""One dry run from the ledger to its findings; not for a process that serves, since it takes a core for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.dispatch.health import Health
from gateway.lifecycle.dry_run.findings import findings
from gateway.lifecycle.dry_run.replay import Case, Replay, Replayed
from gateway.lifecycle.dry_run.rows import Wanted, count, pages
from gateway.lifecycle.policy_store import ActivePolicy
from policies.catalogue import ModelCard
from routers.training.support import Needs

# Told what is being done and the share of it that is done.
Watch = Callable[[str, float], None]
READING: Final = "deciding anew"


async def dry_run(
    engine: AsyncEngine,
    active: ActivePolicy,
    health: Health,
    wanted: Wanted,
    *,
    delta: float,
    needs: Needs,
    watch: Watch,
) -> dict[str, Any]:
    """What `findings` says of the last requests; raises `DatabaseUnavailable`."""
    began = perf_counter()
    expected = await count(engine, wanted)
    replay, replayed = Replay(active, health), Replayed()
    watch(READING, 0.0)
    async for rows in pages(engine, wanted):
        await asyncio.to_thread(replay.take, rows, replayed)
        watch(READING, min(replayed.rows / max(expected, 1), 1.0))
    dearest = dearest_usd(replayed.cases, [one.card for one in active.targets], active)
    found = await asyncio.to_thread(
        partial(findings, replayed, active.policy, delta=delta, needs=needs, dearest_usd=dearest, watch=watch)
    )
    return {**found, "policy_sha256": active.sha256, "took_s": round(perf_counter() - began, 3)}


def dearest_usd(cases: Sequence[Case], cards: Sequence[ModelCard], active: ActivePolicy) -> float:
    """The most that one of these calls can have cost: what the logs show, or the dearest forecast, tenfold; bounds need
    a figure that was not read off the costs alone, and a policy's own cap is one."""
    cap = active.policy.budget.max_cost_usd_per_request
    told = max((cost for one in cases for _, cost in one.told.values()), default=0.0)
    seen = max((one.cost_usd for one in cases if one.cost_usd is not None), default=0.0)
    most = max(10 * told, seen)
    return min(most, cap) if cap is not None and cap >= seen else most
