"""Which layers of a model are computed when some are left out. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Layers = tuple[int, ...]


def unified(count: int, keep: int) -> Layers:
    """`keep` of `count` layers, those left out spread evenly, the first and the last kept (Unified Layer Skipping,
    arXiv:2404.06954)."""
    _check(count, keep)
    left_out = count - keep
    gone = {1 + int((i + 0.5) * (count - 2) / left_out) for i in range(left_out)}
    return tuple(i for i in range(count) if i not in gone)


def least_change(changes: Sequence[float], keep: int) -> Layers:
    """All but those that change what goes through them least, the first and the last kept. `changes`: of each layer the
    L2 norm of what it adds, as a share of what comes in."""
    count = len(changes)
    _check(count, keep)
    gone = set(sorted(range(1, count - 1), key=changes.__getitem__)[: count - keep])
    return tuple(i for i in range(count) if i not in gone)


def greedy(count: int, keep: int, loss: Callable[[Layers], float]) -> list[Layers]:
    """The layers after each is left out in turn, always the one without which the loss is least; the best of each
    number from `count` - 1 down to `keep`."""
    _check(count, keep)
    layers, found = tuple(range(count)), list[Layers]()
    while len(layers) > keep:
        without = [layers[:i] + layers[i + 1 :] for i in range(len(layers))]
        layers = min(without, key=loss)
        found.append(layers)
    return found


def parsed(text: str, count: int) -> Layers:
    """A number of layers, spread evenly, or the layers themselves as 0-11,14,16-29; a ValueError says what is wrong."""
    text = text.strip()
    if text.isdecimal():
        return unified(count, int(text))
    try:
        ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
        listed = [i for part in ends for i in range(part[0], part[-1] + 1)] if all(len(e) < 3 for e in ends) else []
    except ValueError:
        listed = []
    if not listed or listed != sorted(set(listed)) or listed[-1] >= count:
        raise ValueError(f"layers must be a number or a rising list such as 0-11,14 below {count}, not {text[:80]!r}")
    return tuple(listed)


def _check(count: int, keep: int) -> None:
    if not min(2, count) <= keep <= count:
        raise ValueError(f"layers must lie between {min(2, count)} and the model's {count}, not {keep}")
