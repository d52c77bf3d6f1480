"""Messages about soft budgets: once a window, tried again, never in the way."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.admission.rules import Budget, Period, Window, WindowKind
from gateway.admission.webhooks import Patience, Webhooks
from gateway.errors import UpstreamTimeout
from tests.unit.gateway.admission.fake_gauges import Clock, FakeGauges, budget

QUICK = Patience(attempts=3, wait_initial_s=0, wait_max_s=0)
NOON = 1_796_040_000.0  # 2026-11-30T12:00:00Z
DAILY = replace(budget(hard=False), webhook_url="https://x.example/h", window=Window(WindowKind.CALENDAR, Period.DAY))


class Receiver:
    """Answers with the next status of its script, or raises the error there; the last one repeats."""

    def __init__(self, *script: int | Exception) -> None:
        self.script = list(script) or [204]
        self.got: list[tuple[str, dict[str, object]]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def post(self, url: str, body: bytes) -> int:
        await self.open.wait()
        self.got.append((url, json.loads(body)))
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return step


def webhooks(receiver: Receiver, clock: Clock | None = None, patience: Patience = QUICK) -> Webhooks:
    return Webhooks(receiver.post, FakeGauges().levels, patience, clock or Clock(NOON))


async def told(receiver: Receiver, *budgets: Budget) -> Webhooks:
    parts = webhooks(receiver)
    for one in budgets:
        parts.exceeded(one)
    await parts.close(5)
    return parts


async def test_the_message_says_which_budget_how_much_and_when() -> None:
    receiver = Receiver()
    await told(receiver, DAILY)

    ((url, body),) = receiver.got
    assert url == "https://x.example/h" and body["type"] == "budget.exceeded" and body["budget_id"] == "b"
    assert body["limit_usd"] == 0.00005 and body["spent_usd"] == 5.0007e-05 and body["scope_id"] == "the-key"
    assert body["window"] == {"kind": "calendar", "start": "2026-11-30T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    assert body["idempotency_key"] == "b:50000:1795996800"


async def test_a_window_is_told_of_once_and_the_next_one_again() -> None:
    receiver, clock = Receiver(), Clock(NOON)
    parts = webhooks(receiver, clock)
    for hours in (0, 1, 11.9, 12.1, 13):
        clock.now = NOON + 3600 * hours
        parts.exceeded(DAILY)
        await parts.close(5)

    keys = [body["idempotency_key"] for _, body in receiver.got]
    assert keys == ["b:50000:1795996800", "b:50000:1796083200"]


@pytest.mark.parametrize("window", [Window(), Window(WindowKind.ROLLING, seconds=3600)])
async def test_windows_without_an_end_are_told_of_once_too(window: Window) -> None:
    receiver = Receiver()
    await told(receiver, replace(DAILY, window=window), replace(DAILY, window=window))

    assert len(receiver.got) == 1


async def test_a_raised_limit_is_a_new_message() -> None:
    receiver = Receiver()
    await told(receiver, DAILY, replace(DAILY, limit_nanousd=60_000), DAILY)

    assert len(receiver.got) == 2


@pytest.mark.parametrize("fault", [503, 429, ConnectionError("down"), UpstreamTimeout("slow")])
async def test_a_failed_delivery_is_tried_again_with_the_same_key(fault: int | Exception) -> None:
    receiver = Receiver(fault, 200)
    parts = await told(receiver, DAILY)

    assert len({body["idempotency_key"] for _, body in receiver.got}) == 1 and len(receiver.got) == 2
    assert parts.stats()["webhooks_sent"] == 1 and parts.stats()["webhooks_failed"] == 0


async def test_a_receiver_that_stays_down_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    receiver, clock = Receiver(500), Clock(NOON)
    parts = webhooks(receiver, clock)
    for seconds in (0, 100, 301):
        clock.now = NOON + seconds
        parts.exceeded(DAILY)
        await parts.close(5)

    assert len(receiver.got) == 2 * QUICK.attempts and parts.stats()["webhooks_failed"] == 2
    assert "budget b was not delivered" in caplog.text and "x.example" not in caplog.text


async def test_a_refused_message_is_not_repeated() -> None:
    receiver = Receiver(404)
    await told(receiver, DAILY)

    assert len(receiver.got) == 1


async def test_a_bug_in_the_client_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    parts = await told(Receiver(ValueError("a bug")), DAILY)
    await asyncio.sleep(0)

    assert "a webhook failed inside the gateway" in caplog.text and parts.stats()["webhooks_waiting"] == 0


async def test_few_messages_wait_and_those_at_shutdown_are_given_up() -> None:
    receiver = Receiver()
    receiver.open.clear()
    parts = webhooks(receiver, patience=replace(QUICK, waiting=2))
    for number in range(5):
        parts.exceeded(replace(DAILY, id=str(number)))
    before = parts.stats()
    await parts.close(0.01)
    await asyncio.sleep(0)

    assert (before["webhooks_waiting"], before["webhooks_dropped"]) == (2, 3)
    assert parts.stats()["webhooks_waiting"] == 0 and receiver.got == []


async def test_a_budget_without_url_tells_nobody() -> None:
    receiver = Receiver()
    await told(receiver, replace(DAILY, webhook_url=None))

    assert receiver.got == []
