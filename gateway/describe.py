"""From a chat request to the query that is routed: its text and its cheap features. No model is asked."""

from __future__ import annotations

from gateway.dispatch.eligible import modalities_of
from gateway.wire.chat_request import ChatRequest, content_kinds, media_parts, text_of
from policies.catalogue import Modality
from routers.decision import Features, Query
from routers.features import estimate_tokens, guess_language, has_code

TOKENS_PER_MESSAGE = 4
TOKENS_PER_MEDIA = 800
_TEXT_ONLY = frozenset({Modality.TEXT})


def describe(request: ChatRequest) -> Query:
    """The query of a request: the last user text speaks for it, its features count the whole prompt."""
    envelope = request.envelope
    texts = [text_of(message) for message in envelope.messages]
    asked = next(
        (
            text
            for text, message in zip(reversed(texts), reversed(envelope.messages), strict=True)
            if message.role == "user"
        ),
        texts[-1],
    )
    kinds = content_kinds(envelope)
    modalities = _TEXT_ONLY if len(kinds) == 1 else modalities_of(kinds)
    chars = sum(map(len, texts))
    tokens = sum(map(estimate_tokens, texts)) + TOKENS_PER_MESSAGE * len(texts)
    if len(kinds) > 1:
        tokens += TOKENS_PER_MEDIA * media_parts(envelope)
    if envelope.tools:
        tokens += len(request.fields["tools"]) // 4
    form = envelope.response_format
    return Query(
        text=asked,
        features=Features(
            tokens=tokens,
            chars=chars,
            turns=sum(message.role == "user" for message in envelope.messages) or 1,
            language=guess_language(asked),
            code=has_code(asked),
            tools=bool(envelope.tools or envelope.functions),
            json_schema=form is not None and form.type == "json_schema",
            logprobs=bool(envelope.logprobs),
            modalities=modalities,
            max_output_tokens=request.max_output_tokens,
        ),
    )
