"""The tables beside what they must agree with."""

from __future__ import annotations

from dataclasses import fields

from gateway.ledger.record import Child, Record, ShadowDecision
from gateway.ledger.tables import request_child, request_log
from gateway.ledger.trial_tables import shadow_decision

TRIALS = ("trial_id", "at"), ("trial_id", "trial_unit", "at")


def test_the_columns_of_the_log_are_the_fields_of_a_record_in_their_order() -> None:
    assert [*(column.name for column in request_log.columns), "children"] == [field.name for field in fields(Record)]


def test_the_columns_of_a_child_are_its_fields_in_their_order() -> None:
    assert [column.name for column in request_child.columns] == [field.name for field in fields(Child)]


def test_the_columns_of_a_shadow_decision_are_its_fields_in_their_order() -> None:
    assert [column.name for column in shadow_decision.columns] == [field.name for field in fields(ShadowDecision)]


def test_the_log_is_indexed_for_reports_limits_trials_and_searches() -> None:
    indexed = sorted(tuple(column.name for column in index.columns) for index in request_log.indexes)

    within_time = ("category", "end_user", "endpoint", "error_code", "key_id", "model", "policy", "team_id")
    partial = [("at", "status"), ("at",), ("cache_status", "at"), ("cost_nanousd",), ("total_ms",)]
    assert indexed == sorted([("at",), *((name, "at") for name in within_time), *partial, *TRIALS])
