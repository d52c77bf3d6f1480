"""Looks after leases while calls run: keeps them alive, ends those of dead processes, settles the rest at shutdown."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.admission.desk import Desk
from gateway.admission.gauges import LEASE_S, Expired, GaugesUnavailable

log = logging.getLogger(__name__)

JITTER: Final = 0.25


@dataclass(frozen=True, slots=True)
class Rounds:
    """Seconds between two rounds; every wait is up to a quarter shorter or longer, so that workers spread out."""

    renew_s: float = LEASE_S / 3 / (1 + JITTER)
    reap_s: float = 10.0

    @classmethod
    def of(cls, lease_s: float) -> Rounds:
        """Those that suit leases of so many seconds: each is renewed three times in its life."""
        return cls(lease_s / 3 / (1 + JITTER), min(lease_s / 3, cls().reap_s))


class Upkeep:
    """Two endless rounds over one desk."""

    def __init__(self, desk: Desk, on_expired: Callable[[Expired], None], rounds: Rounds) -> None:
        self._desk = desk
        self._on_expired = on_expired
        self._rounds = rounds
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin; a store that is away now is asked again by its own means."""
        for gauges in (self._desk.gauges, self._desk.spare):
            try:
                await gauges.start()
            except GaugesUnavailable as error:
                log.warning("admission: the store of budgets and limits is away (%s)", error)
        self._tasks = [
            asyncio.create_task(_endlessly(self.renew, self._rounds.renew_s), name="renew-leases"),
            asyncio.create_task(_endlessly(self.reap, self._rounds.reap_s), name="reap-leases"),
        ]

    async def close(self, timeout_s: float) -> None:
        """End both rounds, charge what is still held, and wait until the stores have it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._desk.release_dropped()
        self._desk.release_all()
        for gauges in (self._desk.gauges, self._desk.spare):
            try:
                await gauges.drain(timeout_s)
            except GaugesUnavailable as error:
                log.warning("admission: the store is away; not everything is settled (%s)", error)

    async def renew(self) -> None:
        """Keep all running leases alive, in one step a store."""
        desk = self._desk
        desk.release_dropped()
        shared = [hold.lease_id for hold in desk.alive.values() if hold.in_store]
        spare = [hold.lease_id for hold in desk.alive.values() if hold.spare is not None]
        if spare:
            await desk.spare.renew(spare)
        if shared:
            await desk.gauges.renew(shared)

    async def reap(self) -> None:
        """End what nobody has renewed. A lease that we still hold is charged already, and its call is logged by us."""
        await self._desk.spare.reap()
        for expired in await self._desk.gauges.reap():
            self._desk.counts.leases_expired += 1
            if expired.lease_id not in self._desk.alive:
                self._on_expired(expired)


async def _endlessly(step: Callable[[], Awaitable[None]], period_s: float) -> None:
    while True:
        await asyncio.sleep(period_s * random.uniform(1 - JITTER, 1 + JITTER))
        # A fault in one round must not end the next ones: leases that nobody renews are charged whole.
        (fault,) = await asyncio.gather(step(), return_exceptions=True)
        if isinstance(fault, GaugesUnavailable):
            log.debug("admission: the store is away (%s)", fault)
        elif isinstance(fault, Exception):
            log.error("admission: looking after leases failed", exc_info=fault)
