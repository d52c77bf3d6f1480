"""OpenAI's responses through the gateway, with the official SDK, in front of endpoints of several protocols."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from gateway.wire.responses_request import parse_responses
from gateway.wire.responses_stream import ResponsesWriter
from tests.integration.dialects.conftest import SECRET
from tests.scripted_upstream import SSE, ScriptedUpstream
from tests.serving import Served
from tests.unit.gateway.wire import chat_answers

CHAT = "/plain/v1/chat/completions"
NATIVE = "/native/v1/responses"
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}


def native_body(response_id: str, text: str = "native") -> bytes:
    """What an endpoint of this dialect answers, with fields that nobody here knows."""
    content = [{"type": "output_text", "text": text, "annotations": [], "odd": 1.0}]
    output = [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}]
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    head = {"id": response_id, "object": "response", "created_at": 1.0, "status": "completed", "model": "w"}
    rest = {"output": output, "usage": usage, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    return json.dumps({**head, **rest, "odd": None}).encode()


def native_stream(response_id: str) -> bytes:
    request = parse_responses(b'{"model":"m","input":"x"}')
    writer = ResponsesWriter(request)
    text = b"".join(map(writer.feed, chat_answers.chunks({"content": "native"}, 2))) + writer.end()
    assert writer.response is not None
    return text.replace(writer.response["id"].encode(), response_id.encode())


def sent(scripted: ScriptedUpstream) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scripted.asked[-1].body)
    return found


def test_a_question_is_answered_by_a_chat_with_usage_and_cost(sdk: Any, scripted: ScriptedUpstream) -> None:
    scripted.says(CHAT, chat_answers.whole({"role": "assistant", "content": "hi"}))

    response = sdk.responses.create(model="plain", input="hello", instructions="Be brief.", max_output_tokens=99)

    assert (response.output_text, response.status) == ("hi", "completed")
    assert response.usage is not None and response.usage.total_tokens == 12
    assert response.usage.model_extra is not None and response.usage.model_extra["cost"] == 17e-6
    assert sent(scripted) == {
        "model": "wire-plain",
        "max_tokens": 99,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
    }
    assert scripted.asked[-1].headers["authorization"] == f"Bearer {SECRET}"


def test_a_stream_is_one_that_the_sdk_can_follow(sdk: Any, scripted: ScriptedUpstream) -> None:
    message = {"reasoning_content": "hm", "content": "hi there", "tool_calls": [CALL, {**CALL, "id": "call_2"}]}
    scripted.says(CHAT, b"".join(chat_answers.chunks(message, 3, "tool_calls")), SSE)

    with sdk.responses.stream(model="plain", input="x", tools=[TOOL], reasoning={"summary": "auto"}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()

    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]
    assert final.output_text == "hi there"
    assert sent(scripted)["stream_options"] == {"include_usage": True}


def test_a_conversation_goes_on_by_the_id_of_the_last_response(sdk: Any, scripted: ScriptedUpstream) -> None:
    scripted.says(CHAT, chat_answers.whole({"role": "assistant", "tool_calls": [CALL]}, "tool_calls"))
    first = sdk.responses.create(model="plain", input="one", instructions="A")
    scripted.says(CHAT, b"".join(chat_answers.chunks({"content": "two"}, 2)), SSE)
    result = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    stream = sdk.responses.create(
        model="plain",
        input=[result],
        previous_response_id=first.id,
        stream=True,
    )
    second = next(event for event in stream if event.type == "response.completed").response
    scripted.says(CHAT, chat_answers.whole({"role": "assistant", "content": "three"}))

    third = sdk.responses.create(model="plain", input="three?", previous_response_id=second.id, instructions="B")

    assert third.previous_response_id == second.id
    assert sent(scripted)["messages"] == [
        {"role": "system", "content": "B"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "tool_calls": [CALL], "content": None},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three?"},
    ]


def test_stored_responses_are_their_keys_own(
    sdk: Any, scripted: ScriptedUpstream, other_key: str, dialects: Served
) -> None:
    scripted.says(CHAT, chat_answers.whole({"role": "assistant", "content": "secret"}))
    mine = sdk.responses.create(model="plain", input="one")
    stranger = openai.OpenAI(base_url=f"{dialects.url}/v1", api_key=other_key, max_retries=0)

    with pytest.raises(openai.NotFoundError):
        stranger.responses.retrieve(mine.id)
    with pytest.raises(openai.NotFoundError):
        stranger.responses.delete(mine.id)
    with pytest.raises(openai.NotFoundError):
        stranger.responses.create(model="plain", input="two", previous_response_id=mine.id)
    assert sdk.responses.retrieve(mine.id).output_text == "secret"
    items = sdk.responses.input_items.list(mine.id).data
    assert [item.type for item in items] == ["message"]
    sdk.responses.delete(mine.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(mine.id)
    stranger.close()


def test_what_is_not_to_be_stored_is_not(sdk: Any, scripted: ScriptedUpstream) -> None:
    scripted.says(CHAT, chat_answers.whole({"role": "assistant", "content": "x"}))

    response = sdk.responses.create(model="plain", input="one", store=False)

    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(response.id)


def test_an_endpoint_of_this_dialect_is_sent_what_the_client_wrote(
    http: httpx.Client, scripted: ScriptedUpstream
) -> None:
    scripted.says(NATIVE, native_body("resp_whole"))
    body = b'{"model":"native", "input" : [ {"role":"user","content":"x","odd":1.0} ],"tools":[{"type":"web_search"}]}'

    answer = http.post("/v1/responses", content=body)

    sent_raw = scripted.asked[-1].body
    assert b'[ {"role":"user","content":"x","odd":1.0} ]' in sent_raw
    assert json.loads(sent_raw) == json.loads(body) | {"model": "wire-native"}
    shown = answer.json()
    assert shown["usage"].pop("cost") == 20e-6
    assert shown == json.loads(native_body("resp_whole"))


def test_a_stream_of_this_dialect_passes_byte_for_byte_but_for_its_cost(
    http: httpx.Client, scripted: ScriptedUpstream
) -> None:
    script = native_stream("resp_stream")
    scripted.says(NATIVE, script, SSE)

    answer = http.post("/v1/responses", json={"model": "native", "input": "x", "stream": True})

    *passed, last, rest = answer.content.split(b"\n\n")
    assert (passed, rest) == (script.split(b"\n\n")[:-2], b"")
    assert b'"cost":' in last and last.startswith(b"event: response.completed\n")


def test_a_conversation_with_such_an_endpoint_is_the_gateways_to_keep(sdk: Any, scripted: ScriptedUpstream) -> None:
    scripted.says(NATIVE, native_stream("resp_n1"), SSE)
    _ = list(sdk.responses.create(model="native", input="one", stream=True))
    scripted.says(NATIVE, native_body("resp_n2"))

    sdk.responses.create(model="native", input="two", previous_response_id="resp_n1", truncation="auto")

    asked = sent(scripted)
    assert "previous_response_id" not in asked and asked["truncation"] == "auto"
    assert [item.get("content") if item["role"] == "user" else "said" for item in asked["input"]] == [
        "one",
        "said",
        "two",
    ]
    assert all("_fp_" not in str(item.get("id")) for item in asked["input"])


def test_a_conversation_moves_from_one_kind_of_endpoint_to_another(sdk: Any, scripted: ScriptedUpstream) -> None:
    scripted.says(NATIVE, native_body("resp_m1", "from native"))
    first = sdk.responses.create(model="native", input="one")
    scripted.says(CHAT, chat_answers.whole({"role": "assistant", "content": "x"}))

    sdk.responses.create(model="plain", input="two", previous_response_id=first.id)

    assert [message["content"] for message in sent(scripted)["messages"]] == ["one", "from native", "two"]


@pytest.mark.parametrize(
    "fields", [{"tools": [{"type": "web_search"}]}, {"truncation": "auto"}, {"background": True}, {"input": 7}]
)
def test_what_cant_be_said_is_a_clear_refusal(
    http: httpx.Client, scripted: ScriptedUpstream, fields: dict[str, Any]
) -> None:
    scripted.says(CHAT, chat_answers.whole({"role": "assistant", "content": "x"}))

    answer = http.post("/v1/responses", json={"model": "plain", "input": "x", **fields})

    assert answer.status_code == 400
    assert next(iter(fields)) in answer.json()["error"]["message"] or "web_search" in answer.json()["error"]["message"]
    assert scripted.asked == []


@pytest.mark.parametrize(("model", "path"), [("plain", CHAT), ("native", NATIVE)])
def test_a_stream_that_breaks_makes_the_sdk_raise(sdk: Any, scripted: ScriptedUpstream, model: str, path: str) -> None:
    whole = b"".join(chat_answers.chunks({"content": "hi there"}, 3)) if model == "plain" else native_stream("resp_b")
    scripted.says(path, whole[: len(whole) // 2].rpartition(b"\n\n")[0] + b"\n\n", SSE)

    with pytest.raises(openai.APIError):
        for _ in sdk.responses.create(model=model, input="x", stream=True):
            pass


def test_a_failed_stream_says_so_in_a_response_of_its_own(http: httpx.Client, scripted: ScriptedUpstream) -> None:
    scripted.says(CHAT, b"".join(chat_answers.chunks({"content": "hi there"}, 3)[:2]), SSE)

    text = http.post("/v1/responses", json={"model": "plain", "input": "x", "stream": True}).text

    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events][-2:] == ["response.failed", "error"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
