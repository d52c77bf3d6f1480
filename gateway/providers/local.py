"""The runtime in this process as a provider: OpenAI's dialect on one side, token streams on the other.

Heavy imports happen in `load`, when the first local model is wanted; importing this file is cheap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from gateway.errors import (
    ContextTooLong,
    GatewayError,
    InvalidRequest,
    UnsupportedCapability,
    UpstreamError,
    UpstreamUnavailable,
)
from gateway.providers.base import Target, TextEngine, Vectors
from gateway.providers.find import Supplies
from gateway.providers.local_chat import ChatWriter
from gateway.wire.chat_plain import plain
from gateway.wire.chat_request import ChatEnvelope, ChatRequest
from gateway.wire.embeddings_request import EmbeddingsRequest, embeddings_reply
from gateway.wire.reply import Reply
from gateway.wire.rerank_request import KNOWN, RerankRequest, rerank_reply
from local_runtime import base as runtime
from local_runtime.adapters.named import parted
from local_runtime.decoding.grammar import Grammar, SchemaError
from local_runtime.embedders.errors import EmbedderError
from policies.catalogue import ModelCard, Task

log = logging.getLogger(__name__)

MAX_CHOICES = 8
MOST_DEFAULT_TOKENS = 1024
INLINE_CHARS = 20_000
# Only where the request is silent: a model this small is at its best with its likeliest word. Several choices differ.
DEFAULT_TEMPERATURE = 0.0
DEFAULT_TEMPERATURE_OF_MANY = 0.7
DEFAULT_TOP_P = 0.9
_FLEX = msgspec.Raw(b'"flex"')
_ANY_OBJECT = '{"type": "object"}'
_SCHEMA = "response_format.json_schema.schema"


def provide(supplies: Supplies) -> LocalProvider:
    """The provider `local`."""
    return LocalProvider(supplies.load_engine, supplies.embedder)


class LocalProvider:
    """One engine per model source, loaded once, off the event loop."""

    def __init__(self, load: Callable[[str], TextEngine], embedder: Vectors | None) -> None:
        self._load = load
        self._embedder = embedder
        self._engines: dict[str, TextEngine] = {}
        self._adapted: dict[str, TextEngine] = {}
        self._loading: dict[str, asyncio.Task[TextEngine]] = {}

    async def open(self, request: ChatRequest, target: Target) -> Reply:
        if request.native_only is not None:
            raise UnsupportedCapability(request.native_only)
        engine = await self.engine(target.wire_model)
        envelope = request.envelope
        try:
            samplings = [
                _sampling(envelope, request.max_output_tokens, target.card, index)
                for index in range(_choices(envelope))
            ]
        except ValueError as error:
            raise InvalidRequest(f"{error}.", param=str(error).split()[0].strip("'")) from error
        grammar = await _grammar(engine, request)
        try:
            prompt = await self._encode(engine, request)
            priority = _priority(request)
            choices = [engine.generate(prompt, sampling, request.circle, grammar, priority) for sampling in samplings]
        except (ValueError, runtime.GenerationError) as error:
            raise _mapped(error) from error
        writer = ChatWriter(target.card.id, len(prompt), engine.fingerprint)
        frames = _stream(choices, writer) if request.stream else _whole(choices, writer)
        return Reply(frames=frames, stream=request.stream)

    async def embed(self, request: EmbeddingsRequest, target: Target) -> bytes:
        texts = request.texts
        if texts is None:
            raise InvalidRequest("This model takes texts, not token ids.", param="input")
        if request.envelope.dimensions not in (None, target.card.dimensions):
            raise InvalidRequest(
                f"'{target.card.id}' always has {target.card.dimensions} dimensions.", param="dimensions"
            )
        if self._embedder is None:
            raise UpstreamUnavailable("No embedder is installed: pip install 'fingerpost[local]'.")
        try:
            vectors = await self._embedder.embed(texts)
            tokens = await self._embedder.count_tokens(texts)
        except EmbedderError as error:
            raise UpstreamUnavailable(f"The embedder can't answer: {error}.") from error
        return embeddings_reply(vectors, target.card.id, tokens, request.envelope.encoding_format)

    async def rerank(self, request: RerankRequest, target: Target) -> bytes:
        """Cosines of query and documents, each embedded alone."""
        beyond = next(
            (name for name, raw in request.fields.items() if name not in KNOWN and bytes(raw) != b"null"), None
        )
        if beyond is not None:
            raise UnsupportedCapability(f"'{beyond[:40]}' is not known to this model.", param=beyond)
        if self._embedder is None:
            raise UpstreamUnavailable("No embedder is installed: pip install 'fingerpost[local]'.")
        texts = [request.envelope.query, *request.texts]
        try:
            vectors = await self._embedder.embed(texts)
            tokens = await self._embedder.count_tokens(texts)
        except EmbedderError as error:
            raise UpstreamUnavailable(f"The embedder can't answer: {error}.") from error
        return rerank_reply(request, (vectors[1:] @ vectors[0]).tolist(), target.card.id, tokens)

    async def count_tokens(self, request: ChatRequest, target: Target) -> int:
        """Prompt tokens of a chat, its template included."""
        engine = await self.engine(target.wire_model)
        try:
            return len(await self._encode(engine, request))
        except (ValueError, runtime.GenerationError) as error:
            raise _mapped(error) from error

    async def engine(self, source: str) -> TextEngine:
        """The engine of a source, loading it if this is the first call; concurrent callers share one load.

        Sources that differ in their adapters share one engine.
        """
        base, adapters = parted(source)
        engine = await self._once(base, self._engines, partial(self._load, base))
        return await self._once(source, self._adapted, partial(engine.adapted, adapters)) if adapters else engine

    async def _once(self, source: str, ready: dict[str, TextEngine], load: Callable[[], TextEngine]) -> TextEngine:
        """What is ready under this name, or will be."""
        if source in ready:
            return ready[source]
        task = self._loading.get(source)
        if task is None:
            task = self._loading[source] = asyncio.create_task(asyncio.to_thread(load))
        try:
            engine = await asyncio.shield(task)
        except (OSError, ImportError, MemoryError, ValueError, RuntimeError, runtime.GenerationError) as error:
            self._loading.pop(source, None)
            raise UpstreamUnavailable(f"The local model '{source}' can't be loaded: {error}") from error
        ready[source] = engine
        return engine

    def wait_ms(self, wire_model: str) -> float:
        """See `Queues`; 0 for what is not loaded yet."""
        engine = self._engines.get(parted(wire_model)[0])
        return 0.0 if engine is None else engine.wait_s() * 1000

    def gauges(self) -> dict[str, float]:
        """For metrics: the figures of every engine."""
        found: dict[str, float] = {}
        for source, engine in self._engines.items():
            told = asdict(engine.stats())
            told["wait_s_most"] = told.pop("wait_s")  # of several workers the longest
            found |= {f"{source}/{name}": float(value) for name, value in told.items()}
        return found

    async def warm(self, target: Target) -> None:
        if target.card.task is not Task.CHAT:
            return
        try:
            await self.engine(target.wire_model)
        except GatewayError as error:
            log.error("%s", error.message)

    async def close(self) -> None:
        engines, self._engines, self._adapted = list(self._engines.values()), {}, {}
        for engine in engines:
            await asyncio.to_thread(engine.close)

    async def _encode(self, engine: TextEngine, request: ChatRequest) -> list[int]:
        if request.original is not None:
            request = plain(request)
        messages = msgspec.json.decode(request.fields["messages"], type=list[dict[str, Any]])
        for message in messages:
            if message["role"] == "developer":
                message["role"] = "system"
            if isinstance(message.get("content"), list):
                message["content"] = [_as_text(part) for part in message["content"]]
        if len(request.fields["messages"]) > INLINE_CHARS:
            return await asyncio.to_thread(engine.encode_chat, messages)
        return engine.encode_chat(messages)


def _as_text(part: dict[str, Any]) -> dict[str, Any]:
    """A refusal in the history is text like any other."""
    refusal = part.get("refusal")
    return {"type": "text", "text": refusal} if part.get("type") == "refusal" and isinstance(refusal, str) else part


async def _grammar(engine: TextEngine, request: ChatRequest) -> Grammar | None:
    """What a request holds the answer to; InvalidRequest for a schema that is none."""
    form = request.envelope.response_format
    if form is None or form.type == "text":
        return None
    schema = _ANY_OBJECT if form.type == "json_object" else _schema(request)
    try:
        return await asyncio.to_thread(engine.grammar, schema)
    except SchemaError as error:
        raise InvalidRequest(f"The schema can't be enforced: {error}.", param=_SCHEMA) from error
    except ImportError as error:
        raise UnsupportedCapability(
            "Local models are held to a format by llguidance: pip install 'fingerpost[local]'.", param="response_format"
        ) from error


def _schema(request: ChatRequest) -> str:
    """The JSON schema of a request, as JSON."""
    form = request.envelope.response_format
    if form is None or form.type != "json_schema":
        raise InvalidRequest(
            "'response_format.type' must be text, json_object or json_schema.", param="response_format"
        )
    said = msgspec.json.decode(request.fields["response_format"])
    holder = said.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, dict) else None
    if not isinstance(schema, dict):
        raise InvalidRequest(f"'{_SCHEMA}' must be an object.", param=_SCHEMA)
    return msgspec.json.encode(schema).decode()


def _priority(request: ChatRequest) -> int:
    """A request that says it has time stands behind all others."""
    return -1 if request.fields.get("service_tier") == _FLEX else 0


def _choices(envelope: ChatEnvelope) -> int:
    n = envelope.n or 1
    if n > MAX_CHOICES:
        raise UnsupportedCapability(f"'n' is at most {MAX_CHOICES} for this model.", param="n")
    return n


def _sampling(envelope: ChatEnvelope, cap: int | None, card: ModelCard, index: int) -> runtime.Sampling:
    stop = envelope.stop
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    # A seed must repeat the whole answer, yet not make all choices the same.
    seed = None if envelope.seed is None else envelope.seed + index
    return runtime.Sampling(
        max_tokens=cap or card.max_output_tokens or MOST_DEFAULT_TOKENS,
        temperature=_temperature(envelope),
        top_p=DEFAULT_TOP_P if envelope.top_p is None else envelope.top_p,
        top_k=max(envelope.top_k or 0, 0),
        min_p=envelope.min_p or 0.0,
        presence_penalty=envelope.presence_penalty or 0.0,
        frequency_penalty=envelope.frequency_penalty or 0.0,
        repetition_penalty=envelope.repetition_penalty or 1.0,
        logit_bias=_biases(envelope),
        seed=seed,
        stop=tuple(one for one in stops if one),
        logprobs=bool(envelope.logprobs),
        top_logprobs=envelope.top_logprobs or 0,
    )


def _temperature(envelope: ChatEnvelope) -> float:
    if envelope.temperature is not None:
        return envelope.temperature
    return DEFAULT_TEMPERATURE if (envelope.n or 1) == 1 else DEFAULT_TEMPERATURE_OF_MANY


def _biases(envelope: ChatEnvelope) -> dict[int, float]:
    biases = envelope.logit_bias or {}
    wrong = next((token for token in biases if not token.isdecimal()), None)
    if wrong is not None:
        raise ValueError(f"logit_bias needs token ids as keys, not '{wrong[:40]}'")
    return {int(token): bias for token, bias in biases.items()}


async def _stream(choices: list[AsyncIterator[runtime.Delta]], writer: ChatWriter) -> AsyncGenerator[bytes, None]:
    opening = writer.begin(len(choices))
    async with aclosing(_merged(choices)) as deltas:
        async for index, delta in deltas:
            yield opening + writer.chunk(index, delta)
            opening = b""
    yield writer.end()


async def _whole(choices: list[AsyncIterator[runtime.Delta]], writer: ChatWriter) -> AsyncGenerator[bytes, None]:
    async with aclosing(_merged(choices)) as deltas:
        async for index, delta in deltas:
            writer.keep(index, delta)
    yield writer.whole()


async def _merged(choices: list[AsyncIterator[runtime.Delta]]) -> AsyncGenerator[tuple[int, runtime.Delta], None]:
    """Deltas of all choices as they come; leaving early stops every generation."""
    try:
        if len(choices) == 1:
            async for delta in choices[0]:
                yield 0, delta
            return
        pending = {asyncio.ensure_future(anext(one)): index for index, one in enumerate(choices)}
        try:
            while pending:
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    index = pending.pop(future)
                    if isinstance(future.exception(), StopAsyncIteration):
                        continue
                    yield index, future.result()
                    pending[asyncio.ensure_future(anext(choices[index]))] = index
        finally:
            for future in pending:
                future.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
    except runtime.GenerationError as error:
        raise _mapped(error) from error
    finally:
        for choice in choices:
            await choice.aclose()  # type: ignore[attr-defined]


def _mapped(error: Exception) -> GatewayError:
    if isinstance(error, runtime.ContextTooLong):
        return ContextTooLong(str(error), param="messages")
    if isinstance(error, runtime.EngineBusy):
        return UpstreamUnavailable("The local model's queue is full.", retry_after_s=1.0)
    if isinstance(error, runtime.EngineStopped):
        return UpstreamUnavailable("The local model is shutting down.")
    if isinstance(error, (ValueError, runtime.TemplateFailed)):
        # What this model can't read another may.
        return UnsupportedCapability(str(error), param="messages")
    return UpstreamError(f"The local model failed: {error}")
