"""The router that always wants one model."""

from __future__ import annotations

import pytest

from policies.schema import RouterSpec
from routers.kinds.fixed import Fixed
from tests.unit.routers.candidates import candidate, query


def test_the_configured_model_is_certain_and_the_others_follow_in_prior_order() -> None:
    router = Fixed.from_spec(RouterSpec(kind="fixed", model="b"))
    pool = [candidate("a", prior=0.9), candidate("b", prior=0.1), candidate("c", prior=1.0)]
    assert [told.quality for told in router.forecast(query(), pool)] == [0.45, 1.0, 0.5]
    assert "'b'" in router.reason(query())


def test_the_model_is_required() -> None:
    with pytest.raises(ValueError, match="needs the key 'model'"):
        Fixed.from_spec(RouterSpec(kind="fixed"))
