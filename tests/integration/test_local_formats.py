"""The bundled model held to a format, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.serving import serving

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "born": {"type": "integer", "minimum": 1000, "maximum": 2100},
    },
    "required": ["name", "born"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        serving(tmp_path_factory.mktemp("formats")) as served,
        httpx.Client(base_url=served.url, headers=served.headers, timeout=60) as client,
    ):
        yield client


def ask(client: httpx.Client, form: dict[str, Any], **more: Any) -> httpx.Response:
    question = "Tell me about Ada Lovelace as JSON."
    body = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": question}], "max_tokens": 200}
    return client.post("/v1/chat/completions", json={**body, "response_format": form, **more})


def held_to(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


@pytest.mark.parametrize("temperature", [0, 1.2])
def test_every_choice_is_an_instance_of_the_schema(client: httpx.Client, temperature: float) -> None:
    reply = ask(client, held_to(PERSON), temperature=temperature, seed=1, n=2)

    assert reply.status_code == 200, reply.text
    for choice in reply.json()["choices"]:
        assert choice["finish_reason"] == "stop"
        jsonschema_rs.validate(PERSON, json.loads(choice["message"]["content"]))


def test_a_stream_is_held_to_it_as_well(client: httpx.Client) -> None:
    lines = ask(client, held_to(PERSON), stream=True, temperature=0).text.splitlines()

    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    said = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    jsonschema_rs.validate(PERSON, json.loads(said))


def test_a_schema_that_can_not_be_enforced_is_a_400_that_names_it(client: httpx.Client) -> None:
    reply = ask(client, held_to({"type": "nonsense"}))

    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == "response_format.json_schema.schema" and "nonsense" in error["message"]


def test_the_responses_api_holds_to_formats_too(client: httpx.Client) -> None:
    form = {"type": "json_schema", "name": "answer", "schema": PERSON}
    body = {"model": "smollm2-135m-instruct", "input": "Ada Lovelace as JSON.", "text": {"format": form}}
    reply = client.post("/v1/responses", json={**body, "max_output_tokens": 200})

    assert reply.status_code == 200, reply.text
    said = next(item for item in reply.json()["output"] if item["type"] == "message")["content"][0]["text"]
    jsonschema_rs.validate(PERSON, json.loads(said))
