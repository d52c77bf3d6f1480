"""How often answers given by likeness were wrong, over all tenants: what checks found, with its uncertainty."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.cache.trust import bounds_of
from gateway.ledger.cache_evidence import Sums


@dataclass(frozen=True, slots=True)
class Likeness:
    """`wrong` is the share of decided checks that came out different; None where none was decided. `lowest` and
    `highest`: between which the truth lies by the same bounds as settings are closed by."""

    hits: int
    checked: int
    reported: int
    wrong: float | None
    lowest: float
    highest: float


def likeness_of(places: Iterable[Sums]) -> Likeness:
    """Of all places together."""
    found = list(places)
    same, different = sum(one.same for one in found), sum(one.different for one in found)
    undecided, hits = sum(one.undecided for one in found), sum(one.hits for one in found)
    reported = sum(one.reported for one in found)
    lowest, highest = bounds_of(Sums(hits, reported, same, different, undecided))["checked_wrong"]
    decided = same + different
    wrong = different / decided if decided else None
    return Likeness(hits, decided + undecided, reported, wrong, lowest, highest)
