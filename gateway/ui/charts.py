"""What a chart shows, in the shape that `console.js` draws and `parts.html` lists beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

Kind = Literal["line", "area", "bars", "dots"]
Unit = Literal["usd", "ms", "share", ""]


def series(label: str, values: Sequence[float | None], said: Callable[[Any], str], **look: Any) -> dict[str, Any]:
    """A line of a chart; `said` is how a figure is told to people. `dash` in `look` is that of the canvas."""
    return {"label": label, "values": list(values), "said": [said(value) for value in values], **look}


def chart(
    at: Sequence[float],
    *lines: dict[str, Any],
    kind: Kind = "area",
    unit: Unit = "",
    x: str = "Time (UTC)",
    time: bool = True,
    x_unit: Unit = "",
) -> dict[str, Any]:
    """`at` are Unix seconds, or with `time` false numbers of `x_unit`; each line has as many values."""
    return {"at": list(at), "x": x, "time": time, "x_unit": x_unit, "unit": unit, "kind": kind, "series": list(lines)}
