"""One local model, by itself and with adapters, behind a port of its own, in OpenAI's dialect: an endpoint for gateways
elsewhere. No database, no policies, no budgets."""

from __future__ import annotations

import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

from fastapi import FastAPI, Request, Response

from gateway.admission.keys import Keyring
from gateway.admission.rules import Caller
from gateway.api.raw import RawRoute, Receive, Scope, Send, authenticate
from gateway.app import add_error_handlers
from gateway.dispatch.meters.chat import ChatMeter
from gateway.errors import ModelNotFound
from gateway.incoming import Incoming
from gateway.ledger.base import Stats
from gateway.ledger.record import Entry
from gateway.local import LocalModels
from gateway.metrics import Metrics
from gateway.observe import Observer
from gateway.providers.base import Target
from gateway.providers.local import LocalProvider
from gateway.request_log import RequestLog
from gateway.settings import Settings
from gateway.wire.chat_request import ChatEnvelope, parse_chat
from gateway.wire.reply import Frames, Reply
from policies.catalogue import Endpoint, ModelCard

CHAT = "/v1/chat/completions"


class OneKey(Keyring):
    """Knows one key, or lets everybody in where there is none."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    async def authenticate(self, token: str) -> Caller | None:
        """See Keyring."""
        if self._key is not None and not hmac.compare_digest(token.encode(), self._key.encode()):
            return None
        return Caller("", "application", None, None)


class NoLedger:
    """Nothing is kept."""

    def put(self, record: Entry) -> None:
        """See Ledger."""

    async def start(self) -> None:
        """See Ledger."""

    async def drain(self, timeout_s: float) -> None:
        """See Ledger."""

    def stats(self) -> Stats:
        """See Ledger."""
        return Stats(0, 0, 0, 0, 0, 0, 0, database_up=True)


class ChatAlone(RawRoute):
    """Chat completions of one model, by itself and with adapters."""

    envelope = ChatEnvelope

    def __init__(self, targets: Mapping[str, Target], **floor: Any) -> None:
        super().__init__(name="chat", **floor)
        self._targets = targets

    async def handle(self, incoming: Incoming) -> Reply:
        request, record = parse_chat(incoming.body), incoming.record
        target = self._targets.get(request.envelope.model)
        if target is None:
            raise _unknown(request.envelope.model, self._targets)
        card = target.card
        record.model = record.model_requested = card.id
        record.endpoint = target.endpoint.id
        reply = await target.provider.open(request, target)
        meter = ChatMeter(card, 0, request.wants_usage, record.at)
        metered = meter.stream if reply.stream else meter.whole
        return Reply(self._counted(reply.frames, metered, meter, incoming), reply.stream)

    async def _counted(
        self, frames: Frames, metered: Callable[[bytes], bytes], meter: ChatMeter, incoming: Incoming
    ) -> AsyncGenerator[bytes, None]:
        """The frames; at their end, whichever it is, the request's figures are told."""
        record = incoming.record
        try:
            async for frame in frames:
                if record.first_byte_ms is None:
                    record.first_byte_ms = (perf_counter() - incoming.started) * 1000
                yield metered(frame)
        finally:
            await frames.aclose()
            usage = meter.settle()
            record.input_tokens, record.output_tokens = usage.input_tokens, usage.output_tokens
            self._log(record, incoming.started, 200 if meter.done else 499)


class Alone:
    """The ASGI application: chat on the bare floor, the rest on FastAPI."""

    def __init__(self, chat: ChatAlone, app: FastAPI, *, open_to_all: bool) -> None:
        self._chat, self._app = chat, app
        self._open = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._open:
            scope["headers"] = [*scope["headers"], (b"authorization", b"Bearer anybody")]
        asked_for_chat = scope["type"] == "http" and scope["path"] == CHAT
        await (self._chat if asked_for_chat else self._app)(scope, receive, send)


async def alone(settings: Settings, sources: Mapping[str, str]) -> Alone:
    """Load models and put them behind HTTP by their names; a GatewayError says why one can't be loaded.

    They are one model, by itself and with adapters.
    """
    provider = LocalProvider(LocalModels(settings).load_engine, None)
    targets = {name: await _target(provider, name, source) for name, source in sources.items()}
    key = settings.local_key.get_secret_value() if settings.local_key else None
    keyring, metrics = OneKey(key), Metrics()
    metrics.watch("local_engine", "Figures of the engine.", provider.gauges)
    chat = ChatAlone(
        targets,
        keyring=keyring,
        ledger=NoLedger(),
        observer=Observer(metrics, RequestLog() if settings.log_level in ("debug", "info") else None),
        max_body=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
    )
    return Alone(chat, _others(targets, keyring, metrics, provider), open_to_all=key is None)


async def _target(provider: LocalProvider, name: str, source: str) -> Target:
    engine = await provider.engine(source)
    card = ModelCard(id=name, context_tokens=engine.context_tokens, json_schema=True, logprobs=True)
    return Target(Endpoint(id=name, model=name, provider="local", wire_model=source), card, provider)


def _described(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "object": "model",
        "created": 0,
        "owned_by": "local",
        "fingerpost": {"context_tokens": card.context_tokens},
    }


def _others(targets: Mapping[str, Target], keyring: Keyring, metrics: Metrics, provider: LocalProvider) -> FastAPI:
    """What is asked for seldom."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await provider.close()

    app = FastAPI(title=next(iter(targets)), lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    add_error_handlers(app)

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        await authenticate(request.scope, keyring)
        return {"object": "list", "data": [_described(target.card) for target in targets.values()]}

    @app.get("/v1/models/{model_id:path}")
    async def model(model_id: str, request: Request) -> dict[str, Any]:
        await authenticate(request.scope, keyring)
        if model_id not in targets:
            raise _unknown(model_id, targets)
        return _described(targets[model_id].card)

    @app.get("/health/live")
    @app.get("/health/ready")
    async def health() -> dict[str, str]:
        return {"status": "ready"}

    @app.get("/metrics")
    async def figures(request: Request) -> Response:
        await authenticate(request.scope, keyring)
        body, kind = metrics.render()
        return Response(body, media_type=kind)

    return app


def _unknown(model: str, known: Iterable[str]) -> ModelNotFound:
    names = ", ".join(f"'{name}'" for name in known)
    return ModelNotFound(f"There is no model '{model[:120]}' here; this is {names}.", param="model")
