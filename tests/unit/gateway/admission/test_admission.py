"""Which need is granted, which refusal is told, and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.admission.admission import MOST_ASKED, GaugedAdmission
from gateway.admission.bounds import UNBOUNDED, BoundsBook
from gateway.admission.gauges import Granted, Kind, Quota, Refused
from gateway.admission.rules import Rules, Scope
from gateway.errors import BudgetExceeded, GatewayError, PriceUnknown, RateLimited
from tests.unit.gateway.admission.fake_gauges import Clock, FakeGauges, FakeRulebook, budget, caller, limit, need

SHORT = Refused(Kind.BUDGET, "b", free_nanousd=400, retry_after_s=3600)
TOO_MANY = Refused(Kind.REQUESTS, "l", retry_after_s=6.0, requests=Quota(60, 0, 60.0))
TOO_LONG = Refused(Kind.TOKENS, "l", retry_after_s=6.0, tokens=Quota(6000, 5, 59.0))
TOO_FULL = Refused(Kind.CONCURRENT, "l")


def admission(
    gauges: FakeGauges, spare: FakeGauges | None = None, clock: Clock | None = None, **rules: Rules
) -> GaugedAdmission:
    return GaugedAdmission(
        gauges=gauges,
        spare=spare or FakeGauges(),
        rulebook=FakeRulebook(**rules),
        on_expired=lambda expired: None,
        clock=clock or Clock(),
        now=Clock(0.0),
    )


async def refusal(parts: GaugedAdmission, *needs: str | int) -> GatewayError:
    asked = [need(one) if isinstance(one, str) else need(cost=one) for one in needs]
    with pytest.raises(GatewayError) as caught:
        await parts.admit(caller(budget(), limit()), (), asked, fail_open=False)
    return caught.value


async def test_a_call_that_nothing_bounds_asks_no_store() -> None:
    gauges = FakeGauges()
    lease = await admission(gauges).admit(caller(), (), [need()], fail_open=False)
    lease.settle(5, 5)

    assert (lease.place, lease.hard, lease.reserved_nanousd, lease.headers) == (0, False, 0, ())
    assert gauges.admitted == [] and gauges.settled == []


async def test_rules_of_caller_and_model_are_asked_about_in_one_step() -> None:
    gauges, own, other = FakeGauges(), budget(), limit(Scope.MODEL)
    lease = await admission(gauges, m=Rules((), (other,))).admit(caller(own), (), [need()], fail_open=False)

    ((_, demand, replacing),) = gauges.admitted
    assert demand.rules == Rules((own,), (other,)) and replacing is None
    assert (demand.cost_nanousd, demand.tokens, lease.reserved_nanousd, lease.hard) == (1000, 100, 1000, True)
    lease.settle(1, 1)


async def test_a_dear_need_that_the_budget_refuses_gives_way_to_a_cheap_one() -> None:
    gauges = FakeGauges(SHORT, Granted())
    lease = await admission(gauges).admit(
        caller(budget()), (), [need("dear"), need("dear2", 401), need("cheap", 400)], fail_open=False
    )
    lease.settle(1, 1)

    assert lease.place == 2 and [demand.cost_nanousd for _, demand, _ in gauges.admitted] == [1000, 400]


async def test_the_callers_rate_limit_is_final() -> None:
    gauges = FakeGauges(TOO_MANY)
    error = await refusal(admission(gauges), "a", "b")

    assert isinstance(error, RateLimited) and len(gauges.admitted) == 1
    assert error.retry_after_s == 6.0 and "key 'the-key'" in error.message and "60 requests per minute" in error.message
    assert (b"x-ratelimit-limit-requests", b"60") in error.headers
    assert (b"x-ratelimit-reset-requests", b"1m0s") in error.headers


async def test_a_models_rate_limit_lets_another_model_answer() -> None:
    gauges = FakeGauges(TOO_MANY, Granted())
    a, b = Rules((), (limit(Scope.MODEL),)), Rules((), (limit(Scope.MODEL, "other"),))
    lease = await admission(gauges, a=a, b=b).admit(caller(), (), [need("a"), need("a"), need("b")], fail_open=False)
    lease.settle(1, 1)

    assert lease.place == 2 and len(gauges.admitted) == 2


async def test_the_last_refusal_is_told() -> None:
    gauges = FakeGauges(SHORT, replace(TOO_MANY))
    error = await refusal(admission(gauges), 1000, 300)

    assert isinstance(error, RateLimited)


async def test_a_budget_refusal_says_whose_how_much_and_until_when() -> None:
    error = await refusal(admission(FakeGauges(SHORT)), 1000)

    assert isinstance(error, BudgetExceeded) and error.http_status == 402 and error.retry_after_s == 3600
    for part in (
        "total budget of key 'the-key'",
        "of 0.00005 USD",
        "0.0000496 USD are spent",
        "0.0000004 USD are free",
    ):
        assert part in error.message
    assert "1970-01-01T01:00:00Z" in error.message and "0.000001 USD" in error.message


async def test_at_most_a_few_needs_are_asked_about() -> None:
    gauges = FakeGauges(*(Refused(Kind.BUDGET, str(number)) for number in range(9)))
    await refusal(admission(gauges), *"abcdefgh")

    assert len(gauges.admitted) == MOST_ASKED


async def test_a_model_without_price_is_skipped_under_a_hard_budget() -> None:
    gauges = FakeGauges()
    needs = [need("free", priced=False), need("known")]
    lease = await admission(gauges).admit(caller(budget()), (), needs, fail_open=False)
    lease.settle(1, 1)

    assert lease.place == 1


async def test_models_without_price_alone_name_the_row_to_add() -> None:
    with pytest.raises(PriceUnknown, match="price_in_usd_per_mtok and price_out_usd_per_mtok") as caught:
        await admission(FakeGauges()).admit(caller(budget()), (), [need("free", priced=False)], fail_open=False)

    assert 'id = "free"' in caught.value.message and caught.value.http_status == 402


async def test_a_soft_budget_asks_for_no_price() -> None:
    parts = admission(FakeGauges(Granted(warned=("b",))))
    lease = await parts.admit(caller(budget(hard=False)), (), [need(priced=False)], fail_open=False)
    lease.settle(1, 1)

    assert not lease.hard and parts.stats()["soft_budget_warnings"] == 1
    assert lease.headers == ((b"x-fingerpost-budget-warning", b"total budget of key 'the-key' is above 0.00005 USD"),)


async def test_a_refused_flood_costs_no_store() -> None:
    gauges, clock = FakeGauges(TOO_MANY), Clock()
    parts = admission(gauges, clock=clock)
    await refusal(parts, "m")
    clock.now += 4
    with pytest.raises(RateLimited) as caught:
        parts.precheck(caller(limit()))

    assert caught.value.retry_after_s == pytest.approx(2.0) and parts.stats()["refused_from_memory"] == 1
    clock.now += 2.1
    parts.precheck(caller(limit()))


async def test_a_small_call_is_not_refused_for_a_long_one() -> None:
    gauges, clock = FakeGauges(TOO_LONG, Granted()), Clock()
    parts = admission(gauges, clock=clock)
    await refusal(parts, "m")
    clock.now += 0.2
    parts.precheck(caller(limit()))

    assert (await refusal(parts, "m")).http_status == 429 and len(gauges.admitted) == 1
    lease = await parts.admit(caller(limit()), (), [need(tokens=50)], fail_open=False)
    lease.settle(1, 1)
    assert len(gauges.admitted) == 2


async def test_a_full_house_is_remembered_for_milliseconds_or_until_a_call_ends() -> None:
    gauges, clock = FakeGauges(Granted(), TOO_FULL), Clock()
    parts, asker = admission(gauges, clock=clock), caller(budget(), limit())
    lease = await parts.admit(asker, (), [need()], fail_open=False)
    error = await refusal(parts, "m")
    with pytest.raises(RateLimited, match="5 requests at the same time"):
        parts.precheck(asker)
    lease.settle(1, 1)
    parts.precheck(asker)

    assert error.retry_after_s == 1.0


async def test_a_changed_limit_forgets_old_refusals() -> None:
    parts = admission(FakeGauges(TOO_MANY))
    await refusal(parts, "m")

    parts.precheck(caller(replace(limit(), requests_per_minute=600)))
    parts.precheck(caller(limit()))


def test_the_same_sources_have_the_same_sum_and_few_are_kept() -> None:
    own, other = Rules((budget(),), ()), Rules((), (limit(Scope.MODEL),))
    book = BoundsBook(FakeRulebook(m=other), most=2)
    asker = replace(caller(), rules=own)
    first = book.of(asker, "m", ())
    for _ in range(5):
        book.of(replace(caller(), rules=Rules(own.budgets)), "m", ())

    assert book.of(asker, "m", ()).rules == first.rules and len(book._kept) == 2
    assert book.of(asker, "m", ()) is book.of(asker, "m", ())
    assert book.of(caller(), "unknown", ()) is UNBOUNDED


async def test_quotas_of_the_tightest_limits_are_told() -> None:
    gauges = FakeGauges(Granted(Quota(60, 59, 0.02), Quota(6000, 5900, 62.5)))
    lease = await admission(gauges).admit(caller(limit()), (), [need()], fail_open=False)
    lease.settle(1, 1)

    assert dict(lease.headers) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"20ms",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"5900",
        b"x-ratelimit-reset-tokens": b"1m3s",
    }
