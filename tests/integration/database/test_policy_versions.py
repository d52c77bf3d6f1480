"""Versions of policies and what is in force, on both databases."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.stores import open_stores
from gateway.admission.terms import RefusedField, Terms
from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.lifecycle.policy_versions import NoSuchVersion, PolicyVersions, StaleRevision


async def bodies(versions: PolicyVersions) -> dict[str, str]:
    return {name + scope: row.body for (name, scope), row in (await versions.active()).items()}


async def test_what_was_pushed_last_is_in_force(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    await versions.push("default", "one", author="ann", note="")
    second = await versions.push("default", "zwei ü", author="bob", note="dearer models")
    thrifty = await versions.push("thrifty", "one", author="ann", note="")

    assert await versions.active() == {("default", ""): second, ("thrifty", ""): thrifty}
    assert (second.body, second.author, second.note) == ("zwei ü", "bob", "dearer models")
    assert second.sha256 == hashlib.sha256("zwei ü".encode()).hexdigest()


async def test_what_another_process_puts_in_force_is_seen(engine: AsyncEngine) -> None:
    mine, theirs = PolicyVersions(engine), PolicyVersions(engine)
    first = await theirs.push("default", "one", author="ann", note="")
    before = await bodies(mine)
    await theirs.push("default", "two", author="ann", note="")
    between = await bodies(mine)

    await theirs.activate("default", first.id, actor="bob")

    assert [one["default"] for one in (before, between, await bodies(mine))] == ["one", "two", "one"]


async def test_a_saved_version_is_not_in_force_and_a_draft_never_is(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    draft = await versions.save("default", "half", "ann", "", state="draft")
    ready = await versions.save("default", "whole", "ann", "done", parent_id=draft.id)

    assert await bodies(versions) == {}
    with pytest.raises(NoSuchVersion, match=f"version {draft.id} .* is a draft"):
        await versions.activate("default", draft.id, actor="ann")
    await versions.activate("default", ready.id, actor="ann")
    assert await bodies(versions) == {"default": "whole"}
    assert (ready.parent_id, draft.state, ready.state) == (draft.id, "draft", "ready")


async def test_versions_of_other_names_and_unknown_ones_are_refused(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    other = await versions.push("other", "x", author="ann", note="")

    for wrong in (other.id, 999):
        with pytest.raises(NoSuchVersion, match=f"'default' has no version {wrong}"):
            await versions.activate("default", wrong, actor="ann")
        with pytest.raises(NoSuchVersion, match=f"'default' has no version {wrong}"):
            await versions.save("default", "y", "ann", "", parent_id=wrong)
    assert await versions.history("default") == [] and await versions.moves("default") == []


async def test_rollbacks_go_further_back_each_time_and_past_the_first_to_the_files(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    for body in ("one", "two", "three"):
        await versions.push("default", body, author="ann", note="")
    seen = []
    for _ in range(3):
        await versions.rollback("default", actor="bob")
        seen.append((await bodies(versions)).get("default"))

    with pytest.raises(NoSuchVersion, match="nothing was in force before"):
        await versions.rollback("default", actor="bob")
    assert seen == ["two", "one", None]
    assert [one.action for one in await versions.moves("default")] == ["rollback"] * 3 + ["activate"] * 3


async def test_a_rollback_after_a_rollback_and_a_new_version_leads_to_what_stood_before_it(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    for body in ("one", "two"):
        await versions.push("default", body, author="ann", note="")
    await versions.rollback("default", actor="bob")
    await versions.push("default", "three", author="ann", note="")

    assert (await versions.before("default"))[1] == 4
    await versions.rollback("default", actor="bob")

    assert await bodies(versions) == {"default": "one"}


async def test_files_may_be_put_in_force_and_taken_back(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    await versions.push("default", "one", author="ann", note="")
    pointer = await versions.activate("default", None, actor="ann")

    assert (pointer.version_id, pointer.revision, await bodies(versions)) == (None, 2, {})
    await versions.rollback("default", actor="ann")
    assert await bodies(versions) == {"default": "one"}


async def test_the_second_of_two_who_read_the_same_revision_is_told(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    first = await versions.save("default", "one", "ann", "")
    second = await versions.save("default", "two", "bob", "")

    found = await asyncio.gather(
        *(versions.activate("default", row.id, actor=row.author, if_revision=0) for row in (first, second)),
        return_exceptions=True,
    )

    assert sorted(type(one).__name__ for one in found) == ["Pointer", "StaleRevision"]
    with pytest.raises(StaleRevision, match=r"it is at revision 1 \(by "):
        await versions.rollback("default", actor="ann", if_revision=7)
    assert len(await versions.moves("default")) == 1


async def test_a_scope_has_a_pointer_of_its_own(engine: AsyncEngine) -> None:
    versions, stores = PolicyVersions(engine), open_stores(engine)
    everybody = await versions.push("default", "for all", author="ann", note="")
    theirs = await versions.save("default", "for them", "ann", "")
    organisation = await stores.tenants.create_organisation(Terms(name="o"))

    scope = f"organisation:{organisation.id}"
    pointer = await versions.activate("default", theirs.id, actor="ann", scope=scope)

    assert (pointer.scope, pointer.revision) == (scope, 1)
    assert await versions.active() == {("default", ""): everybody, ("default", scope): theirs}
    with pytest.raises(RefusedField, match="no team 'nobody'"):
        await versions.activate("default", theirs.id, actor="ann", scope="team:nobody")


async def test_a_rotated_key_keeps_its_scope(engine: AsyncEngine) -> None:
    versions, stores = PolicyVersions(engine), open_stores(engine)
    row = await versions.save("default", "x", "ann", "")
    key, _ = await stores.keys.issue("k")
    rotated = await stores.keys.rotate(key.id, 60.0)
    assert rotated is not None

    pointer = await versions.activate("default", row.id, actor="ann", scope=f"key:{rotated[0].id}")

    assert pointer.scope == f"key:{key.id}"


async def test_every_act_is_in_the_audit_log(engine: AsyncEngine) -> None:
    versions, stores = PolicyVersions(engine), open_stores(engine)
    row = await versions.save("default", "x", "ann", "why", state="ready", actor="cli:ann")
    await versions.activate("default", row.id, actor="bob", note="now")
    await versions.rollback("default", actor="eve")

    acts = list(reversed(await stores.audit.list()))
    assert [(one.actor, one.action) for one in acts] == [
        ("cli:ann", "policy.save"),
        ("bob", "policy.activate"),
        ("eve", "policy.rollback"),
    ]
    assert json.loads(acts[1].detail) == {"version": row.id, "scope": "", "revision": 1, "note": "now"}
    assert json.loads(acts[2].detail)["version"] is None


async def test_the_history_keeps_every_version_newest_first(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    for body in ("one", "two", "one"):
        await versions.push("default", body, author="ann", note="")
    await versions.push("other", "three", author="ann", note="")

    assert [row.body for row in await versions.history("default")] == ["one", "two", "one"]
    assert await versions.history("unknown") == []


async def test_pushes_at_the_same_time_all_arrive(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)

    pushed = await asyncio.gather(*(versions.push("default", str(n), author="ann", note="") for n in range(8)))

    assert {row.id for row in await versions.history("default")} == {row.id for row in pushed}
    assert {one.revision for one in await versions.moves("default")} == set(range(1, 9))


async def test_without_a_database_the_policies_are_unavailable() -> None:
    engine = open_engine("postgresql://nobody@127.0.0.1:9/nothing")

    with pytest.raises(DatabaseUnavailable):
        await PolicyVersions(engine).active()
    await engine.dispose()
