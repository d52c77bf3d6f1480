"""Histograms of times with fixed logarithmic buckets: two of them are merged by adding, so that quantiles of any
stretch of time come from those of its parts (as in DDSketch, arXiv:1908.10693, with buckets that are the same for all).

Bucket 0 holds what took less than 1 ms, bucket i what took from 1.25**(i-1) to 1.25**i ms, the last everything from
17 minutes on. A quantile between 1 ms and 17 minutes is therefore less than 25 % off, whatever was
measured; interpolation within the bucket brings it to about 1 % where times are many and spread smoothly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

BUCKETS: Final = 64
GROWTH: Final = 1.25
# Bucket i ends where bucket i + 1 begins; milliseconds.
BOUNDS_MS: Final = tuple(GROWTH**power for power in range(BUCKETS - 1))


def bucket_of(ms: float) -> int:
    """The bucket that counts a time."""
    return bisect_right(BOUNDS_MS, ms)


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The time (ms) that `share` of all that was counted stayed below, 0 <= share <= 1; None where nothing was."""
    total = sum(counts)
    if not total:
        return None
    rank, seen = share * total, 0
    for bucket, count in enumerate(counts):
        if count and seen + count >= rank:
            return _within(bucket, max(0.0, rank - seen) / count)
        seen += count
    raise ValueError("share: expected a number from 0 to 1")


def _within(bucket: int, part: float) -> float:
    """The time at a part of a bucket, as if its times were spread evenly on the logarithmic scale."""
    if bucket == 0:
        return part
    return float(BOUNDS_MS[bucket - 1] * GROWTH**part) if bucket < BUCKETS - 1 else BOUNDS_MS[-1]
