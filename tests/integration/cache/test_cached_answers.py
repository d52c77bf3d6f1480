"""Answers that are given again, over HTTP: what comes back, who gets it, and what the books say."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import anthropic
import httpx
import openai
import pytest

from tests.integration.cache.conftest import Line
from tests.integration.tenants import tenant
from tests.integration.test_proxy_line import row

TEXT = "It says that the house was empty and the garden full of birds."


def said(reply: httpx.Response) -> str:
    """The text of a whole answer."""
    return str(reply.json()["choices"][0]["message"]["content"])


def streamed(reply: httpx.Response) -> str:
    """The text of a stream's chunks."""
    events = [one[6:] for one in reply.text.split("\n\n") if one.startswith("data: {")]
    chunks = [json.loads(one) for one in events]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_an_exact_repeat_is_answered_for_nothing_and_the_books_say_what_that_saved(line: Line, question: str) -> None:
    line.sings(TEXT, "something else")
    first = line.ask(question)

    again = line.ask(question)

    assert (first.headers["x-fingerpost-cache"], again.headers["x-fingerpost-cache"]) == ("miss", "hit-exact")
    assert said(first) == said(again) == TEXT and len(line.choir.asked) == 1
    assert again.json()["usage"]["cost"] == 0 and again.json()["usage"]["cached"] is True
    logged, made = row(line.served, again.headers["x-request-id"]), row(line.served, first.headers["x-request-id"])
    assert (logged["cost_nanousd"], logged["saved_nanousd"]) == (0, made["cost_nanousd"])
    assert logged["cache_id"] == again.headers["x-fingerpost-cache-id"] and logged["cache_score"] == 1.0
    assert logged["model"] == made["model"] == again.headers["x-fingerpost-model"]


@pytest.mark.parametrize("stream", [True, False])
def test_streams_and_whole_answers_serve_each_other(line: Line, question: str, stream: bool) -> None:
    line.sings(TEXT, "something else")
    first = line.ask(question, stream=stream)

    again = line.ask(question, stream=not stream, stream_options={"include_usage": True} if not stream else None)

    texts = [streamed(one) if one.headers["content-type"].startswith("text/") else said(one) for one in (first, again)]
    assert texts == [TEXT, TEXT] and again.headers["x-fingerpost-cache"] == "hit-exact"
    assert len(line.choir.asked) == 1


def test_all_dialects_are_answered_by_one(line: Line, question: str) -> None:
    line.sings(TEXT, "something else")
    key = line.served.headers["Authorization"].removeprefix("Bearer ")
    asked = openai.OpenAI(base_url=f"{line.served.url}/v1", api_key=key, max_retries=0)
    first = asked.chat.completions.create(
        model="auto:default", messages=[{"role": "user", "content": question}], max_tokens=50
    )
    other = anthropic.Anthropic(base_url=line.served.url, api_key=key, max_retries=0)

    message = other.messages.create(
        model="auto:default", messages=[{"role": "user", "content": question}], max_tokens=50
    )
    response = asked.responses.create(model="auto:default", input=question, max_output_tokens=50, store=False)

    assert first.choices[0].message.content == TEXT
    assert [block.text for block in message.content if block.type == "text"] == [TEXT]
    assert response.output_text == TEXT
    assert len(line.choir.asked) == 1


def test_of_many_that_come_at_once_one_is_asked(line: Line, question: str) -> None:
    line.sings(TEXT, "something else", wait_s=0.3)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda stream: line.ask(question, stream=stream), [False, True] * 10))

    assert {streamed(one) if "event" in one.headers["content-type"] else said(one) for one in answers} == {TEXT}
    assert len(line.choir.asked) == 1


def test_where_the_first_of_many_fails_the_others_are_not_failed_by_that(line: Line, question: str) -> None:
    line.sings(TEXT, wait_s=0.5)

    with ThreadPoolExecutor(8) as pool:
        hasty = pool.submit(lambda: line.ask(question, headers={"x-fingerpost-timeout": "0.2"}))
        time.sleep(0.1)
        others = list(pool.map(lambda _: line.ask(question), range(6)))

    assert hasty.result().status_code == 504
    assert {(one.status_code, said(one)) for one in others} == {(200, TEXT)}


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0.5), ("max_tokens", 40), ("tools", [{"type": "function", "function": {"name": "f"}}])],
)
def test_another_request_gets_another_answer(line: Line, question: str, field: str, value: object) -> None:
    line.sings(TEXT, "something else")
    line.ask(question)

    assert said(line.ask(question, **cast("dict[str, Any]", {field: value}))) == "something else"


def test_what_is_not_whole_is_not_kept(line: Line, question: str) -> None:
    line.sings(TEXT, TEXT, TEXT, word_s=0.05)
    body = {"model": "auto", "messages": [{"role": "user", "content": question}], "max_tokens": 50, "stream": True}
    with line.client.stream("POST", "/v1/chat/completions", json=body) as reply:
        next(reply.iter_lines())

    assert line.ask(question).headers["x-fingerpost-cache"] == "miss"


def test_what_has_expired_is_asked_anew(line: Line, question: str) -> None:
    line.sings("old", "new")
    line.ask(question, "short")

    time.sleep(1.1)

    assert said(line.ask(question, "short")) == "new"


def test_requests_have_their_way_with_the_cache(line: Line, question: str) -> None:
    line.sings("first", "second", "third")
    line.ask(question)

    assert said(line.ask(question, headers={"cache-control": "no-cache"})) == "second"
    assert said(line.ask(question, cache={"mode": "off"})) == "third"
    assert said(line.again(question)) == "second"
    assert said(line.ask(question, headers={"cache-control": "only-if-cached"})) == "second"
    assert all("cache" not in body for body in line.choir.asked)


