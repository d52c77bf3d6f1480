"""Forgetting cached answers by what they are, here and on all other workers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import blake2b
from itertools import islice
from time import monotonic

import msgspec

from gateway.cache.base import Store, StoreAway, Stored, Wanted
from gateway.cache.trust import TrustBook
from gateway.ledger.acts import CACHE, EVERYTHING, Change

AT_ONCE = 500
# How long after a store was away it is asked again to forget.
AGAIN_S = 1.0
# Of ids that this worker does not know others are told so many.
STRANGE_PER_S = 10
# Wishes that answers on their way are held against.
MOST_REMEMBERED = 1000


class Told(msgspec.Struct):
    """What is to be forgotten, as workers tell each other; `wrong`: because it is."""

    tenant: str | None = None
    wanted: Wanted = Wanted()
    wrong: bool = False

    def means(self, stored: Stored) -> bool:
        """Whether an answer is among them."""
        return self.tenant in (None, stored.tenant) and self.wanted.holds(stored)


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


class Forgetting:
    """One worker's: each wish is carried out until it is done, and holds for answers that are still on their way too.

    An answer was asked for before a wish was heard, and is whole only after it: without that it would be kept.
    """

    def __init__(
        self, store: Store | None, trust: TrustBook, *, is_alone: bool, clock: Callable[[], float] = monotonic
    ) -> None:
        self._store = store
        self._trust = trust
        self.is_alone = is_alone
        self._clock = clock
        self._strange: tuple[int, int] = (0, 0)
        self._todo: asyncio.Queue[Told] = asyncio.Queue()
        self._heard: deque[Told] = deque(maxlen=MOST_REMEMBERED)
        self.mark = 0

    def forbids(self, stored: Stored, mark: int) -> bool:
        """Whether an answer is among what is to be forgotten since then; where nobody knows that any more, it is."""
        since = self.mark - mark
        if not since:
            return False
        return since > len(self._heard) or any(told.means(stored) for told in islice(reversed(self._heard), since))

    def take_up(self, changes: Sequence[Change]) -> None:
        """What others have forgotten will be forgotten here too."""
        for told in told_by(changes, is_alone=self.is_alone):
            self._hear(told)
            self._todo.put_nowait(told)
            if told.wrong and told.tenant is not None:
                for answer_id in told.wanted.ids:
                    self._trust.called_wrong(told.tenant, answer_id)
        if not self.is_alone and any(change.what == EVERYTHING for change in changes):
            self._hear(Told())  # others have carried out in the store what was missed here

    def to_tell(self, tenant: str, answer_id: str, is_known: bool) -> Told | None:
        """What others are to hear of an answer that somebody got for another question.

        One that is not here may lie with another worker, where each keeps its own; but whoever makes up ids must not
        keep all workers busy with them.
        """
        if not is_known:
            second = int(self._clock())
            count = self._strange[1] + 1 if self._strange[0] == second else 1
            self._strange = second, count
            if not self.is_alone or count > STRANGE_PER_S:
                return None
        return Told(tenant, Wanted(ids=(answer_id,)), wrong=True)

    def _hear(self, told: Told) -> None:
        self._heard.append(told)
        self.mark += 1

    async def run(self) -> None:
        """One after the other, each until it is done: a store that is away does not keep what is to be forgotten."""
        while self._store is not None:
            told = await self._todo.get()
            while True:
                try:
                    await forget(self._store, told.tenant, told.wanted)
                    break
                except StoreAway:
                    await asyncio.sleep(AGAIN_S)
