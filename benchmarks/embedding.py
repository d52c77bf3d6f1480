"""The embedder that serves against sentence-transformers: time per call, quality on labelled pairs, and what sharing a
forward pass gains.

Run: python benchmarks/embedding.py [--stream pairs.jsonl] [--json out.json] [--rounds 40] [--against onnx]
Against `onnx` it is compared with its own form for machines without the native kernels.
`--stream` is a file of {"query", "category", "answer_id"} rows: two queries mean the same iff their answer_id is equal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.find import load_embedder
from local_runtime.embedders.minilm_onnx import load_onnx
from local_runtime.embedders.worker import EmbeddingWorker

Vectors = npt.NDArray[np.float32]

OURS, REFERENCE = "minilm_onnx", "minilm_sentence_transformers"
SHAPES = ((1, 19), (8, 19), (32, 19), (1, 200))
MOST_PAIRS = 2000
SENTENCE = (
    "how do I change the delivery address of an order that was already sent to my old flat last week and what does it"
    " cost if the parcel comes back because nobody was at home when the driver rang"
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A text, one of the same meaning, and a similarly worded one of another."""

    text: str
    same: str
    other: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over interleaved calls, in milliseconds; `ratio` is the median of reference / ours, pair by pair."""

    threads: int
    batch: int
    tokens: int
    ours_ms: float
    reference_ms: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Quality:
    """`auc`: how often a pair of equal meaning has a higher cosine than the pair of another meaning beside it or
    elsewhere in the set; cosines compare our vector of a text with the reference's vector of it."""

    pairs: int
    auc_ours: float
    auc_reference: float
    cosine_mean: float
    cosine_p1: float
    cosine_shift_p99: float


@dataclass(frozen=True, slots=True)
class Sharing:
    """32 texts through the worker, one after the other and all at once, in milliseconds."""

    serial_ms: float
    concurrent_ms: float
    gain: float


def text_of(tokens: int, embedder: Embedder, chance: random.Random) -> str:
    """Random words that make exactly so many tokens."""
    words: list[str] = []
    while (count := embedder.count_tokens(" ".join(words))) != tokens:
        if count > tokens:
            words.pop()
        words.append(chance.choice(SENTENCE.split()))
    return " ".join(words)


def time_shapes(ours: Embedder, reference: Embedder, threads: int, rounds: int) -> list[Timing]:
    """Both embedders on the same texts, turn by turn, so that a busy machine slows both."""
    import torch  # here, so that the rest of this file loads without it

    torch.set_num_threads(threads)
    chance = random.Random(threads)
    timings = []
    for batch, tokens in SHAPES:
        calls = []
        for turn in range(max(6, round(rounds / (batch * tokens / 19) ** 0.5)) + 2):
            texts = [text_of(tokens, ours, chance) for _ in range(batch)]
            times = {name: milliseconds(embedder, texts) for name, embedder in in_turn(ours, reference, turn)}
            calls.append((times["ours"], times["reference"]))
        timings.append(summarised(threads, batch, tokens, calls[2:]))
    return timings


def in_turn(ours: Embedder, reference: Embedder, turn: int) -> list[tuple[str, Embedder]]:
    order = [("ours", ours), ("reference", reference)]
    return order if turn % 2 else order[::-1]


