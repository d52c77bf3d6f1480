"""A lease's life: extended, moved, settled once; lost, expired or left over at shutdown; with and without its store."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gateway.admission.admission import GaugedAdmission
from gateway.admission.base import Lease
from gateway.admission.gauges import Expired, Granted, Kind, Refused
from gateway.admission.rules import Budget, RateLimit, Rules, Scope
from gateway.admission.upkeep import Rounds
from gateway.errors import Overloaded, RateLimited
from tests.unit.gateway.admission.fake_gauges import FakeGauges, FakeRulebook, away, budget, caller, limit, need

SHORT = Refused(Kind.BUDGET, "b")


def admission(gauges: FakeGauges, spare: FakeGauges | None = None, **rules: Rules) -> GaugedAdmission:
    expired: list[Expired] = []
    return GaugedAdmission(
        gauges=gauges,
        spare=spare or FakeGauges(),
        rulebook=FakeRulebook(**rules),
        on_expired=expired.append,
        rounds=Rounds(renew_s=0.001, reap_s=0.001),
    )


async def granted(parts: GaugedAdmission, *rules: Budget | RateLimit, fail_open: bool = False) -> Lease:
    return await parts.admit(caller(*rules), (), [need()], fail_open)


async def test_only_what_is_missing_is_asked_for() -> None:
    gauges = FakeGauges()
    lease = await granted(admission(gauges), budget())

    assert await lease.extend(1000) and gauges.extended == []
    assert await lease.extend(1500) and [more for _, more in gauges.extended] == [500]
    assert lease.reserved_nanousd == 1500
    lease.settle(1400, 90)
    assert gauges.costs == [1400]


async def test_what_a_hard_budget_does_not_cover_is_not_reserved() -> None:
    lease = await granted(admission(FakeGauges(extends=False)), budget())

    assert not await lease.extend(1500) and lease.reserved_nanousd == 1000
    lease.settle(1, 1)
    assert not await lease.extend(1)


async def test_a_soft_budget_never_stops_a_stream() -> None:
    gauges = FakeGauges(extends=False)
    lease = await granted(admission(gauges), budget(hard=False))

    assert await lease.extend(10**9) and gauges.extended == []
    lease.settle(1, 1)


async def test_only_the_first_settlement_counts() -> None:
    gauges = FakeGauges()
    parts = admission(gauges)
    lease = await granted(parts, budget())
    lease.settle(700, 70)
    lease.settle(900, 90)

    assert gauges.costs == [700] and parts.stats()["leases_held"] == 0


async def test_another_endpoint_takes_over_what_is_reserved() -> None:
    gauges = FakeGauges()
    lease = await granted(admission(gauges), budget())
    (first, _, _) = gauges.admitted[0]
    assert await lease.move(need(cost=2000))
    lease.settle(1500, 1)

    (second, _, replacing) = gauges.admitted[1]
    assert replacing == first and lease.reserved_nanousd == 2000
    assert [one.lease_id for one in gauges.settled] == [second]


async def test_the_same_need_moves_without_a_question() -> None:
    gauges = FakeGauges()
    lease = await granted(admission(gauges), budget())

    assert await lease.move(need()) and len(gauges.admitted) == 1
    lease.settle(1, 1)


async def test_a_refused_move_leaves_all_as_it_was() -> None:
    gauges = FakeGauges(Granted(), SHORT)
    lease = await granted(admission(gauges), budget())

    assert not await lease.move(need(cost=2000)) and lease.reserved_nanousd == 1000
    lease.settle(1, 1)
    assert gauges.settled[0].lease_id == gauges.admitted[0][0]


async def test_a_move_to_a_model_without_rules_gives_everything_back() -> None:
    gauges = FakeGauges()
    lease = await granted(admission(gauges, m=Rules((budget(Scope.MODEL),))))
    assert await lease.move(need("other"))
    lease.settle(500, 5)

    assert gauges.costs == [0] and not lease.hard


async def test_a_free_call_that_moves_to_a_bounded_model_is_counted_there() -> None:
    gauges = FakeGauges()
    lease = await granted(admission(gauges, other=Rules((budget(Scope.MODEL),))))
    assert not await lease.move(need("other", priced=False))
    assert await lease.move(need("other"))
    lease.settle(500, 5)

    assert gauges.costs == [500] and lease.hard


async def test_a_hard_budget_whose_store_is_away_refuses() -> None:
    gauges, spare = FakeGauges(away()), FakeGauges()
    with pytest.raises(Overloaded, match="key 'the-key'") as caught:
        await granted(admission(gauges, spare), budget(), limit())

    assert caught.value.code == "budget_store_unavailable" and caught.value.retry_after_s == 1.0
    assert spare.admitted == []
    assert gauges.costs == [0], "what the store may have set aside must be given back"


async def test_a_store_that_was_not_asked_has_nothing_to_give_back() -> None:
    gauges = FakeGauges(away(asked=False))
    with pytest.raises(Overloaded):
        await granted(admission(gauges), budget())

    assert gauges.settled == []


async def test_an_open_policy_lets_calls_pass_and_settles_them_later() -> None:
    gauges, spare, bound = FakeGauges(away()), FakeGauges(), (budget(), limit())
    parts = admission(gauges, spare)
    lease = await granted(parts, *bound, fail_open=True)
    assert not lease.hard and await lease.extend(10**9)
    lease.settle(800, 80)

    assert gauges.costs == [0, 800] and gauges.settled[0].lease_id != gauges.settled[1].lease_id
    assert gauges.settled[1].demand.rules == Rules(bound[:1], ())
    assert spare.admitted[0][1].rules == Rules((), bound[1:]) and spare.settled[0].tokens == 80
    assert parts.stats()["granted_uncounted"] == 1


async def test_rate_limits_alone_go_on_in_the_process() -> None:
    full = Refused(Kind.CONCURRENT, "l")
    gauges, spare = FakeGauges(away(asked=False)), FakeGauges(Granted(), full)
    parts = admission(gauges, spare)
    lease = await granted(parts, limit())
    with pytest.raises(RateLimited):
        await granted(parts, limit())
    lease.settle(1, 1)

    assert gauges.settled == [] and len(spare.settled) == 1


async def test_a_caller_with_soft_budgets_is_never_refused_for_a_dead_store() -> None:
    gauges = FakeGauges(away(asked=False))
    lease = await granted(admission(gauges), budget(hard=False))
    lease.settle(900, 1)

    assert gauges.costs == [900]


@pytest.mark.parametrize("fail_open", [True, False])
async def test_a_stream_whose_store_is_away_goes_on_as_the_policy_says(fail_open: bool) -> None:
    lease = await granted(admission(FakeGauges(extends=away())), budget(), fail_open=fail_open)

    assert await lease.extend(5000) is fail_open
    lease.settle(1, 1)


async def test_a_call_cancelled_while_it_waits_leaves_nothing_behind() -> None:
    class Hanging(FakeGauges):
        async def admit(self, *_: object) -> Granted:
            await asyncio.Event().wait()
            return Granted()

    gauges = Hanging()
    task = asyncio.create_task(granted(admission(gauges), budget()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert gauges.costs == [0]


async def test_a_lost_lease_is_charged_whole_and_counted_as_a_bug() -> None:
    gauges = FakeGauges()
    parts = admission(gauges)
    await granted(parts, budget())
    gc.collect()
    await parts._upkeep.renew()

    assert gauges.costs == [1000] and gauges.renewed == [] and parts.stats()["leases_unsettled"] == 1


async def test_all_running_leases_are_renewed_in_one_step() -> None:
    gauges = FakeGauges()
    parts = admission(gauges)
    first, second, free = await granted(parts, budget()), await granted(parts, limit()), await granted(parts)
    first_id, second_id = (one for one, _, _ in gauges.admitted)
    await parts._upkeep.renew()
    first.settle(1, 1)
    await parts._upkeep.renew()
    second.settle(1, 1)
    free.settle(1, 1)

    assert gauges.renewed == [[first_id, second_id], [second_id]]


async def test_leases_of_dead_processes_are_told_but_not_our_own() -> None:
    gauges, told = FakeGauges(), list[Expired]()
    parts = GaugedAdmission(gauges=gauges, spare=FakeGauges(), rulebook=FakeRulebook(), on_expired=told.append)
    lease = await granted(parts, budget())
    gauges.expired = [Expired("strange", 7), Expired(gauges.admitted[0][0], 1000)]
    await parts._upkeep.reap()
    lease.settle(1, 1)

    assert told == [Expired("strange", 7)] and parts.stats()["leases_expired"] == 2


@pytest.mark.parametrize("fault", [away(), ValueError("a bug")])
async def test_a_failed_round_is_followed_by_the_next(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    gauges = FakeGauges()
    parts = admission(gauges)
    await parts.start()
    gauges.fault = fault
    await asyncio.wait_for(gauges.stepped.wait(), 5)
    await parts.close(1.0)

    assert ("looking after leases failed" in caplog.text) is isinstance(fault, ValueError)


async def test_a_store_that_is_away_does_not_stop_the_start() -> None:
    gauges = FakeGauges()
    gauges.fault = away()
    parts = admission(gauges)
    await parts.start()
    await parts.close(1.0)

    assert gauges.steps[0] == "start" and gauges.steps[-1] == "drain"


async def test_shutdown_charges_what_is_left_and_waits_for_the_store() -> None:
    gauges = FakeGauges(Granted(), away(asked=False))
    parts = admission(gauges)
    await parts.start()
    one, other = await granted(parts, budget()), await granted(parts, budget(), fail_open=True)
    await parts.close(1.0)
    one.settle(5, 5)
    other.settle(5, 5)

    assert gauges.costs == [1000, 1000] and parts.stats()["leases_left_at_close"] == 2


async def test_a_move_of_which_nobody_knows_whether_it_happened_is_settled_under_a_new_id() -> None:
    gauges = FakeGauges(Granted(), away(), Granted())
    lease = await granted(admission(gauges), budget())
    assert not await lease.move(need(cost=2000)) and lease.reserved_nanousd == 0
    assert await lease.move(need()), "what may be gone must be set aside anew"
    lease.settle(900, 9)

    ids = [lease_id for lease_id, _, _ in gauges.admitted]
    assert [(one.lease_id, one.cost_nanousd) for one in gauges.settled if one.lease_id in ids] == [
        (ids[1], 0),
        (ids[0], 0),
        (ids[2], 900),
    ]
    assert gauges.admitted[2][2] is None