def test_only_if_cached_asks_nobody(line: Line, question: str) -> None:
    line.sings(TEXT)

    for policy in ("default", "uncached"):
        refused = line.ask(question, policy, headers={"cache-control": "only-if-cached"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (504, "not_cached")
    assert not line.choir.asked


def test_a_wrong_wish_is_told(line: Line, question: str) -> None:
    refused = line.ask(question, cache={"mode": "sometimes"})

    assert refused.status_code == 400 and refused.json()["error"]["param"] == "cache.mode"


def test_a_policy_without_a_cache_keeps_nothing(line: Line, question: str) -> None:
    line.sings("first", "second")
    line.ask(question, "uncached")

    again = line.ask(question, "uncached")

    assert said(again) == "second" and again.headers["x-fingerpost-cache"] == "off"


def test_tenants_never_get_each_others_answers(line: Line, question: str) -> None:
    line.sings("ours", "theirs")
    assert said(line.ask(question)) == "ours"
    other = tenant(line.served)

    theirs = line.ask(question, headers={"authorization": f"Bearer {other.key}"})

    assert said(theirs) == "theirs" and theirs.headers["x-fingerpost-cache"] == "miss"


def test_an_answer_of_several_calls_is_kept_as_one(line: Line, question: str) -> None:
    line.sings("yes")
    first = line.ask(question, "voted")
    calls = len(line.choir.asked)

    again = line.ask(question, "voted")

    assert again.headers["x-fingerpost-cache"] == "hit-exact" and len(line.choir.asked) == calls > 1
    saved = row(line.served, again.headers["x-request-id"])["saved_nanousd"]
    assert saved == row(line.served, first.headers["x-request-id"])["cost_nanousd"]


def test_a_wrong_answer_is_forgotten_at_once(line: Line, question: str) -> None:
    line.sings("wrong", "right")
    line.ask(question)
    wrong = line.ask(question).headers["x-fingerpost-cache-id"]

    told = line.client.post("/v1/cache/feedback", json={"id": wrong, "wrong": True})

    assert told.status_code == 200 and said(line.ask(question)) == "right"
    assert line.client.post("/v1/cache/feedback", json={"id": wrong}).status_code == 404


def test_admins_see_and_forget_answers(line: Line, question: str) -> None:
    line.sings("old", "new")
    line.ask(question, cache={"tags": ["v1"]})
    headers, base = line.served.admin_headers, f"{line.served.url}/admin/cache"
    tenants = httpx.get(base, headers=headers).json()["tenants"]
    found = [
        {**one, "tenant": who}
        for who in tenants
        for one in httpx.get(f"{base}/entries", headers=headers, params={"tenant": who, "tag": "v1"}).json()["data"]
    ]
    whole = httpx.get(f"{base}/entries/{found[-1]['id']}", headers=headers, params={"tenant": found[-1]["tenant"]})
    tried = httpx.post(f"{base}/invalidate", headers=headers, json={"tag": "v1", "dry_run": True}).json()

    done = httpx.post(f"{base}/invalidate", headers=headers, json={"tag": "v1"}).json()

    assert "old" in whole.json()["answer"]
    assert tried == {"dry_run": True, "answers": len(found)} and done == {"dry_run": False, "answers": len(found)}
    assert said(line.ask(question, cache={"tags": ["v1"]})) == "new"
    assert httpx.post(f"{base}/invalidate", headers=headers, json={}).status_code == 400
    acts = httpx.get(f"{line.served.url}/admin/audit", headers=headers).json()["data"]
    assert acts[0]["action"] == "cache.invalidate"


def test_metrics_tell_hits_and_what_they_saved(line: Line, question: str) -> None:
    line.sings(TEXT)
    line.ask(question)
    line.again(question)

    text = httpx.get(f"{line.served.url}/metrics").text

    assert 'fingerpost_cache_total{category="general",result="hit-exact"}' in text
    assert "fingerpost_cache_saved_usd_total" in text


ACTIVATE = "How do I activate a new card?"
ALSO = "How can I activate a new card?"


def test_what_certainly_asks_the_same_is_answered_by_likeness(line: Line) -> None:
    line.sings(TEXT, "something else")
    line.ask(ACTIVATE, "alike")

    again = line.ask(ALSO, "alike")

    assert again.headers["x-fingerpost-cache"] == "hit-semantic" and said(again) == TEXT
    assert 0.9 < float(again.headers["x-fingerpost-cache-score"]) < 1
    assert row(line.served, again.headers["x-request-id"])["embed_ms"] is not None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("How do I activate a second card?", "How do I deactivate a second card?"),
        ("How do I activate a third card secretly?", "How can I activate a third card secretly?"),
        ("How do I literally activate a fourth card?", "How can I literally activate a fourth card?"),
    ],
    ids=["opposite", "category off", "category exact"],
)
def test_what_may_not_be_answered_by_likeness_is_asked(line: Line, first: str, second: str) -> None:
    line.sings("this", "that")
    line.ask(first, "alike")

    assert said(line.ask(second, "alike")) == "that"


def test_likeness_never_leads_into_another_context(line: Line) -> None:
    line.sings("for children", "for adults")
    messages = [{"role": "system", "content": "You talk to children."}, {"role": "user", "content": ACTIVATE}]
    line.ask("", "alike", messages=messages)

    other = line.ask(ALSO, "alike", messages=[{"role": "system", "content": "To adults."}, messages[1]])

    assert said(other) == "for adults" and other.headers["x-fingerpost-cache"] == "miss"
