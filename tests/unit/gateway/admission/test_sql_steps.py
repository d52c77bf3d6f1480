"""How steps are put together and taken apart again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.rules import Budget, Period, Scope, Window, WindowKind
from gateway.admission.sql_steps import Admit, Batch, End, Extend, touched


def budget(name: str, window: Window = Window()) -> Budget:  # noqa: B008 - it is frozen
    return Budget(name, Scope.KEY, "k", 100, window)


def test_a_replacement_touches_the_budgets_of_both_leases() -> None:
    step = Admit("b", [budget("new")], 1, "a", [budget("old")])

    assert [one.id for one in touched(step)] == ["new", "old"]
    assert Batch([], [step]).budget_ids() == ["new", "old"]


def test_a_batch_sees_each_budget_with_one_window_only() -> None:
    batch = Batch()
    daily = budget("a", Window(WindowKind.CALENDAR, Period.DAY))

    assert batch.fits(Admit("1", [budget("a")], 1)) and batch.fits(Extend("2", [budget("a"), budget("b")], 1))
    assert not batch.fits(Admit("3", [daily], 1))


def test_a_lease_may_take_the_place_of_one_from_before_its_budget_s_window_was_changed() -> None:
    daily = budget("a", Window(WindowKind.CALENDAR, Period.DAY))

    assert Batch().fits(Admit("2", [budget("a")], 1, "1", [daily]))


@given(st.integers(0, 6), st.integers(0, 6))
def test_halves_hold_the_same_steps_in_the_same_order_and_are_smaller(ends: int, steps: int) -> None:
    batch = Batch(
        [End(f"e{number}", [], 0, 0, stray=False) for number in range(ends)],
        [Extend(f"s{number}", [], 1) for number in range(steps)],
    )
    if len(batch) < 2:
        return
    first, second = batch.halves()

    assert first.ends + second.ends == batch.ends and first.steps + second.steps == batch.steps
    assert 0 < len(first) < len(batch) and 0 < len(second) < len(batch)
    assert not (first.steps and second.ends)  # ends come first