def milliseconds(embedder: Embedder, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    embedder.embed(texts)
    return (time.perf_counter() - started) * 1000


def summarised(threads: int, batch: int, tokens: int, calls: Sequence[tuple[float, float]]) -> Timing:
    ours, reference = zip(*calls, strict=True)
    ratio = statistics.median(slow / fast for fast, slow in calls)
    return Timing(threads, batch, tokens, statistics.median(ours), statistics.median(reference), ratio)


def read_pairs(stream: Path, lexical: Embedder) -> list[Pair]:
    """Pairs of equal meaning; the other meaning is the nearest *in spelling* of its category, so that neither embedder
    under test has chosen what it will be asked."""
    classes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in stream.read_text().splitlines():
        row = json.loads(line)
        classes[row["category"]][row["answer_id"]].append(row["query"])
    pairs = [pair for answers in classes.values() for pair in category_pairs(answers, lexical)]
    random.Random(0).shuffle(pairs)
    return pairs[:MOST_PAIRS]


def category_pairs(answers: dict[str, list[str]], lexical: Embedder) -> list[Pair]:
    texts = [text for queries in answers.values() for text in queries]
    owners = np.repeat(np.arange(len(answers)), [len(queries) for queries in answers.values()])
    vectors = lexical.embed(texts)
    pairs, place = [], 0
    for owner, queries in enumerate(answers.values()):
        if len(queries) > 1:
            likeness = vectors @ vectors[place]
            likeness[owners == owner] = -1
            pairs.append(Pair(queries[0], queries[1], texts[int(likeness.argmax())]))
        place += len(queries)
    return pairs


def judge(pairs: Sequence[Pair], ours: Embedder, reference: Embedder) -> Quality:
    """Embeds every text of the pairs with both."""
    texts = sorted({text for pair in pairs for text in (pair.text, pair.same, pair.other)})
    mine, theirs = ours.embed(texts), reference.embed(texts)
    agreement = (mine * theirs).sum(axis=1)
    (same_mine, other_mine), (same_theirs, other_theirs) = (cosines(pairs, texts, v) for v in (mine, theirs))
    shift = np.abs(np.concatenate([same_mine - same_theirs, other_mine - other_theirs]))
    return Quality(
        pairs=len(pairs),
        auc_ours=auc(same_mine, other_mine),
        auc_reference=auc(same_theirs, other_theirs),
        cosine_mean=float(agreement.mean()),
        cosine_p1=float(np.percentile(agreement, 1)),
        cosine_shift_p99=float(np.percentile(shift, 99)),
    )


def cosines(pairs: Sequence[Pair], texts: Sequence[str], vectors: Vectors) -> tuple[Vectors, Vectors]:
    row = {text: place for place, text in enumerate(texts)}
    left = vectors[[row[pair.text] for pair in pairs]]
    same = vectors[[row[pair.same] for pair in pairs]]
    other = vectors[[row[pair.other] for pair in pairs]]
    return (left * same).sum(axis=1), (left * other).sum(axis=1)


def auc(positive: Vectors, negative: Vectors) -> float:
    """Area under the ROC curve by ranks (Mann and Whitney)."""
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / 2 / len(order))


async def time_sharing(embedder: Embedder, rounds: int) -> Sharing:
    """The worker's cache is off: every text goes through the model."""
    worker = EmbeddingWorker(lambda: embedder, cache_size=0)
    await worker.warm()
    chance = random.Random(0)
    serial, concurrent = [], []
    for _ in range(rounds):
        texts = [text_of(19, embedder, chance) for _ in range(32)]
        started = time.perf_counter()
        for text in texts:
            await worker.embed([text])
        between = time.perf_counter()
        await asyncio.gather(*(worker.embed([text]) for text in texts))
        serial.append((between - started) * 1000)
        concurrent.append((time.perf_counter() - between) * 1000)
    await worker.close()
    gain = statistics.median(one / all_ for one, all_ in zip(serial, concurrent, strict=True))
    return Sharing(statistics.median(serial), statistics.median(concurrent), gain)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(stream: Path | None, rounds: int, cache_dir: Path, against: str) -> dict[str, object]:
    """All figures, ready for JSON."""
    export_s = seconds(lambda: load_embedder(OURS, cache_dir))
    load_s = seconds(lambda: load_embedder(OURS, cache_dir))
    reference = load_onnx(cache_dir) if against == "onnx" else load_embedder(REFERENCE, cache_dir)
    timings: list[Timing] = []
    for threads in (1, 2):
        timings += time_shapes(load_embedder(OURS, cache_dir, threads), reference, threads, rounds)
    ours = load_embedder(OURS, cache_dir)
    quality = None
    if stream is not None and stream.is_file():
        quality = asdict(judge(read_pairs(stream, load_embedder("hashing", cache_dir)), ours, reference))
    return {
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()},
        "ours": ours.id,
        "reference": reference.id,
        "export_s": export_s,
        "load_s": load_s,
        "timings": [asdict(timing) for timing in timings],
        "quality": quality,
        "sharing": asdict(asyncio.run(time_sharing(ours, max(5, rounds // 4)))),
    }


def main() -> None:
    """Parses the command line, measures, prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", type=Path, help="labelled queries; without it quality is not measured")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--rounds", type=int, default=40, help="calls of the smallest shape (default 40)")
    parser.add_argument("--against", choices=("sentence-transformers", "onnx"), default="sentence-transformers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache_dir:
        figures = measure(options.stream, options.rounds, Path(cache_dir), options.against)
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
