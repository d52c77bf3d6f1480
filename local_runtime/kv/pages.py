"""Which sequence holds which pages of keys and values, and which pages hold what may come again. Knows numbers only.

A page holds 16 positions of all layers. Whole pages of what has been computed can be found by the tokens up to their
end (a radix tree), so that a sequence that begins alike starts behind them. A circle of callers shares pages; others
can't even learn, from how fast an answer comes, that something was asked before.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Final

PAGE: Final = 16
Tokens = Sequence[int]


class _Node:
    """A page that can be found behind `parent` by its tokens; `users` are sequences that read it or what is behind."""

    __slots__ = ("children", "key", "page", "parent", "users")

    def __init__(self, page: int, parent: _Node | None, key: tuple[object, ...]) -> None:
        self.page = page
        self.parent = parent
        self.key = key
        self.children = 0
        self.users = 0


class Held:
    """The pages of one sequence in order of positions, as C ints; the first of them are shared."""

    __slots__ = ("circle", "nodes", "table")

    def __init__(self, circle: Hashable) -> None:
        self.circle = circle
        self.table = array("i")
        self.nodes: list[_Node] = []

    @property
    def found(self) -> int:
        """Positions in pages that can be found by others."""
        return len(self.nodes) * PAGE


class PagePool:
    """Pages 0 .. capacity - 1. At most `kept` of them stay as they are when nobody uses them any more."""

    def __init__(self, capacity: int, kept: int) -> None:
        self.capacity = capacity
        self._kept = kept
        self._free = list(range(capacity))  # a heap: low numbers first, so that little memory is ever touched
        self._nodes: dict[tuple[object, ...], _Node] = {}
        self._idle = 0
        self._leaves: OrderedDict[_Node, None] = OrderedDict()  # idle with nothing behind, the longest unused first
        self.found_tokens = 0

    @property
    def available(self) -> int:
        """Pages that a sequence could get."""
        return len(self._free) + self._idle

    @property
    def idle(self) -> int:
        """Pages that are kept for what may come again."""
        return self._idle

    def open(self, tokens: Tokens, circle: Hashable = "", step: int = PAGE) -> Held:
        """Pages of the longest known beginning of `tokens`, in multiples of `step` positions; never all of them, since
        something must be computed to go on from."""
        held = Held(circle)
        for node in self._known(tokens, circle, step):
            self._use(held, node)
        self.found_tokens += held.found
        return held

    def known(self, tokens: Tokens, circle: Hashable = "", step: int = PAGE) -> int:
        """How many positions `open` would find."""
        return len(self._known(tokens, circle, step)) * PAGE

    def grow(self, held: Held, positions: int) -> bool:
        """See to pages for so many positions; False, and nothing has changed, where there are not enough."""
        more = -(-positions // PAGE) - len(held.table)
        if more > self.available:
            return False
        for _ in range(more):
            held.table.append(self._page())
        return True

    def publish(self, held: Held, tokens: Tokens, computed: int) -> None:
        """Let others find whole pages of the first `computed` of `tokens`; those that are known are shared instead."""
        for i in range(len(held.nodes), computed // PAGE):
            key = self._key(held, tokens, i)
            node = self._nodes.get(key)
            if node is None:
                node = self._nodes[key] = _Node(held.table[i], held.nodes[-1] if held.nodes else None, key)
                if node.parent is not None:
                    node.parent.children += 1
                node.users += 1
                held.nodes.append(node)
            else:
                heapq.heappush(self._free, held.table[i])
                self._use(held, node, at=i)

    def close(self, held: Held) -> None:
        """Give all pages back; what can be found is kept while there is room for it."""
        for page in held.table[len(held.nodes) :]:
            heapq.heappush(self._free, page)
        for node in reversed(held.nodes):
            node.users -= 1
            if node.users == 0:
                self._idle += 1
                if node.children == 0:
                    self._leaves[node] = None
        held.table, held.nodes = array("i"), []
        while self._idle > self._kept:
            self._forget()

    def _known(self, tokens: Tokens, circle: Hashable, step: int) -> list[_Node]:
        found: list[_Node] = []
        whole = (len(tokens) - 1) // step * step // PAGE
        above: object = circle
        while len(found) < whole:
            node = self._nodes.get((above, tuple(tokens[len(found) * PAGE : (len(found) + 1) * PAGE])))
            if node is None:
                break
            found.append(node)
            above = node
        return found[: len(found) * PAGE // step * step // PAGE]

    def _key(self, held: Held, tokens: Tokens, i: int) -> tuple[object, ...]:
        above: object = held.nodes[-1] if held.nodes else held.circle
        return above, tuple(tokens[i * PAGE : (i + 1) * PAGE])

    def _use(self, held: Held, node: _Node, at: int | None = None) -> None:
        if node.users == 0:
            self._idle -= 1
            self._leaves.pop(node, None)
        node.users += 1
        held.nodes.append(node)
        if at is None:
            held.table.append(node.page)
        else:
            held.table[at] = node.page

    def _page(self) -> int:
        if not self._free:
            self._forget()
        return heapq.heappop(self._free)

    def _forget(self) -> None:
        """Free the page that was used least lately among those that nothing depends on."""
        node, _ = self._leaves.popitem(last=False)
        del self._nodes[node.key]
        self._idle -= 1
        heapq.heappush(self._free, node.page)
        parent = node.parent
        if parent is not None:
            parent.children -= 1
            if parent.users == 0 and parent.children == 0:
                self._leaves[parent] = None
