"""Starting and stopping one process' gateway, in the order that loses nothing."""

from __future__ import annotations

import asyncio
import gc
import logging

from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.privacy import sweep
from gateway.providers.local import LocalProvider
from gateway.state import Gateway

log = logging.getLogger(__name__)
POLICY_POLL_S = 1.0
GAUGES_EVERY_S = 1.0
WEBHOOKS_S = 2.0


async def start(gateway: Gateway) -> None:
    """Open the ledger, read the policies, load local models; `PolicyError` where a policy is wrong."""
    await gateway.ledger.start()
    await gateway.admission.start()
    await gateway.changes.poll()
    if gateway.settings.preload:
        await gateway.embedding.warm()  # before policies: their artifacts must fit it
    await _load_policies(gateway)
    if gateway.settings.preload:
        await preload(gateway)
    gateway.tasks.append(asyncio.create_task(gateway.policies.watch(POLICY_POLL_S, gateway.preparing)))
    if gateway.settings.preload:
        await gateway.preparing()
    else:
        gateway.tasks.append(asyncio.create_task(gateway.preparing()))
    gateway.tasks.append(asyncio.create_task(gateway.changes.run()))
    gateway.tasks.append(asyncio.create_task(_learn(gateway)))
    await _recall(gateway)
    gateway.tasks.append(asyncio.create_task(gateway.learning.run()))
    await _take_part(gateway)
    if gateway.shared_health is not None:
        await gateway.shared_health.start()
    await gateway.cache.start()
    gateway.metrics.watch(
        "cached", "Answers kept, waited for, called wrong; times the store was away.", gateway.cache.gauges
    )
    if gateway.tracer is not None:
        gateway.tasks.append(asyncio.create_task(gateway.tracer.run()))
    gateway.metrics.watch(
        "admission", "Figures of admission; lines and traces dropped.", lambda: _admission_gauges(gateway)
    )
    gateway.metrics.watch("ledger", "The ledger writer's figures.", lambda: _ledger_gauges(gateway))
    local = gateway.providers.get("local")
    if isinstance(local, LocalProvider):
        gateway.metrics.watch("local_engine", "Figures of local models' engines.", local.gauges)
    gateway.tasks.append(asyncio.create_task(_refresh_gauges(gateway)))
    gateway.tasks.append(asyncio.create_task(gateway.paces.run()))
    gateway.tasks.append(asyncio.create_task(sweep(gateway.engine, gateway.settings.prompt_retention_days)))
    _spare_collector()
    gateway.leaving.watch()
    gateway.ready = True


def _spare_collector() -> None:
    """What lives as long as the process need not be looked at by the garbage collector again and again.

    With Python's own thresholds its passes took 6% of the time of a proxied request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def close(gateway: Gateway) -> None:
    """Stop watching, settle reservations, close providers, then drain the ledger last: late records still arrive."""
    gateway.ready = False
    gateway.leaving.release()
    for task in gateway.tasks:
        task.cancel()
    await asyncio.gather(*gateway.tasks, return_exceptions=True)
    await gateway.dry_runs.close()
    grace_s = gateway.settings.grace_s
    if gateway.shared_health is not None:
        await gateway.shared_health.close()
    await gateway.cache.close()
    await gateway.admission.close(grace_s)
    await gateway.webhooks.close(WEBHOOKS_S)
    if gateway.tracer is not None:
        await gateway.tracer.flush()
    for provider in gateway.providers.values():
        await provider.close()
    if gateway.local.embedder is not None:
        await gateway.local.embedder.close()
    if gateway.lines is not None:
        gateway.lines.flush()
    if gateway.link is not None:
        await gateway.link.close()
    await gateway.ledger.drain(grace_s)
    await gateway.engine.dispose()


async def _learn(gateway: Gateway) -> None:
    """Estimates begin with what the ledger remembers; without a database they learn from the calls to come."""
    try:
        await gateway.estimates.seed(gateway.engine, gateway.fleet.models())
    except DatabaseUnavailable as error:
        log.warning("estimates begin without the ledger's memory: %s", error)


async def _recall(gateway: Gateway) -> None:
    """No request is decided by a bandit that has not read yet what was learned; where that can't be read it forecasts
    without."""
    try:
        await gateway.learning.recall()
    except (DatabaseUnavailable, ValueError) as error:
        log.warning("bandits begin without what was learned: %s", error)


async def _load_policies(gateway: Gateway) -> None:
    try:
        await gateway.policies.load()
    except DatabaseUnavailable as error:
        log.error("pushed policies join later: %s", error)
        gateway.policies.use(gateway.policy_sources.from_files())


async def _take_part(gateway: Gateway) -> None:
    """In the trials that run, from the first request on; without a database nobody is on trial until it is back."""
    try:
        await gateway.trials.book.refresh()
    except DatabaseUnavailable as error:
        log.warning("trials begin later here: %s", error)
    gateway.tasks += [asyncio.create_task(work) for work in gateway.trials.work()]
    gateway.metrics.watch("trials", "Trials of drafts, and what shadows have decided.", gateway.trials.gauges)


async def preload(gateway: Gateway) -> None:
    """Let every provider do beforehand what a first call would wait for."""
    for target in gateway.fleet.targets.values():
        await target.provider.warm(target)


async def _refresh_gauges(gateway: Gateway) -> None:
    """A scrape may reach another worker; what this one has to say must lie ready by then."""
    while True:
        gateway.metrics.refresh()
        await asyncio.sleep(GAUGES_EVERY_S)


def _ledger_gauges(gateway: Gateway) -> dict[str, float]:
    stats = gateway.ledger.stats()
    return {
        "queued": stats.queued,
        "written": stats.written,
        "spooled": stats.spooled,
        "spool_bytes": stats.spool_bytes,
        "rejected": stats.rejected,
        "dropped": stats.dropped,
        "torn": stats.torn,
        "database_up": float(stats.database_up),
    }


def _admission_gauges(gateway: Gateway) -> dict[str, float]:
    found = {**gateway.admission.stats(), **gateway.webhooks.stats()}
    if gateway.link is not None:
        found["redis_up"] = float(gateway.link.state.up)
    if gateway.lines is not None:
        found["request_lines_dropped"] = gateway.lines.dropped
    if gateway.tracer is not None:
        found["traces_dropped"] = gateway.tracer.dropped
    return found
