"""Records made storable, whatever strangers put into them."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import fields
from enum import StrEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.record import Child, Record
from gateway.ledger.rows import (
    CHILD_COLUMNS,
    COLUMNS,
    MAX_COUNT,
    RowError,
    clean,
    columns_of,
    from_line,
    to_line,
    to_row,
    to_rows,
)

_STRANGE_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from("\0\ud800\udfff\ufffd"))
_STRANGE_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _STRANGE_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_STRANGE_TEXT, inner),
    max_leaves=20,
)


def _row(**changes: Any) -> dict[str, Any]:
    record = Record(**{"id": "req_1", "at": 1.5, "route": "chat", **changes})
    return dict(zip(COLUMNS, to_row(record), strict=True))


@given(text=_STRANGE_TEXT, value=_STRANGE_JSON, count=st.integers(), number=st.floats(), blob=st.binary())
def test_whatever_a_record_holds_its_row_is_storable_and_survives_the_spool(
    text: str, value: Any, count: int, number: float, blob: bytes
) -> None:
    record = Record("id" + text, 1.0, text, decision=[{"v": value}], embedding=blob, prompt=text, input_tokens=count)
    record.route_ms = number

    row = to_row(record)

    assert from_line(to_line(row)) == row
    for cell in row:
        if isinstance(cell, str):
            assert "\0" not in cell and cell.encode() is not None
        assert not isinstance(cell, float) or math.isfinite(cell)
    assert "\\u0000" not in row[COLUMNS.index("decision")]


@given(text=_STRANGE_TEXT)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_good_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_halves_of_one_character_are_joined() -> None:
    assert clean("\ud83d\ude00 \ud83d") == "\U0001f600 \ufffd"


def test_defaults_are_kept_and_json_columns_are_text() -> None:
    row = _row(decision=[{"a": 1}])

    assert (row["cache_status"], row["attempts"], row["features"]) == ("off", "[]", None)
    assert row["decision"] == '[{"a":1}]'


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cost_nanousd": 2**80}, {"cost_nanousd": MAX_COUNT}),
        ({"cost_nanousd": -(2**80)}, {"cost_nanousd": -MAX_COUNT}),
        ({"status": 2**40}, {"status": 2**31 - 1}),
        ({"input_tokens": np.int64(7)}, {"input_tokens": 7}),
        ({"propensity": np.float32(0.5)}, {"propensity": 0.5}),
        ({"total_ms": float("inf"), "embed_ms": float("nan")}, {"total_ms": None, "embed_ms": None}),
        ({"total_ms": 3}, {"total_ms": 3.0}),
        ({"prompt": "x" * 1_000_001}, {"prompt": "x" * 1_000_000}),
        ({"reason": "x" * 1_001}, {"reason": "x" * 1_000}),
        ({"embedding": b"x" * 65_537}, {"embedding": None}),
    ],
)
def test_values_beyond_a_bound_are_held_within_it(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert _row(**changes) | expected == _row(**changes)


def test_a_text_enum_becomes_plain_text() -> None:
    class Colour(StrEnum):
        RED = "red"

    assert type(_row(reason=Colour.RED)["reason"]) is str


def test_long_ids_are_cut_but_stay_different() -> None:
    cut = {_row(id="x" * 300 + last)["id"] for last in "ab"}

    assert len(cut) == 2 and all(len(one) <= 200 for one in cut)


def test_json_over_its_bound_leaves_a_note() -> None:
    assert json.loads(_row(decision=[{"a": "x" * 300_000}])["decision"]) == [{"left_out_bytes": 300_010}]
    assert json.loads(_row(features={"a": "x" * 300_000})["features"]) == {"left_out_bytes": 300_008}


def test_json_nested_without_end_is_cut_off() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless

    assert "nested too deeply" in _row(features=endless)["features"]


def test_numbers_without_end_and_unknown_objects_become_words() -> None:
    features = json.loads(_row(features={"n": 10**5_000, "o": object, "f": np.float32(0.5), "s": "\ud800"})["features"])

    assert features == {"n": "a whole number of 16610 bits", "o": "<class 'object'>", "f": 0.5, "s": "\ufffd"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", None),
        ("id", 7),
        ("model", b"bytes"),
        ("at", float("nan")),
        ("at", "now"),
        ("status", "200"),
        ("embedding", "text"),
        ("input_tokens", 1.5),
        ("route", None),
        ("cost_nanousd", "1"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_column(column: str, value: object) -> None:
    with pytest.raises(RowError, match=f"^{column}: "):
        _row(**{column: value})


def test_every_row_fits_a_database_column_by_column() -> None:
    row = to_row(Record("req_1", 1.0, "chat", decision=[{"a": "\0"}], prompt="\ud800", embedding=b"\0"))

    with sqlite3.connect(":memory:") as database:
        database.execute(f"CREATE TABLE t ({', '.join(COLUMNS)})")
        database.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(COLUMNS))})", row)
        assert database.execute("SELECT * FROM t").fetchone() == row
    database.close()


def test_a_spool_line_of_another_release_is_read_by_column_name() -> None:
    row = dict(zip(COLUMNS, from_line(b'{"id":"r","at":1.0,"route":"chat","of_tomorrow":1}\n'), strict=True))

    columns = [f.name for f in fields(Record) if f.name != "children"]
    assert row == {name: getattr(Record("r", 1.0, "chat"), name) for name in columns} | {"attempts": None}


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b'"id"', b"\0\0\n", b"{}", b'{"id":1}', b'{"id":"a","embedding":"!"}']
)
def test_what_is_no_spool_line_is_refused(line: bytes) -> None:
    with pytest.raises(RowError):
        from_line(line)


def _with_children() -> Record:
    children = [
        Child("req_1", 0, "sample", model="m", cost_nanousd=7, signals={"score": float("nan"), "x": "\0"}),
        Child("req_1", 1, "judge", chosen=True, latency_ms=2.5),
    ]
    return Record("req_1", 1.0, "chat", children=children)


def test_a_record_s_children_are_rows_of_their_own() -> None:
    parent, first, second = to_rows(_with_children())

    assert columns_of(parent) == COLUMNS and columns_of(first) == columns_of(second) == CHILD_COLUMNS
    shown = dict(zip(CHILD_COLUMNS, first, strict=True))
    assert (shown["parent_id"], shown["seq"], shown["cost_nanousd"], shown["chosen"]) == ("req_1", 0, 7, False)
    assert shown["signals"] == '{"score":null,"x":"\ufffd"}'


def test_a_child_survives_the_spool_as_a_child() -> None:
    for row in to_rows(_with_children()):
        again = from_line(to_line(row))

        assert again == row and type(again) is type(row)


def test_a_child_of_a_wrong_type_is_refused_by_column() -> None:
    with pytest.raises(RowError, match=r"^role: a value is needed"):
        to_rows(Record("r", 1.0, "chat", children=[Child("r", 0, role=None)]))  # type: ignore[arg-type]


def test_a_record_without_children_is_one_row() -> None:
    assert to_rows(Record("r", 1.0, "chat")) == [to_row(Record("r", 1.0, "chat"))]
