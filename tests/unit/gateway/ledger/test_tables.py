"""The tables beside what they must agree with."""

from __future__ import annotations

from dataclasses import fields

from gateway.ledger.record import Child, Record
from gateway.ledger.tables import request_child, request_log


def test_the_columns_of_the_log_are_the_fields_of_a_record_in_their_order() -> None:
    assert [*(column.name for column in request_log.columns), "children"] == [field.name for field in fields(Record)]


def test_the_columns_of_a_child_are_its_fields_in_their_order() -> None:
    assert [column.name for column in request_child.columns] == [field.name for field in fields(Child)]


def test_the_log_is_indexed_by_time_and_by_key_model_and_end_user_within_time() -> None:
    indexed = sorted(tuple(column.name for column in index.columns) for index in request_log.indexes)

    assert indexed == [("at",), ("end_user", "at"), ("key_id", "at"), ("model", "at")]
