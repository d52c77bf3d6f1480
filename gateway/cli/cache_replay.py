"""`fingerpost cache replay`: what the semantic cache would have served on a labelled stream, a decision a line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cache.config import in_use, read
from gateway.cache.replay import entries, judge_of, read_stream, replay, write_decisions
from gateway.cache.verifier import Verifier
from gateway.cli.outcomes import bars, reader
from gateway.cli.output import fail, settings_or_fail


def replay_stream(
    stream: Annotated[Path, typer.Option(help="JSON Lines with id, query, category and answer_id, in their order.")],
    out: Annotated[Path, typer.Option(help="Where decisions go: id, hit, answer_id, of, probability, cosine a line.")],
    config: Annotated[Path | None, typer.Option(help="What `cache calibrate` wrote; else what is in use.")] = None,
) -> None:
    """Drive the cache over a stream in order: a hit is served, a miss is inserted."""
    settings = settings_or_fail()
    try:
        rows = read_stream(stream)
        model, thresholds = read(config or in_use(settings.cache_configuration))
        verifier = Verifier(model)
        with bars() as watch:
            embed = reader(settings, watch)
            if embed.embedder != model.embedder:
                fail(f"the verifier was made for the embedder {model.embedder}, not {embed.embedder}: calibrate again")
            vectors = embed.embed([row.query for row in rows])
            asked = entries(rows, list(vectors), verifier.parse)
            decided = []
            for one in replay(rows, asked, judge_of(verifier), thresholds):
                decided.append(one)
                if len(decided) % 500 == 0:
                    watch("replaying", len(decided) / len(rows), "")
        write_decisions(decided, out)
    except ValueError as error:
        fail(str(error))
    answers = {row.id: row.answer_id for row in rows}
    hits = [one for one in decided if one.hit]
    wrong = sum(1 for one in hits if one.answer_id != answers[one.id])
    print(f"{len(rows)} requests, {len(hits)} hits, {wrong} of them wrong")
