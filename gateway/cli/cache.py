"""`fingerpost cache`: what the cache makes of requests, without a gateway that runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.cache.pairs import Verdict, judge, read_pairs
from gateway.cli.cache_calibrate import calibrate_stream
from gateway.cli.cache_replay import replay_stream
from gateway.cli.output import fail, print_json, print_table

app = typer.Typer(help="The cache of answers.", no_args_is_help=True)
app.command("calibrate")(calibrate_stream)
app.command("replay")(replay_stream)


@app.callback()
def _group() -> None:
    """The cache of answers."""


@app.command()
def pairs(
    file: Annotated[Path, typer.Option(help="JSON lines: id, a, b, tenant_a, tenant_b, may_share, reason.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say of each pair whether request b may be served a's answer; exits 1 where that is not what the file says."""
    try:
        with file.open("rb") as lines:
            verdicts = [judge(pair) for pair in read_pairs(lines)]
    except ValueError as error:
        fail(f"{file}: {error}")
    if not verdicts:
        fail(f"{file} has no pairs")
    wrong = [one for one in verdicts if not one.is_right]
    if as_json:
        print_json({"pairs": len(verdicts), **_counts(verdicts), "wrong": [asdict(one) for one in wrong]})
    else:
        counts = _counts(verdicts)
        print(f"{len(verdicts)} pairs: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
        if wrong:
            rows = [(one.id, _must(one), one.served or "not served", one.why, one.reason) for one in wrong]
            print_table(("pair", "must be", "is", "because", "reason in the file"), rows)
    if wrong:
        raise typer.Exit(1)


def _counts(verdicts: list[Verdict]) -> dict[str, int]:
    """Of those that must, must not and may be served, how many are."""
    served = Counter(one.may_share for one in verdicts if one.served is not None)
    all_of = Counter(one.may_share for one in verdicts)
    return {
        "may share, served": served[True],
        "may share, not served": all_of[True] - served[True],
        "must not share, served": served[False],
        "must not share, not served": all_of[False] - served[False],
        "optional, served": served[None],
        "optional, not served": all_of[None] - served[None],
    }


def _must(verdict: Verdict) -> str:
    return "served" if verdict.may_share else "not served"
