"""Lifting older bodies: one pure step a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from policies.upgrade import SchemaVersionError, upgrade


def _renamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """A step such as a later schema may bring: a key gets another name."""
    return {("title" if key == "name" else key): value for key, value in body.items()}


def _split(body: Mapping[str, Any]) -> dict[str, Any]:
    return {**body, "words": body["title"].split()}


STEPS = {1: _renamed, 2: _split}


def test_a_body_of_todays_schema_passes_as_it_is() -> None:
    assert upgrade({"schema": 1, "name": "x"}) == {"schema": 1, "name": "x"}


def test_an_older_body_goes_through_every_step_in_order() -> None:
    assert upgrade({"schema": 1, "name": "a b"}, STEPS, 3) == {"schema": 3, "title": "a b", "words": ["a", "b"]}
    assert upgrade({"schema": 2, "title": "c"}, STEPS, 3) == {"schema": 3, "title": "c", "words": ["c"]}


def test_the_body_that_was_given_is_left_as_it_was() -> None:
    body = {"schema": 1, "name": "a"}
    upgrade(body, STEPS, 3)
    assert body == {"schema": 1, "name": "a"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "is missing"),
        ({"schema": 4}, "is 4, but this Fingerpost reads schemas up to 3"),
        ({"schema": "1"}, "must be a whole number from 1, got '1'"),
        ({"schema": True}, "must be a whole number from 1, got True"),
        ({"schema": 0}, "must be a whole number from 1, got 0"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(body: dict[str, Any], said: str) -> None:
    with pytest.raises(SchemaVersionError, match=said):
        upgrade(body, STEPS, 3)


def test_a_schema_without_a_step_is_refused_with_what_to_do() -> None:
    with pytest.raises(SchemaVersionError, match="schema 1 can no longer be read") as caught:
        upgrade({"schema": 1}, {2: _split}, 3)
    assert caught.value.fix == "rewrite the file for schema = 3"
