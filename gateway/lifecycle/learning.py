"""Keeps this process' bandits up to date: late feedback goes into the shared sums, the sums into the routers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Final

from gateway.ledger.faults import DatabaseUnavailable
from gateway.lifecycle.bandit_store import BanditStore
from gateway.lifecycle.policy_store import ActivePolicy
from gateway.lifecycle.purse import Purse
from routers.bandit_state import Tally
from routers.kinds.bandit import Bandit

log = logging.getLogger(__name__)

EVERY_S: Final = 2.0
# Clocks of processes differ, and a transaction that began earlier may end later.
OVERLAP_S: Final = 60.0


class Lessons:
    """Asks the database every few seconds, while any policy's router goes on learning."""

    def __init__(
        self,
        store: BanditStore,
        purse: Purse,
        policies: Callable[[], Sequence[ActivePolicy]],
        every_s: float = EVERY_S,
        now: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._purse = purse
        self._policies = policies
        self._every_s = every_s
        self._now = now
        self._heard_upto = 0.0
        self._hearing: frozenset[str] = frozenset()
        self._revisions: dict[str, int] = {}
        self._states: dict[str, dict[str, Tally]] = {}
        self.learned = 0

    async def run(self) -> None:
        """For ever; while the database is away bandits stay as they are. What hinders is said once."""
        complaint = ""
        while True:
            try:
                await self.step()
                complaint = ""
            except Exception as error:  # a fault of our own must not end it: it is logged, and tried again
                said = f"{type(error).__name__}: {error}"
                if said != complaint:
                    ours = not isinstance(error, DatabaseUnavailable)
                    log.warning("bandits learn nothing for now: %s", error, exc_info=ours)
                complaint = said
            await asyncio.sleep(self._every_s)

    async def step(self) -> None:
        """Hear what was said, take it in, and forecast by it. Raises `DatabaseUnavailable`."""
        active = [one for one in self._policies() if isinstance(one.router, Bandit)]
        bandits = {one.router.learner: one.router for one in active if isinstance(one.router, Bandit)}
        if not bandits:
            return
        try:
            await self._purse.refill(one.policy for one in active)
            await self._hear(bandits)
        except Exception:
            await self.recall()  # what others have learned is known all the same
            raise
        await self.recall()

    async def recall(self) -> None:
        """Forecast by what all processes have learned so far. Raises `DatabaseUnavailable`."""
        bandits = [one.router for one in self._policies() if isinstance(one.router, Bandit)]
        for learner in {one.learner for one in bandits}:
            newest, changed = await self._store.read(learner, self._revisions.get(learner, 0))
            self._revisions[learner] = newest
            self._states.setdefault(learner, {}).update(changed)
        for one in bandits:
            one.adopt(self._states[one.learner], self._now())

    async def _hear(self, bandits: Mapping[str, Bandit]) -> None:
        if not bandits.keys() <= self._hearing:  # a new one may have been taught by others before, or by nobody
            self._heard_upto = await self._store.learned_upto(bandits.keys()) - OVERLAP_S
        self._hearing = frozenset(bandits)
        since, more = self._heard_upto, True
        while more:
            progress = await self._store.learn(bandits, since)
            self.learned += progress.learned
            # A full batch of words on decisions of unknown learners, all of one moment, must not come for ever.
            more = progress.more and (progress.learned > 0 or progress.upto > since)
            since = progress.upto
            self._heard_upto = max(self._heard_upto, since - OVERLAP_S)
