"""The script that wrk runs and the line that it prints; the folder's own `wrk` program is not needed."""

from __future__ import annotations

import pytest

from benchmarks.gateway.client import Target
from benchmarks.gateway.load import Spread
from benchmarks.gateway.wrk import parse, script

_RESULT = (
    'RESULT {"requests":120,"us":2000000,"connect":0,"read":3,"write":0,"status":20,"timeout":0,'
    '"p50":1500,"p90":2500,"p99":9000,"max":12000}'
)


def test_bad_statuses_are_errors_and_not_requests() -> None:
    result = parse(f"Running 2s test\n\n{_RESULT}\n")

    assert (result.requests, result.per_s) == (100, 50.0)
    assert result.errors == {"read": 3, "status": 20}
    assert result.latency == Spread(120, 1.5, 2.5, 9.0, 12.0)


def test_output_without_a_result_is_reported_with_its_end() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_the_script_carries_the_body_unescaped_and_the_key() -> None:
    lua = script(Target("127.0.0.1", 1, "/", b'{"a":"\\n]]"}', key="k"))

    assert '[==[{"a":"\\n]]"}]==]' in lua
    assert 'wrk.headers["authorization"] = "Bearer k"' in lua


def test_a_body_that_would_end_the_lua_string_is_refused() -> None:
    with pytest.raises(ValueError, match="body"):
        script(Target("127.0.0.1", 1, "/", b"]==]"))
