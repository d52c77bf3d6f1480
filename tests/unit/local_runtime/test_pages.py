"""Pages of keys and values: who has which, what is found again, what is forgotten."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from local_runtime.kv.pages import PAGE, Held, PagePool


def text(*words: int) -> list[int]:
    """A page for each word."""
    return [word for word in words for _ in range(PAGE)]


def computed(pool: PagePool, tokens: list[int], circle: str = "") -> Held:
    """Pages of tokens that have all been computed."""
    held = pool.open(tokens, circle)
    assert pool.grow(held, len(tokens))
    pool.publish(held, tokens, len(tokens))
    return held


def test_what_was_computed_is_found_by_who_begins_alike() -> None:
    pool = PagePool(20, kept=10)
    first = computed(pool, [*text(1, 2, 3), 9])

    second = pool.open(text(1, 2, 7, 8))

    assert list(second.table) == list(first.table[:2]) and second.found == 2 * PAGE
    assert pool.found_tokens == 2 * PAGE


def test_something_is_always_left_to_compute() -> None:
    pool = PagePool(20, kept=10)
    pool.close(computed(pool, text(1, 2)))

    assert [pool.open(tokens).found for tokens in (text(1, 2), [*text(1, 2), 3], text(1)[:5])] == [PAGE, 2 * PAGE, 0]


def test_circles_find_nothing_of_each_other() -> None:
    pool = PagePool(20, kept=10)
    pool.close(computed(pool, text(1, 2, 3), circle="a"))

    assert (pool.open(text(1, 2, 3), "b").found, pool.known(text(1, 2, 3), "a")) == (0, 2 * PAGE)


def test_larger_steps_find_multiples_of_themselves() -> None:
    pool = PagePool(20, kept=20)
    pool.close(computed(pool, [*text(1, 2, 3, 4, 5, 6), 7]))

    assert [pool.known([*text(1, 2, 3, 4, 5, 6), 7], step=step) // PAGE for step in (16, 32, 64)] == [6, 6, 4]


def test_two_who_computed_the_same_share_it_from_then_on() -> None:
    pool = PagePool(20, kept=10)
    one, two = pool.open(text(1, 2)), pool.open(text(1, 2))
    for held in (one, two):
        pool.grow(held, 2 * PAGE)
    before = pool.available

    for held in (one, two):
        pool.publish(held, text(1, 2), 2 * PAGE)

    assert one.table == two.table and pool.available == before + 2


def test_the_longest_unused_end_is_forgotten_first() -> None:
    pool = PagePool(20, kept=3)
    for tail in (5, 6, 7):
        pool.close(computed(pool, text(1, tail)))

    assert pool.idle == 3
    assert [pool.known([*text(1, tail), 0]) // PAGE for tail in (5, 6, 7)] == [1, 2, 2]


def test_kept_pages_give_way_to_those_who_need_them() -> None:
    pool = PagePool(4, kept=4)
    pool.close(computed(pool, text(1, 2, 3)))
    held = pool.open(text(9, 9, 9, 9))

    assert pool.grow(held, 4 * PAGE) and pool.known([*text(1, 2, 3), 0]) == 0


def test_growing_beyond_all_pages_changes_nothing() -> None:
    pool = PagePool(4, kept=4)
    held = pool.open([1])

    assert (pool.grow(held, 5 * PAGE), len(held.table), pool.available) == (False, 0, 4)


class Pages(RuleBasedStateMachine):
    """No page is two things at once, whatever comes and goes; what is found says what it was found by."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(12, kept=5)
        self.running: list[tuple[Held, list[int], int]] = []
        self.content: dict[int, list[int]] = {}

    @rule(words=st.lists(st.integers(0, 2), min_size=1, max_size=6), extra=st.integers(0, PAGE - 1))
    def begin(self, words: list[int], extra: int) -> None:
        tokens = [*text(*words), *[3] * extra]
        held = self.pool.open(tokens)
        for i in range(held.found // PAGE):
            assert self.content[held.table[i]] == tokens[: (i + 1) * PAGE]
        if self.pool.grow(held, len(tokens)):
            self.running.append((held, tokens, held.found))
        else:
            self.pool.close(held)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100), more=st.integers(1, 40))
    def compute(self, which: int, more: int) -> None:
        at = which % len(self.running)
        held, tokens, done = self.running[at]
        end = min(len(tokens), done + more)
        for i in range(done // PAGE, end // PAGE):
            self.content[held.table[i]] = tokens[: (i + 1) * PAGE]
        self.pool.publish(held, tokens, end)
        self.running[at] = held, tokens, end

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100))
    def end(self, which: int) -> None:
        held, _, _ = self.running.pop(which % len(self.running))
        self.pool.close(held)

    @invariant()
    def every_page_has_one_place(self) -> None:
        own = [page for held, _, _ in self.running for page in held.table[held.found // PAGE :]]
        shared = {page for held, _, _ in self.running for page in held.table[: held.found // PAGE]}
        assert len(own) == len(set(own)) and not shared & set(own)
        assert len(own) + len(shared) + self.pool.available == self.pool.capacity
        assert self.pool.idle <= 5


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
