"""Answers as bytes under keys: what comes back is what went in, and nobody else's bytes do."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.terms import SecretKeyError
from gateway.cache.base import Stored
from gateway.cache.packed import CorruptError
from gateway.cache.sealed import Form, Plain, Sealed, SealedOtherwise, form_of
from tests.contract.cache_stores import OTHER, TENANT, answer, exact_only, same


def a_key() -> bytes:
    return os.urandom(32)


def written(form: Form, stored: Stored) -> tuple[bytes, bytes]:
    return form.document(stored), form.known(stored.known) if stored.known is not None else b""


@given(st.binary(max_size=2_000), st.text(max_size=50))
def test_an_answer_comes_back_as_it_was_and_nothing_of_it_can_be_read_meanwhile(body: bytes, text: str) -> None:
    form = Sealed([a_key()])
    stored = answer(body=b"a body: " + body, text="a question: " + text, end_user=text)

    document, known = written(form, stored)

    assert same(form.read_document(TENANT, stored.id, document, known), stored)
    assert form.read_known(TENANT, stored.id, known).text == stored.text
    assert b"a body" not in document and b"a question" not in known + document


def test_what_only_repeats_find_comes_back_too() -> None:
    form, stored = Sealed([a_key()]), exact_only()

    assert same(form.read_document(TENANT, stored.id, form.document(stored), b""), stored)


def test_the_same_answer_never_looks_the_same_twice() -> None:
    form, stored = Sealed([a_key()]), exact_only()

    assert len({form.document(stored) for _ in range(100)}) == 100


def test_a_new_key_writes_and_the_old_one_still_reads() -> None:
    old, new = a_key(), a_key()
    before, between, after = Sealed([old]), Sealed([new, old]), Sealed([new])
    stored = answer()

    assert same(between.read_document(TENANT, stored.id, *written(before, stored)), stored)
    assert same(after.read_document(TENANT, stored.id, *written(between, stored)), stored)
    for form, others in ((before, between), (after, before)):
        with pytest.raises(SealedOtherwise):
            form.read_document(TENANT, stored.id, *written(others, stored))
        assert form.counts == {"sealed_otherwise": 1}


def test_what_is_plain_is_not_read_where_there_are_keys_nor_the_other_way() -> None:
    plain, sealed, stored = Plain(), Sealed([a_key()]), answer()
    for reads, writes in ((plain, sealed), (sealed, plain)):
        document, known = written(writes, stored)
        with pytest.raises(SealedOtherwise):
            reads.read_document(TENANT, stored.id, document, known)
        with pytest.raises(SealedOtherwise):
            reads.read_known(TENANT, stored.id, known)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(lambda form, one, two: form.read_document(OTHER, one.id, *written(form, one)), id="tenant"),
        pytest.param(lambda form, one, two: form.read_document(TENANT, two.id, *written(form, one)), id="answer"),
        pytest.param(lambda form, one, two: form.read_known(TENANT, one.id, form.document(one)), id="kind"),
        pytest.param(
            lambda form, one, two: form.read_document(TENANT, one.id, form.document(one), form.known(two.known)),
            id="finding",
        ),
    ],
)
def test_bytes_do_not_change_places(asked: Callable[[Form, Any, Any], object]) -> None:
    form = Sealed([a_key()])

    with pytest.raises(CorruptError):
        asked(form, answer(), answer())

    assert form.counts == {"seal_broken": 1}


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_byte_that_has_changed_is_noticed(place: int, change: int) -> None:
    form, stored = Sealed([a_key()]), exact_only()
    data = bytearray(form.document(stored))
    data[place % len(data)] ^= change

    with pytest.raises((CorruptError, SealedOtherwise)):
        form.read_document(TENANT, stored.id, bytes(data), b"")


@given(st.integers(min_value=0, max_value=60))
def test_a_part_of_it_is_no_answer(kept: int) -> None:
    form, stored = Sealed([a_key()]), exact_only()

    with pytest.raises((CorruptError, SealedOtherwise)):
        form.read_document(TENANT, stored.id, form.document(stored)[:kept], b"")


@pytest.mark.parametrize("keys", ["hunter2", "A" * 43 + "=", base64.urlsafe_b64encode(b"short").decode()])
def test_a_key_that_is_none_is_refused_by_the_settings_name_and_not_shown(keys: str) -> None:
    with pytest.raises(SecretKeyError, match="FINGERPOST_CACHE_KEYS") as refused:
        form_of(keys)

    assert keys not in str(refused.value)


def test_without_keys_answers_are_packed_only() -> None:
    assert isinstance(form_of(" , "), Plain)
