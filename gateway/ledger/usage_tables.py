"""Sums of the request log by stretches of time: three tables, each cut along other lines, all with the same counts.

A request is in one cell of each table and span: the cells of one span partition the log. What is unknown is ''.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

from gateway.ledger.histogram import BUCKETS

FINE_S: Final = 300
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
SPANS_S: Final = (FINE_S, HOUR_S, DAY_S)
COUNTS: Final = (
    "requests",
    "errors",  # status >= 400
    "failures",  # status >= 500
    "cache_asked",
    "cache_hits",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost_nanousd",
    "saved_nanousd",
)
LATENCY: Final = tuple(f"latency_{bucket:02}" for bucket in range(BUCKETS))
FIRST_BYTE: Final = tuple(f"first_byte_{bucket:02}" for bucket in range(BUCKETS))


def usage_tables(metadata: MetaData) -> tuple[Table, Table, Table]:
    """By model and endpoint, with times; by policy, category and model; by who called, and model."""
    return (
        _table(metadata, "usage_model", ("model", "endpoint"), (*LATENCY, *FIRST_BYTE)),
        _table(metadata, "usage_category", ("policy", "category", "model")),
        _table(metadata, "usage_caller", ("organisation_id", "team_id", "key_id", "model")),
    )


def _table(metadata: MetaData, name: str, lines: tuple[str, ...], buckets: tuple[str, ...] = ()) -> Table:
    return Table(
        name,
        metadata,
        Column("span_s", Integer, primary_key=True, autoincrement=False),
        Column("start", BigInteger, primary_key=True, autoincrement=False),
        *(Column(line, Text, primary_key=True) for line in lines),
        *(Column(count, BigInteger, nullable=False) for count in COUNTS),
        *(Column(bucket, Integer, nullable=False) for bucket in buckets),
        # Cells of the running hour are written again and again: room for their versions on their own page.
        postgresql_with={"fillfactor": 70},
        sqlite_with_rowid=False,
    )
