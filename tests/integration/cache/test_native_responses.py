"""Answers of an endpoint that takes responses as they are: kept where chat can say them, and given to all APIs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.integration.cache.conftest import POLICIES
from tests.scripted_upstream import SSE, ScriptedUpstream, scripted_upstream
from tests.serving import APPLICATION_KEY, Served, serving

PATH = "/v1/responses"
SENTENCE = "The house was empty and the garden full of birds, so nobody heard the bell that rang."
_NUMBERS = count()


def message(text: str = SENTENCE, **more: Any) -> dict[str, Any]:
    """A message of one text."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part], **more}


def response(*items: Any) -> dict[str, Any]:
    """What the vendor answers."""
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    silent = {"id": "rs_1", "type": "reasoning", "summary": []}
    head = {"id": f"resp_{next(_NUMBERS)}", "object": "response", "created_at": 1, "status": "completed", "model": "w"}
    return {**head, "error": None, "incomplete_details": None, "output": [silent, *items], "usage": usage}


def events(found: dict[str, Any]) -> bytes:
    """The same, streamed."""
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**found, "status": "in_progress", "output": []}},
        *({"type": "response.output_text.delta", "delta": word} for word in ("The ", "house")),
        {"type": "response.completed", "response": found},
    ]
    return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in told)


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    """The vendor."""
    with scripted_upstream() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that caches, before it."""
    catalogue = (
        '[[model]]\nid = "native"\ncontext_tokens = 100000\ntools = true\n'
        "price_in_usd_per_mtok = 1.0\nprice_out_usd_per_mtok = 2.0\n"
        f'[[endpoint]]\nid = "n"\nmodel = "native"\nprovider = "openai"\nbase_url = "{upstream.url}/v1"\n'
        'key_ref = "env:VENDOR"\ndialects = ["chat", "responses"]\n'
    )
    policy = 'schema = 1\nname = "default"\nmodels = ["native"]\n[router]\nkind = "rules"\n' + POLICIES["default"]
    env = {"VENDOR": "sk", "FINGERPOST_PRELOAD": "false"}
    with serving(
        tmp_path_factory.mktemp("native"), catalogue=catalogue, policies={"default": policy}, env=env
    ) as served:
        yield served


@pytest.fixture
def sdk(gateway: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=APPLICATION_KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def http(gateway: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers=gateway.headers, timeout=20) as client:
        yield client


def asked(http: httpx.Client, question: str, **more: Any) -> httpx.Response:
    """A response by the API itself."""
    body = {"model": "auto", "input": question, "max_output_tokens": 50, **more}
    found = http.post(PATH, json=body)
    assert found.status_code == 200, found.text
    return found


def status(reply: httpx.Response) -> str:
    return reply.headers["x-fingerpost-cache"]


def streamed(text: str) -> dict[str, Any]:
    """The response in a stream's last event, all of whose words came in pieces before."""
    told = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert told[-1]["type"] == "response.completed"
    found: dict[str, Any] = told[-1]["response"]
    pieces = "".join(one["delta"] for one in told if one["type"] == "response.output_text.delta")
    assert pieces == "".join(part["text"] for item in found["output"] for part in item.get("content", ()))
    return found


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_one_answer_serves_all_apis_whole_and_streamed(
    upstream: ScriptedUpstream, sdk: Any, http: httpx.Client, gateway: Served, stream: bool
) -> None:
    question = f"Is it so ({stream})?"
    found = response(message())
    upstream.says(PATH, events(found) if stream else json.dumps(found).encode(), SSE if stream else "application/json")
    first = asked(http, question, stream=stream)

    whole, again = asked(http, question), asked(http, question, stream=True)
    chat = sdk.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": question}], max_completion_tokens=50
    )
    other = anthropic.Anthropic(base_url=gateway.url, api_key=APPLICATION_KEY, max_retries=0)
    said = other.messages.create(model="auto", messages=[{"role": "user", "content": question}], max_tokens=50)

    assert status(first) == "miss" and first.text.count(found["id"]) >= 1
    assert {status(whole), status(again)} == {"hit-exact"} and len(upstream.asked) == 1
    body, last = whole.json(), streamed(again.text)
    for one in (body, last):
        assert [item["content"][0]["text"] for item in one["output"]] == [SENTENCE]
        assert one["usage"]["total_tokens"] == 15 and one["usage"]["cost"] == 0 and one["usage"]["cached"] is True
        assert one["model"] == "w" and one["max_output_tokens"] == 50
    assert len({found["id"], body["id"], last["id"]}) == 3
    assert chat.choices[0].message.content == SENTENCE and chat.choices[0].finish_reason == "stop"
    assert [block.text for block in said.content if block.type == "text"] == [SENTENCE]


