"""What load allows the cache beyond the usual: more wrong answers, within what is certified, old ones, longer waiting.

Load is that of the endpoints that a request may go to. It is looked at only where the policy adapts or a request waits
for another, and reckoned anew ten times a second at most. Vetoes of the verifier and limits of the caller's own are
nothing to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from time import monotonic

from gateway.cache.asked import CALM, Asked, Hit, Leeway
from gateway.cache.eligibility import keeps_well
from gateway.cache.flights import LONGEST_UNDER_LOAD_S
from gateway.dispatch.health import Health
from gateway.dispatch.load import Level, index
from gateway.errors import GatewayError, Overloaded, UpstreamError
from policies.schema import CacheRule

# How long a load that was reckoned is good for.
GOOD_S = 0.1
# Groups of endpoints whose level is remembered; the oldest are forgotten.
MOST_GROUPS = 1000
# The verifier's own word for questions whose answer changes with time.
VOLATILE = "volatile"


def may_be_answered(error: GatewayError) -> bool:
    """Whether an answer may stand in for it: those who were to answer refuse or fail, but not for the caller's sake."""
    return isinstance(error, (Overloaded, UpstreamError)) and error.retry_may_help


@dataclass(slots=True)
class _Group:
    level: Level = field(default_factory=Level)
    load: float = 0.0
    share: float = 0.0
    until: float = -inf


class Adapting:
    """One worker's. `now` is the clock of `health`, in seconds."""

    def __init__(self, health: Health, now: Callable[[], float] = monotonic) -> None:
        self._health = health
        self._now = now
        self._groups: dict[tuple[str, ...], _Group] = {}
        self.counts: Counter[str] = Counter()

    def leeway(self, asked: Asked, rule: CacheRule, topic: str = "") -> Leeway:
        """What a request may be given now."""
        if not rule.adapts:
            return CALM
        group = self._group(asked)
        level = group.level
        stale_s = self._stale_s(asked, rule, topic, is_busy=level.busy)
        group.share = rule.share_at(level.value)
        if level.busy:
            return Leeway(level.value, stale_s, group.load)
        return Leeway(stale_s=stale_s) if stale_s else CALM

    def utmost(self, asked: Asked, rule: CacheRule, topic: str = "") -> Leeway:
        """What it may be given in place of an error; `CALM`: no more than before."""
        if not rule.adapts:
            return CALM
        return Leeway(1.0, self._stale_s(asked, rule, topic, is_busy=True), 1.0, instead=True)

    def patience_s(self, asked: Asked, usual_s: float) -> float:
        """For how many seconds a request waits for the answer to another, in place of `usual_s` without load."""
        level = self._group(asked).level
        return usual_s + level.value * max(LONGEST_UNDER_LOAD_S - usual_s, 0.0) if level.busy else usual_s

    def kept_s(self, asked: Asked, rule: CacheRule, topic: str, ttl_s: float) -> float:
        """For how long after its expiry an answer is kept."""
        bound_s = inf if asked.control.ttl_s is None else max(asked.control.ttl_s - ttl_s, 0)
        stale_s = min(float(rule.stale_s), bound_s)
        return stale_s if stale_s and self._keeps_well(asked, topic) else 0.0

    def used(self, hit: Hit) -> None:
        """It was given out."""
        if hit.stale_s:
            self.counts["given_stale"] += 1
        if hit.loosened:
            self.counts["given_under_load"] += 1
        if hit.leeway.instead:
            self.counts["given_for_errors"] += 1

    def figures(self) -> dict[str, float]:
        """For operators. Names in `_most` are the largest of all workers'."""
        self._read_all()
        groups = self._groups.values()
        return {
            **self.counts,
            "groups_busy": sum(group.level.busy for group in groups),
            "load_most": max((group.load for group in groups), default=0.0),
            "load_level_most": max((group.level.value for group in groups), default=0.0),
            "false_hit_share_most": max((group.share for group in groups if group.level.busy), default=0.0),
        }

    def _group(self, asked: Asked) -> _Group:
        name = (asked.policy.name, *(target.endpoint.id for target in asked.targets))
        group = self._groups.get(name)
        if group is None:
            if len(self._groups) >= MOST_GROUPS:
                del self._groups[next(iter(self._groups))]
            group = self._groups[name] = _Group()
        self._read(name, group)
        return group

    def _read(self, name: tuple[str, ...], group: _Group) -> None:
        now = self._now()
        if now < group.until:
            return
        group.until = now + GOOD_S
        group.load = index(map(self._health.of, name[1:]), now)
        group.level.heed(group.load, now)

    def _read_all(self) -> None:
        """Those whom nobody asks calm down as well."""
        for name, group in self._groups.items():
            self._read(name, group)

    def _stale_s(self, asked: Asked, rule: CacheRule, topic: str, *, is_busy: bool) -> float:
        stale_s = min(asked.control.stalest_s(rule.stale_s if is_busy else 0.0), float(rule.stale_s))
        return stale_s if stale_s and self._keeps_well(asked, topic) else 0.0

    @staticmethod
    def _keeps_well(asked: Asked, topic: str) -> bool:
        return topic != VOLATILE and asked.may.ttl_s is None and keeps_well(asked.request, asked.form)


def eased(hit: Hit, leeway: Leeway, rule: CacheRule, now_s: float, *, loosened: bool = False) -> Hit:
    """The hit with what says why it is given, where it is not given as a matter of course."""
    stale_s = max(now_s - hit.stored.expires_s, 0.0)
    allowed = []
    if loosened:
        share, usual = 100 * rule.share_at(leeway.level), 100 * rule.max_false_hit_share
        allowed.append(f"up to {share:.3g} % of such answers may be wrong in place of {usual:.3g} %")
    if stale_s:
        allowed.append(f"it expired {stale_s:.0f} s ago")
    if not allowed and not leeway.instead:
        return hit
    cause = f"the load is {leeway.load:.2f}" if leeway.load else "the request takes stale answers"
    note = "; ".join(["no model could answer" if leeway.instead else cause, *allowed])
    return replace(hit, stale_s=stale_s, loosened=loosened, note=note, leeway=leeway)
