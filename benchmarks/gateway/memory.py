"""The soak: many requests through one contestant, its resident memory sampled on the way. Knows no table."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from benchmarks.gateway.load import closed_loop
from benchmarks.gateway.measure import Memory, tree_memory
from benchmarks.gateway.proxies import Running

LIMIT_BYTES = 5 * 1024 * 1024
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory after so many requests (the warm-up not counted)."""

    requests: int
    memory: Memory


@dataclass(frozen=True, slots=True)
class Soak:
    """The samples of one soak, the first one right after the warm-up."""

    name: str
    warm_up: int
    samples: tuple[Sample, ...]
    errors: dict[str, int]

    @property
    def growth_bytes(self) -> int:
        """Resident memory at the end less that after the warm-up."""
        return self.samples[-1].memory.rss - self.samples[0].memory.rss

    @property
    def flat(self) -> bool:
        """Whether growth stays under 5 MB and every request was answered."""
        return self.growth_bytes < LIMIT_BYTES and not self.errors


async def soak(running: Running, requests: int, *, warm_up: int = 5_000, samples: int = 10) -> Soak:
    """Send `requests` whole completions over 32 connections and sample memory `samples` times."""
    if running.pid is None:
        raise ValueError(f"{running.name} has no process of its own to watch")
    target = running.contestant.target("instant", stream=False)
    errors: dict[str, int] = {}
    taken: list[Sample] = []
    for number, batch in enumerate([warm_up] + [requests // samples] * samples):
        result = await closed_loop(target, 32, requests=batch)
        for kind, count in result.errors.items():
            errors[kind] = errors.get(kind, 0) + count
        await asyncio.sleep(_SETTLE_S)
        taken.append(Sample(number * (requests // samples), tree_memory(running.pid)))
    return Soak(running.name, warm_up, tuple(taken), errors)
