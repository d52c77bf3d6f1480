"""Trials: drafts beside what is in force, as shadows or for a share of the traffic, and how that goes."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.api.admin.access import PathId, gateway_of
from gateway.api.admin.trials import NewTrial, wish_of
from gateway.errors import GatewayError, InvalidRequest
from gateway.lifecycle.trials.assignment import UnitKind
from gateway.lifecycle.trials.terms import Metric, State
from gateway.ui.answers import is_htmx, page, to
from gateway.ui.charts import chart, series
from gateway.ui.doors import Editing, Form, Visitor
from gateway.ui.forms import body_of, faults_of
from gateway.ui.sessions import Session

router = APIRouter(prefix="/trials")
NAMES: Final = {
    Metric.ERRORS: "Failed requests",
    Metric.COST: "Cost",
    Metric.LATENCY: "Slow requests",
    Metric.FEEDBACK: "Bad feedback",
}
MOST_LOOKS: Final = 400


@router.get("")
async def list_trials(request: Request, session: Visitor) -> Response:
    """The newest first."""
    gateway = gateway_of(request)
    rows = await gateway.trials.reports.newest(None, 100)
    return page(request, "trials.html", session, rows=rows, refused=gateway.trials.book.refused)


@router.get("/new")
async def begin(request: Request, session: Visitor, policy: str = "", version: str = "") -> Response:
    """What is to be tried, and how."""
    return await _form(request, session, Form({"policy": [policy], "version": [version]}))


@router.post("")
async def start(request: Request, acting: Editing) -> Response:
    """Begin; every worker takes part within a second."""
    session, form, gateway = acting.session, acting.form, gateway_of(request)
    given = form.given("policy", "version", "mode", "scope", "unit", "alpha", "min_units", "note")
    try:
        share = {"share": _share(form.get("percent", ""))}
        body = body_of(NewTrial, {**given, **share, "auto_promote": form.get("auto_promote") == "on"})
        trial = await gateway.trials.desk.start(wish_of(body), session.subject)
    except GatewayError as error:
        return await _form(request, session, form, error)
    await gateway.trials.book.refresh()
    await gateway.changes.poll()
    return to(request, f"/trials/{trial.id}", "The trial has begun, on all workers within a second.")


@router.get("/{trial_id}")
async def show(trial_id: PathId, request: Request, session: Visitor) -> Response:
    """How it stands; htmx asks again for its part that changes while it runs."""
    gateway = gateway_of(request)
    trial = await gateway.trials.desk.get(trial_id)
    told = await gateway.trials.reports.one(trial)
    shown: dict[str, Any] = {
        "trial": trial,
        "told": told,
        "running": trial.state is State.RUNNING,
        "names": NAMES,
        "plots": _plots(told.get("looks") or []),
        "refused": gateway.trials.book.refused.get(trial.id),
    }
    return page(request, "trial_live.html" if is_htmx(request) else "trial.html", session, **shown)


@router.post("/{trial_id}/share")
async def share(trial_id: PathId, request: Request, acting: Editing) -> Response:
    """Give the draft more or less."""
    gateway, form = gateway_of(request), acting.form
    percent = _share(form.get("percent", ""))
    await gateway.trials.desk.share(trial_id, percent, actor=acting.session.subject, if_revision=_revision(form))
    await gateway.trials.book.refresh()
    return to(request, f"/trials/{trial_id}", f"The draft now has {percent:.1%}.")


@router.post("/{trial_id}/{act}")
async def end(trial_id: PathId, act: str, request: Request, acting: Editing) -> Response:
    """Stop it, call the draft bad, or put it in force."""
    gateway, actor, revision = gateway_of(request), acting.session.subject, _revision(acting.form)
    desk = gateway.trials.desk
    if act == "promote":
        await desk.promote(trial_id, "promoted by hand", actor=actor, if_revision=revision)
        said = "The draft is in force, on all workers within a second."
    elif act in ("stop", "rollback"):
        state = State.STOPPED if act == "stop" else State.ROLLED_BACK
        await desk.end(trial_id, state, f"{state} by hand", actor=actor, if_revision=revision)
        said = "The trial has ended; what is in force serves everybody."
    else:
        raise InvalidRequest(f"A trial can be stopped, rolled back or promoted, not '{act[:40]}'.", param="act")
    await gateway.trials.book.refresh()
    return to(request, f"/trials/{trial_id}", said)


async def _form(request: Request, session: Session, form: Form, error: GatewayError | None = None) -> Response:
    gateway = gateway_of(request)
    status = error.http_status if error is not None else 200
    faults = faults_of(error) if isinstance(error, InvalidRequest) else {"": error.message} if error else {}
    policy = form.get("policy", "")
    ready = [one for one in await gateway.policy_versions.history(policy) if one.state == "ready"] if policy else []
    shown: dict[str, Any] = {"form": form, "faults": faults, "ready": ready}
    shown["policies"] = [("", "choose one"), *((name, name) for name in gateway.policies.names())]
    shown["units"] = [(str(one), str(one)) for one in UnitKind]
    return page(request, "trial_new.html", session, status, **shown)


def _share(percent: str) -> float:
    try:
        return float(percent) / 100
    except ValueError:
        raise InvalidRequest("Give a number of per cent, such as 5.", param="share") from None


def _revision(form: Form) -> int | None:
    return int(form["revision"]) if form.get("revision", "").isdecimal() else None


def _plots(looks: list[dict[str, Any]]) -> dict[Metric, dict[str, Any]]:
    """Of each metric how its interval has come together."""
    kept = looks[:: max(len(looks) // MOST_LOOKS, 1)]
    found = {}
    for metric in NAMES:
        points = [(one["at"], one["metrics"][metric]) for one in kept if one.get("metrics", {}).get(metric)]
        if len(points) > 1:
            lines = [
                series(name, [point.get(key) for _, point in points], _figure)
                for name, key in (("at most", "high"), ("estimate", "effect"), ("at least", "low"))
            ]
            found[metric] = chart([at for at, _ in points], *lines, kind="line")
    return found


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4g}"
