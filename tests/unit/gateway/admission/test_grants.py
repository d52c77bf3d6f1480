"""Keys narrowed by their teams and organisations."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.grants import Grant, KeyRow, TenantRow, grant_of
from gateway.admission.rules import NO_RULES

MOMENT = datetime.fromtimestamp(0, UTC)
MODELS = st.none() | st.lists(st.sampled_from("abcd"), unique=True).map(tuple)
TIMES = st.none() | st.integers(1, 1000)


def granted(
    models: tuple[tuple[str, ...] | None, ...] = (None, None, None),
    policies: tuple[str | None, ...] = (None, None, None),
    ends: tuple[int | None, ...] = (None, None, None),
    revoked: tuple[bool, ...] = (False, False, False),
) -> Grant:
    """The grant of a key in a team in an organisation; each argument names key, team and organisation."""
    terms = [
        {
            "name": "x",
            "policy": policy,
            "allowed_models": allowed,
            "expires_at": None if end is None else datetime.fromtimestamp(end, UTC),
            "created_at": MOMENT,
            "revoked_at": MOMENT if gone else None,
        }
        for policy, allowed, end, gone in zip(policies, models, ends, revoked, strict=True)
    ]
    key = KeyRow(id="k", sha256="h", role="application", team_id="t", **terms[0])  # type: ignore[arg-type]
    team = TenantRow(id="t", organisation_id="o", **terms[1])  # type: ignore[arg-type]
    organisation = TenantRow(id="o", organisation_id=None, **terms[2])  # type: ignore[arg-type]
    return grant_of(key, team, organisation, NO_RULES)


@given(MODELS, MODELS, MODELS, st.sampled_from("abcd"))
def test_a_model_is_allowed_where_all_who_name_any_name_it(
    key: tuple[str, ...] | None, team: tuple[str, ...] | None, organisation: tuple[str, ...] | None, model: str
) -> None:
    allowed = granted(models=(key, team, organisation)).caller.allowed_models

    expected = all(one is None or model in one for one in (key, team, organisation))
    assert (allowed is None or model in allowed) == expected
    assert (allowed is None) == (key is None and team is None and organisation is None)


@pytest.mark.parametrize(
    ("policies", "effective"),
    [
        (("k", "t", "o"), "k"),
        ((None, "t", "o"), "t"),
        ((None, None, "o"), "o"),
        ((None, None, None), None),
    ],
)
def test_the_nearest_policy_counts(policies: tuple[str | None, ...], effective: str | None) -> None:
    assert granted(policies=policies).caller.policy == effective


@given(TIMES, TIMES, TIMES)
def test_the_first_to_expire_ends_it(key: int | None, team: int | None, organisation: int | None) -> None:
    ends = [one for one in (key, team, organisation) if one is not None]

    assert granted(ends=(key, team, organisation)).valid_until == min(ends, default=inf)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_whoever_is_revoked_ends_it(place: int) -> None:
    revoked = tuple(one == place for one in range(3))

    assert not granted(revoked=revoked).is_valid(-1e18)
    assert granted().is_valid(1e18)


def test_a_key_without_a_team_stands_alone() -> None:
    key = KeyRow(id="k", sha256="h", name="x", role="admin", created_at=MOMENT, metadata={"tags": ["a"]})

    caller = grant_of(key, None, None, NO_RULES).caller

    assert (caller.team_id, caller.organisation_id, caller.tags, caller.rules) == (None, None, ("a",), NO_RULES)
