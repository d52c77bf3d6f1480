"""Gauges in Redis: each step is one call of one Lua script, on Redis' own clock.

Redis may lose its data: what was spent is then read from the book, and leases that run here are set up again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from gateway.admission.gauges import (
    LEASE_S,
    Demand,
    Expired,
    GaugesUnavailable,
    Granted,
    Level,
    Refused,
    Settlement,
)
from gateway.admission.recent import Recent
from gateway.admission.redis_rules import SpelledRules, buckets_of, granted, refused
from gateway.admission.redis_scripts import scripts_on
from gateway.admission.redis_settling import Settling
from gateway.admission.redis_teacher import RunningLease, Teacher
from gateway.admission.rules import Budget, Rules
from gateway.admission.spend_book import SpendBook
from gateway.admission.windows import resets_at
from gateway.redis_link import Encoded, RedisLink, RedisUnavailable, Script, encoded

# Redis' clock was set where it differs by more from what ours says.
LEAP_S: Final = 5.0
_ATTEMPTS: Final = 4
_MOST_SPELLED: Final = 8_192
_MOST_RECENT: Final = 8_192
_AT_ONCE: Final = 100
_UNSURE: Final = -2


class RedisGauges:
    """`Gauges` over one Redis, shared by all processes that use it.

    Starts the link and the book, and drains the book; the caller closes the link, after `drain`.

    Where Redis has lost its data, what is forgotten is: of spending, what other processes settled in the last second
    before the first process noticed (it was not yet written to the book); of reservations, those of other processes
    until they next ask Redis, a second later at most. Redis must not evict keys (maxmemory-policy noeviction).
    """

    def __init__(self, link: RedisLink, book: SpendBook, lease_s: float = LEASE_S) -> None:
        self._link = link
        self._book = book
        self._lease_s = lease_s
        self._scripts = scripts_on(link)
        self._keys = encoded((2, "{fp}:leases", f"{{fp}}:worker:{secrets.token_hex(8)}"))
        self._running: dict[str, RunningLease] = {}
        self._ended = Recent(_MOST_RECENT)
        self._settling = Settling(link, self._scripts, book, self._keys)
        self._teacher = Teacher(link, self._scripts, self._keys, book, self._settling.lock, self._running, lease_s)
        self._spelled: dict[int, SpelledRules] = {}
        self._stamp = encoded((0, ""))
        self._stamped: tuple[int, str] = (0, "")
        self._reap_from = 0.0
        self._clock_ahead_s: float | None = None
        self._reaped_over = 0

    async def admit(self, lease_id: str, demand: Demand, replacing: str | None = None) -> Granted | Refused:
        """See `Gauges.admit`; limits are looked at before budgets."""
        spelled = self._spell(demand.rules)
        words = encoded((lease_id, demand.cost_nanousd, demand.tokens, replacing or "", self._lease_s))
        if replacing is None:
            reply = await self._ask(self._scripts.admit, spelled, words)
        else:
            reply = await self._ask_replacing(replacing, spelled, words)
        if reply[0]:
            self._running[lease_id] = RunningLease(spelled, demand.cost_nanousd, demand.tokens)
            return granted(reply, demand.rules)
        return refused(reply, demand.rules)

    async def extend(self, lease_id: str, demand: Demand, more_nanousd: int) -> bool:
        """See `Gauges.extend`; a lease that Redis has lost is set up again."""
        lease = self._running.get(lease_id)
        if lease is None:
            return False
        words = encoded((lease_id, more_nanousd, lease.reserved_nanousd, lease.tokens, self._lease_s))
        reply = await self._ask(self._scripts.extend, lease.spelled, words)
        if reply[0]:
            lease.reserved_nanousd += more_nanousd
        return bool(reply[0])

    def settle(self, settlement: Settlement) -> None:
        """See `Gauges.settle`. The cost of a lease that is not known counts, too; one that has expired, and was charged
        whole, is corrected to its real cost."""
        lease_id = settlement.lease_id
        if self._running.pop(lease_id, None) is None and lease_id in self._ended:
            return
        self._ended.add(lease_id)
        self._settling.add(settlement, self._spell(settlement.demand.rules))

    async def renew(self, lease_ids: Sequence[str]) -> None:
        """See `Gauges.renew`."""
        for start in range(0, len(lease_ids), _AT_ONCE):
            await self._call(self._scripts.renew, encoded((self._lease_s, *lease_ids[start : start + _AT_ONCE])))

    async def reap(self) -> Sequence[Expired]:
        """See `Gauges.reap`. Nothing is reaped for one lease's life after Redis came back or its clock was set, so that
        those who live can renew their leases first."""
        expired: list[Expired] = []
        while await self._may_reap():
            rows = await self._call(self._scripts.reap, encoded((_AT_ONCE,)))
            for lease_id, cost, at, spelled in rows:
                expired.append(Expired(lease_id.decode(), int(cost)))
                for budget_id, bucket in buckets_of(spelled, at):
                    self._book.add(budget_id, bucket, int(cost))
            if len(rows) < _AT_ONCE:
                break
        return expired

    async def levels(self, budgets: Sequence[Budget]) -> Sequence[Level]:
        """See `Gauges.levels`."""
        spelled = SpelledRules(Rules(tuple(budgets)))
        for _ in range(_ATTEMPTS):
            reply = await self._call(self._scripts.levels, encoded((self._teacher.epoch, spelled.spelled)))
            if reply != _UNSURE and all(reply[1:]):
                now, *rows = reply
                return [_level(budget, now, row) for budget, row in zip(budgets, rows, strict=True)]
            await self._teacher.learn(budgets)
        raise GaugesUnavailable("Redis does not keep what it is taught")

    async def start(self) -> None:
        """Connect, and begin background work; works without Redis."""
        await self._link.start()
        await self._book.start()
        self._settling.start()
        self._teacher.start()
        self._reaped_over = self._link.generation

    async def drain(self, timeout_s: float) -> None:
        """See `Gauges.drain`; what Redis does not take goes to the book alone."""
        deadline = time.monotonic() + timeout_s
        await self._teacher.close()
        await self._settling.drain(timeout_s * 0.7)
        await self._book.drain(max(deadline - time.monotonic(), timeout_s * 0.1))

    def _spell(self, rules: Rules) -> SpelledRules:
        spelled = self._spelled.get(id(rules))
        if spelled is None or spelled.rules is not rules:
            if len(self._spelled) >= _MOST_SPELLED:
                del self._spelled[next(iter(self._spelled))]
            spelled = self._spelled[id(rules)] = SpelledRules(rules)
        return spelled

    async def _ask_replacing(self, replacing: str, spelled: SpelledRules, words: Encoded) -> Any:
        """The lease that is replaced is out of sight meanwhile, so that it is not set up again behind its end."""
        old = self._running.pop(replacing, None)
        replaced = False
        try:
            reply = await self._ask(self._scripts.admit, spelled, words)
            if replaced := bool(reply[0]):
                self._ended.add(replacing)
                if old is not None:  # it may have expired, and then its charge is taken back
                    self._settling.add(Settlement(replacing, Demand(old.spelled.rules, 0, 0), 0, 0), old.spelled)
            return reply
        finally:
            if old is not None and not replaced and replacing not in self._ended:
                self._running[replacing] = old

    async def _ask(self, script: Script, spelled: SpelledRules, words: Encoded) -> Any:
        """Run a script that wants rules and a stamp; where Redis does not know enough it is taught, and asked again."""
        for _ in range(_ATTEMPTS):
            stamped = (self._link.generation, self._teacher.epoch)
            if self._stamped != stamped:
                self._stamped, self._stamp = stamped, encoded(stamped)
            try:
                reply = await script.run(self._keys, spelled.wire, self._stamp, words)
            except RedisUnavailable as error:
                raise _unavailable(error) from error
            if reply[0] != _UNSURE:
                return reply
            await self._teacher.learn(spelled.rules.budgets)
        raise GaugesUnavailable("Redis does not keep what it is taught")

    async def _call(self, script: Script, words: Encoded) -> Any:
        try:
            return await script.run(self._keys, words)
        except RedisUnavailable as error:
            raise _unavailable(error) from error

    async def _may_reap(self) -> bool:
        try:
            seconds, _ = await self._link.call("TIME")
        except RedisUnavailable as error:
            raise _unavailable(error) from error
        now_s = time.monotonic()
        ahead_s = int(seconds) - now_s
        leapt = self._clock_ahead_s is not None and abs(ahead_s - self._clock_ahead_s) > LEAP_S
        if leapt or self._reaped_over != self._link.generation:
            self._reap_from = now_s + self._lease_s
        self._clock_ahead_s, self._reaped_over = ahead_s, self._link.generation
        return now_s >= self._reap_from


def _level(budget: Budget, now_s: int, row: Sequence[bytes]) -> Level:
    reserved, *spent = map(int, row)
    return Level(budget, sum(spent), reserved, resets_at(budget.window, now_s))


def _unavailable(error: RedisUnavailable) -> GaugesUnavailable:
    unavailable = GaugesUnavailable(str(error))
    unavailable.asked = error.asked
    return unavailable
