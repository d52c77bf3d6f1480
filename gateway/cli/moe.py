"""`fingerpost moe`: mixtures of experts for the local runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import fail, print_fields, print_json, print_table

app = typer.Typer(help="Mixtures of experts.", no_args_is_help=True)

_WINDOW = 256


@app.command()
def refactor(
    source: Annotated[
        str, typer.Argument(help="bundled:NAME, a .gguf file or a Hugging Face folder; dense, Llama family.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; new or empty.")],
    text: Annotated[
        list[Path], typer.Option("--text", help="Text files of the kind that the mixture is for; several.")
    ],
    experts: Annotated[int, typer.Option(min=2)] = 16,
    active: Annotated[int, typer.Option(min=1, help="How many of them a token takes.")] = 8,
    shared: Annotated[int | None, typer.Option(help="Neurons that every token takes; by default a third.")] = None,
    windows: Annotated[int, typer.Option(min=8, help=f"Windows of {_WINDOW} tokens to fit on.")] = 128,
    early: Annotated[
        bool, typer.Option(help="Routers read one layer ahead, so that experts can be fetched in time.")
    ] = True,
) -> None:
    """Make a mixture of a dense model by fitting routers and output weights; minutes. Says what perplexity it costs."""
    from local_runtime.base import GenerationError
    from local_runtime.refactor.command import Made, refactored
    from local_runtime.refactor.refactor import Recipe

    def told(layer: int, off: float) -> None:
        typer.echo(f"layer {layer}: {off:.3f} of the dense model's hidden states away", err=True)

    try:
        texts = [path.read_text("utf-8") for path in text]
        made: Made = refactored(
            source,
            out,
            texts,
            lambda neurons: Recipe(experts, active, _shared(neurons, experts, shared), early),
            windows,
            told,
        )
    except (GenerationError, ValueError, OSError) as error:
        raise fail(str(error)) from error
    print_fields(
        {
            "tokens fitted on": made.fitted_tokens,
            "neurons a token takes": f"{made.active_share:.0%}",
            "perplexity, dense": f"{made.dense_perplexity:.2f}",
            "perplexity, mixture": f"{made.mixture_perplexity:.2f}",
            "times dense": f"{made.mixture_perplexity / made.dense_perplexity:.3f}",
            "measured on": f"{made.judged_tokens} tokens that were not fitted on",
            "written to": str(out),
        }
    )


@app.command()
def analyse(
    source: Annotated[str, typer.Argument(help="A mixture: a .gguf file or a Hugging Face folder.")],
    text: Annotated[list[Path], typer.Option("--text", help="Text files of the kind that it will read and write.")],
    store: Annotated[Path, typer.Option("--store", help="Where its experts lie, or are to be written.")],
    tokens: Annotated[int, typer.Option(min=64, help="How many of the text's tokens to follow.")] = 512,
    dtype: Annotated[str, typer.Option(help="bfloat16, int8 or int4: how experts are stored.")] = "int8",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How local a mixture's routes are, what caches of some sizes would hit, and how fast that would be here."""
    from local_runtime.base import GenerationError
    from local_runtime.experts.analysis import SHARES, analysed

    try:
        found = analysed(Path(source), [path.read_text("utf-8") for path in text], store, tokens, dtype)
    except (GenerationError, ValueError, OSError) as error:
        raise fail(str(error)) from error
    if as_json:
        print_json(asdict(found))
        return
    print_fields(
        {
            "experts": f"{found.experts} in each of {found.layers} layers, {found.active} a token",
            "their bytes": f"{found.all_bytes:,}",
            "disk": f"{found.bandwidth / 1e9:.2f} GB/s",
            "computing": f"{found.computing_s * 1e3:.1f} ms a token",
        }
    )
    print_table(("tokens", "SRP", f"SCH of {2 * found.active} a layer"), _rounded(found.segments))
    columns = ("memory", "MiB", "LRU", "LFU", "own rule", "Belady", "ms/token", "tokens/s", "waits for", "")
    rows = [
        (f"{share:.0%}", *astuple(one)[:-1], "tried" if one.tried else "planned")
        for share, one in zip(SHARES, found.budgets, strict=True)
    ]
    print_table(columns, _rounded(rows))


def _rounded(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    return [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row] for row in rows]


def _shared(neurons: int, experts: int, shared: int | None) -> int:
    """About a third of the neurons, so that experts are alike and a multiple of 32 wide where that can be."""
    if shared is not None:
        return shared
    width = neurons * 2 // 3 // experts
    return neurons - experts * (width // 32 * 32 or width)
