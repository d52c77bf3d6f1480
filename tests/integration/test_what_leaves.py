"""What leaves the gateway for upstreams: our own few headers to the catalogue's addresses, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from tests.integration.guarded import VENDOR_KEY, Guarded, guarded
from tests.serving import APPLICATION_KEY, serving

HELLO = [{"role": "user", "content": "hi"}]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# What callers and the proxies before us send, and no vendor is to see.
HOSTILE = {
    "X-Api-Key": APPLICATION_KEY,
    "Cookie": "session=hostile",
    "Proxy-Authorization": "Basic hostile",
    "Forwarded": "for=hostile",
    "X-Forwarded-For": "hostile",
    "X-Forwarded-Host": "hostile",
    "X-Real-IP": "hostile",
    "X-User-Id": "hostile",
    "X-Amzn-Oidc-Identity": "hostile",
    "X-Fingerpost-Tags": "hostile",
    "X-Fingerpost-Session": "hostile",
    "X-Goog-Api-Key": "hostile",
    "X-Goog-User-Project": "hostile",
    "OpenAI-Organization": "hostile",
    "OpenAI-Project": "hostile",
    "Anthropic-Beta": "files-api-2025-04-14,hostile",
    "Baggage": "user=hostile",
    "Referer": "http://hostile",
    "Connection": "keep-alive, X-Hop",
    "X-Hop": "hostile",
    "Keep-Alive": "hostile",
    "TE": "hostile",
    "traceparent": TRACE,
    "tracestate": "vendor=1",
}
OURS = {"host", "content-type", "content-length", "accept-encoding", "user-agent"}
TRACED = {"traceparent", "tracestate"}
CALLS: list[tuple[str, dict[str, Any], str, dict[str, str]]] = [
    ("chat/completions", {"model": "openai", "messages": HELLO}, "openai", {"authorization": f"Bearer {VENDOR_KEY}"}),
    ("completions", {"model": "native", "prompt": "hi"}, "openai", {"authorization": f"Bearer {VENDOR_KEY}"}),
    ("responses", {"model": "native", "input": "hi"}, "openai", {"authorization": f"Bearer {VENDOR_KEY}"}),
    ("chat/completions", {"model": "anthropic", "messages": HELLO}, "anthropic", {"x-api-key": VENDOR_KEY}),
    ("messages", {"model": "anthropic", "max_tokens": 9, "messages": HELLO}, "anthropic", {"x-api-key": VENDOR_KEY}),
    ("messages/count_tokens", {"model": "anthropic", "messages": HELLO}, "anthropic", {"x-api-key": VENDOR_KEY}),
    ("chat/completions", {"model": "gemini", "messages": HELLO}, "gemini", {"x-goog-api-key": VENDOR_KEY}),
    ("embeddings", {"model": "vectors", "input": "hi"}, "plain", {"authorization": f"Bearer {VENDOR_KEY}"}),
    (
        "rerank",
        {"model": "ranker", "query": "hi", "documents": ["a"]},
        "plain",
        {"authorization": f"Bearer {VENDOR_KEY}"},
    ),
]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("leaves")) as found:
        yield found


@pytest.mark.parametrize(("path", "body", "kind", "credential"), CALLS, ids=[f"{c[0]}-{c[1]['model']}" for c in CALLS])
def test_only_our_own_headers_and_the_trace_reach_a_vendor(
    gate: Guarded, path: str, body: dict[str, Any], kind: str, credential: dict[str, str]
) -> None:
    gate.upstream.asked.clear()
    headers = HOSTILE | gate.served.headers

    answer = httpx.post(f"{gate.served.url}/v1/{path}", json=body, headers=headers, timeout=20)

    assert answer.status_code == 200, answer.text
    (asked,) = [one for one in gate.upstream.asked if one.path != "/v1/traces"]
    traced = set() if kind == "plain" else TRACED
    version = {"anthropic-version"} if kind == "anthropic" else set()
    assert set(asked.headers) == OURS | traced | version | set(credential)
    assert {name: asked.headers[name] for name in credential} == credential
    if traced:
        assert (
            asked.headers["traceparent"].split("-")[1] == TRACE.split("-")[1]
            and asked.headers["tracestate"] == "vendor=1"
        )
    said = " ".join(asked.headers.values()) + asked.body.decode()
    assert "hostile" not in said and APPLICATION_KEY not in said


def test_no_field_of_a_request_changes_where_it_goes_or_with_which_key(gate: Guarded) -> None:
    gate.upstream.asked.clear()
    wishes = {
        "base_url": "http://169.254.169.254/",
        "api_base": "http://10.0.0.1/",
        "api_key": "sk-callers-own-0123456789",
        "extra_headers": {"Authorization": "Bearer x", "X-Evil": "1"},
        "extra_body": {"a": 1},
        "provider": "local",
        "endpoint": "stored-1",
    }

    body = {"model": "openai", "messages": HELLO} | wishes
    answer = httpx.post(f"{gate.served.url}/v1/chat/completions", json=body, headers=gate.served.headers, timeout=20)

    assert answer.status_code == 200
    (asked,) = [one for one in gate.upstream.asked if one.path != "/v1/traces"]
    assert (asked.path, asked.headers["authorization"]) == ("/o/v1/chat/completions", f"Bearer {VENDOR_KEY}")
    assert "x-evil" not in asked.headers
    assert {name: json.loads(asked.body)[name] for name in wishes} == wishes


FORBIDDEN = {
    "metadata": "http://169.254.169.254/latest",
    "in-letters": "http://0xa9fea9fe/latest",
    "inner": "http://10.1.2.3/v1",
    "mapped": "http://[::ffff:10.1.2.3]/v1",
}


def _rows(name: str, base_url: str) -> str:
    return (
        f'[[model]]\nid = "{name}"\ncontext_tokens = 1000\n[[endpoint]]\nid = "{name}-1"\nmodel = "{name}"\n'
        f'provider = "openai"\nbase_url = "{base_url}"\n'
    )


def test_what_the_operator_does_not_allow_is_never_called(upstream: UpstreamServer, tmp_path: Any) -> None:
    """Loopback is not in the list here, so that an upstream of our own can tell that nobody came."""
    urls = FORBIDDEN | {"loopback": upstream.base_url("instant")}
    catalogue = "".join(_rows(name, url) for name, url in urls.items())
    env = {"FINGERPOST_PRIVATE_NETWORKS": "192.0.2.0/24", "FINGERPOST_PRELOAD": "false"}
    before = upstream.stats.connections

    with serving(tmp_path, catalogue=catalogue, policies={"default": POLICY}, env=env) as served:
        for name in urls:
            began = time.monotonic()
            body = {"model": name, "messages": HELLO}
            answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, headers=served.headers, timeout=30)
            seconds = time.monotonic() - began

            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_unavailable")
            assert answer.headers["x-should-retry"] == "false"
            assert not [one for one in ("169.254", "10.1.2.3", "0xa9", "127.0.0.1", "PRIVATE") if one in answer.text]
            assert seconds < 5  # a connection that nobody answers takes its 10 s

    log = (tmp_path / "stderr.log").read_text().splitlines()
    told = [line for line in log if "a call was refused before it was made" in line]
    assert upstream.stats.connections == before
    assert len(told) == len(urls)
    assert all("FINGERPOST_PRIVATE_NETWORKS" in line for line in told)


POLICY = 'schema = 1\nname = "default"\nmodels = ["*"]\n[router]\nkind = "rules"\n'


def test_the_commands_say_which_endpoints_are_never_called(gate: Guarded, tmp_path: Any) -> None:
    path = tmp_path / "forbidden.toml"
    path.write_text("".join(_rows(name, url) for name, url in FORBIDDEN.items()))
    guarded_env = Guarded(gate.served, gate.upstream, {"FINGERPOST_CATALOGUE": str(path)}, tmp_path)

    listed = {row["endpoint"]: row["state"] for row in json.loads(guarded_env.shell("models", "--json").stdout)}
    looked = guarded_env.shell("doctor", "--json", check=False)

    assert [name for name in FORBIDDEN if listed[f"{name}-1"].startswith("never called: ")] == [
        "metadata",
        "inner",
        "mapped",
    ]
    faults = {one["found"]: one["ok"] for one in json.loads(looked.stdout) if one["check"] == "endpoint"}
    assert len(faults) == 4 and not any(faults.values())
    assert all("which is not called" in found for found in faults)
