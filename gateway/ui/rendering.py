"""Templates, what they may call, and the files that browsers get beside pages. Knows no route."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from mimetypes import guess_type
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

BASE: Final = "/admin/console"
NONE: Final = "\u2013"  # an en dash
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that browsers get; `url` has its content's hash, so that it may be kept for ever."""

    body: bytes
    kind: str
    version: str
    url: str


class Rendering:
    """The templates of this folder. Nothing in them is taken for markup that was not written there."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        folder = Path(str(files("gateway.ui")))
        self.assets = {
            one.url.partition("?")[0].removeprefix(f"{BASE}/static/"): one for one in _assets(folder / "static")
        }
        self._env = Environment(
            loader=FileSystemLoader(folder / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._env.filters.update(
            usd=usd,
            ms=ms,
            number=number,
            percent=percent,
            json=_json,
            compact=compact,
            ago=lambda at: ago(at, now()),
            when=when,
            mean_of=mean_of,
            pair=lambda text: (text, text),
            minute=lambda at: "" if at is None else at.strftime("%Y-%m-%dT%H:%M"),
        )
        self._env.globals.update(base=BASE, asset=self._url)

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """A page, or a part of one."""
        return self._env.get_template(template).render(context)

    def _url(self, name: str) -> str:
        return self.assets[name].url


def _assets(folder: Path) -> Iterator[Asset]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".js", ".css", ".svg"):
            body = path.read_bytes()
            kind = guess_type(path.name)[0] or "application/octet-stream"
            name = path.relative_to(folder).as_posix()
            version = hashlib.sha256(body).hexdigest()[:12]
            yield Asset(body, kind, version, f"{BASE}/static/{name}?v={version}")


def usd(nanousd: float | None) -> str:
    """Nano-dollars as dollars, with as many digits as tell something."""
    if nanousd is None:
        return NONE
    dollars = nanousd / _NANO
    if dollars == 0 or abs(dollars) >= 100:
        return f"${dollars:,.0f}" if dollars else "$0"
    if abs(dollars) >= 1:
        return f"${dollars:,.2f}"
    return (
        f"${dollars:.3f}" if abs(dollars) >= 0.01 else f"${dollars:.2g}" if abs(dollars) >= 1e-4 else f"${dollars:.1e}"
    )


def ms(value: float | None) -> str:
    """Milliseconds, or seconds from one on."""
    if value is None:
        return NONE
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def number(value: float | None) -> str:
    """With separators of thousands."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def percent(share: float | None) -> str:
    """A share of one."""
    if share is None:
        return NONE
    return f"{share:.1%}" if 0 < share < 0.1 or 0.9 < share < 1 else f"{share:,.0%}"


def when(at: float | None) -> str:
    """Unix seconds as a time in UTC."""
    return NONE if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(at: float | datetime | None, now: float) -> Markup:
    """How long since (or until), with the time itself behind it."""
    if at is None:
        return Markup("{}").format(NONE)
    at = at.timestamp() if isinstance(at, datetime) else at
    age_s = now - at
    said = _span(abs(age_s))
    said = "just now" if abs(age_s) < 1 else f"{said} ago" if age_s > 0 else f"in {said}"
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(stamp, when(at), said)


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def mean_of(rows: Sequence[Any], name: str) -> float:
    """The mean of a field over rows that stand for so many `requests` each."""
    return float(sum(getattr(row, name) * row.requests for row in rows) / sum(row.requests for row in rows))


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), default=str, ensure_ascii=False)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, default=str, ensure_ascii=False)
