"""The policies in force, in memory: read at every request, swapped whole when a source changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.cache.categories import Categoriser
from gateway.dispatch.fleet import Fleet
from gateway.providers.base import Target
from gateway.strategies.find import Plan, plan_of
from policies.errors import PolicyError, Problem
from policies.schema import Policy, RouterSpec
from routers.base import Router
from routers.find import load_router
from routers.kinds.bandit import Bandit
from routers.learned import LearnedRouter

log = logging.getLogger(__name__)

# The source of policies that come with the package.
SHIPPED = "shipped"
# The name under which `refused` keeps what concerns no single policy: a file that can't be read, a database away.
SOURCES = "(sources)"

Sourced = Mapping[str, tuple[Policy, str]]
Sources = Callable[[], Awaitable[Sourced]]


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Where trained routers lie, and what queries are embedded with: an embedder's id, "" as long as none is loaded."""

    folders: tuple[Path, ...]
    embedder: Callable[[], str]

    def router(self, spec: RouterSpec) -> Router:
        """What a [router] table names; `ValueError` where it can't be built or does not fit the embedder."""
        return load_router(spec, self.folders, self.embedder() or None)


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """A policy with what serves it: its router, its categories, the endpoints it allows; `plan` is what it does beside
    single calls, None for nothing."""

    policy: Policy
    sha256: str
    source: str
    router: Router
    categoriser: Categoriser
    targets: tuple[Target, ...]
    plan: Plan | None = None
    artifact_sha256: str | None = None


def activate(policy: Policy, source: str, fleet: Fleet, artifacts: Artifacts) -> ActivePolicy:
    """Build the parts of a policy; `PolicyError` where its router or a strategy can't be built."""
    try:
        router = artifacts.router(policy.router)
    except ValueError as error:
        raise PolicyError([Problem(source, None, "router", str(error), "correct the [router] table")]) from error
    return ActivePolicy(
        policy,
        policy.sha256(),
        source,
        router,
        Categoriser(policy),
        _targets(policy, fleet),
        _plan(policy, source, artifacts),
        router.artifact.sha256 if isinstance(router, LearnedRouter) else None,
    )


def _plan(policy: Policy, source: str, artifacts: Artifacts) -> Plan | None:
    try:
        return plan_of(policy, artifacts.router)
    except ValueError as error:
        raise PolicyError([Problem(source, None, "strategy", str(error), "correct the [strategy] table")]) from error


def _targets(policy: Policy, fleet: Fleet) -> tuple[Target, ...]:
    return tuple(target for target in fleet.chat_targets() if policy.allows(target.card.id))


class PolicyStore:
    """Holds one snapshot; requests in flight keep the one they started with."""

    def __init__(self, fleet: Fleet, sources: Sources, artifacts: Artifacts) -> None:
        self._fleet = fleet
        self._sources = sources
        self._artifacts = artifacts
        self._active: Mapping[str, ActivePolicy] = {}
        self._left_out: dict[str, str] = {}
        self.refused: dict[str, str] = {}

    def current(self, name: str) -> ActivePolicy | None:
        """The policy of that name as it is now."""
        return self._active.get(name)

    def names(self) -> list[str]:
        """Names of all policies in force."""
        return sorted(self._active)

    async def load(self) -> None:
        """Read all sources; `PolicyError` when any of them is wrong (used at start)."""
        self.use(await self._sources())

    def use(self, found: Sourced) -> None:
        """Put these policies in force, all or none; `PolicyError` where any of them is wrong.

        One that came with the package and does not fit this gateway (another embedder, say) is merely left out.
        """
        active = {}
        for name, (policy, source) in found.items():
            try:
                active[name] = self.activate(policy, source)
            except PolicyError as error:
                if source != SHIPPED:
                    raise
                self._left_out[name] = policy.sha256()
                log.warning("the shipped policy %s is left out: %s", name, error)
        self._active = active

    def activate(self, policy: Policy, source: str) -> ActivePolicy:
        """A policy with its parts, not in force yet; `PolicyError` where one of them can't be built."""
        made = activate(policy, source, self._fleet, self._artifacts)
        if isinstance(made.router, Bandit):
            for old in self._active.values():
                if isinstance(old.router, Bandit):
                    made.router.go_on_from(old.router)
        return made

    def rebind(self) -> None:
        """Take the fleet's endpoints anew, after some were enabled, disabled or given another key."""
        self._active = {
            name: replace(active, targets=_targets(active.policy, self._fleet)) for name, active in self._active.items()
        }

    async def refresh(self) -> list[str]:
        """Read the sources again; wrong ones are refused and the old stay. Names of what changed."""
        found = await self._sources()
        fresh = dict(self._active)
        for name, (policy, source) in found.items():
            old = fresh.get(name)
            if policy.sha256() in (old.sha256 if old is not None else None, self._left_out.get(name)):
                continue
            try:
                fresh[name] = self.activate(policy, source)
                self.refused.pop(name, None)
            except PolicyError as error:
                self.refused[name] = str(error)
                log.error("policy %s stays as it was: %s", name, error)
        for name in set(fresh) - set(found):
            del fresh[name]
        changed = [name for name in fresh if fresh[name] is not self._active.get(name)]
        self._active = fresh
        return changed

    async def watch(self, every_s: float, prepare: Callable[[], Awaitable[None]]) -> None:
        """Refresh for ever; `prepare` is awaited after a change. A source that fails is tried again."""
        complaint = ""
        while True:
            await asyncio.sleep(every_s)
            try:
                if await self.refresh():
                    await prepare()
                self.refused.pop(SOURCES, None)
                complaint = ""
            except (PolicyError, OSError) as error:
                self.refused[SOURCES] = str(error)
                if str(error) != complaint:
                    complaint = str(error)
                    log.error("policies stay as they were: %s", complaint)

    def all(self) -> list[ActivePolicy]:
        """Every policy in force."""
        return list(self._active.values())
