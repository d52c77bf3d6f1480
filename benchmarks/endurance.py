"""Memory of an engine over many requests, and what it costs while nobody asks.

    python -m benchmarks.endurance [--requests 10000] [--idle-s 20] [--json FILE]

Prompts of 5 to 60 random tokens by 50 callers, answers of 1 to 8 tokens, eight at once, some cancelled midway. Resident
memory is read after a tenth of them and at the end; idle CPU is that of the whole process while the engine waits.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from pathlib import Path

import numpy as np

from local_runtime.base import Sampling
from local_runtime.engine import Engine


def resident_mib() -> float:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def ask(engine: Engine, random: np.random.Generator) -> None:
    """One request; every tenth is left after its first piece."""
    prompt = random.integers(100, 40_000, int(random.integers(5, 60))).tolist()
    sampling = Sampling(max_tokens=int(random.integers(1, 9)), temperature=1.0, seed=1)
    generation = engine.generate(prompt, sampling, f"caller {random.integers(50)}")
    leaves = random.random() < 0.1
    async for _ in generation:
        if leaves:
            break
    await generation.aclose()


async def work(engine: Engine, count: int, random: np.random.Generator) -> None:
    """So many requests, eight at once."""
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            await ask(engine, random)

    await asyncio.gather(*(one_after_the_other() for _ in range(8)))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engine, random = Engine.load("bundled:smollm2", threads=1), np.random.default_rng(0)
    engine.start()
    loaded = resident_mib()
    asyncio.run(work(engine, options.requests // 10, random))
    gc.collect()
    early = resident_mib()
    asyncio.run(work(engine, options.requests - options.requests // 10, random))
    gc.collect()
    late = resident_mib()
    before = time.process_time()
    time.sleep(options.idle_s)
    idle = (time.process_time() - before) / options.idle_s
    stats = engine.stats()
    engine.close()
    report = {
        "loaded_mib": loaded,
        "after_a_tenth_mib": early,
        "at_the_end_mib": late,
        "grown_mib": late - early,
        "idle_cpu_share": idle,
        "tokens_out": stats.tokens_out,
    }
    for name, value in report.items():
        print(f"{name:20s} {value:.4f}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
