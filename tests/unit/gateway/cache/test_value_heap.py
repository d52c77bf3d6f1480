"""The order of values: always the least first, whatever is put, moved or taken out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.value_heap import ValueHeap

STEPS = st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.none() | st.integers(0, 9)), max_size=60)


@given(STEPS)
def test_the_least_is_the_least_after_every_step(steps: list[tuple[str, int | None]]) -> None:
    heap, model = ValueHeap(), dict[str, int]()
    for name, number in steps:
        if number is None:
            heap.discard(name)
            model.pop(name, None)
        else:
            heap.set(name, number)
            model[name] = number
        assert len(heap) == len(model)
        assert not model or heap.least() == min((value, one) for one, value in model.items())
