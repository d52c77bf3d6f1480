"""`fingerpost batch`: a file of requests through a running gateway, grouped by the model that serves them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.batch_lines import Answers, BatchError, Line, read_lines
from gateway.cli.output import fail
from gateway.settings import environment_value

_TIMEOUT_S = 600.0


def batch(
    requests: Annotated[Path, typer.Option("--in", help="Requests, a line each, as OpenAI's batches have them.")],
    out: Annotated[Path, typer.Option(help="Answers, a line each, as they come; those that are there are kept.")],
    url: Annotated[str, typer.Option(help="The running gateway.")] = "http://127.0.0.1:8080",
    key_env: Annotated[str, typer.Option(help="The variable that holds the application key.")] = "FINGERPOST_KEY",
    concurrency: Annotated[int, typer.Option(help="Requests under way at a time.", min=1, max=1000)] = 8,
) -> None:
    """Send many requests, those for the same model or experts together; the same command goes on where it ended."""
    key = environment_value(key_env)
    if key is None:
        fail(f"the variable {key_env} is not set: put an application key there, or name another with --key-env")
    try:
        lines = read_lines(requests)
        answers = Answers.opened(out)
    except BatchError as error:
        fail(str(error))
    left = [line for line in lines if line.custom_id not in answers.done]
    before = len(answers.done)
    try:
        failed = asyncio.run(_sent(left, answers, url, key, concurrency))
    except BatchError as error:
        fail(str(error), code=1)
    except KeyboardInterrupt:
        print(
            f"fingerpost: stopped with {len(lines) - len(left) + len(answers.done) - before} of {len(lines)} answers in"
            f" {out}; the same command goes on",
            file=sys.stderr,
        )
        raise
    finally:
        answers.close()
    print(f"{len(left)} answered, {failed} of them with an error, {len(lines) - len(left)} were there: {out}")
    if failed:
        sys.exit(1)


async def _sent(lines: Sequence[Line], answers: Answers, url: str, key: str, concurrency: int) -> int:
    # Here, so that other commands need not load what only this one uses.
    import httpx
    from httpx_aiohttp import AiohttpTransport

    from gateway.cli.batch_run import BatchRun

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    base = url.rstrip("/").removesuffix("/v1")
    async with httpx.AsyncClient(
        transport=AiohttpTransport(), base_url=base, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False
    ) as client:
        run, failed = BatchRun(client, concurrency), 0
        for models, group in (await run.groups(lines)).items():
            print(f"{', '.join(models) or 'no model'}: {len(group)}", file=sys.stderr, flush=True)
            failed += await run.send(group, answers)
        return failed
