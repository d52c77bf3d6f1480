"""A stream never costs more than is set aside for it, whether tokens come one by one or in heaps."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.base import Need
from gateway.spending import HEAD_ROOM_TOKENS, Spending
from policies.catalogue import ModelCard

CARD = ModelCard(id="m", context_tokens=100_000, price_in_usd_per_mtok=1.0, price_out_usd_per_mtok=1.0)
NANOUSD_A_TOKEN = 1_000


@dataclass
class Purse:
    """A lease over a budget of `limit_nanousd`, where extensions beyond it are refused."""

    limit_nanousd: int
    reserved_nanousd: int
    asked: list[int] = field(default_factory=list)
    place: int = 0
    hard: bool = True
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def extend(self, cost_nanousd: int) -> bool:
        self.asked.append(cost_nanousd)
        if cost_nanousd > self.limit_nanousd:
            return False
        self.reserved_nanousd = max(self.reserved_nanousd, cost_nanousd)
        return True

    async def move(self, need: Need) -> bool:
        return False

    def settle(self, cost_nanousd: int, tokens: int) -> None: ...


@dataclass
class Counted:
    """As much of a meter as is looked at."""

    running_cost_nanousd: int = 0
    done: bool = False


async def spent(frames: list[int], purse: Purse) -> int:
    """Cost when the stream of frames, in tokens each, ends or is cut."""
    meter = Counted()
    spending = Spending(purse, meter, CARD, 0)  # type: ignore[arg-type]
    for tokens in frames:
        meter.running_cost_nanousd += tokens * NANOUSD_A_TOKEN
        if spending.is_short and not await spending.extend():
            break
    return meter.running_cost_nanousd


@given(
    tokens=st.integers(1, HEAD_ROOM_TOKENS), reserved=st.integers(HEAD_ROOM_TOKENS, 2_000), more=st.integers(0, 3_000)
)
async def test_a_stream_of_small_frames_is_cut_before_it_costs_more_than_the_budget(
    tokens: int, reserved: int, more: int
) -> None:
    purse = Purse((reserved + more) * NANOUSD_A_TOKEN, reserved * NANOUSD_A_TOKEN)

    cost = await spent([tokens] * (6_000 // tokens), purse)

    assert cost <= purse.reserved_nanousd <= purse.limit_nanousd
    # and it may use nearly all of it
    assert cost >= purse.limit_nanousd - 4 * HEAD_ROOM_TOKENS * NANOUSD_A_TOKEN


@given(heap=st.integers(HEAD_ROOM_TOKENS, 1_000), more=st.integers(0, 5_000))
async def test_a_stream_of_heaps_is_cut_before_a_heap_like_those_before_it_no_longer_fits(heap: int, more: int) -> None:
    reserved = heap  # the first one is unforeseen, so it must fit
    purse = Purse((reserved + more) * NANOUSD_A_TOKEN, reserved * NANOUSD_A_TOKEN)

    cost = await spent([heap] * 20, purse)

    assert cost <= purse.limit_nanousd


async def test_a_budget_with_room_is_asked_for_more_and_nothing_is_cut() -> None:
    purse = Purse(10**9, 500 * NANOUSD_A_TOKEN)

    cost = await spent([3] * 2_000, purse)

    assert cost == 6_000 * NANOUSD_A_TOKEN
    assert len(purse.asked) < 12
