"""The line of each request."""

from __future__ import annotations

import io
import json

from gateway.ledger.record import Record
from gateway.request_log import MOST_WAITING, RequestLog


def _record(**fields: object) -> Record:
    record = Record(id="req_1", at=1_700_000_000.0, route="chat", status=200, total_ms=12.3456)
    for name, value in fields.items():
        setattr(record, name, value)
    return record


async def test_a_line_says_who_asked_what_and_what_came_of_it() -> None:
    stream = io.StringIO()
    log = RequestLog(stream)

    log.write(_record(key_id="k1", model="m", endpoint="e", cost_nanousd=6100, input_tokens=37, output_tokens=8))
    log.flush()

    line = json.loads(stream.getvalue())
    assert line["event"] == "request" and line["id"] == "req_1" and line["at"] == "2023-11-14T22:13:20.000+00:00"
    assert (line["key"], line["model"], line["endpoint"], line["cost_usd"], line["ms"]) == (
        "k1",
        "m",
        "e",
        6.1e-06,
        12.35,
    )


async def test_what_a_client_names_cannot_forge_a_line() -> None:
    stream = io.StringIO()
    log = RequestLog(stream)

    log.write(_record(model_requested='x"}\n{"event":"request","id":"forged"}' + "y" * 500))
    log.flush()

    assert len(stream.getvalue().splitlines()) == 1
    assert len(json.loads(stream.getvalue())["asked"]) == 120


async def test_a_reader_that_has_gone_costs_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    stream.close()
    log = RequestLog(stream)

    for _ in range(MOST_WAITING + 3):
        log.write(_record())
    log.flush()

    assert log.dropped == MOST_WAITING + 3


async def test_a_key_that_came_as_the_model_s_name_is_not_shown() -> None:
    stream = io.StringIO()
    log = RequestLog(stream)

    log.write(_record(model=None, model_requested="sk-proj-AbCdEf0123456789xyz"))
    log.flush()

    assert json.loads(stream.getvalue())["asked"] == "[redacted]"
