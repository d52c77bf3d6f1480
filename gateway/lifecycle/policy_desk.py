"""What an admin does to policies, whoever asks for it (API, console): draft, check, compare, put in force, take back.

Nothing is put in force that this process could not load. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.admission.terms import RefusedField
from gateway.dispatch.fleet import Fleet
from gateway.errors import Conflict, InvalidRequest, NotFound, Stale
from gateway.lifecycle.policy_sources import named
from gateway.lifecycle.policy_store import SHIPPED, ActivePolicy, PolicyStore, policy_key
from gateway.lifecycle.policy_versions import (
    SCOPES,
    NoSuchVersion,
    Pointer,
    PolicyVersions,
    StaleRevision,
    State,
    VersionRow,
)
from policies.check import check_policy
from policies.diff import diff, render
from policies.errors import PolicyError, Problem
from policies.load import parse_policy, shipped_text
from policies.schema import NAME_PATTERN, Policy

BODY: Final = "body"
ACTIVE: Final = "active"
FILE: Final = "file"


@dataclass(frozen=True, slots=True)
class Checked:
    """A text looked at: the policy where it is one, what stands in its way, and what in it can't take effect."""

    policy: Policy | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether it may be put in force."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Text:
    """A policy's TOML, and where it comes from."""

    body: str
    source: str
    version: VersionRow | None = None


