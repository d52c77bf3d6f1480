"""What `fingerpost cache calibrate --from-log` takes from the database, and what it makes of it without a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gateway.cache.config import calibration_of, in_use, read_served, tighten
from gateway.cache.logged import Logged
from gateway.cache.recertify import Shown, recertified, tightened
from gateway.cli.database import existing_database
from gateway.cli.outcomes import Reader
from gateway.cli.output import fail, print_json, print_table
from gateway.ledger.cache_evidence import CheckedPair, EvidenceStore
from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.settings import Settings

# Fewer say nothing beside the tens of thousands of pairs that a stream has.
LEAST_PAIRS = 100
LEAST_DIFFERENT = 5
COLUMNS = ("topic", "share", "was", "is", "pairs", "wrong", "bound %", "needed")


def logged_pairs(settings: Settings, tenant: str | None) -> list[CheckedPair]:
    """What checks have decided, of one tenant or all; a clear line where there is no database or it does not answer."""
    url = existing_database(settings)

    async def run() -> list[CheckedPair]:
        engine = open_engine(url)
        try:
            return await EvidenceStore(engine).pairs(tenant)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run())
    except DatabaseUnavailable as error:
        fail(str(error), code=1)


def to_learn_from(pairs: Sequence[CheckedPair], read: Reader) -> Logged:
    """Logged pairs with their vectors. `ValueError` where they are too few to learn from."""
    different = sum(not pair.same for pair in pairs)
    if len(pairs) < LEAST_PAIRS or different < LEAST_DIFFERENT:
        raise ValueError(
            f"the log has {len(pairs)} checked pairs with their texts, {different} of them different: at least "
            f"{LEAST_PAIRS} and {LEAST_DIFFERENT} are needed to learn from"
        )
    asked, cached = (read.embed([getattr(pair, side) for pair in pairs]) for side in ("asked", "cached"))
    return Logged(pairs, asked, cached)


def recertify(settings: Settings, pairs: Sequence[CheckedPair], out: Path, least: int, *, as_json: bool) -> None:
    """Write the configuration in use with the settings that the log bears out; a clear line where it shows nothing."""
    source = in_use(settings.cache_configuration)
    served = read_served(source)
    given = [] if served is None else served[1]
    try:
        shown = recertified(given, pairs, calibration_of(source), least)
    except ValueError as error:
        fail(str(error))
    tighten(source, out, tightened(given, shown), [asdict(one) for one in shown])
    if as_json:
        print_json([asdict(one) for one in shown])
        return
    print_table(COLUMNS, map(_row, shown))
    if all(one.certificate.threshold is None for one in shown):
        print("Nothing is certified: exact hits only.")


def _row(one: Shown) -> tuple[object, ...]:
    certificate, tally = one.certificate, one.certificate.tally
    is_open = certificate.threshold is not None
    return (
        one.topic,
        f"{one.share:g}",
        f"{one.was:g}",
        f"{certificate.threshold:g}" if is_open else "exact only",
        tally.hits if is_open else one.pairs,
        tally.wrong if is_open else "",
        f"{100 * certificate.bound:.2f}" if is_open else "",
        one.needed,
    )
