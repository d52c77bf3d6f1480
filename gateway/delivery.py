"""An opened answer on its way to the client: metered, kept by the cache, settled and logged, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import perf_counter

from gateway.admission.estimates import Estimates
from gateway.answer import Answer
from gateway.dispatch.health import Health
from gateway.errors import GatewayError, UpstreamError
from gateway.ledger.base import Ledger
from gateway.ledger.record import Record
from gateway.noting import note_usage
from gateway.observe import Observer
from gateway.relay import Relay
from gateway.spending import Spending
from gateway.wire.reply import CLIENT_LEFT


class Delivery:
    """Of all requests of a pipeline."""

    def __init__(self, *, health: Health, estimates: Estimates, ledger: Ledger, observer: Observer) -> None:
        self._health = health
        self._estimates = estimates
        self._ledger = ledger
        self._observer = observer

    def logged(self, record: Record, started: float) -> None:
        """A request that is over as soon as it is answered."""
        self._observed(record, started)
        self._ledger.put(record)

    async def whole(self, answer: Answer) -> bytes:
        """A whole answer, settled and logged: whether the client still waits for it changes nothing any more."""
        opened, record = answer.opened, answer.record
        self.settle(answer)
        if answer.policy.log.prompts:
            record.answer = opened.first.decode(errors="replace")
        self._ledger.put(record)
        if answer.keeping is not None:
            answer.keeping.feed(opened.first, opened.reply.dialect)
            answer.keep()
        await opened.reply.frames.aclose()
        return opened.first

    def frames(self, answer: Answer) -> AsyncGenerator[bytes, None]:
        """The frames a client sees, and with it whoever asks the same meanwhile; settled and logged as they end."""
        source, keeping = self._until_settled(answer), answer.keeping
        if keeping is None:
            return source
        shared = keeping.shared(answer.logged, answer.opened.reply.dialect, bounded=answer.lease.hard)
        return source if shared is None else Relay(source, shared, answer.leave).frames()

    async def _until_settled(self, answer: Answer) -> AsyncGenerator[bytes, None]:
        """The frames; settles the record in `finally`, also when the client leaves."""
        whole = answer.whole
        record = answer.logged
        kept: list[bytes] | None = [] if answer.policy.log.prompts else None
        keeping, dialect = answer.keeping, answer.opened.reply.dialect
        record.status, record.error_code = 500, "internal_error"
        try:
            async with aclosing(self._metered(answer)) as metered:
                async for metered_frame in metered:
                    frame = metered_frame if whole is None else whole.shown(metered_frame)
                    if kept is not None:
                        kept.append(frame)
                    if keeping is not None:
                        keeping.feed(frame, dialect)
                    yield frame
        except GeneratorExit:
            record.status, record.error_code = 499, "client_disconnected"
            raise
        except GatewayError as error:
            record.status, record.error_code = error.http_status, error.detail()["code"]
            raise
        except asyncio.CancelledError as error:
            left = CLIENT_LEFT in error.args
            record.status, record.error_code = (499, "client_disconnected") if left else (503, "shutting_down")
            raise
        finally:
            try:
                self._conclude(answer, kept)
            finally:  # last, for it may be cancelled once more
                await answer.opened.reply.frames.aclose()

    def _conclude(self, answer: Answer, kept: list[bytes] | None) -> None:
        """Settle and log a stream that has ended."""
        whole = answer.whole
        record = answer.logged
        self.settle(answer)
        if whole is not None:
            if answer.opened.meter.done:
                record.status, record.error_code = answer.left or (200, None)
            whole.conclude()
            self._observed(record, answer.started)
        if kept is not None:
            record.answer = b"".join(kept).decode(errors="replace")
        self._ledger.put(record)
        answer.keep()

    async def _metered(self, answer: Answer) -> AsyncGenerator[bytes, None]:
        """Frames with usage priced or hidden, ended where the budget ends; `UpstreamError` where the stream breaks."""
        opened, meter, record = answer.opened, answer.opened.meter, answer.record
        tokens = answer.query.features.tokens
        spending = Spending(answer.lease, meter, opened.target.card, tokens, record.at) if answer.lease.hard else None
        try:
            if opened.first:
                yield opened.first
            async for frame in opened.frames:
                if meter.done:
                    continue
                shown = await spending.heard(frame) if spending is not None else meter.stream(frame)
                if shown:
                    yield shown
                if spending is not None and spending.exhausted:
                    record.budget_exhausted = True
                    break
            owed = meter.cut() if record.budget_exhausted else meter.end_of_stream()
            if owed:
                yield owed
        except UpstreamError:
            self._health.failed(opened.target.endpoint.id)
            raise

    def settle(self, answer: Answer) -> None:
        """Pay what a call took, learn from it; a strategy's calls are logged as one, later."""
        record = answer.record
        note_usage(record, answer.opened)
        if answer.left is not None:
            record.status, record.error_code = answer.left
        usage = answer.opened.meter.settle()
        answer.lease.settle(usage.cost_nanousd, usage.input_tokens + usage.output_tokens)
        self._estimates.learn(answer.opened.ranked, answer.query, usage, record.finish_reason, answer.choices)
        if answer.whole is None:
            self._observed(record, answer.started)

    def _observed(self, record: Record, started: float) -> None:
        record.total_ms = ms_since(started)
        self._observer.answered(record)


def ms_since(began: float) -> float:
    """Milliseconds since a time of `perf_counter`."""
    return (perf_counter() - began) * 1000