class PolicyDesk:
    """Raises `GatewayError`s that name the field, and `DatabaseUnavailable`."""

    def __init__(
        self,
        store: PolicyStore,
        versions: PolicyVersions,
        fleet: Fleet,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._versions = versions
        self._fleet = fleet
        self._prepare = prepare

    async def check(self, text: str, name: str | None = None) -> Checked:
        """Look at a text; `name` is what the policy must be called."""
        try:
            policy = parse_policy(text, BODY)
            if name is not None and policy.name != name:
                fix = f'write name = "{name}", or save it under its own name'
                return Checked(policy, (Problem(BODY, None, "name", f"is '{policy.name}', not '{name}'", fix),))
            await self._store.tried(policy, BODY)
        except PolicyError as error:
            found = error.problems or (Problem(BODY, None, "", str(error), "correct it"),)
            return Checked(None, found)
        return Checked(policy, (), tuple(check_policy(policy, self._fleet.catalogue)))

    async def save(
        self, name: str, text: str, *, author: str, note: str = "", state: State = "ready", parent_id: int | None = None
    ) -> tuple[VersionRow, Checked]:
        """Add a version. A draft may have faults, which are told; what is ready may not."""
        _check_name(name)
        if "\0" in text:
            raise InvalidRequest("The policy holds a NUL character, which no TOML may: remove it.", param=BODY)
        checked = await self.check(text, name)
        if state == "ready" and not checked.ready:
            raise InvalidRequest("\n".join(map(str, checked.problems)), param=_field(checked))
        try:
            row = await self._versions.save(name, text, author, note, state=state, parent_id=parent_id)
        except NoSuchVersion as error:
            raise NotFound(_sentence(error), param="parent_id") from error
        return row, checked

    async def push(
        self, name: str, text: str, *, author: str, note: str = "", if_revision: int | None = None
    ) -> tuple[VersionRow, Checked, Pointer]:
        """Save as ready and put in force for everybody."""
        pointer = await self._versions.pointer(name)
        if if_revision is not None and if_revision != (pointer.revision if pointer is not None else 0):
            raise Stale(_sentence(StaleRevision(name, "", pointer)), param="if-match")
        row, checked = await self.save(name, text, author=author, note=note)
        return row, checked, await self.activate(name, row.id, actor=author, note=note, if_revision=if_revision)

    async def activate(
        self,
        name: str,
        version_id: int | None,
        *,
        actor: str,
        scope: str = "",
        note: str = "",
        if_revision: int | None = None,
    ) -> Pointer:
        """Put a version in force, None for what files say; in this process at once, in others within a second."""
        await self._must_load(name, version_id, scope)
        try:
            pointer = await self._versions.activate(
                name, version_id, actor=actor, scope=scope, note=note, if_revision=if_revision
            )
        except StaleRevision as error:
            raise Stale(_sentence(error), param="if-match") from error
        except NoSuchVersion as error:
            raise Conflict(_sentence(error), param="version") from error
        except RefusedField as error:
            raise NotFound(str(error), param="scope") from error
        await self.take_up()
        return pointer

    async def rollback(
        self, name: str, *, actor: str, scope: str = "", note: str = "", if_revision: int | None = None
    ) -> Pointer:
        """Put in force again what was before."""
        try:
            before, revision = await self._versions.before(name, scope)
            await self._must_load(name, before, scope)
            seen = revision if if_revision is None else if_revision
            pointer = await self._versions.rollback(name, actor=actor, scope=scope, note=note, if_revision=seen)
        except StaleRevision as error:
            raise Stale(_sentence(error), param="if-match") from error
        except NoSuchVersion as error:
            raise Conflict(_sentence(error), param="name") from error
        except RefusedField as error:
            raise NotFound(str(error), param="scope") from error
        await self.take_up()
        return pointer

    async def take_up(self) -> None:
        """What was put in force by whomever, now."""
        if await self._store.refresh():
            await self._prepare()

    async def text(self, name: str, which: str = ACTIVE, scope: str = "") -> Text:
        """The TOML of what is in force (`active`), of what files say (`file`), or of a version by its number."""
        if which == FILE:
            return self._filed(name)
        if which == ACTIVE:
            row = (await self._versions.active()).get((name, scope))
            return self._filed(name) if row is None else Text(row.body, named(row), row)
        row = await self._versions.version(int(which)) if which.isdecimal() and len(which) < 10 else None
        if row is None or row.name != name:
            raise NotFound(f"The policy '{name[:80]}' has no version '{which[:20]}'; give a number, active or file.")
        return Text(row.body, named(row), row)

    async def differences(self, name: str, old: str, new: str) -> Mapping[str, object]:
        """From one text to another, key by key; each as for `text`."""
        texts = [await self.text(name, which) for which in (old, new)]
        try:
            before, after = (parse_policy(one.body, one.source) for one in texts)
        except PolicyError as error:
            raise Conflict(f"These can't be compared key by key: {error}") from error
        changes = diff(before, after)
        rows = [
            {"path": one.path, "kind": one.kind.name.lower(), "before": one.before, "after": one.after}
            for one in changes
        ]
        return {"old": texts[0].source, "new": texts[1].source, "changes": rows, "text": render(changes)}

    async def _must_load(self, name: str, version_id: int | None, scope: str) -> None:
        _check_scope(scope)
        if version_id is None:
            if not scope:
                self._filed(name)
            return
        if scope and self._store.current(name) is None:
            raise Conflict(
                f"There is no policy '{name[:80]}' for everybody, so none of its own for {scope}.", param="scope"
            )
        row = await self._versions.version(version_id)
        if row is None or row.name != name:
            raise NotFound(f"The policy '{name[:80]}' has no version {version_id}.", param="version")
        checked = await self.check(row.body, name)
        if not checked.ready:
            said = "\n".join(map(str, checked.problems))
            raise Conflict(f"Version {version_id} can't be put in force here: {said}", param="version")

    def _filed(self, name: str) -> Text:
        source = self._store.filed.get(name)
        if source is None:
            raise NotFound(f"No file has a policy '{name[:80]}'.", param="name")
        if source == SHIPPED:
            return Text(shipped_text(name), SHIPPED)
        try:
            return Text(Path(source).read_text(encoding="utf-8"), source)
        except OSError as error:
            raise NotFound(f"{source} can't be read: {error.strerror}.", param="name") from error

    def shown(self, name: str, scope: str = "") -> ActivePolicy:
        """What is in force; `NotFound` where nothing is."""
        found = self._store.get(policy_key(name, scope))
        if found is None:
            raise NotFound(f"There is no policy '{name[:80]}'{f' for {scope[:80]}' if scope else ''}.")
        return found


def _check_name(name: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidRequest("A policy's name is 1 to 64 of a-z, 0-9, _ and -, and begins with a letter.", param="name")


def _check_scope(scope: str) -> None:
    kind, colon, rest = scope.partition(":")
    if scope and (kind not in SCOPES or not colon or not rest or "\0" in scope or len(scope) > 300):
        raise InvalidRequest("'scope' is empty (everybody), organisation:ID, team:ID or key:ID.", param="scope")


def _field(checked: Checked) -> str:
    return checked.problems[0].path or BODY


def _sentence(error: Exception) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}."
