"""`POST /v1/rerank`, as Cohere and Jina have it: the request as it came in, and the reply for scores made here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import InvalidRequest, UnsupportedCapability
from gateway.wire.json_body import decode_fields, decode_typed

MAX_DOCUMENTS = 1000


class RerankDocument(Struct):
    """A document with fields of its own; only `text` is read here, the others travel on."""

    text: str | None = None


class RerankEnvelope(Struct):
    """The fields the gateway validates."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | RerankDocument], Meta(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """A validated rerank request with its raw top-level fields."""

    envelope: RerankEnvelope
    fields: dict[str, Raw]

    @property
    def texts(self) -> list[str]:
        """The documents as texts, in their order; `UnsupportedCapability` where one has fields but no text."""
        found = []
        for position, document in enumerate(self.envelope.documents):
            text = document if isinstance(document, str) else document.text
            if text is None:
                raise UnsupportedCapability(
                    f"'documents[{position}]' must be a text or have a 'text'.", param=f"documents[{position}]"
                )
            found.append(text)
        return found

    @property
    def chars(self) -> int:
        """Length of the query, which is read with each document, and of the documents."""
        given = self.fields["documents"]
        return len(self.envelope.query) * len(self.envelope.documents) + len(bytes(given))

    def wire_body(self, wire_model: str) -> bytes:
        """The body for an upstream that reranks."""
        return msgspec.json.encode({**self.fields, "model": Raw(msgspec.json.encode(wire_model))})


_ENVELOPE = msgspec.json.Decoder(RerankEnvelope)
KNOWN = frozenset(RerankEnvelope.__struct_fields__)


def parse_rerank(body: bytes) -> RerankRequest:
    """Validate a body; `InvalidRequest` names the field."""
    request = RerankRequest(decode_typed(_ENVELOPE, body), decode_fields(body))
    for position, document in enumerate(request.envelope.documents):
        if document == "":
            raise InvalidRequest(f"'documents[{position}]' must not be empty.", param=f"documents[{position}]")
    return request


def rerank_reply(request: RerankRequest, scores: Sequence[float], model: str, tokens: int) -> bytes:
    """The best first, ties in the order of the request; `scores` has one entry a document."""
    envelope = request.envelope
    best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: envelope.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in best]
    if envelope.return_documents:
        texts = request.texts
        for result in results:
            result["document"] = {"text": texts[result["index"]]}
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "model": model, "results": results, "usage": usage})
