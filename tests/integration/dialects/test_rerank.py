"""Reranking through the gateway: by an upstream that reranks, and by the embedder in the gateway's own process."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.scripted_upstream import ScriptedUpstream

RERANK = "/rank/v1/rerank"
DOCUMENTS = ["Bananas are yellow.", "Paris is the capital of France.", "The gearbox has five speeds."]


def test_an_upstream_that_reranks_is_sent_what_the_client_wrote(http: httpx.Client, scripted: ScriptedUpstream) -> None:
    results = [{"index": 1, "relevance_score": 0.9, "odd": None}]
    scripted.says(RERANK, json.dumps({"results": results, "usage": {"total_tokens": 20}}).encode())
    body = b'{"model":"ranker","query":"q","documents":["a",{"text":"b"}],"top_n":1,"rank_fields":["text"]}'

    answer = http.post("/v1/rerank", content=body)

    assert scripted.asked[-1].body == body.replace(b'"ranker"', b'"wire-ranker"')
    assert answer.json() == {
        "results": results,
        "usage": {"total_tokens": 20, "prompt_tokens": 20, "cost": 20e-6},
    }


def test_the_embedder_in_this_process_puts_the_fitting_document_first(http: httpx.Client) -> None:
    question = {"query": "What is the capital of France?", "documents": DOCUMENTS, "return_documents": True, "top_n": 2}

    answer = http.post("/v1/rerank", json={"model": "all-minilm-l6-v2", **question}).json()

    best, second = answer["results"]
    assert best["index"] == 1 and best["document"] == {"text": DOCUMENTS[1]}
    assert 1 >= best["relevance_score"] > second["relevance_score"] >= -1
    assert answer["usage"]["prompt_tokens"] > 10 and answer["usage"]["cost"] == 0


@pytest.mark.parametrize(("model", "status"), [("nothing", 404), ("plain", 400), ("text-embedding-3-small", 400)])
def test_models_that_do_not_rerank_are_refused(http: httpx.Client, model: str, status: int) -> None:
    answer = http.post("/v1/rerank", json={"model": model, "query": "q", "documents": ["a"]})

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, "model")


def test_what_the_local_model_cant_be_told_is_refused(http: httpx.Client) -> None:
    body = {"model": "all-minilm-l6-v2", "query": "q", "documents": ["a"], "rank_fields": ["title"]}

    answer = http.post("/v1/rerank", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "rank_fields")


def test_an_upstream_that_fails_is_a_failure_of_the_gateways(http: httpx.Client, scripted: ScriptedUpstream) -> None:
    scripted.says(RERANK, b"[]")

    answer = http.post("/v1/rerank", json={"model": "ranker", "query": "q", "documents": ["a"]})

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_broken")
