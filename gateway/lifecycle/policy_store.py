"""The policies in force, in memory: read at every request, swapped whole when a source changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from gateway.admission.rules import Caller
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


@dataclass(frozen=True, slots=True)
class Found:
    """What the sources say: `policies` by key (see `policy_key`), each with where it comes from, `files` what those
    alone say. `faults` are of pushed versions that can't be read, by key; `differs` says where a file is overruled."""

    policies: Sourced
    files: Sourced
    faults: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)


Sources = Callable[[], Awaitable[Found]]


def policy_key(name: str, scope: str) -> str:
    """What the policy is kept under: its name for everybody, "NAME@team:ID" for a team. No name has an @."""
    return f"{name}@{scope}" if scope else name


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
        self._scoped: frozenset[str] = frozenset()
        self._left_out: dict[str, str] = {}
        self._refreshing = asyncio.Lock()
        self._news = asyncio.Event()
        self.refused: dict[str, str] = {}
        self.differs: Mapping[str, str] = {}
        self.filed: Mapping[str, str] = {}

    def current(self, name: str, caller: Caller | None = None) -> ActivePolicy | None:
        """The policy of that name as it is now: for the caller's key, its team, its organisation, or everybody."""
        if caller is not None and name in self._scoped:
            for scope in scopes_of(caller):
                found = self._active.get(policy_key(name, scope))
                if found is not None:
                    return found
        return self._active.get(name)

    def get(self, key: str) -> ActivePolicy | None:
        """What is kept under a key, see `policy_key`."""
        return self._active.get(key)

    def names(self) -> list[str]:
        """Names of all policies in force."""
        return sorted(key for key in self._active if "@" not in key)

    async def load(self) -> None:
        """Read all sources; `PolicyError` when a file is wrong (used at start)."""
        found = await self._sources()
        self.refused.update(found.faults)
        self._note_files(found)
        self.use(found.policies, found.files)

    def use(self, found: Sourced, files: Sourced = MappingProxyType({})) -> None:
        """Put these policies in force; `PolicyError` where a file's can't be.

        What came with the package and does not fit this gateway (another embedder, say) is merely left out; in place of
        a pushed one that can't be built, what `files` say serves.
        """
        active = {}
        for key, (policy, source) in found.items():
            try:
                active[key] = self.activate(policy, source)
            except PolicyError as error:
                if source == SHIPPED:
                    self._left_out[key] = policy.sha256()
                    log.warning("the shipped policy %s is left out: %s", key, error)
                    continue
                if files.get(key, (None, source))[1] == source and "@" not in key:
                    raise
                self.refused[key] = str(error)
                log.error("policy %s can't be used: %s", key, error)
                if key in files:
                    active |= self._made({key: files[key]})
        self._put(active)

    def _made(self, files: Sourced) -> dict[str, ActivePolicy]:
        return {key: self.activate(*one) for key, one in files.items()}

    def activate(self, policy: Policy, source: str) -> ActivePolicy:
        """A policy with its parts, not in force yet; `PolicyError` where one of them can't be built."""
        return self._going_on(activate(policy, source, self._fleet, self._artifacts))

    async def tried(self, policy: Policy, source: str) -> ActivePolicy:
        """The same in a thread, since an artifact may take long to read."""
        return self._going_on(await asyncio.to_thread(activate, policy, source, self._fleet, self._artifacts))

    def _going_on(self, made: ActivePolicy) -> ActivePolicy:
        if isinstance(made.router, Bandit):
            for old in self._active.values():
                if isinstance(old.router, Bandit):
                    made.router.go_on_from(old.router)
        return made

    def _put(self, active: Mapping[str, ActivePolicy]) -> None:
        self._active = active
        self._scoped = frozenset(key.partition("@")[0] for key in active if "@" in key)

    def rebind(self) -> None:
        """Take the fleet's endpoints anew, after some were enabled, disabled or given another key."""
        found = self._active.items()
        self._put({key: self.bound(one) for key, one in found})

    def bound(self, active: ActivePolicy) -> ActivePolicy:
        """The same over the fleet's endpoints of now."""
        return replace(active, targets=_targets(active.policy, self._fleet))

    async def refresh(self) -> list[str]:
        """Read the sources again; wrong ones are refused and the old stay. Keys of what changed."""
        async with self._refreshing:
            found = await self._sources()
            self._note_files(found)
            fresh = {key: one for key, one in self._active.items() if key in found.policies or key in found.faults}
            for key, why in found.faults.items():
                self._refuse(key, why)
            for key, (policy, source) in found.policies.items():
                if key in fresh and key in found.faults:
                    continue
                await self._renew(fresh, key, policy, source)
            for key in self.refused.keys() - found.policies.keys() - found.faults.keys() - {SOURCES}:
                del self.refused[key]
            changed = [key for key in fresh if fresh[key] is not self._active.get(key)]
            self._put(fresh)
            return changed

    async def _renew(self, fresh: dict[str, ActivePolicy], key: str, policy: Policy, source: str) -> None:
        old, sha256 = fresh.get(key), policy.sha256()
        if sha256 == self._left_out.get(key):
            return
        if old is not None and sha256 == old.sha256:
            self.refused.pop(key, None)
            if source != old.source:
                fresh[key] = replace(old, source=source)
            return
        try:
            fresh[key] = await self.tried(policy, source)
            self.refused.pop(key, None)
        except PolicyError as error:
            self._refuse(key, str(error))

    def _refuse(self, key: str, why: str) -> None:
        if self.refused.get(key) != why:
            log.error("policy %s stays as it was: %s", key, why)
        self.refused[key] = why

    def _note_files(self, found: Found) -> None:
        """Files and database never disagree silently."""
        self.filed, differs = {name: source for name, (_, source) in found.files.items()}, found.differs
        for name, said in differs.items():
            if self.differs.get(name) != said:
                log.warning("policy %s: %s; see `fingerpost policy diff %s`", name, said, name)
        self.differs = dict(differs)

    def hurry(self) -> None:
        """Something was put in force: `watch` need not wait for its next turn."""
        self._news.set()

    async def watch(self, every_s: float, prepare: Callable[[], Awaitable[None]]) -> None:
        """Refresh for ever, when told to and at least as often; `prepare` is awaited after a change. A source that
        fails is tried again."""
        complaint = ""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._news.wait()
            self._news.clear()
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
        """Every policy in force, of every scope."""
        return list(self._active.values())


def scopes_of(caller: Caller) -> Iterator[str]:
    """The nearest first."""
    yield f"key:{caller.root_id or caller.key_id}"
    if caller.team_id is not None:
        yield f"team:{caller.team_id}"
    if caller.organisation_id is not None:
        yield f"organisation:{caller.organisation_id}"
