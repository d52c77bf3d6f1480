"""From a token to its caller, in memory: the hot path's key check. Knows a store to ask, not SQL."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Protocol, TypeVar

from gateway.admission.grants import Grant
from gateway.admission.rules import NO_RULES, Caller, Rules, Scope
from gateway.ledger.acts import EVERYTHING, Change

Name = TypeVar("Name")
Value = TypeVar("Value")
MAX_TOKEN_CHARS: Final = 512
MAX_UNKNOWN_LOOKUPS: Final = 4
MAX_WAITING: Final = 256


class KeyStoreUnavailable(Exception):
    """It cannot be known whether a key is valid, because the store does not answer."""


class Finder(Protocol):
    """What a keyring asks."""

    async def find(self, sha256_hex: str) -> Grant | None:
        """What the key opens whose token has this SHA-256; raises `OSError` when it cannot be said."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How long an answer of the store counts, in seconds, and how many answers are kept.

    What admins change is heard of at once (`take_up`); beside that a known key is asked about again after `ttl_s`, an
    unknown one after `unknown_ttl_s`. While the store is away known keys stay valid until `grace_s` after the last
    answer, and the store is asked at most every `retry_s`.
    """

    ttl_s: float = 30.0
    unknown_ttl_s: float = 1.0
    grace_s: float = 300.0
    retry_s: float = 2.0
    lookup_timeout_s: float = 2.0
    max_known: int = 10_000
    max_unknown: int = 10_000


@dataclass(slots=True)
class _Known:
    caller: Caller
    expires_at: float
    confirmed_at: float
    fresh_until: float


class Keyring:
    """Valid keys lately seen, by the SHA-256 of the whole token; least recently used ones are forgotten first.

    Unknown tokens are remembered apart, so that random ones never push out good ones, and few of them may ask the
    store at once. Callers whose rules are equal share one `Rules` object, by whose identity the gauges keep things.
    """

    def __init__(
        self,
        store: Finder,
        trust: Trust | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._trust = trust or Trust()
        self._clock = clock
        self._now = now
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._lookups: dict[tuple[int, bytes], asyncio.Task[Caller | None]] = {}
        self._unknown_slots = asyncio.Semaphore(MAX_UNKNOWN_LOOKUPS)
        self._quiet_until = -inf
        self._rules: OrderedDict[Rules, Rules] = OrderedDict()
        self._changes = 0

    async def authenticate(self, token: str) -> Caller | None:
        """The caller of a valid token, None for any other; raises `KeyStoreUnavailable`. Waits only for a look-up."""
        if len(token) > MAX_TOKEN_CHARS:
            return None
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        clock = self._clock()
        if known is not None:
            if known.fresh_until > clock:
                self._known.move_to_end(digest)
                return known.caller if known.expires_at > self._now() else None
        elif self._unknown.get(digest, -inf) > clock:
            return None
        return await self._shared_lookup(digest)

    def take_up(self, changes: Iterable[Change]) -> None:
        """Ask the store again about all keys that changes concern, whatever was or is being answered."""
        concerned = {(one.what, one.subject) for one in changes if one.what in _CONCERN}
        if not concerned:
            return
        self._changes += 1
        self._unknown.clear()
        if (EVERYTHING, "") in concerned:
            for known in self._known.values():
                known.fresh_until = -inf
        for digest in [digest for digest, known in self._known.items() if _subjects(known.caller) & concerned]:
            del self._known[digest]

    async def _shared_lookup(self, digest: bytes) -> Caller | None:
        """One look-up for all requests that wait for the same token; a client that leaves does not stop it.

        Who comes after a change does not share one begun before it, whose answer may be older.
        """
        name = (self._changes, digest)
        task = self._lookups.get(name)
        if task is None:
            if digest not in self._known and len(self._lookups) >= MAX_WAITING:
                raise KeyStoreUnavailable("too many unknown keys are being looked up")
            task = asyncio.create_task(self._look_up(digest), name="key-lookup")
            self._lookups[name] = task
            task.add_done_callback(lambda done: self._finish(name, done))
        return await asyncio.shield(task)

    def _finish(self, name: tuple[int, bytes], task: asyncio.Task[Caller | None]) -> None:
        del self._lookups[name]
        if not task.cancelled():
            task.exception()  # seen, also where every client that waited has left

    async def _look_up(self, digest: bytes) -> Caller | None:
        if digest in self._known:
            return await self._ask(digest)
        async with self._unknown_slots:
            return await self._ask(digest)

    async def _ask(self, digest: bytes) -> Caller | None:
        if self._clock() < self._quiet_until:
            return self._unasked(digest)
        sha256_hex, changes = digest.hex(), self._changes
        try:
            async with asyncio.timeout(self._trust.lookup_timeout_s):
                grant = await self._store.find(sha256_hex)
        except OSError:
            self._quiet_until = self._clock() + self._trust.retry_s
            return self._unasked(digest)
        if changes != self._changes:
            return await self._ask(digest)
        if grant is None or not hmac.compare_digest(grant.sha256, sha256_hex) or not grant.is_valid(self._now()):
            self._known.pop(digest, None)
            _remember(self._unknown, digest, self._clock() + self._trust.unknown_ttl_s, self._trust.max_unknown)
            return None
        return self._confirm(digest, grant)

    def _confirm(self, digest: bytes, grant: Grant) -> Caller:
        clock = self._clock()
        caller = self._sharing_rules(grant.caller)
        known = _Known(caller, grant.valid_until, clock, clock + self._trust.ttl_s)
        _remember(self._known, digest, known, self._trust.max_known)
        self._unknown.pop(digest, None)
        return caller

    def _sharing_rules(self, caller: Caller) -> Caller:
        if caller.rules is NO_RULES:
            return caller
        rules = self._rules.get(caller.rules, caller.rules)
        _remember(self._rules, rules, rules, self._trust.max_known)
        return replace(caller, rules=rules)

    def _unasked(self, digest: bytes) -> Caller | None:
        """What to answer while the store is away."""
        known = self._known.get(digest)
        if known is None or self._clock() - known.confirmed_at > self._trust.grace_s:
            raise KeyStoreUnavailable("the key store does not answer")
        known.fresh_until = self._quiet_until
        return known.caller if known.expires_at > self._now() else None


_CONCERN: Final = frozenset({Scope.KEY, Scope.TEAM, Scope.ORGANISATION, EVERYTHING})


def _subjects(caller: Caller) -> set[tuple[str, str | None]]:
    """All that a change may name and thereby mean this caller."""
    return {
        (Scope.KEY, caller.key_id),
        (Scope.KEY, caller.root_id),
        (Scope.TEAM, caller.team_id),
        (Scope.ORGANISATION, caller.organisation_id),
    }


def _remember(kept: OrderedDict[Name, Value], name: Name, value: Value, most: int) -> None:
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > most:
        kept.popitem(last=False)