def test_an_answer_to_a_chat_serves_a_native_request(upstream: ScriptedUpstream, sdk: Any, http: httpx.Client) -> None:
    question = "Is it so, chat?"
    choice = {"index": 0, "message": {"role": "assistant", "content": SENTENCE}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    upstream.says("/v1/chat/completions", json.dumps({"id": "c", "choices": [choice], "usage": usage}).encode())
    sdk.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": question}], max_completion_tokens=50
    )

    assert status(asked(http, question)) == "hit-exact"


def test_a_replayed_response_is_gone_on_from(upstream: ScriptedUpstream, http: httpx.Client) -> None:
    question = "What was empty?"
    upstream.says(PATH, json.dumps(response(message())).encode())
    asked(http, question)
    replayed = asked(http, question).json()
    more = response(message("The garden."))
    upstream.says(PATH, json.dumps(more).encode())

    on = asked(http, "And full?", previous_response_id=replayed["id"])
    repeated = asked(http, "And full?", previous_response_id=asked(http, question).json()["id"])

    assert on.json()["id"] == more["id"] and len(upstream.asked) == 1
    sent = json.loads(upstream.asked[0].body)
    assert [item.get("role") for item in sent["input"]] == ["user", "assistant", "user"]
    assert sent["input"][1]["content"][0]["text"] == SENTENCE and "previous_response_id" not in sent
    assert status(repeated) == "hit-exact" and repeated.json()["output"][0]["content"][0]["text"] == "The garden."


def test_who_wants_nothing_stored_has_nothing_stored(upstream: ScriptedUpstream, http: httpx.Client) -> None:
    question = "Is it kept?"
    upstream.says(PATH, json.dumps(response(message())).encode())
    asked(http, question)

    silent, kept = asked(http, question, store=False), asked(http, question, store=True)

    assert status(silent) == status(kept) == "hit-exact"
    assert http.get(f"{PATH}/{silent.json()['id']}").status_code == 404
    assert http.get(f"{PATH}/{kept.json()['id']}").json()["output"] == kept.json()["output"]


def test_calls_of_functions_are_replayed_in_chats_too(upstream: ScriptedUpstream, sdk: Any, http: httpx.Client) -> None:
    question, arguments = "Look it up.", '{"where":"there"}'
    tool = {"name": "look", "parameters": {"type": "object"}, "strict": False}
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": arguments}
    upstream.says(PATH, json.dumps(response({**call, "status": "completed"})).encode())
    asked(http, question, tools=[{"type": "function", **tool}])

    again = asked(http, question, tools=[{"type": "function", **tool}])
    chat = sdk.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": question}],
        max_completion_tokens=50,
        tools=[{"type": "function", "function": tool}],
    )

    assert status(again) == "hit-exact" and len(upstream.asked) == 1
    (item,) = again.json()["output"]
    assert (item["call_id"], item["arguments"]) == ("call_1", arguments)
    (told,) = chat.choices[0].message.tool_calls
    assert (told.id, told.function.arguments, chat.choices[0].finish_reason) == ("call_1", arguments, "tool_calls")


@pytest.mark.parametrize(
    "items",
    [
        [{"type": "web_search_call", "id": "ws_1", "status": "completed"}, message()],
        [{**message(), "content": [{**message()["content"][0], "annotations": [{"type": "url_citation"}]}]}],
        [message(), message()],
    ],
    ids=["searched", "sources", "two messages"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_what_chat_can_not_say_is_asked_anew(
    upstream: ScriptedUpstream, http: httpx.Client, items: list[Any], stream: bool
) -> None:
    question = f"Is it kept {next(_NUMBERS)}?"
    found = response(*items)
    upstream.says(PATH, events(found) if stream else json.dumps(found).encode(), SSE if stream else "application/json")

    first, second = (asked(http, question, stream=stream) for _ in range(2))

    assert status(first) == status(second) == "miss" and len(upstream.asked) == 2


def test_a_tool_of_the_vendors_that_was_not_used_leaves_an_answer_for_exact_repeats(
    upstream: ScriptedUpstream, http: httpx.Client
) -> None:
    question = "Need it be searched?"
    upstream.says(PATH, json.dumps(response(message())).encode())
    tools = {"tools": [{"type": "web_search"}]}
    asked(http, question, **tools)

    again, without = asked(http, question, **tools), asked(http, question)

    assert (status(again), status(without)) == ("hit-exact", "miss")
    assert [item["content"][0]["text"] for item in again.json()["output"]] == [SENTENCE]


def test_what_goes_on_in_the_vendors_account_is_refused(http: httpx.Client) -> None:
    for field in ({"background": True}, {"conversation": "conv_1"}):
        assert http.post(PATH, json={"model": "auto", "input": "x", **field}).status_code == 400
