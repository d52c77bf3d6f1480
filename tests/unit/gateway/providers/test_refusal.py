"""What an upstream's status and body mean."""

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.refusal import error_detail, retry_after_s


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error":{"message":"m","type":"t","param":"p","code":"c"}}', "m", "c"),
        (b'[{"error":{"code":400,"message":"m","status":"INVALID"}}]', "m", "400"),
        (b'{"error":"m"}', None, None),
        (b'{"detail":"m"}', "m", None),
        (b'{"detail":[{"msg":"x"}]}', '[{"msg":"x"}]', None),
        (b'{"message":"m","code":"c"}', "m", "c"),
    ],
)
def test_every_dress_of_an_error_is_undone(body: bytes, message: str | None, code: str | None) -> None:
    detail = error_detail(body, None)

    assert detail["message"] == (message or detail["message"])
    assert detail["code"] == code


@given(st.binary(max_size=60))
def test_any_bytes_give_an_error_object(body: bytes) -> None:
    detail = error_detail(body, None)

    assert set(detail) == {"message", "type", "param", "code"}
    assert detail["message"]


def test_our_own_key_is_blotted_out() -> None:
    detail = error_detail(b'{"error":{"message":"bad key sk-123 given","code":"sk-123"}}', "sk-123")

    assert "sk-123" not in str(detail)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("", None), ("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("1e9", 3600.0), ("nan", None), ("soon", None)],
)
def test_retry_after_as_a_number(value: str, seconds: float | None) -> None:
    assert retry_after_s(value) == seconds


def test_retry_after_as_a_date() -> None:
    found = retry_after_s(formatdate(time.time() + 60, usegmt=True))

    assert found == pytest.approx(60, abs=3)
