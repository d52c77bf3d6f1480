"""Forgetting cached answers by what they are, here and on all other workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b

import msgspec

from gateway.cache.base import Store, Wanted
from gateway.ledger.acts import CACHE, EVERYTHING, Change

AT_ONCE = 500


class Told(msgspec.Struct):
    """What is to be forgotten, as workers tell each other."""

    tenant: str | None = None
    wanted: Wanted = Wanted()


def named(end_user: str) -> str:
    """An end user as the cache knows them: by a hash, so that no store keeps a name."""
    return blake2b(end_user.encode(errors="surrogatepass"), digest_size=16, person=b"end user").hexdigest()


async def found(store: Store, tenant: str | None, wanted: Wanted) -> AsyncIterator[tuple[str, list[str]]]:
    """Tenant and ids of the answers that are wanted, of one tenant or (None) of all, some at once; raises
    `StoreAway`."""
    for one in [tenant] if tenant is not None else await store.tenants():
        some: list[str] = []
        async for stored in store.entries(one, wanted):
            some.append(stored.id)
            if len(some) == AT_ONCE:
                yield one, some
                some = []
        if some:
            yield one, some


async def forget(store: Store, tenant: str | None, wanted: Wanted) -> int:
    """Drop them; how many there were. Raises `StoreAway`."""
    return sum([await store.drop(one, ids) async for one, ids in found(store, tenant, wanted)])


def told_by(changes: Sequence[Change], *, is_alone: bool) -> list[Told]:
    """What is to be forgotten; who may have missed something and is alone with its answers forgets all of them."""
    found = [msgspec.json.decode(change.subject, type=Told) for change in changes if change.what == CACHE]
    if is_alone and any(change.what == EVERYTHING for change in changes):
        found.append(Told())
    return found
