"""The main job on real input: two processes, the bundled model, the official SDK, one ledger.

The first gateway serves the bundled model; the second has it as a remote endpoint in its catalogue beside its own.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.serving import APPLICATION_KEY, Served, serving

CATALOGUE = """
[[model]]
id = "smollm2-remote"
context_tokens = 8192
price_in_usd_per_mtok = 0.10
price_out_usd_per_mtok = 0.30
prior_quality = 0.3
logprobs = true
description = "The bundled model, served by another Fingerpost."

[[endpoint]]
id = "other-fingerpost"
model = "smollm2-remote"
provider = "openai"
base_url = "{url}/v1"
wire_model = "smollm2-135m-instruct"
key_ref = "env:OTHER_FINGERPOST_KEY"

[[model]]
id = "minilm-remote"
task = "embedding"
context_tokens = 256
dimensions = 384
price_in_usd_per_mtok = 0.02
price_out_usd_per_mtok = 0

[[endpoint]]
id = "other-minilm"
model = "minilm-remote"
provider = "openai"
base_url = "{url}/v1"
wire_model = "all-minilm-l6-v2"
key_ref = "env:OTHER_FINGERPOST_KEY"
"""
HALF = """
schema = 1
name = "half"
description = "Every other request goes to the other process, for comparison."
models = ["smollm2-135m-instruct", "smollm2-remote"]
[router]
kind = "random_choice"
"""
QUESTION: Any = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture(scope="module")
def gateway(remote: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(
        tmp_path_factory.mktemp("gateway"),
        catalogue=CATALOGUE.format(url=remote.url),
        policies={"half": HALF},
        env={"OTHER_FINGERPOST_KEY": APPLICATION_KEY},
    ) as served:
        yield served


@pytest.fixture
def sdk(gateway: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=APPLICATION_KEY, max_retries=0) as client:
        yield client


def rows(served: Served, expected: int, **fields: Any) -> list[dict[str, Any]]:
    """The ledger's rows that have these values, newest first, waiting until so many are written."""
    for _ in range(100):
        every: list[dict[str, Any]] = httpx.get(
            f"{served.url}/admin/requests", params={"limit": 1000}, headers=served.admin_headers
        ).json()["data"]
        found = [row for row in every if fields.items() <= row.items()]
        if len(found) >= expected:
            return found
        time.sleep(0.1)
    raise AssertionError(f"only {len(found)} of {expected} rows reached the ledger")


def test_auto_answers_with_the_real_model(sdk: openai.OpenAI) -> None:
    reply = sdk.chat.completions.create(model="auto", messages=QUESTION, max_tokens=40, temperature=0)

    assert "Paris" in (reply.choices[0].message.content or "")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 10
    assert reply.usage.completion_tokens > 0


def test_auto_streams_the_same_answer(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="auto", messages=QUESTION, max_tokens=24, temperature=0)
    stream = sdk.chat.completions.create(
        model="auto",
        messages=QUESTION,
        max_tokens=24,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )

    chunks = list(stream)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == (whole.usage.completion_tokens if whole.usage else 0)


def test_the_other_process_gets_its_share_over_http_and_both_are_logged(
    sdk: openai.OpenAI, gateway: Served, remote: Served
) -> None:
    for number in range(12):
        asked: Any = [{"role": "user", "content": f"Say the number {number}."}]
        for _ in sdk.chat.completions.create(model="auto:half", messages=asked, max_tokens=6, stream=bool(number % 2)):
            pass

    routed = rows(gateway, 12, policy="half")
    by_endpoint = {row["endpoint"]: row for row in routed}
    assert set(by_endpoint) == {"local-smollm2", "other-fingerpost"}
    sent = len(rows(gateway, 1, endpoint="other-fingerpost"))
    assert len(rows(remote, sent, route="chat")) == sent
    for row in routed:
        assert row["status"] == 200
        assert row["router_kind"] == "random_choice"
        assert row["propensity"] == 0.5
        assert len(row["decision"]) == 2
        assert row["input_tokens"] > 0
        assert 0 < row["first_byte_ms"] <= row["total_ms"]
    paid = by_endpoint["other-fingerpost"]
    assert paid["cost_nanousd"] == 100 * paid["input_tokens"] + 300 * paid["output_tokens"]
    assert by_endpoint["local-smollm2"]["cost_nanousd"] == 0


