"""Requests from strangers: the right status, OpenAI's shape, never a 500."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest

from tests.integration.test_proxy_line import HELLO
from tests.serving import Served


def post(client: httpx.Client, content: bytes, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
    return client.post(path, content=content, headers={"content-type": "application/json", **headers})


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "instant", "messages": HELLO} | fields).encode()


CASES: list[tuple[str, bytes, int, str | None, str]] = [
    ("malformed", b'{"model": ', 400, None, "invalid_request"),
    ("an array", b"[]", 400, None, "invalid_request"),
    ("empty", b"", 400, None, "invalid_request"),
    ("no messages", b'{"model":"instant"}', 400, "messages", "invalid_request"),
    ("empty messages", body(messages=[]), 400, "messages", "invalid_request"),
    ("wrong type", body(temperature="hot"), 400, "temperature", "invalid_request"),
    ("NaN", body(temperature=float("nan")), 400, None, "invalid_request"),
    ("negative max_tokens", body(max_tokens=-1), 400, "max_tokens", "invalid_request"),
    ("deep nesting", b'{"model":"instant","x":' + b"[" * 50000 + b"]" * 50000 + b"}", 400, None, "invalid_request"),
    ("unknown model", body(model="nobody"), 404, "model", "model_not_found"),
    ("unknown policy", body(model="auto:nobody"), 404, "model", "model_not_found"),
    (
        "too long",
        body(messages=[{"role": "user", "content": "word " * 200_000}]),
        400,
        "model",
        "unsupported_capability",
    ),
    ("10 MB", body(x="y" * 10_000_000), 413, None, "body_too_large"),
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route"])
@pytest.mark.parametrize(("what", "content", "status", "param", "code"), CASES, ids=[case[0] for case in CASES])
def test_a_bad_body_gets_its_status_and_names_the_field(
    client: httpx.Client, path: str, what: str, content: bytes, status: int, param: str | None, code: str
) -> None:
    reply = post(client, content, path)

    error = reply.json()["error"]
    assert (reply.status_code, error["param"], error["code"]) == (status, param, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("key", ["", "nonsense", "fp-application-key-for-tests-012345678", "x" * 5000, "ключ"])
def test_an_unknown_key_is_401(gateway: Served, key: str) -> None:
    headers = [(b"authorization", f"Bearer {key}".encode())] if key else []

    reply = httpx.post(f"{gateway.url}/v1/chat/completions", content=body(), headers=headers)

    assert reply.status_code == 401
    assert reply.json()["error"]["code"] in ("missing_api_key", "invalid_api_key")


def test_the_key_may_also_come_as_x_api_key(client: httpx.Client, gateway: Served) -> None:
    key = gateway.headers["Authorization"].removeprefix("Bearer ")

    reply = httpx.post(f"{gateway.url}/v1/chat/completions", content=body(), headers={"x-api-key": key})

    assert reply.status_code == 200


def test_other_methods_and_places_have_the_same_shape(client: httpx.Client) -> None:
    assert client.get("/v1/chat/completions").json()["error"]["code"] == "method_not_allowed"
    assert client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert client.delete("/v1/models").json()["error"]["code"] == "method_not_allowed"


def test_a_compressed_body_is_refused_with_a_reason(client: httpx.Client) -> None:
    reply = post(client, body(), **{"content-encoding": "gzip"})

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "Content-Encoding"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/admin/keys", "/admin/requests", "/admin/policies"])
def test_an_application_key_opens_no_admin_door(client: httpx.Client, path: str, method: str) -> None:
    assert client.request(method, path, json={"name": "x"}).status_code in (403, 405)
    assert httpx.request(method, f"{client.base_url}{path}".replace("//admin", "/admin")).status_code in (401, 405)


def test_headers_that_dribble_in_are_cut_off(gateway: Served) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        began = time.monotonic()
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 8


def test_smuggled_requests_are_not_executed(gateway: Served) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    hidden = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    attack = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\ntransfer-encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" % len(b"0\r\n\r\n" + hidden)
    ) + hidden
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(attack)
        connection.settimeout(2)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            pass

    assert b'"status":"live"' not in answer


def test_what_is_no_http_is_told_so_in_the_same_shape(gateway: Served) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        answer = connection.recv(4096)

    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(content)["error"]["code"] == "invalid_request"


def test_every_answer_has_a_request_id(client: httpx.Client) -> None:
    for path in ("/v1/models", "/v1/models/nobody", "/health/live", "/nothing"):
        assert client.get(path).headers["x-request-id"].startswith("req_")


def test_a_body_that_never_comes_is_given_up(gateway: Served) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    key = gateway.headers["Authorization"]
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\ncontent-length: 100\r\n\r\n{{"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))  # head and body may come apart

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer
