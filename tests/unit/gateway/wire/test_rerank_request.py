"""Rerank requests, and the order of what is scored here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import InvalidRequest, UnsupportedCapability
from gateway.wire.rerank_request import RerankRequest, parse_rerank, rerank_reply


def read(**fields: Any) -> RerankRequest:
    return parse_rerank(json.dumps({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], **fields}).encode())


def test_documents_are_texts_or_have_one() -> None:
    assert read().texts == ["a", "b"]
    with pytest.raises(UnsupportedCapability, match="documents"):
        _ = read(documents=[{"title": "a"}]).texts


def test_the_best_come_first_and_ties_keep_their_order() -> None:
    reply = json.loads(rerank_reply(read(documents=["a", "b", "c", "d"]), [0.1, 0.5, 0.9, 0.5], "m", 8))

    assert [one["index"] for one in reply["results"]] == [2, 1, 3, 0]
    assert reply["usage"] == {"prompt_tokens": 8, "total_tokens": 8}


def test_only_the_wanted_come_back_with_their_documents_where_asked() -> None:
    reply = json.loads(rerank_reply(read(top_n=1, return_documents=True), [0.1, 0.5], "m", 8))

    assert reply["results"] == [{"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}]


def test_the_body_for_an_upstream_keeps_what_it_does_not_know() -> None:
    body = read(rank_fields=["title"], documents=[{"title": "a"}]).wire_body("w")

    assert json.loads(body) == {"model": "w", "query": "q", "documents": [{"title": "a"}], "rank_fields": ["title"]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": [""]}, "documents[0]"),
        ({"documents": ["a"] * 1001}, "documents"),
        ({"query": ""}, "query"),
        ({"top_n": 0}, "top_n"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)

    assert caught.value.param == param
