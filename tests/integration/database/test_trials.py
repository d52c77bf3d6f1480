"""Trials on both databases: who judges, what is done at once, who may do what, and what the audit log has."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.terms import Terms
from gateway.errors import Conflict, InvalidRequest, NotFound, Stale
from gateway.ledger.acts import EVERYTHING, Change
from gateway.ledger.audit import AuditLog
from gateway.ledger.feedback import Feedback, FeedbackStore
from gateway.lifecycle.trials.assignment import Arm
from gateway.lifecycle.trials.desk import Wish
from gateway.lifecycle.trials.holding import HELD_S
from gateway.lifecycle.trials.terms import Metric, State, Trial
from tests.integration.database.trial_scene import (
    DRAFT,
    LIMITS,
    POLICY,
    WISH,
    Clock,
    Worker,
    begun,
    clock,
    stored,
    traffic,
    workers,
)

__all__ = ["clock", "workers"]


async def told(engine: AsyncEngine) -> list[tuple[str, str]]:
    """Actors and actions about trials, oldest first."""
    entries = await AuditLog(engine).list()
    return [(one.actor, one.action) for one in reversed(entries) if one.action.startswith("trial.")]


async def test_a_worse_draft_is_rolled_back_by_whichever_process_judges(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    trial = await begun(one, clock, auto_promote=True)
    await stored(one.gateway.engine, traffic(trial, clock, 900, fails=0.3))
    await one.step()
    early = await one.desk.get(trial.id)

    clock.now += 10.0
    await asyncio.gather(one.step(), other.step())

    ended = await one.desk.get(trial.id)
    assert early.state is State.RUNNING
    assert (ended.state, ended.ended_at is not None) == (State.ROLLED_BACK, True)
    assert "failed requests" in (ended.reason or "")
    assert (await told(one.gateway.engine))[-1] == ("gateway", "trial.rollback")
    assert [action for _, action in await told(one.gateway.engine)].count("trial.rollback") == 1
    entry = (await AuditLog(one.gateway.engine).list())[0]
    assert '"p_harm"' in entry.detail and entry.action == "trial.rollback"
    report = await one.gateway.trials.reports.one(ended)
    assert sum(arm["units"] for arm in report["arms"].values()) == 900 and report["kind"] == "harm"
    assert report["looks"] and report["logged"]["canary"] + report["logged"]["control"] == 900
    await other.book.refresh()
    assert other.book.trials == [] and other.book.drafts() == []


async def test_a_good_draft_is_put_in_force_where_the_trial_says_so(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    trial = await begun(one, clock, auto_promote=True)
    cheap = [
        replace(row, cost_nanousd=2000) if row.trial_arm == Arm.CANARY and row.status == 200 else row
        for row in traffic(trial, clock, 3000, fails=0.01)
    ]
    await stored(one.gateway.engine, cheap)
    clock.now += 10.0

    await one.step()
    await other.step()

    ended = await one.desk.get(trial.id)
    pointer = await one.gateway.policy_versions.pointer("desk")
    assert (ended.state, pointer is not None and pointer.version_id) == (State.PROMOTED, 3)
    versions = await one.gateway.policy_versions.history("desk")
    assert [(row.id, row.state, row.parent_id) for row in versions][:2] == [(3, "ready", 2), (2, "draft", None)]
    active = other.gateway.policies.current("desk")
    assert active is not None and active.policy.fallback.retries == 0
    assert (await told(one.gateway.engine))[-1] == ("gateway", "trial.promote")


async def test_without_leave_a_proof_waits_for_an_admin_and_is_written_down_once(
    workers: list[Worker], clock: Clock
) -> None:
    one, other = workers
    trial = await begun(one, clock)
    await stored(one.gateway.engine, traffic(trial, clock, 3000, fails=0.01))
    clock.now += 10.0

    for _ in range(2):
        await one.step()
    waiting = await one.desk.get(trial.id)
    promoted = await other.desk.promote(trial.id, "I have looked", actor="bob", if_revision=waiting.revision)

    assert waiting.state is State.RUNNING
    assert [action for _, action in await told(one.gateway.engine)].count("trial.verdict") == 1
    assert promoted.state is State.PROMOTED
    with pytest.raises(Conflict):
        await one.desk.end(trial.id, State.STOPPED, "", actor="bob")


async def test_a_process_that_dies_is_followed_by_another_where_it_stopped(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    trial = await begun(one, clock)
    rows = traffic(trial, clock, 400, fails=0.01)
    await stored(one.gateway.engine, rows[:200])
    clock.now += 10.0
    await one.step()
    later = [replace(row, at=row.at + 10.0) for row in rows[200:]]
    await stored(one.gateway.engine, later)
    clock.now += 10.0
    await other.step()
    held = await units_counted(one, trial)

    clock.now += HELD_S + 1
    await other.step()

    assert (held, await units_counted(one, trial)) == (200, 400)


async def units_counted(worker: Worker, trial: Trial) -> int:
    report = await worker.gateway.trials.reports.one(trial)
    return sum(arm["units"] for arm in report["arms"].values())


async def test_a_late_writer_changes_nothing(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    held = await one.evidence.hold("trial_x")
    assert held is not None and await other.evidence.hold("trial_x") is None
    clock.now += HELD_S + 1
    taken = await other.evidence.hold("trial_x")
    assert taken is not None

    assert await one.evidence.save(held, b"late", {}) is None
    saved = await other.evidence.save(taken, b"mine", {"kind": "waiting"})

    assert saved is not None and saved.revision == 1
    assert (await other.evidence.verdicts(["trial_x"]))["trial_x"]["kind"] == "waiting"


async def test_it_ends_where_what_is_in_force_changes_and_when_its_time_is_over(
    workers: list[Worker], clock: Clock
) -> None:
    one, other = workers
    first = await begun(one, clock)
    await one.gateway.policy_desk.push("desk", POLICY + "[objective]\ncost = 0.3\n", author="ann")
    with pytest.raises(Conflict, match="changed since"):
        await one.desk.promote(first.id, "", actor="ann")
    await other.step()
    second = await begun(other, clock, longest_s=60.0)
    clock.now += 61.0

    await other.step()

    ended = [await one.desk.get(trial.id) for trial in (first, second)]
    assert [trial.state for trial in ended] == [State.STOPPED, State.STOPPED]
    assert "changed since" in (ended[0].reason or "") and "longest duration" in (ended[1].reason or "")


async def test_a_draft_put_in_force_by_hand_is_a_promotion(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    trial = await begun(one, clock)
    await one.gateway.policy_desk.push("desk", DRAFT, author="ann")

    await other.step()

    assert (await one.desk.get(trial.id)).state is State.PROMOTED


async def test_feedback_that_comes_late_still_stops_a_draft(workers: list[Worker], clock: Clock) -> None:
    one = workers[0]
    wish = replace(
        WISH, tolerance={Metric.FEEDBACK: 0.05}, limits=replace(LIMITS, feedback_wait_s=30.0, longest_s=3600.0)
    )
    trial = await one.desk.start(wish, "ann")
    trial = await one.store.change(trial.id, "trial.begin", actor="test", started_at=clock.now)
    rows = traffic(trial, clock, 300, fails=0.0)
    await stored(one.gateway.engine, rows)
    store = FeedbackStore(one.gateway.engine, now=lambda: clock.now)
    clock.now += 5.0
    for row in rows:
        await store.put(Feedback(row.id, "user", 0.1 if row.trial_arm == Arm.CANARY else 0.9, "key"))
    await one.step()
    early = await one.desk.get(trial.id)

    clock.now += 40.0
    await one.step()

    assert early.state is State.RUNNING
    ended = await one.desk.get(trial.id)
    assert ended.state is State.ROLLED_BACK and "bad feedback" in (ended.reason or "")


async def test_at_most_one_trial_runs_for_a_policy_and_scope(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    asked = await asyncio.gather(one.desk.start(WISH, "ann"), other.desk.start(WISH, "bob"), return_exceptions=True)

    (trial,) = [found for found in asked if isinstance(found, Trial)]
    (refused,) = [found for found in asked if isinstance(found, Conflict)]
    assert trial.id in str(refused)
    with pytest.raises(NotFound):
        await one.desk.start(replace(WISH, scope="team:nobody"), "ann")
    tenants = one.gateway.stores.tenants
    organisation = await tenants.create_organisation(Terms(name="acme"), actor="ann")
    narrow = await one.desk.start(replace(WISH, scope=f"organisation:{organisation.id}"), "ann")
    assert {found.id for found in await one.store.running()} == {trial.id, narrow.id}


async def test_who_was_slower_is_told_so(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    trial = await one.desk.start(WISH, "ann")
    raised = await one.desk.share(trial.id, 0.6, actor="ann", if_revision=1)

    with pytest.raises(Stale):
        await other.desk.share(trial.id, 0.1, actor="bob", if_revision=1)
    with pytest.raises(NotFound):
        await other.desk.share("trial_none", 0.1, actor="bob")
    with pytest.raises(InvalidRequest):
        await other.desk.share(trial.id, 1.0, actor="bob", if_revision=2)
    assert (raised.share, raised.revision) == (0.6, 2)


@pytest.mark.parametrize(
    ("draft", "wish", "error"),
    [
        (DRAFT, replace(WISH, version=9), NotFound),
        (DRAFT, replace(WISH, policy="nobody"), NotFound),
        (DRAFT, replace(WISH, scope="king:1"), InvalidRequest),
        (POLICY + '[pacing]\nbudget_usd = 5\nperiod = "day"\n', replace(WISH, version=3), Conflict),
        (POLICY + "colour = 1\n", replace(WISH, version=3), Conflict),
        (POLICY.replace('"rules"', '"graph"\nartifact = "none"'), replace(WISH, version=3), Conflict),
    ],
)
async def test_what_cannot_serve_is_no_trial(
    workers: list[Worker], draft: str, wish: Wish, error: type[Exception]
) -> None:
    one = workers[0]
    await one.gateway.policy_desk.save("desk", draft, author="ann", state="draft")

    with pytest.raises(error):
        await one.desk.start(wish, "ann")
    assert await one.store.running() == []


async def test_a_draft_that_a_process_cannot_use_takes_nothing_down_there(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    trial = await begun(one, clock)
    artifact = POLICY.replace('"rules"', '"graph"\nartifact = "none"')
    row, _ = await one.gateway.policy_desk.save("desk", artifact, author="ann", state="draft")
    await one.store.change(trial.id, "trial.begin", actor="test", version_id=row.id)

    other.book.take_up([Change(EVERYTHING)])
    await other.step()

    assert other.book.drafts() == [] and "none" in other.book.refused[trial.id]
    assert other.gateway.policies.current("desk") is not None
    await one.desk.end(trial.id, State.STOPPED, "", actor="ann")
    await other.book.refresh()
    assert other.book.refused == {}
