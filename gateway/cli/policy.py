"""`fingerpost policy`: check and push files, write them from the database, compare, put in force and take back."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from gateway.admission.terms import RefusedField
from gateway.build import catalogue_of
from gateway.cli.database import existing_database
from gateway.cli.output import fail, print_json, print_table, settings_or_fail
from gateway.ledger.engine import open_engine
from gateway.lifecycle.policy_sources import PolicySources
from gateway.lifecycle.policy_store import Found, Sourced
from gateway.lifecycle.policy_versions import NoSuchVersion, Pointer, PolicyVersions, StaleRevision, VersionRow
from gateway.settings import Settings
from gateway.strategies.find import plan_of
from policies.check import check_policy
from policies.diff import diff, render
from policies.load import load_policy, parse_policy, shipped_text
from policies.schema import Policy
from routers.find import load_router

app = typer.Typer(help="Policies.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Note = Annotated[str, typer.Option(help="Why, for those who look later.")]
InScope = Annotated[str, typer.Option(help="organisation:ID, team:ID or key:ID; everybody without it.")]
Revision = Annotated[int | None, typer.Option(help="Only if the policy is still at this revision.", min=0)]
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

    async def read(versions: PolicyVersions) -> Found:
        return await PolicySources(settings, versions).from_all()

    found = with_versions(read)
    for said in found.differs.values():
        print(f"fingerpost: {said}", file=sys.stderr)
    return found.policies


def actor() -> str:
    """Who stands in the audit log."""
    return f"cli:{author()}"


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
    report = [{"file": str(path), **_checked(load_policy(path), str(path), settings)} for path in files]
    if as_json:
        print_json(report)
        return
    for one in report:
        print(f"{one['file']}: ok, sha256 {one['sha256']}")
        for warning in one["warnings"]:
            print(f"  warning: {warning}")


def check_text(text: str, name: str) -> None:
    """Stop with what is wrong, where a policy could not be loaded."""
    _checked(parse_policy(text, name), name, settings_or_fail())


def _checked(policy: Policy, name: str, settings: Settings) -> dict[str, Any]:
    load = partial(load_router, folders=(settings.artifact_folder,))
    try:
        load(policy.router)
    except ValueError as error:
        fail(f"{name}: router: {error}")
    try:
        plan_of(policy, load)
    except ValueError as error:
        fail(f"{name}: {error}")
    return {"sha256": policy.sha256(), "warnings": check_policy(policy, catalogue_of(settings))}


@app.command()
def push(
    path: Annotated[Path, typer.Argument(help="A policy file.")],
    note: Note = "",
    draft: Annotated[bool, typer.Option("--draft", help="Save it only; it may have faults.")] = False,
    if_revision: Revision = None,
    as_json: Json = False,
) -> None:
    """Store a policy file as a version of its name and put it in force; running gateways take it up within a second."""
    if not draft:
        check([path])
    name, text = (path.stem if draft else load_policy(path).name), path.read_text(encoding="utf-8")
    pushed = with_versions(partial(_pushed, name=name, text=text, note=note, draft=draft, if_revision=if_revision))
    if as_json:
        print_json(pushed)
    else:
        print(f"{name}: database version {pushed['version']}" + (", a draft" if draft else ""))


async def _pushed(
    versions: PolicyVersions, *, name: str, text: str, note: str, draft: bool, if_revision: int | None
) -> dict[str, Any]:
    if not draft and if_revision is None:
        row = await versions.push(name, text, author=author(), note=note, actor=actor())
        return {"name": name, "version": row.id, "state": row.state}
    row = await versions.save(name, text, author(), note, state="draft" if draft else "ready", actor=actor())
    if not draft:
        await versions.activate(name, row.id, actor=actor(), note=note, if_revision=if_revision)
    return {"name": name, "version": row.id, "state": row.state}


@app.command()
def pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Policies, or NAME@VERSION; all in force without it.")
    ] = None,
    into: Annotated[Path | None, typer.Option(help="The folder; the configured one without it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also over files that say something else.")] = False,
) -> None:
    """Write what is in force in the database into files, one a policy, so that a repository holds what serves."""
    folder = into or settings_or_fail().policies
    if folder is None:
        fail("name a folder with --into, or set FINGERPOST_POLICIES")
    wanted = names or sorted(with_versions(_names))
    texts = {one.partition("@")[0]: with_versions(partial(read_text, reference=one)) for one in wanted}
    taken = [name for name, text in texts.items() if not force and not _may_write(folder / f"{name}.toml", text)]
    if taken:
        files = ", ".join(str(folder / f"{name}.toml") for name in taken)
        fail(f"these files say something else: {files}; look with `fingerpost policy diff`, or give --force", code=1)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        part = folder / f".{name}.toml.part"
        part.write_text(text, encoding="utf-8")
        part.replace(folder / f"{name}.toml")
        print(folder / f"{name}.toml")


async def _names(versions: PolicyVersions) -> list[str]:
    return [name for name, scope in await versions.active() if not scope]


def _may_write(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8") == text


@app.command("diff")
def show_differences(
    old: Annotated[str, typer.Argument(help="A file, a policy's name (what is in force), or NAME@VERSION.")],
    new: Annotated[
        str | None, typer.Argument(help="The same; the policy's file against what is in force without.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What differs from one policy to another, key by key; exits 1 where something does."""
    first, second = (old, new) if new is not None else (f"{old}@file", old)
    before, after = (parse_policy(with_versions(partial(read_text, reference=one)), one) for one in (first, second))
    changes = diff(before, after)
    if as_json:
        print_json([asdict(one) for one in changes])
    else:
        print(render(changes))
    if changes:
        raise typer.Exit(1)


