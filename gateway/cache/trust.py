"""What answers given by likeness turn out to be, and which certified settings may still be used for that.

Of each tenant and topic apart: nobody's questions or complaints change what others get. Sums of all workers lie in the
database; what this worker knows is added now and then, and which settings are closed is heard by the change feed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Final, Protocol

from gateway.cache.sequence import lower_bound, upper_bound
from gateway.cache.topics import Topics
from gateway.ledger.acts import CACHE_TRUST, EVERYTHING, Change
from gateway.ledger.cache_evidence import Label, Place, Sums
from gateway.ledger.faults import DatabaseUnavailable

log = logging.getLogger(__name__)

# The chance that a setting is closed although it keeps what it is certified for: half of it by checks, half by reports.
DELTA: Final = 0.05
# What checks call different though both answers are right: models answer the same in other words, and not always well.
FALSE_ALARMS: Final = 0.05
BEAT_S: Final = 2.0
# Answers given by likeness that may still be called wrong, and labels that wait for the database.
MOST_RECENT: Final = 20_000
MOST_WAITING: Final = 10_000


class Evidence(Protocol):
    """What is needed of `EvidenceStore`."""

    async def add(self, calibration: str, hits: Mapping[Place, int], labels: Sequence[Label]) -> dict[Place, Sums]: ...
    async def close(self, calibration: str, place: Place, detail: Mapping[str, object]) -> bool: ...
    async def closed(self, calibration: str) -> set[Place]: ...
    async def read(self, calibration: str | None, tenant: str | None) -> list[tuple[str, Place, Sums]]: ...
    async def reset(self, actor: str, tenant: str | None, topic: str | None, share: float | None) -> int: ...


def known_wrong(sums: Sums) -> tuple[float, float]:
    """The smallest shares of wrong answers that checks and reports leave possible; each errs with chance DELTA/2, ever.

    What checks could not decide counts as right, and so does what nobody complained of: both bounds are too low rather
    than too high. Of the checks' share that of false alarms is taken off.
    """
    checked = lower_bound({1.0: sums.different, 0.0: sums.same + sums.undecided}, DELTA / 2)
    reported = min(sums.reported, sums.hits)
    return (
        max(0.0, (checked - FALSE_ALARMS) / (1 - FALSE_ALARMS)),
        lower_bound({1.0: reported, 0.0: sums.hits - reported}, DELTA / 2),
    )


def bounds_of(sums: Sums) -> dict[str, tuple[float, float]]:
    """Of checks and reports, between which shares of wrong answers the truth may lie, for operators.

    Upwards whatever is not known counts the other way: what checks could not decide as wrong. How many wrong answers
    nobody reports is not known at all.
    """
    checked, reported = known_wrong(sums)
    highest = upper_bound({1.0: sums.different + sums.undecided, 0.0: sums.same}, DELTA / 2)
    return {"checked_wrong": (round(checked, 4), round(highest, 4)), "reported_wrong": (round(reported, 4), 1.0)}


class TrustBook:
    """One worker's."""

    def __init__(self, topics: Topics, evidence: Evidence, clock: Callable[[], float] = time) -> None:
        self._topics = topics
        self.evidence = evidence
        self._clock = clock
        self._closed: dict[tuple[str, str], frozenset[float]] = {}
        self._hits: Counter[Place] = Counter()
        self._labels: list[Label] = []
        self._reports: list[Label] = []
        self._recent: OrderedDict[tuple[str, str], Place] = OrderedDict()
        self.counts: Counter[str] = Counter()

    @property
    def calibration(self) -> str:
        """By which configuration answers are given."""
        return self._topics.calibration

    def needed(self, tenant: str, asked: str, cached: str, share: float) -> float | None:
        """See `Topics.needed`, with the settings that are open to a tenant."""
        if not self._closed:
            return self._topics.needed(asked, cached, share)
        return self._topics.needed(asked, cached, share, lambda topic: self._closed.get((tenant, topic), frozenset()))

    def place(self, tenant: str, topic: str, share: float) -> Place | None:
        """Where an answer given now at this share counts."""
        at = self._topics.setting(topic, share, self._closed.get((tenant, topic), frozenset()))
        return None if at is None else Place(tenant, topic, at)

    def gave(self, place: Place, answer_id: str) -> None:
        """An answer was given by likeness."""
        self._hits[place] += 1
        self._recent[place.tenant, answer_id] = place
        if len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)

    def checked(self, label: Label) -> None:
        """One was checked."""
        self.counts[f"checked_{label.verdict}"] += 1
        self._wait(self._labels, label)

    def called_wrong(self, tenant: str, answer_id: str) -> None:
        """One was wrong; it counts where this worker gave it by likeness."""
        place = self._recent.pop((tenant, answer_id), None)
        if place is not None:
            self._wait(self._reports, Label(answer_id, self._clock(), place, "reported"))

    def _wait(self, queue: list[Label], label: Label) -> None:
        if len(self._labels) + len(self._reports) < MOST_WAITING:
            queue.append(label)

    def figures(self) -> dict[str, float]:
        """For operators."""
        return {**self.counts, "settings_closed": sum(map(len, self._closed.values()))}

    async def take_up(self, changes: Sequence[Change]) -> None:
        """Read which settings are closed where that may have changed; raises `DatabaseUnavailable`."""
        if any(one.what in (CACHE_TRUST, EVERYTHING) for one in changes):
            await self.load()

    async def load(self) -> None:
        """Read which settings are closed; raises `DatabaseUnavailable`."""
        found: dict[tuple[str, str], frozenset[float]] = {}
        for place in await self.evidence.closed(self.calibration):
            at = place.tenant, place.topic
            found[at] = found.get(at, frozenset()) | {place.share}
        self._closed = found

    async def run(self) -> None:
        """Add what is known here to what all know, for ever; what hinders is said once."""
        complaint = ""
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self.step()
                complaint = ""
            except DatabaseUnavailable as error:
                if str(error) != complaint:
                    log.warning("cache: what is known of its answers waits: %s", error)
                complaint = str(error)

    async def close(self) -> None:
        """What is known here is not lost with this process, unless the database is away just now."""
        try:
            await self.step()
            await self.step()
        except DatabaseUnavailable as error:
            log.warning("cache: what is known of its answers is lost: %s", error)

    async def step(self) -> None:
        """Add what is known, and close what that shows to be wrong too often; raises `DatabaseUnavailable`.

        Reports go with the next step, so that all workers have told by then how many answers there were.
        """
        if not (self._hits or self._labels or self._reports):
            return
        hits, labels, reports = self._hits, self._labels, self._reports
        self._hits, self._labels, self._reports = Counter(), [], []
        try:
            found = await self.evidence.add(self.calibration, hits, labels)
        except DatabaseUnavailable:
            self._hits.update(hits)
            self._labels, self._reports = labels + self._labels, reports + self._reports
            raise
        self._labels = reports + self._labels
        for place, sums in found.items():
            await self._judge(place, sums)

    async def _judge(self, place: Place, sums: Sums) -> None:
        bounds = known_wrong(sums)
        if sums.closed_at is None and max(bounds) > place.share:
            checked, reported = (round(bound, 4) for bound in bounds)
            if await self.evidence.close(self.calibration, place, {"checked": checked, "reported": reported}):
                log.warning(
                    "cache: of answers given by likeness to questions of topic %s at least %.1f %% were wrong for %s, "
                    "where %.1f %% were certified: a stricter setting is used from now on, or exact repeats only",
                    place.topic, 100 * max(bounds), place.tenant, 100 * place.share,
                )  # fmt: skip
            await self.load()
