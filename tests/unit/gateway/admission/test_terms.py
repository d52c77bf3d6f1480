"""What terms of keys, teams and organisations may hold."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.admission.terms import Known, RefusedField, Terms, check_terms, differences, tags_of

KNOWN = Known({"best"}, {"small", "large"})
DEEP: dict[str, Any] = {}
for _ in range(100_000):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", " ", "must say"),
        ("name", "x" * 201, "200 characters"),
        ("name", "a\0b", "can't be stored"),
        ("name", "\ud800", "can't be stored"),
        ("policy", "worst", "no policy 'worst'; known: best"),
        ("allowed_models", ("small", "huge"), "no model 'huge'"),
        ("allowed_models", (), "would allow nothing"),
        ("expires_at", datetime(2020, 1, 1, tzinfo=UTC), "in the future"),
        ("expires_at", datetime(9999, 12, 31, tzinfo=UTC), "before the year 9999"),
        ("metadata", {"x": float("nan")}, "JSON object"),
        ("metadata", {"x": "y" * 20_000}, "16384"),
        ("metadata", {"x": ["a\0"]}, "can't be stored"),
        ("metadata", DEEP, "not deep"),
        ("metadata.imported", {"imported": True}, "Fingerpost itself uses"),
        ("metadata.tags", {"tags": "web"}, "list"),
        ("metadata.tags", {"tags": ["a,b"]}, "comma"),
        ("metadata.tags", {"tags": [" a"]}, "printable"),
        ("metadata.tags", {"tags": ["x" * 65]}, "64"),
        ("metadata.tags", {"tags": list("abcdefghi")}, "at most 8"),
        ("metadata.tags", {"tags": [1]}, "A tag"),
    ],
)
def test_what_could_never_work_is_refused_by_its_field(field: str, value: Any, words: str) -> None:
    terms = replace(Terms(name="shop"), **{field.partition(".")[0]: value})

    with pytest.raises(RefusedField, match=words) as refused:
        check_terms(terms, KNOWN)

    assert refused.value.field == field


def test_sound_terms_pass_whole() -> None:
    soon = datetime.fromtimestamp(time.time(), UTC) + timedelta(hours=1)

    check_terms(Terms(name="shop", policy="best", allowed_models=("small",), expires_at=soon), KNOWN)
    check_terms(Terms(name="ключ", expires_at=soon.replace(tzinfo=None), metadata={"tags": ["a b", "ü"]}), KNOWN)


def test_an_update_is_asked_only_about_what_it_changes() -> None:
    old = Terms(name="shop", policy="gone", expires_at=datetime(2020, 1, 1, tzinfo=UTC), metadata={"imported": True})

    check_terms(replace(old, name="other", metadata={"imported": True, "tags": ["a"]}), KNOWN, old)
    with pytest.raises(RefusedField):
        check_terms(replace(old, policy="gone too"), KNOWN, old)


def test_of_changed_metadata_only_the_names_are_told() -> None:
    old = Terms(name="shop")

    assert differences(replace(old, name="x", metadata={"token": "s3cret"}), old) == {
        "name": "x",
        "metadata": ["token"],
    }


@pytest.mark.parametrize(
    ("metadata", "tags"),
    [
        ({}, ()),
        ({"tags": "web"}, ()),
        ({"tags": ["a", "b", "a", 3]}, ("a", "b")),
        ({"tags": [str(number) for number in range(20)]}, tuple("01234567")),
    ],
)
def test_tags_are_read_leniently_from_whatever_is_stored(metadata: dict[str, Any], tags: tuple[str, ...]) -> None:
    assert tags_of(metadata) == tags
