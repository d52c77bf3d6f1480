"""Dry runs: how far one is, and what it found, in words, tables and a plot of who would be asked."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.api.admin.access import PathId, gateway_of
from gateway.errors import NotFound
from gateway.lifecycle.dry_run.store import RUNNING
from gateway.ui.answers import is_htmx, page, to
from gateway.ui.doors import Editing, Visitor

router = APIRouter(prefix="/dry-runs")
NAMES: Final = {"quality": "Quality", "cost_usd": "Cost of a request, $", "worth": "Worth to the objective"}


@router.get("/{report_id}")
async def show(report_id: PathId, request: Request, session: Visitor) -> Response:
    """The page; htmx asks again for its part that changes while it runs."""
    report = await gateway_of(request).dry_runs.store.get(report_id)
    if report is None:
        raise NotFound(f"There is no dry run '{report_id[:80]}'.")
    shown: dict[str, Any] = {"report": report, "running": report.state == RUNNING, "names": NAMES}
    shown["intervals"] = _intervals(report.result or {})
    return page(request, "dry_run_live.html" if is_htmx(request) else "dry_run.html", session, **shown)


@router.post("/{report_id}/cancel")
async def cancel(report_id: PathId, request: Request, acting: Editing) -> Response:
    """End it."""
    await gateway_of(request).dry_runs.store.cancel(report_id, actor=acting.session.subject)
    return to(request, f"/dry-runs/{report_id}", "The dry run is cancelled.")


def _intervals(result: Any) -> dict[str, dict[str, float]]:
    """Differences as places on a line of 100, 0 in its middle; those that have a number."""
    found = {}
    for name, one in result.get("estimates", {}).items():
        if "difference" not in one:
            continue
        apart = one["difference"]
        reach = max(abs(apart["low"]), abs(apart["high"]), 1e-12)
        found[name] = {key: 50 + 46 * apart[key] / reach for key in ("value", "low", "high")}
    return found
