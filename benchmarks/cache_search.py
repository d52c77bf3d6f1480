"""How long the cache searches and judges, at 100 to 100,000 entries of one partition, with real texts and vectors.

Run: OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.cache_search --stream DATA/public_stream.jsonl
Beyond the stream's texts, entries are such texts again with vectors moved by noise (cosine about 0.8 to the first).
"""

from __future__ import annotations

import argparse
import gc
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gateway.cache.base import Known
from gateway.cache.config import SHIPPED, read
from gateway.cache.index import LikenessIndex
from gateway.cache.partition import Vector
from gateway.cache.replay import judge_of, read_stream
from gateway.cache.semantic import FLOOR, JUDGED, SemanticIndex
from gateway.cache.verifier import Verifier
from gateway.cli.outcomes import bars, reader
from gateway.settings import Settings

ASKED = 1000
NOISE = 0.75
PLACE = ("org:1", "part")
FOREVER_S = 4e9


def embedded(texts: Sequence[str], kept: Path | None) -> tuple[Vector, str]:
    """The texts' vectors; `kept`, a npy file, saves doing it again."""
    with bars() as watch:
        embed = reader(Settings(), watch)
        if kept is not None and kept.exists():
            return np.asarray(np.load(kept), dtype=np.float32), embed.embedder
        vectors = np.asarray(embed.embed(texts), dtype=np.float32)
    if kept is not None:
        np.save(kept, vectors)
    return vectors, embed.embedder


def padded(vectors: Vector, count: int, rng: np.random.Generator) -> Vector:
    """The first `count` of these vectors and, beyond, such with noise; unit length."""
    if count <= len(vectors):
        return vectors[:count]
    more = vectors[rng.integers(0, len(vectors), count - len(vectors))]
    noise = rng.normal(size=more.shape).astype(np.float32)
    more = more + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    more /= np.linalg.norm(more, axis=1, keepdims=True)
    return np.concatenate([vectors, more.astype(np.float32)])


def milliseconds(work: Callable[[int], object], count: int) -> str:
    """p50 and p99 of each call, and p99 of its time on the processor: beside other work on the machine that is what it
    would take alone."""
    took = np.empty((count, 2))
    for place in range(count):
        began, worked = time.perf_counter(), time.thread_time()
        work(place)
        took[place] = time.perf_counter() - began, time.thread_time() - worked
    wall, alone = took.T * 1e3
    return f"{np.percentile(wall, 50):.3f}/{np.percentile(wall, 99):.2f}({np.percentile(alone, 99):.2f})"


def grown(index: LikenessIndex, most_s: float) -> float:
    """Wait until the search goes by the graph, if there is one; how long that took."""
    began = time.perf_counter()
    (part,) = index.indexes
    while part.graph_wanted and time.perf_counter() - began < most_s:
        part.near(np.zeros(part.dimensions, dtype=np.float32))
        time.sleep(0.01)
    return time.perf_counter() - began


def recall(part: SemanticIndex, entries: Vector, queries: Vector) -> tuple[float, float]:
    """Of queries with anything near: how often the nearest is found, and the share of the exact candidates."""
    first = share = asked = 0.0
    for query in queries:
        exact = entries @ query
        wanted = np.sort(exact[exact >= FLOOR])[::-1][:JUDGED]
        if len(wanted):
            _, cosines = part.near(query)
            asked += 1
            first += len(cosines) > 0 and bool(cosines[0] >= wanted[0] - 1e-5)
            share += np.count_nonzero(cosines >= wanted[-1] - 1e-5) / len(wanted)
    return first / asked, min(1.0, share / asked)


def measure(count: int, texts: Sequence[str], vectors: Vector, embedder: str, verifier: Verifier) -> str:
    """One line of the table."""
    rng = np.random.default_rng(0)
    queries, asked = vectors[:ASKED], texts[:ASKED]
    held = padded(vectors[ASKED:], count, rng)
    words = texts[ASKED:]
    entries = [
        Known(str(row), *PLACE, "general_qa", words[row % len(words)], vector, embedder, FOREVER_S + row)
        for row, vector in enumerate(held)
    ]
    gc.collect()
    index = LikenessIndex(judge_of(verifier), verifier.parse, max_entries=2 * count)
    began = time.perf_counter()
    index.added(entries)
    added_s = time.perf_counter() - began
    waited_s = grown(index, 600.0)
    (part,) = index.indexes
    now_s = time.time()

    def find(place: int) -> object:
        return index.find(*PLACE, asked[place], "general_qa", queries[place], embedder, now_s)

    search = milliseconds(lambda place: part.near(queries[place], now_s), ASKED)
    first = milliseconds(find, ASKED)
    again = milliseconds(find, ASKED)
    best, all_of = recall(part, held, queries[:300])
    some = min(count, 500)
    removed = milliseconds(lambda place: index.dropped(PLACE[0], [str(place)]), some)
    added = milliseconds(lambda place: index.added([entries[place]]), some)
    busy = milliseconds(find, ASKED)
    return (
        f"{count:7,}  {search:>17} {first:>17} {again:>17}  {best:.4f} {all_of:.4f}  {added:>17} {removed:>17}"
        f" {busy:>17}  {added_s:6.2f} {waited_s:6.1f}  {index.figures()['vector_bytes'] / 2**20:6.0f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, help="a npy file to keep the texts' vectors in")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 5000, 100_000])
    told = parser.parse_args()
    rows = read_stream(told.stream)
    # The order of the stream is by topic in parts; the queries must be like the entries.
    order = np.random.default_rng(1).permutation(len(rows))
    vectors, embedder = embedded([row.query for row in rows], told.vectors)
    texts = [rows[place].query for place in order]
    verifier = Verifier(read(SHIPPED)[0])
    print(
        f"{'entries':>7}  {'search':>17} {'find, first':>17} {'find, again':>17}  {'recall@1, @4':13}  {'add':>17}"
        f" {'remove':>17} {'find, busy':>17}  {'load s':>6} {'grow s':>6}  {'MiB':>6}   (ms p50/p99(p99 CPU))"
    )
    for count in told.counts:
        print(measure(count, texts, vectors[order], embedder, verifier), flush=True)
    print(f"largest resident size {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
