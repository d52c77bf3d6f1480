"""Packed answers: what comes back is what went in, or an error of one kind."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.packed import CorruptError, packed_document, packed_known, unpacked_document, unpacked_known
from tests.contract.cache_stores import OTHER, TENANT, answer, exact_only, same


@given(st.binary(max_size=2_000), st.text(max_size=50), st.lists(st.text(max_size=9), max_size=3))
def test_an_answer_comes_back_as_it_was(body: bytes, text: str, tags: list[str]) -> None:
    stored = answer(body=body, text=text, category=text, end_user=text, tags=tuple(tags), stale_s=7.5)
    assert stored.known is not None

    found = unpacked_document(TENANT, stored.id, packed_document(stored), packed_known(stored.known))

    assert same(found, stored) and found.known is not None
    assert unpacked_known(TENANT, stored.id, packed_known(stored.known)).gone_s == stored.gone_s


def test_what_was_packed_before_answers_were_kept_stale_is_still_read() -> None:
    stored = exact_only(tags=("a",))
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(packed_document(stored)[4:])[:-1])
    check = zlib.crc32(older, zlib.crc32(f"{TENANT}\0{stored.id}".encode())).to_bytes(4, "little")

    assert same(unpacked_document(TENANT, stored.id, check + older, b""), stored)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_byte_that_has_changed_is_noticed(place: int, change: int) -> None:
    stored = exact_only()
    data = bytearray(packed_document(stored))
    data[place % len(data)] ^= change

    with pytest.raises(CorruptError):
        unpacked_document(TENANT, stored.id, bytes(data), b"")


@given(st.binary(max_size=200))
def test_bytes_of_others_are_no_answer(data: bytes) -> None:
    for read in (lambda: unpacked_document(TENANT, "a", data, data), lambda: unpacked_known(TENANT, "a", data)):
        with pytest.raises(CorruptError):
            read()


def test_an_answer_is_not_read_as_anothers() -> None:
    stored = exact_only()
    data = packed_document(stored)

    for tenant, answer_id in ((OTHER, stored.id), (TENANT, "a")):
        with pytest.raises(CorruptError):
            unpacked_document(tenant, answer_id, data, b"")