def test_the_default_policy_embeds_and_categorises(sdk: openai.OpenAI, gateway: Served) -> None:
    asked: Any = [{"role": "user", "content": "hey, how are you doing today my friend?"}]
    raw = sdk.chat.completions.with_raw_response.create(model="auto", messages=asked, max_tokens=4)

    request_id = raw.headers["x-request-id"]
    row = rows(gateway, 1, id=request_id)[0]

    assert row["category"] == "chitchat"
    assert row["embed_ms"] > 0
    assert row["embedder"].startswith("all-minilm-l6-v2/")
    assert row["reason"]


def test_n_seed_stop_and_logprobs_reach_the_local_model(sdk: openai.OpenAI) -> None:
    ask: Any = {"model": "smollm2-135m-instruct", "messages": QUESTION, "max_tokens": 12, "temperature": 1.0}

    first = sdk.chat.completions.create(**ask, n=2, seed=7, logprobs=True, top_logprobs=2)
    again = sdk.chat.completions.create(**ask, n=2, seed=7)
    stopped = sdk.chat.completions.create(**{**ask, "temperature": 0, "max_tokens": 40}, stop=["Paris"])

    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert texts[0] != texts[1]
    logprobs = first.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in logprobs.content)
    assert "Paris" not in (stopped.choices[0].message.content or "")
    assert stopped.choices[0].finish_reason == "stop"


def test_embeddings_are_made_here(sdk: openai.OpenAI) -> None:
    texts = ["a cat sat on the mat", "a kitten rests on a rug", "quarterly tax filing"]

    found = sdk.embeddings.create(model="all-minilm-l6-v2", input=texts)

    cat, kitten, tax = (item.embedding for item in found.data)
    cosine = [sum(x * y for x, y in zip(cat, other, strict=True)) for other in (kitten, tax)]
    assert len(cat) == 384
    assert cosine[0] > 0.4 > cosine[1]
    assert found.usage.prompt_tokens > 10


def test_embeddings_of_another_process_are_the_same_and_cost_what_the_row_says(
    sdk: openai.OpenAI, gateway: Served
) -> None:
    here = sdk.embeddings.create(model="all-minilm-l6-v2", input="a cat sat on the mat", encoding_format="float")
    there = sdk.embeddings.create(model="minilm-remote", input="a cat sat on the mat", encoding_format="base64")

    logged = rows(gateway, 1, endpoint="other-minilm")[0]
    coded: Any = there.data[0].embedding
    assert np.frombuffer(base64.b64decode(coded), "<f4").tolist() == here.data[0].embedding
    assert logged["cost_nanousd"] == 20 * there.usage.prompt_tokens
    assert logged["route"] == "embeddings"


def test_what_the_local_model_cannot_do_is_a_clear_400(sdk: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(openai.BadRequestError) as tools:
        sdk.chat.completions.create(model="smollm2-135m-instruct", messages=QUESTION, tools=[tool])
    long: Any = [{"role": "user", "content": "word " * 9000}]
    with pytest.raises(openai.BadRequestError) as context:
        sdk.chat.completions.create(model="smollm2-135m-instruct", messages=long)

    assert "tools" in str(tools.value)
    assert "context" in str(context.value)


def test_a_slow_client_that_leaves_frees_the_local_model(gateway: Served, sdk: openai.OpenAI) -> None:
    ask: Any = {"model": "smollm2-135m-instruct", "messages": QUESTION, "max_tokens": 2000}
    for _ in range(8):
        stream = sdk.chat.completions.create(**ask, stream=True)
        next(iter(stream))
        stream.close()

    began = time.monotonic()
    sdk.chat.completions.create(model="smollm2-135m-instruct", messages=QUESTION, max_tokens=2)

    assert time.monotonic() - began < 10, "abandoned generations still hold the model"


def test_it_stops_when_told_and_loses_nothing(remote: Served, tmp_path: Any) -> None:
    with serving(tmp_path, env={"FINGERPOST_PRELOAD": "false"}) as served:
        headers = served.headers
        reply = httpx.post(f"{served.url}/v1/chat/completions", headers=headers, json={"model": "auto"})
        code = served.stop()
    with serving(tmp_path, env={"FINGERPOST_PRELOAD": "false"}) as again:
        logged = httpx.get(
            f"{again.url}/admin/requests/{reply.headers['x-request-id']}", headers=again.admin_headers
        ).json()

    assert code == 0
    assert logged["status"] == 400
