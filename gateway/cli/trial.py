"""`fingerpost trial`: drafts on trial, straight in the database; running gateways hear of it within a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from gateway.build import build
from gateway.cli.database import existing_database
from gateway.cli.output import fail, print_fields, print_json, print_rows, settings_or_fail
from gateway.cli.policy import actor
from gateway.errors import GatewayError
from gateway.lifecycle.trials.assignment import UnitKind
from gateway.lifecycle.trials.desk import Wish
from gateway.lifecycle.trials.reports import shown
from gateway.lifecycle.trials.service import Trials
from gateway.lifecycle.trials.terms import Limits, Metric, Mode, State, Trial

app = typer.Typer(help="Drafts on trial: shadow and canary.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="The trial's id.")]
Note = Annotated[str, typer.Option(help="Why, for those who look later.")]
Revision = Annotated[int | None, typer.Option(help="Only if the trial is still at this revision.", min=1)]
Result = TypeVar("Result")
_USUAL = Limits({})


def with_trials(work: Callable[[Trials], Awaitable[Result]]) -> Result:
    """Run a piece of work on the configured database and policies; what is refused ends in one clear line."""
    settings = settings_or_fail()
    existing_database(settings)

    async def run() -> Result:
        gateway = build(settings.model_copy(update={"redis_url": ""}))
        try:
            await gateway.policies.load()
            return await work(gateway.trials)
        finally:
            await gateway.engine.dispose()

    try:
        return asyncio.run(run())
    except GatewayError as error:
        fail(str(error), code=1)


@app.command()
def start(
    policy: Annotated[str, typer.Argument(help="The policy's name.")],
    version: Annotated[int, typer.Argument(help="The version on trial.", min=1)],
    mode: Annotated[Mode, typer.Option(help="Decide only, or serve a share.")] = Mode.CANARY,
    share: Annotated[float, typer.Option(help="The draft's share of all units.")] = 0.05,
    scope: Annotated[str, typer.Option(help="organisation:ID, team:ID or key:ID; everybody without it.")] = "",
    unit: Annotated[UnitKind, typer.Option(help="What stays in one arm.")] = UnitKind.CALLER,
    tolerance: Annotated[list[str] | None, typer.Option(help="METRIC=HOW MUCH WORSE; repeat for more.")] = None,
    alpha: Annotated[float, typer.Option(help="The chance of a false verdict.")] = _USUAL.alpha,
    slow_ms: Annotated[float | None, typer.Option(help="Above this a request is slow.")] = None,
    cost_cap_nanousd: Annotated[int | None, typer.Option(help="Of one request no more cost counts.", min=1)] = None,
    window_s: Annotated[float, typer.Option(help="How long a unit counts.")] = _USUAL.window_s,
    settle_s: Annotated[float, typer.Option(help="Until its requests are in the ledger.")] = _USUAL.settle_s,
    min_units: Annotated[int, typer.Option(help="Of the canary, for a promotion.", min=1)] = _USUAL.min_units,
    longest_s: Annotated[float, typer.Option(help="It ends by itself after so many seconds.")] = _USUAL.longest_s,
    auto_promote: Annotated[bool, typer.Option(help="Put the draft in force once it is proved.")] = False,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Put a version of a policy on trial beside what is in force."""
    limits = Limits(
        {},
        alpha=alpha,
        unit=unit,
        slow_ms=slow_ms,
        cost_cap_nanousd=cost_cap_nanousd,
        window_s=window_s,
        settle_s=settle_s,
        min_units=min_units,
        longest_s=longest_s,
        auto_promote=auto_promote,
    )
    wish = Wish(policy, version, mode, share, scope, note, _tolerances(tolerance), limits)
    _print(with_trials(lambda trials: trials.desk.start(wish, actor())), as_json=as_json)


@app.command("list")
def list_trials(
    policy: Annotated[str | None, typer.Option(help="Of this policy only.")] = None, as_json: Json = False
) -> None:
    """All trials, the newest first."""
    rows = with_trials(lambda trials: trials.reports.newest(policy))
    print_rows(("id", "policy", "version_id", "scope", "mode", "share", "state", "verdict"), rows, as_json=as_json)


@app.command()
def show(trial_id: Id, as_json: Json = False) -> None:
    """How a trial stands."""

    async def work(trials: Trials) -> Mapping[str, Any]:
        return await trials.reports.one(await trials.desk.get(trial_id))

    found = with_trials(work)
    if as_json:
        print_json(found)
        return
    print_fields({name: found[name] for name in ("id", "policy", "version_id", "mode", "share", "state", "verdict")})
    rows = [{"metric": name, **one} for name, one in found.get("metrics", {}).items()]
    if rows:
        columns = ("metric", "control", "canary", "effect", "low", "high", "tolerance", "p_harm", "p_no_harm")
        print_rows(columns, [{name: _short(one[name]) for name in columns} for one in rows], as_json=False)


@app.command("share")
def change_share(trial_id: Id, share: float, if_revision: Revision = None, as_json: Json = False) -> None:
    """Give the draft more or less; who was in the canary arm of a smaller share stays in it."""
    _print(
        with_trials(lambda trials: trials.desk.share(trial_id, share, actor=actor(), if_revision=if_revision)),
        as_json=as_json,
    )


@app.command()
def stop(trial_id: Id, note: Note = "", if_revision: Revision = None, as_json: Json = False) -> None:
    """End a trial; what is in force serves everybody."""
    _end(trial_id, State.STOPPED, note, if_revision, as_json=as_json)


@app.command()
def rollback(trial_id: Id, note: Note = "", if_revision: Revision = None, as_json: Json = False) -> None:
    """End a trial because the draft is bad."""
    _end(trial_id, State.ROLLED_BACK, note, if_revision, as_json=as_json)


@app.command()
def promote(trial_id: Id, note: Note = "", if_revision: Revision = None, as_json: Json = False) -> None:
    """Put the draft in force, whether anything is proved or not, and end the trial."""
    reason = note or "promoted by hand"
    _print(
        with_trials(lambda trials: trials.desk.promote(trial_id, reason, actor=actor(), if_revision=if_revision)),
        as_json=as_json,
    )


def _end(trial_id: str, state: State, note: str, if_revision: int | None, *, as_json: bool) -> None:
    reason = note or f"{state} by hand"
    _print(
        with_trials(lambda trials: trials.desk.end(trial_id, state, reason, actor=actor(), if_revision=if_revision)),
        as_json=as_json,
    )


def _print(trial: Trial, *, as_json: bool) -> None:
    if as_json:
        print_json(shown(trial))
    else:
        print_fields({"id": trial.id, "state": trial.state, "share": trial.share, "revision": trial.revision})


def _tolerances(given: list[str] | None) -> dict[Metric, float] | None:
    if not given:
        return None
    found = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            found[Metric(name)] = float(value)
        except ValueError:
            fail(f"--tolerance {one}: must be one of {', '.join(Metric)}, an = and a number")
    return found


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
