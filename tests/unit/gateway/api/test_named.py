"""Routes that name a model outright: how long they wait, and what they give back. Admission is a fake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from gateway.admission.estimates import Estimates
from gateway.admission.rules import Caller
from gateway.api.named import Measured, NamedModelRoute
from gateway.dispatch.health import Health
from gateway.errors import InvalidRequest, UpstreamTimeout
from gateway.incoming import Incoming
from gateway.ledger.record import Record
from gateway.providers.base import Target
from tests.unit.gateway.dispatch.calls import HeldLease, target


class Lent(HeldLease):
    """Remembers what it was settled with."""

    settled: tuple[int, int] | None = None

    def settle(self, cost_nanousd: int, tokens: int) -> None:
        self.settled = (cost_nanousd, tokens)


class Lender:
    """Admits everybody."""

    def __init__(self) -> None:
        self.leases: list[Lent] = []

    def precheck(self, caller: Caller) -> None:
        """Nobody is refused."""

    async def admit(self, caller: Caller, tags: Sequence[str], needs: Sequence[Any], fail_open: bool) -> Lent:
        self.leases.append(Lent())
        return self.leases[-1]


async def first(lender: Lender, timeout: bytes) -> bytes:
    floor: dict[str, Any] = {"keyring": None, "ledger": None, "observer": None, "max_body": 1, "body_timeout_s": 1.0}
    health = Health(time.monotonic)
    route = NamedModelRoute(cast(Any, None), health, cast(Any, lender), Estimates(), name="embeddings", **floor)
    record = Record(id="req_1", at=0.0, route="embeddings")
    headers = {b"x-fingerpost-timeout": timeout}
    incoming = Incoming(b"", Caller("key-a", "application", None, None), record, 0.0, headers)
    return await route.first(incoming, (target("a", cast(Any, None)),), 1, silent)


async def silent(_: Target) -> Measured:
    await asyncio.Event().wait()
    raise AssertionError("nobody wakes it")


async def test_a_caller_waits_no_longer_than_it_said() -> None:
    lender = Lender()

    with pytest.raises(UpstreamTimeout, match=r"within 0\.05 s"):
        async with asyncio.timeout(5):
            await first(lender, b"0.05")

    assert [lease.settled for lease in lender.leases] == [(0, 0)]


async def test_a_time_that_is_none_is_told_before_anything_is_set_aside() -> None:
    lender = Lender()

    with pytest.raises(InvalidRequest):
        async with asyncio.timeout(5):
            await first(lender, b"soon")

    assert lender.leases == []
