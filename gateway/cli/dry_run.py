"""`fingerpost policy dry-run`: what a draft would have done on logged requests, and what the logs prove of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from gateway.build import build
from gateway.cli.database import existing_database
from gateway.cli.outcomes import bars
from gateway.cli.output import fail, print_json, print_table, settings_or_fail
from gateway.cli.policy import read_text
from gateway.ledger.faults import DatabaseUnavailable
from gateway.lifecycle.dry_run.rows import MOST_ROWS, Wanted
from gateway.lifecycle.dry_run.run import Watch, dry_run
from gateway.lifecycle.dry_run.store import RUNNING, Asked, ReportStore
from gateway.state import Gateway
from local_runtime.embedders.errors import EmbedderError
from policies.errors import PolicyError
from policies.load import parse_policy
from routers.training.support import Needs

NOTE_EVERY_S: Final = 1.0
_APART: Final = ("value", "low", "high", "surely_above")
COLUMNS: Final = ("of", "logged", "draft", "low", "high", "difference", "low", "high", "surely above")


@dataclass(frozen=True, slots=True)
class _Draft:
    """A text to judge, and whose requests it is judged by."""

    text: str
    name: str


def dry_run_command(
    draft: Annotated[str | None, typer.Argument(help="A file, a policy's name, or NAME@VERSION.")] = None,
    last: Annotated[int, typer.Option(help="So many requests.", min=1, max=MOST_ROWS)] = 50_000,
    days: Annotated[float | None, typer.Option(help="Only of the last days.", min=0.001, max=36_500)] = None,
    delta: Annotated[float, typer.Option(help="Intervals hold with 1 - delta.", min=1e-6, max=0.5)] = 0.05,
    effective_rows: Annotated[float, typer.Option(help="Effective decisions that a number needs.", min=2)] = 50.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Decide the last requests of a policy anew under a draft: which decisions change, and what the logs prove of it.

    Needs no prompts. Says nothing of traffic where the draft would ask models that were never tried: explore first.
    """
    if report is not None:
        _for_gateway(report)
        return
    if draft is None:
        fail("name a draft: a file, a policy's name, or NAME@VERSION")
    existing_database(settings_or_fail())
    asked = Asked(last, days, delta, effective_rows)
    with bars() as told:
        found = _within(lambda gateway: _judged_here(gateway, draft, asked, lambda what, share: told(what, share, "")))
    if as_json:
        print_json(found)
    else:
        _shown(found)


def _within(work: Callable[[Gateway], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
    """With a gateway's parts, none of which runs."""

    async def run() -> Mapping[str, Any]:
        gateway = build(settings_or_fail(preload=False))
        try:
            return await work(gateway)
        except PolicyError as error:
            fail(str(error))
        finally:
            if gateway.local.embedder is not None:
                await gateway.local.embedder.close()
            await gateway.engine.dispose()

    return asyncio.run(run())


async def _judged_here(gateway: Gateway, draft: str, asked: Asked, watch: Watch) -> Mapping[str, Any]:
    text = await read_text(gateway.policy_versions, reference=draft)
    return await _judged(gateway, _Draft(text, draft), asked, watch)


async def _judged(gateway: Gateway, draft: _Draft, asked: Asked, watch: Watch) -> Mapping[str, Any]:
    policy = parse_policy(draft.text, draft.name)
    active = gateway.policies.activate(policy, draft.name)
    embedder = gateway.local.embedder
    if not active.categoriser.ready and embedder is not None:
        try:
            await active.categoriser.prepare(embedder.embed)
        except EmbedderError as error:
            fail(f"the categories' examples can't be embedded: {error}", code=1)
    since = None if asked.days is None else time.time() - asked.days * 86_400
    wanted = Wanted(policy.name, asked.last, since)
    needs = Needs(effective_rows=asked.effective_rows)
    return await dry_run(gateway.engine, active, gateway.health, wanted, delta=asked.delta, needs=needs, watch=watch)


def _for_gateway(report_id: str) -> None:
    """Run what a gateway has noted down, and note down what comes of it."""
    try:
        _within(lambda gateway: _reported(gateway, report_id))
    except asyncio.CancelledError:
        fail("it was cancelled", code=1)


async def _reported(gateway: Gateway, report_id: str) -> Mapping[str, Any]:
    store = gateway.dry_runs.store
    report = await store.get(report_id)
    if report is None or report.state != RUNNING:
        fail(f"there is no dry run {report_id} that waits to be run", code=1)
    progress = _Progress(report.stage)
    draft = _Draft(report.body, "draft")
    working = asyncio.create_task(_judged(gateway, draft, Asked(**report.asked), progress.watch))
    beating = asyncio.create_task(_beat(store, report_id, progress, working))
    try:
        found = await working
        await store.finish(report_id, found)
    finally:
        beating.cancel()
    return found


@dataclass(slots=True)
class _Progress:
    stage: str
    done: float = 0.0

    def watch(self, stage: str, done: float) -> None:
        self.stage, self.done = stage, done


async def _beat(store: ReportStore, report_id: str, progress: _Progress, working: asyncio.Task[Any]) -> None:
    """Say how far it is, and end it once nobody wants it any more; an outage is waited out."""
    wanted = True
    while wanted:
        await asyncio.sleep(NOTE_EVERY_S)
        with suppress(DatabaseUnavailable):
            wanted = await store.note(report_id, progress.stage, progress.done)
    working.cancel()


def _shown(found: Mapping[str, Any]) -> None:
    """For people."""
    print(found["verdict"])
    for reason, count in found["left_out"].items():
        print(f"  left out: {count} {reason}")
    if "changes" not in found:
        return
    print()
    pairs = [(one["from"], one["to"], one["count"]) for one in found["changes"]["pairs"]]
    print_table(("from", "to", "decisions"), pairs)
    print()
    print_table(COLUMNS, [_row(name, one) for name, one in found["estimates"].items()])
    told = found["forecast"]
    if told["decided"]:
        print(
            f"\nForecast by the draft's own router, which proves nothing: quality {told['quality_before']:.3f} ->"
            f" {told['quality_after']:.3f}, cost {told['cost_usd_before']:.3g} -> {told['cost_usd_after']:.3g} USD"
        )


def _row(name: str, one: Mapping[str, Any]) -> tuple[object, ...]:
    if "refused" in one:
        return (name, *("-" for _ in range(7)), one["refused"])
    draft, apart = one["draft"]["dr"], one["difference"]
    numbers = (one["logged_mean"], *(draft[key] for key in ("value", "low", "high")))
    return (name, *(f"{value:.4g}" for value in (*numbers, *(apart[key] for key in _APART))))
