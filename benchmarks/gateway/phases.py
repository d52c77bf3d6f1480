"""One round of one contestant: the phases of load and what each cost. Knows no table and no other contestant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.client import Target
from benchmarks.gateway.contestant import HOST
from benchmarks.gateway.load import LoadResult, closed_loop, open_loop
from benchmarks.gateway.measure import Memory, Spent, snapshot, spent, tree_memory
from benchmarks.gateway.proxies import Running, ask
from benchmarks.gateway.wrk import hammer

# Work put off (a log flushed every 200 ms) belongs to the phase that caused it.
_SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard; seconds are whole because wrk's are."""

    connections: int = 32
    seconds: int = 5
    single_seconds: int = 2
    stream_seconds: int = 5
    paced_streams: int = 32
    open_rate_per_s: float = 100.0
    open_seconds: float = 5.0
    realistic_rate_per_s: float = 15.0
    realistic_seconds: float = 6.0
    crowd_streams: int = 300
    crowd_requests: int = 900
    # about as long as one of them takes, so that they begin and end evenly
    crowd_ramp_s: float = 5.0
    chunks: int = 100


QUICK = Plan(
    seconds=1, single_seconds=1, stream_seconds=1, open_seconds=1.0, realistic_rate_per_s=10.0,
    realistic_seconds=1.0, crowd_streams=50, crowd_requests=50, crowd_ramp_s=0.5,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: what the load saw, what the contestant (None: no process) and the upstream spent, memory after."""

    load: LoadResult
    cost: Spent | None
    upstream: Spent
    memory: Memory | None


@dataclass(frozen=True, slots=True)
class Stage:
    """Where processes run: what every phase needs to know beside the contestant."""

    upstream_pid: int
    upstream_port: int
    contestant_core: int
    load_core: int
    folder: Path


async def run_round(running: Running, stage: Stage, plan: Plan) -> dict[str, Phase]:
    """All phases of one contestant, one after the other, by name."""
    results: dict[str, Phase] = {}
    for name, load in _phases(running, stage, plan).items():
        # Everybody meets the same sequence of first-byte waits.
        await ask(Target(HOST, stage.upstream_port, "/reseed", b""), 0)
        results[name] = await _measured(load, running, stage)
    return results


def _phases(running: Running, stage: Stage, plan: Plan) -> dict[str, Callable[[], Awaitable[LoadResult]]]:
    target = running.contestant.target
    whole, burst = target("instant", stream=False), target("instant", stream=True)
    paced, realistic = target("paced", stream=True), target("realistic", stream=True)
    typical = target("typical", stream=True)
    chunks = plan.chunks
    return {
        "many": lambda: hammer(whole, plan.connections, plan.seconds, stage.folder),
        "single": lambda: hammer(whole, 1, plan.single_seconds, stage.folder),
        "burst": lambda: closed_loop(burst, plan.connections, seconds=plan.stream_seconds, chunks=chunks),
        "paced": lambda: closed_loop(paced, plan.paced_streams, seconds=plan.stream_seconds, chunks=chunks),
        "open": lambda: open_loop(whole, plan.open_rate_per_s, plan.open_seconds),
        "realistic": lambda: open_loop(realistic, plan.realistic_rate_per_s, plan.realistic_seconds, chunks=chunks),
        "crowd": lambda: closed_loop(
            typical, plan.crowd_streams, requests=plan.crowd_requests, chunks=chunks, ramp_s=plan.crowd_ramp_s
        ),
        "rush": lambda: closed_loop(typical, plan.crowd_streams, requests=plan.crowd_streams, chunks=chunks),
    }


async def _measured(load: Callable[[], Awaitable[LoadResult]], running: Running, stage: Stage) -> Phase:
    upstream_before = snapshot(stage.upstream_pid, stage.load_core)
    before = snapshot(running.pid, stage.contestant_core) if running.pid else None
    result = await load()
    if running.pid is None or before is None:
        return Phase(result, None, spent(upstream_before, snapshot(stage.upstream_pid, stage.load_core)), None)
    await asyncio.sleep(_SETTLE_S)
    after = snapshot(running.pid, stage.contestant_core)
    upstream = spent(upstream_before, snapshot(stage.upstream_pid, stage.load_core))
    return Phase(result, spent(before, after), upstream, tree_memory(running.pid))
