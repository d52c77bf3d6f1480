"""What caches that go by a similarity threshold alone would have served on a labelled stream, category by category.

    python -m benchmarks.cache_thresholds --stream STREAM.jsonl [--threshold .6 --threshold .9 ...]

Same vectors, same search, same protocol as `fingerpost cache replay`: the nearest entry answers where its cosine is
large enough, else the query is inserted. GPTCache's default similarity threshold of .8 lies on its own scale of
distances, where unit vectors of cosine .60 pass; RedisVL's default distance threshold of .1 is a cosine of .90.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from gateway.cache.parsed import BUCKETS, Parsed, parse
from gateway.cache.partition import Vector
from gateway.cache.replay import Decided, StreamRow, entries, read_stream, replay
from gateway.cache.semantic import ELSE, Candidate, Entry, Thresholds
from gateway.cache.verifier import Doubles
from gateway.cli.outcomes import bars, reader
from gateway.cli.output import print_table, settings_or_fail

ALL = "all"


def cosine(query: Entry, candidates: Sequence[Candidate], cosines: Vector) -> Doubles:
    """A judge that looks at the cosine only."""
    return cosines.astype(np.float64)


def figures(rows: Sequence[StreamRow], decided: Sequence[Decided]) -> dict[str, str]:
    """By category: hits of requests / wrong of hits / right hits of requests whose answer was given before, in %."""
    seen: set[str] = set()
    sums: dict[str, list[int]] = {}
    for row, one in zip(rows, decided, strict=True):
        wrong = one.hit and one.answer_id != row.answer_id
        for name in (ALL, row.category):
            told = sums.setdefault(name, [0, 0, 0, 0])
            for place, value in enumerate((True, one.hit, wrong, row.answer_id in seen)):
                told[place] += value
        seen.add(row.answer_id)
    return {name: _told(*told) for name, told in sums.items()}


def _told(count: int, hits: int, wrong: int, again: int) -> str:
    return f"{100 * hits / count:.1f} / {100 * wrong / max(hits, 1):.1f} / {100 * (hits - wrong) / max(again, 1):.0f}"


def main(
    stream: Annotated[Path, typer.Option(help="JSON Lines with id, query, category and answer_id, in their order.")],
    threshold: Annotated[list[float] | None, typer.Option(help="A cosine; may be given several times.")] = None,
) -> None:
    """Print a line a category, a column a threshold."""
    rows, nothing = read_stream(stream), parse("", [0.0] * BUCKETS)

    def unread(_text: str) -> Parsed:
        return nothing

    with bars() as watch:
        vectors = reader(settings_or_fail(), watch).embed([row.query for row in rows])
        asked, columns = entries(rows, list(vectors), unread), {}
        for place, least in enumerate(threshold or [0.6, 0.8, 0.9, 0.95]):
            columns[f"{least:g}"] = figures(rows, list(replay(rows, asked, cosine, Thresholds({ELSE: least}))))
            watch("replaying", (place + 1) / len(threshold or "1234"), "")
    names = sorted({name for column in columns.values() for name in column}, key=lambda name: (name != ALL, name))
    print_table(("category", *columns), [(name, *(column[name] for column in columns.values())) for name in names])


if __name__ == "__main__":
    typer.run(main)
