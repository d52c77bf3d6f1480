"""From the save of a worse draft to the line in the audit log that says who stopped it: nobody did."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.canary_story import told
from tests.integration.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_worse_draft_is_stopped_by_its_canary(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres_url") if database == "postgres" else None

    (act,) = asyncio.run(told(tmp_path, drafts=("bargain",), workers=2, rate=80.0, database=url))

    assert act.trial["state"] == "rolled_back", act.trial
    assert "failed requests" in act.trial["verdict"] and act.trial["metrics"]["errors"]["p_harm"] < 0.0125
    assert [(line["action"], line["actor"] == "gateway") for line in act.audit] == [
        ("trial.start", False),
        ("trial.rollback", True),
    ]
    assert act.audit[-1]["detail"]["figures"]["arms"]["canary"]["units"] > 0
    # Three in ten until then, nobody afterwards.
    served = act.during["bargain"] / (act.during["bargain"] + act.during["solid"])
    assert 0.15 < served < 0.4
    assert act.after["solid"] > 0 and "bargain" not in act.after
