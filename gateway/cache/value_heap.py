"""Names in the order of a number: the least at once, any one changed or taken out in O(log n), without scans."""

from __future__ import annotations


class ValueHeap:
    """A binary heap that knows where each name stands; of equal numbers the lesser name comes first."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, str]] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def least(self) -> tuple[float, str]:
        """The least number with its name; `IndexError` where there is none."""
        return self._rows[0]

    def set(self, name: str, number: float) -> None:
        """Put a name in its order, or to a new place."""
        place = self._places.get(name)
        if place is None:
            place = len(self._rows)
            self._rows.append((number, name))
        self._settle(place, (number, name))

    def discard(self, name: str) -> None:
        """Take a name out, if it is in."""
        place = self._places.pop(name, None)
        last = self._rows.pop() if place is not None else None
        if place is not None and last is not None and place < len(self._rows):
            self._settle(place, last)

    def _settle(self, place: int, row: tuple[float, str]) -> None:
        """Let a row take the free place, or one above or below it."""
        rows, places = self._rows, self._places
        while place and row < rows[above := (place - 1) >> 1]:
            rows[place] = rows[above]
            places[rows[place][1]] = place
            place = above
        while (below := 2 * place + 1) < len(rows):
            if below + 1 < len(rows) and rows[below + 1] < rows[below]:
                below += 1
            if row <= rows[below]:
                break
            rows[place] = rows[below]
            places[rows[place][1]] = place
            place = below
        rows[place] = row
        places[row[1]] = place
