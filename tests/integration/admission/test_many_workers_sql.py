"""Four worker processes with 200 streams each on one PostgreSQL; two are killed while the budget fills."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.ledger.engine import open_engine
from gateway.ledger.every_table import metadata
from tests.integration.admission.streams import USD, Plan
from tests.integration.admission.trial import run_trial
from tests.integration.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

# The longest run so far lasted 120 s; this is enough to fill the budget several times over while CI waits.
SECONDS = 6.0
LIMIT_NANOUSD = 20 * USD


async def create_tables(url: str) -> None:
    """All tables of a fresh database."""
    engine = open_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()


async def test_no_budget_is_overspent_and_no_reservation_leaks_when_workers_are_killed(
    postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await create_tables(postgres_url)

    trial = await run_trial(postgres_url, tmp_path, limit_nanousd=LIMIT_NANOUSD, plan=Plan("", "", 0, seconds=SECONDS))

    with capsys.disabled():
        print(f"\n{trial.summary}")
    assert trial.sampled["over"] == [] and trial.sampled["samples"] > 50 and trial.sampled["fullest"] > 0.9
    assert all(level.reserved_nanousd == 0 for level in trial.levels.values())
    assert trial.levels["all"].spent_nanousd == trial.owed_nanousd <= LIMIT_NANOUSD
    assert sum(trial.levels[f"key{key}"].spent_nanousd for key in range(6)) == trial.owed_nanousd
    assert trial.expired and all(tally["granted"] and tally["refused"] for tally in trial.tallies)
