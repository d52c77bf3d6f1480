"""`fingerpost cache calibrate`: train the cache's verifier on a labelled stream and certify its thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway.cache.calibrate import Calibrated, Goal, calibrate, told_of
from gateway.cache.config import write
from gateway.cache.learner import Stream
from gateway.cache.replay import read_stream
from gateway.cli.cache_log import logged_pairs, recertify, to_learn_from
from gateway.cli.outcomes import bars, reader
from gateway.cli.output import fail, print_json, print_table, settings_or_fail
from gateway.ledger.cache_evidence import CheckedPair
from gateway.settings import Settings

COLUMNS = ("category", "threshold", "requests", "hits", "hit %", "wrong", "wrong %", "bound %")


def calibrate_stream(
    out: Annotated[Path, typer.Option(help="The configuration; its model lies beside it with the suffix npz.")],
    stream: Annotated[Path | None, typer.Option(help="JSON Lines with id, query, category and answer_id.")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="The share of hits that may be wrong.", min=0.0001, max=0.5)
    ] = None,
    from_log: Annotated[
        bool,
        typer.Option(help="Learn from the ledger's checks too; without a stream: have them judge what is in use."),
    ] = False,
    tenant: Annotated[str | None, typer.Option(help="With --from-log: this one's checks only, as team:ID.")] = None,
    also: Annotated[
        list[Path] | None, typer.Option(help="More labelled rows to learn from; they certify nothing.")
    ] = None,
    of_requests: Annotated[bool, typer.Option(help="Alpha is a share of requests instead.")] = False,
    each: Annotated[bool, typer.Option(help="Certify every category by itself, not all together.")] = False,
    estimate: Annotated[bool, typer.Option(help="Hold what was observed against alpha, not its bound.")] = False,
    by_answer: Annotated[
        bool, typer.Option(help="Count hits of the same answers as dependent; leave out categories with few answers.")
    ] = False,
    least_answers: Annotated[int, typer.Option(help="With --by-answer, or --from-log alone: how many.", min=1)] = 30,
    seed: Annotated[int, typer.Option(help="Same stream and seed, same configuration.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Choose the loosest thresholds whose 95 % bound on wrong hits is at most alpha; exact hits only where none is.

    With --from-log and no stream the configuration in use is made as strict as its own checks demand, never looser.
    """
    if out.suffix == ".npz":
        fail("--out names the configuration: give it the suffix json")
    if tenant is not None and not from_log:
        fail("--tenant chooses checks of the log: give --from-log as well")
    settings = settings_or_fail()
    pairs = logged_pairs(settings, tenant) if from_log else []
    if stream is None:
        if not from_log:
            fail("give --stream FILE, or --from-log to have the configuration in use judged by its own checks")
        if also or alpha is not None or of_requests or each or estimate:
            fail("--also, --alpha, --of-requests, --each and --estimate go with --stream: there are settings already")
        recertify(settings, pairs, out, least_answers, as_json=as_json)
        return
    if alpha is None:
        fail("--stream needs --alpha: the share of hits that may be wrong")
    goal = Goal(
        alpha,
        of_requests=of_requests,
        each=each,
        certain=not estimate,
        by_answer=by_answer,
        least_answers=least_answers,
        seed=seed,
    )
    _on_stream(settings, (stream, *(also or ())), pairs if from_log else None, goal, out, as_json=as_json)


def _on_stream(
    settings: Settings,
    files: Sequence[Path],
    pairs: Sequence[CheckedPair] | None,
    goal: Goal,
    out: Path,
    *,
    as_json: bool,
) -> None:
    """Train on all files and the log's pairs, certify on the first one, write and tell."""
    try:
        streams = [read_stream(file) for file in files]
        with bars() as watch:
            read = reader(settings, watch)
            first, *others = (Stream(rows, read.embed([row.query for row in rows])) for rows in streams)
            logged = to_learn_from(pairs, read) if pairs is not None else None
            made = calibrate(first, others, read.embedder, goal, lambda what, share: watch(what, share, ""), logged)
    except ValueError as error:
        fail(str(error))
    write(out, made.model, made.thresholds, told_of(made, goal), made.served.model if made.served else None)
    if as_json:
        print_json([dict(zip(COLUMNS, row, strict=True)) for row in _shown(made)])
    else:
        print_table(COLUMNS, _shown(made))
    if all(one.threshold is None for one in made.certificates.values()):
        print("Nothing is certified: exact hits only.")


def _shown(made: Calibrated) -> list[tuple[object, ...]]:
    return [
        (
            name,
            "exact only" if one.threshold is None else f"{one.threshold:g}",
            one.tally.requests,
            one.tally.hits,
            f"{100 * one.tally.hits / max(1, one.tally.requests):.2f}",
            one.tally.wrong,
            f"{100 * one.tally.wrong / max(1, one.tally.hits):.2f}",
            f"{100 * one.bound:.2f}",
        )
        for name, one in made.certificates.items()
    ]
