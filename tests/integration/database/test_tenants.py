"""Organisations, teams and their keys on both databases."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.grants import TenantRow
from gateway.admission.keys import Keyring
from gateway.admission.rules import Budget, Caller, RateLimit, Rules, Scope
from gateway.admission.stores import Stores, open_stores
from gateway.admission.terms import RefusedField, Terms
from gateway.ledger.acts import Change
from gateway.ledger.tables import change


@pytest.fixture
def stores(engine: AsyncEngine) -> Stores:
    """Empty stores."""
    return open_stores(engine)


async def tenants(stores: Stores, **team: object) -> tuple[TenantRow, TenantRow]:
    """An organisation that allows models a, b, c and its team."""
    terms = Terms(name="acme", policy="best", allowed_models=("a", "b", "c"))
    acme = await stores.tenants.create_organisation(terms)
    return acme, await stores.tenants.create_team(acme.id, Terms(name="web", **team))  # type: ignore[arg-type]


async def caller_of(stores: Stores, token: str) -> Caller | None:
    """Whom a fresh worker takes the token for."""
    return await Keyring(stores.keys).authenticate(token)


async def test_a_key_is_narrowed_by_its_team_and_its_organisation(stores: Stores) -> None:
    acme, web = await tenants(stores, allowed_models=("b", "c", "d"))
    row, token = await stores.keys.issue(
        "k", allowed_models=["c", "b", "x"], team_id=web.id, metadata={"tags": ["beta"], "note": 1}
    )

    assert await caller_of(stores, token) == Caller(
        key_id=row.id,
        role="application",
        policy="best",
        allowed_models=("c", "b"),
        team_id=web.id,
        organisation_id=acme.id,
        tags=("beta",),
        metadata={"tags": ["beta"], "note": 1},
    )


@pytest.mark.parametrize("scope", [Scope.TEAM, Scope.ORGANISATION])
async def test_keys_below_a_revoked_tenant_open_nothing(stores: Stores, scope: Scope) -> None:
    acme, web = await tenants(stores)
    _, token = await stores.keys.issue("k", team_id=web.id)
    above = web.id if scope is Scope.TEAM else acme.id

    assert await caller_of(stores, token) is not None
    assert await stores.tenants.revoke(scope, above) is True  # type: ignore[arg-type]
    assert await stores.tenants.revoke(scope, above) is False  # type: ignore[arg-type]
    assert await caller_of(stores, token) is None


async def test_a_team_that_expires_ends_its_keys_to_the_moment(stores: Stores) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    _, web = await tenants(stores, expires_at=end)
    _, token = await stores.keys.issue("k", team_id=web.id, expires_at=end + timedelta(hours=1))
    now = time.time()
    keyring = Keyring(stores.keys, now=lambda: now)

    before = await keyring.authenticate(token)
    now = end.timestamp()

    assert before is not None and await keyring.authenticate(token) is None


async def test_rules_of_key_team_and_organisation_bound_a_caller_together(stores: Stores) -> None:
    acme, web = await tenants(stores)
    row, token = await stores.keys.issue("k", team_id=web.id)
    subjects = ((Scope.KEY, row.id), (Scope.TEAM, web.id), (Scope.ORGANISATION, acme.id), (Scope.MODEL, "gpt"))
    budgets = [await stores.rules.create(Budget("", scope, name, 5)) for scope, name in subjects]
    limit = await stores.rules.create(RateLimit("", Scope.TEAM, web.id, requests_per_minute=3))

    caller = await caller_of(stores, token)

    assert caller is not None and caller.rules == Rules(tuple(budgets[:3]), (limit,))


async def test_a_rotated_key_keeps_its_terms_its_rules_and_its_line(stores: Stores) -> None:
    _, web = await tenants(stores)
    old, old_token = await stores.keys.issue("k", team_id=web.id, policy="thrifty", metadata={"tags": ["beta"]})
    await stores.rules.create(Budget("", Scope.KEY, old.id, 5))

    made = await stores.keys.rotate(old.id, overlap_s=60)
    assert made is not None
    again = await stores.keys.rotate(made[0].id, overlap_s=60)
    assert again is not None

    first, second, third = [await caller_of(stores, token) for token in (old_token, made[1], again[1])]
    assert first is not None and second is not None and third is not None
    assert replace(third, key_id=old.id, root_id=None) == first
    assert first.rules == second.rules == third.rules and len(third.rules.budgets) == 1
    assert (first.root_id, second.root_id, third.root_id) == (None, old.id, old.id)


async def test_the_overlap_ends_the_old_key_and_none_ends_it_at_once(stores: Stores) -> None:
    old, token = await stores.keys.issue("k")
    now = time.time()
    keyring = Keyring(stores.keys, now=lambda: now)

    made = await stores.keys.rotate(old.id, overlap_s=3600)
    during = await keyring.authenticate(token)
    now += 3601

    assert made is not None and during is not None
    assert await keyring.authenticate(token) is None
    await stores.keys.rotate(made[0].id, overlap_s=0)
    assert await caller_of(stores, made[1]) is None


async def test_a_rotation_does_not_outlive_the_keys_own_expiry(stores: Stores) -> None:
    end = datetime.now(UTC) + timedelta(seconds=60)
    old, _ = await stores.keys.issue("k", expires_at=end)

    made = await stores.keys.rotate(old.id, overlap_s=3600)

    ended = await stores.keys.get(old.id)
    assert made is not None and ended is not None
    assert (made[0].expires_at, ended.expires_at, ended.rotated_to) == (old.expires_at, old.expires_at, made[0].id)


async def test_what_can_not_be_rotated_is_refused(stores: Stores) -> None:
    rotated, _ = await stores.keys.issue("a")
    await stores.keys.rotate(rotated.id, 60)
    revoked, _ = await stores.keys.issue("b")
    await stores.keys.revoke(revoked.id)
    expired, _ = await stores.keys.issue("c", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    imported = await stores.keys.import_key("my own token", "application", "KEY")

    for key_id, words in (
        (rotated.id, "rotated already"),
        (revoked.id, "revoked"),
        (expired.id, "expired"),
        (imported.id, "setting"),
    ):
        with pytest.raises(RefusedField, match=words):
            await stores.keys.rotate(key_id, 60)
    assert await stores.keys.rotate("nobody", 60) is None
    with pytest.raises(RefusedField, match="overlap_s"):
        await stores.keys.rotate(rotated.id, -1)


async def test_two_rotations_of_one_key_at_once_make_one_key(stores: Stores) -> None:
    old, _ = await stores.keys.issue("k")

    made = await asyncio.gather(*(stores.keys.rotate(old.id, 60) for _ in range(4)), return_exceptions=True)

    assert sum(isinstance(one, RefusedField) for one in made) == 3
    assert len(await stores.keys.list()) == 2


async def test_a_rule_set_for_a_rotated_key_belongs_to_its_line(stores: Stores) -> None:
    old, _ = await stores.keys.issue("k")
    made = await stores.keys.rotate(old.id, 60)
    assert made is not None

    stored = await stores.rules.create(Budget("", Scope.KEY, made[0].id, 5))

    assert stored.scope_id == old.id
    assert await stores.rules.list(Budget, Scope.KEY, made[0].id) == [stored]


async def test_a_key_moves_between_teams_and_keeps_what_is_not_named(stores: Stores) -> None:
    acme, web = await tenants(stores)
    other = await stores.tenants.create_team(acme.id, Terms(name="other"))
    row, _ = await stores.keys.issue("k", team_id=web.id, policy="best")

    moved = await stores.keys.update(row.id, lambda old: replace(old, team_id=other.id, metadata={"a": 1}))

    assert moved == replace(row, team_id=other.id, metadata={"a": 1})
    assert await stores.keys.list(other.id) == [moved] and await stores.keys.list(web.id) == []
    assert await stores.keys.update("nobody", lambda old: old) is None


async def test_what_names_a_tenant_that_does_not_live_is_refused(stores: Stores) -> None:
    _, web = await tenants(stores)
    row, _ = await stores.keys.issue("k")
    await stores.tenants.revoke(Scope.TEAM, web.id)

    for team_id in (web.id, "nobody", "\0"):
        with pytest.raises(RefusedField, match="no team"):
            await stores.keys.issue("x", team_id=team_id)
        with pytest.raises(RefusedField, match="no team"):
            await stores.keys.update(row.id, lambda old, to=team_id: replace(old, team_id=to))  # type: ignore[misc]
    with pytest.raises(RefusedField, match="revoked"):
        await stores.tenants.update(Scope.TEAM, web.id, lambda old: replace(old, name="y"))
    with pytest.raises(RefusedField, match="no organisation"):
        await stores.tenants.create_team("nobody", Terms(name="x"))
    with pytest.raises(RefusedField, match="no team"):
        await stores.rules.create(Budget("", Scope.TEAM, web.id, 5))


async def test_admin_keys_belong_to_no_team(stores: Stores) -> None:
    _, web = await tenants(stores)
    row, _ = await stores.keys.issue("k", role="admin")

    with pytest.raises(RefusedField, match="admin"):
        await stores.keys.issue("x", role="admin", team_id=web.id)
    with pytest.raises(RefusedField, match="admin"):
        await stores.keys.update(row.id, lambda old: replace(old, team_id=web.id))


async def test_names_are_unique_among_the_living(stores: Stores) -> None:
    acme, web = await tenants(stores)
    other = await stores.tenants.create_organisation(Terms(name="other"))
    await stores.tenants.create_team(other.id, Terms(name="web"))

    for attempt in (
        stores.tenants.create_organisation(Terms(name="acme")),
        stores.tenants.create_team(acme.id, Terms(name="web")),
        stores.tenants.update(Scope.ORGANISATION, other.id, lambda old: replace(old, name="acme")),
    ):
        with pytest.raises(RefusedField, match="of that name"):
            await attempt
    await stores.tenants.revoke(Scope.TEAM, web.id)
    assert (await stores.tenants.create_team(acme.id, Terms(name="web"))).id != web.id


async def test_tenants_are_updated_and_listed(stores: Stores) -> None:
    acme, web = await tenants(stores)

    changed = await stores.tenants.update(Scope.TEAM, web.id, lambda old: replace(old, allowed_models=("a",)))

    assert changed == replace(web, allowed_models=("a",)) == await stores.tenants.get(Scope.TEAM, web.id)
    assert await stores.tenants.list(Scope.TEAM, acme.id) == [changed]
    assert await stores.tenants.list(Scope.TEAM, "nobody") == []
    assert await stores.tenants.list(Scope.ORGANISATION) == [acme]
    assert await stores.tenants.get(Scope.TEAM, "nobody") is None


async def test_a_name_that_marks_imported_keys_stays_with_the_key(stores: Stores) -> None:
    row = await stores.keys.import_key("token", "application", "KEY")

    await stores.keys.update(row.id, lambda old: replace(old, metadata={"note": "mine"}))
    with pytest.raises(RefusedField, match="by its name"):
        await stores.keys.update(row.id, lambda old: replace(old, name="other"))
    await stores.keys.import_key("another", "application", "KEY")

    superseded = await stores.keys.get(row.id)
    assert superseded is not None and superseded.revoked_at is not None and superseded.metadata["note"] == "mine"


async def test_rules_are_listed_changed_and_deleted(stores: Stores) -> None:
    budget = await stores.rules.create(Budget("", Scope.MODEL, "gpt", 5))
    limit = await stores.rules.create(RateLimit("", Scope.TAG, "beta", requests_per_minute=3))

    changed = await stores.rules.update(Budget, budget.id, lambda old: replace(old, limit_nanousd=7, hard=False))

    assert changed == replace(budget, limit_nanousd=7, hard=False) == await stores.rules.get(Budget, budget.id)
    assert await stores.rules.of_scopes(Scope.MODEL, Scope.TAG) == {
        (Scope.MODEL, "gpt"): Rules((changed,)),
        (Scope.TAG, "beta"): Rules((), (limit,)),
    }
    assert await stores.rules.list(Budget, Scope.TAG) == [] and await stores.rules.list(RateLimit) == [limit]
    assert [await stores.rules.delete(Budget, budget.id) for _ in range(2)] == [True, False]
    assert await stores.rules.update(Budget, budget.id, lambda old: old) is None


async def test_a_subject_has_one_rate_limit(stores: Stores) -> None:
    first = await stores.rules.create(RateLimit("", Scope.TAG, "beta", requests_per_minute=3))

    with pytest.raises(RefusedField, match=first.id):
        await stores.rules.create(RateLimit("", Scope.TAG, "beta", tokens_per_minute=3))


async def test_every_write_tells_running_gateways_and_the_audit_log(stores: Stores, engine: AsyncEngine) -> None:
    acme, web = await tenants(stores)
    row, _ = await stores.keys.issue("k", actor="boss")
    budget = await stores.rules.create(Budget("", Scope.TEAM, web.id, 5, webhook_url="https://h.example/s3cret"))
    await stores.rules.delete(Budget, budget.id)
    await stores.tenants.revoke(Scope.ORGANISATION, acme.id)

    async with engine.connect() as connection:
        told = [Change(one.what, one.subject) for one in (await connection.execute(select(change))).all()]
    entries = list(reversed(await stores.audit.list()))
    assert told == [
        Change("key", row.id),
        Change("team", web.id),
        Change("team", web.id),
        Change("organisation", acme.id),
    ]
    assert [one.action for one in entries] == [
        "organisation.create",
        "team.create",
        "key.issue",
        "budget.create",
        "budget.delete",
        "organisation.revoke",
    ]
    assert entries[2].actor == "boss" and "s3cret" not in str(entries)
    assert row.sha256 not in str(entries)
