"""From a token to its caller, in memory: the hot path's key check. Knows a store to ask, not SQL."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol, TypeVar

from gateway.admission.key_store import KeyRow, Role

Value = TypeVar("Value")
MAX_TOKEN_CHARS: Final = 512
MAX_UNKNOWN_LOOKUPS: Final = 4
MAX_WAITING: Final = 256


class KeyStoreUnavailable(Exception):
    """It cannot be known whether a key is valid, because the store does not answer."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `policy` None means the default one, `allowed_models` None whatever the policy allows."""

    key_id: str
    role: Role
    policy: str | None
    allowed_models: tuple[str, ...] | None


class Finder(Protocol):
    """What a keyring asks."""

    async def find(self, sha256_hex: str) -> KeyRow | None:
        """The key whose token has this SHA-256; raises `OSError` when it cannot be said."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How long an answer of the store counts, in seconds, and how many answers are kept.

    A known key is asked about again after `ttl_s`, an unknown one after `unknown_ttl_s`; while the store is away known
    keys stay valid until `grace_s` after the last answer, and the store is asked at most every `retry_s`.
    """

    ttl_s: float = 5.0
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
    store at once.
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
        self._lookups: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._unknown_slots = asyncio.Semaphore(MAX_UNKNOWN_LOOKUPS)
        self._quiet_until = -inf

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

    def forget(self, key_id: str) -> None:
        """Ask the store again about this key at its next use."""
        for digest in [digest for digest, known in self._known.items() if known.caller.key_id == key_id]:
            del self._known[digest]

    async def _shared_lookup(self, digest: bytes) -> Caller | None:
        """One look-up for all requests that wait for the same token; a client that leaves does not stop it."""
        task = self._lookups.get(digest)
        if task is None:
            if digest not in self._known and len(self._lookups) >= MAX_WAITING:
                raise KeyStoreUnavailable("too many unknown keys are being looked up")
            task = asyncio.create_task(self._look_up(digest), name="key-lookup")
            self._lookups[digest] = task
            task.add_done_callback(lambda done: self._finish(digest, done))
        return await asyncio.shield(task)

    def _finish(self, digest: bytes, task: asyncio.Task[Caller | None]) -> None:
        del self._lookups[digest]
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
        sha256_hex = digest.hex()
        try:
            async with asyncio.timeout(self._trust.lookup_timeout_s):
                row = await self._store.find(sha256_hex)
        except OSError:
            self._quiet_until = self._clock() + self._trust.retry_s
            return self._unasked(digest)
        if row is None or not hmac.compare_digest(row.sha256, sha256_hex) or not row.is_valid(self._now()):
            self._known.pop(digest, None)
            _remember(self._unknown, digest, self._clock() + self._trust.unknown_ttl_s, self._trust.max_unknown)
            return None
        return self._confirm(digest, row)

    def _confirm(self, digest: bytes, row: KeyRow) -> Caller:
        clock = self._clock()
        caller = Caller(row.id, row.role, row.policy, row.allowed_models)
        expires_at = row.expires_at.timestamp() if row.expires_at is not None else inf
        known = _Known(caller, expires_at, clock, clock + self._trust.ttl_s)
        _remember(self._known, digest, known, self._trust.max_known)
        self._unknown.pop(digest, None)
        return caller

    def _unasked(self, digest: bytes) -> Caller | None:
        """What to answer while the store is away."""
        known = self._known.get(digest)
        if known is None or self._clock() - known.confirmed_at > self._trust.grace_s:
            raise KeyStoreUnavailable("the key store does not answer")
        known.fresh_until = self._quiet_until
        return known.caller if known.expires_at > self._now() else None


def _remember(kept: OrderedDict[bytes, Value], digest: bytes, value: Value, most: int) -> None:
    kept[digest] = value
    kept.move_to_end(digest)
    if len(kept) > most:
        kept.popitem(last=False)