async def read_text(versions: PolicyVersions, *, reference: str) -> str:
    """The TOML of a file, of what is in force (NAME), of a version (NAME@7) or of what files say (NAME@file)."""
    if reference.endswith(".toml") or "/" in reference:
        return load_text(reference)
    name, _, which = reference.partition("@")
    if which not in ("", "file"):
        row = await versions.version(int(which)) if which.isdecimal() and len(which) < 10 else None
        if row is None or row.name != name:
            fail(f"the policy '{name}' has no version '{which}'; see `fingerpost policy history {name}`", code=1)
        return row.body
    row = (await versions.active()).get((name, "")) if not which else None
    return row.body if row is not None else _filed(name)


def load_text(path: str) -> str:
    """A file's text; stops where it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path} can't be read: {error}")


def _filed(name: str) -> str:
    folder = settings_or_fail().policies
    path = None if folder is None else folder / f"{name}.toml"
    if path is not None and path.is_file():
        return path.read_text(encoding="utf-8")
    try:
        return shipped_text(name)
    except OSError:
        fail(f"there is no policy '{name}', in the database or in files", code=1)


@app.command()
def activate(
    name: Annotated[str, typer.Argument(help="The policy.")],
    version: Annotated[str, typer.Argument(help="The version's number, or 'file' for what files say.")],
    scope: InScope = "",
    note: Note = "",
    if_revision: Revision = None,
) -> None:
    """Put a version in force; running gateways take it up within a second."""
    if version != "file" and not (version.isdecimal() and len(version) < 10):
        fail(f"'{version}' is no version: give its number, or 'file'")
    check_text(with_versions(partial(read_text, reference=f"{name}@{version}")), f"{name}@{version}")
    number = None if version == "file" else int(version)
    _moved(
        lambda versions: versions.activate(name, number, actor=actor(), scope=scope, note=note, if_revision=if_revision)
    )


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The policy.")],
    scope: InScope = "",
    note: Note = "",
    if_revision: Revision = None,
) -> None:
    """Put in force again what was before, further back each time; running gateways take it up within a second."""

    async def back(versions: PolicyVersions) -> Pointer:
        before, revision = await versions.before(name, scope)
        which = "file" if before is None else before
        check_text(await read_text(versions, reference=f"{name}@{which}"), f"{name}@{which}")
        seen = revision if if_revision is None else if_revision
        return await versions.rollback(name, actor=actor(), scope=scope, note=note, if_revision=seen)

    _moved(back)


def _moved(move: Callable[[PolicyVersions], Awaitable[Pointer]]) -> None:
    try:
        pointer = with_versions(move)
    except (NoSuchVersion, StaleRevision, RefusedField) as error:
        fail(str(error), code=1)
    what = "what files say" if pointer.version_id is None else f"database version {pointer.version_id}"
    where = f" for {pointer.scope}" if pointer.scope else ""
    print(f"{pointer.name}: {what}{where}, revision {pointer.revision}")


@app.command()
def history(name: Annotated[str, typer.Argument(help="The policy.")], as_json: Json = False) -> None:
    """Every version of a policy, newest first, and which is in force."""

    async def read(versions: PolicyVersions) -> tuple[list[VersionRow], set[int | None]]:
        return await versions.history(name), {one.version_id for one in await versions.pointers() if one.name == name}

    rows, active = with_versions(read)
    if as_json:
        print_json([{**asdict(row), "active": row.id in active} for row in rows])
        return
    columns = ("version", "state", "at", "author", "in force", "note")
    print_table(
        columns, [(r.id, r.state, _when(r.created_at), r.author, "*" if r.id in active else "", r.note) for r in rows]
    )


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


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
    rows = [(key, source, one.sha256()[:12], one.description) for key, (one, source) in found.items()]
    if as_json:
        print_json([dict(zip(("name", "source", "sha256", "description"), row, strict=True)) for row in rows])
    else:
        print_table(("name", "source", "sha256", "description"), rows)
