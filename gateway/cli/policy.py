"""`fingerpost policy`: check a file, push it, show what is in force."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from getpass import getuser
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gateway.build import catalogue_of
from gateway.cli.database import existing_database
from gateway.cli.output import fail, print_json, print_table, settings_or_fail
from gateway.ledger.engine import open_engine
from gateway.lifecycle.policy_sources import PolicySources
from gateway.lifecycle.policy_store import Sourced
from gateway.lifecycle.policy_versions import PolicyVersions
from gateway.strategies.find import plan_of
from policies.check import check_policy
from policies.load import load_policy
from routers.find import load_router

app = typer.Typer(help="Policies.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Result = TypeVar("Result")


def with_versions(work: Callable[[PolicyVersions], Awaitable[Result]]) -> Result:
    """Run a piece of work on the pushed policies of the configured database."""

    url = existing_database(settings_or_fail())

    async def run() -> Result:
        engine = open_engine(url)
        try:
            return await work(PolicyVersions(engine))
        finally:
            await engine.dispose()

    return asyncio.run(run())


def in_force() -> Sourced:
    """Every policy with its source, as a running gateway sees them."""
    settings = settings_or_fail()

    async def read(versions: PolicyVersions) -> Sourced:
        return await PolicySources(settings, versions).from_all()

    return with_versions(read)


def author() -> str:
    """Who pushes; a container's user may have no name."""
    try:
        return getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="Policy files.")], as_json: Json = False) -> None:
    """Check policy files against the schema and the catalogue; exits 2 on an error, 0 with warnings."""
    settings = settings_or_fail()
    catalogue = catalogue_of(settings)
    load = partial(load_router, folders=(settings.artifact_folder,))
    report = []
    for path in files:
        policy = load_policy(path)
        try:
            load(policy.router)
        except ValueError as error:
            fail(f"{path}: router: {error}")
        try:
            plan_of(policy, load)
        except ValueError as error:
            fail(f"{path}: {error}")
        report.append({"file": str(path), "sha256": policy.sha256(), "warnings": check_policy(policy, catalogue)})
    if as_json:
        print_json(report)
        return
    for one in report:
        print(f"{one['file']}: ok, sha256 {one['sha256']}")
        for warning in one["warnings"]:
            print(f"  warning: {warning}")


@app.command()
def push(
    path: Annotated[Path, typer.Argument(help="A policy file.")],
    note: Annotated[str, typer.Option(help="Why, for those who look later.")] = "",
) -> None:
    """Store a policy file as the newest version of its name; running gateways take it up within seconds."""
    check([path])
    policy = load_policy(path)
    text = path.read_text(encoding="utf-8")
    row = with_versions(
        lambda versions: versions.push(policy.name, text, author=author(), note=note, actor=f"cli:{author()}")
    )
    print(f"{policy.name}: database version {row.id}")


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="One policy in full; all names without it.")] = None,
    as_json: Json = False,
) -> None:
    """What is in force, and where it comes from."""
    found = in_force()
    if name is not None:
        if name not in found:
            fail(f"there is no policy '{name}'; known: {', '.join(sorted(found))}", code=1)
        policy, source = found[name]
        body = policy.model_dump(mode="json", by_alias=True, exclude_none=True)
        print_json({"source": source, "sha256": policy.sha256(), "policy": body})
        return
    rows = [(one.name, source, one.sha256()[:12], one.description) for one, source in found.values()]
    if as_json:
        print_json([dict(zip(("name", "source", "sha256", "description"), row, strict=True)) for row in rows])
    else:
        print_table(("name", "source", "sha256", "description"), rows)
