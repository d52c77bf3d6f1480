"""Where policies come from: what ships, the operator's folder, and what admins put in force; the later wins."""

from __future__ import annotations

from pathlib import Path

from gateway.lifecycle.policy_store import SHIPPED, Found, Sourced, policy_key
from gateway.lifecycle.policy_versions import PolicyVersions, VersionRow
from gateway.settings import Settings
from policies.errors import PolicyError
from policies.load import load_policies, parse_policy, shipped_policies
from policies.schema import Policy

Signature = tuple[tuple[str, int, int], ...]


class PolicySources:
    """Reads policies again and again; a text that did not change is not parsed again."""

    def __init__(self, settings: Settings, versions: PolicyVersions) -> None:
        self._folder = settings.policies
        self._versions = versions
        self._files: Sourced = {}
        self._signature: Signature | None = None
        self._parsed: dict[int, Policy | PolicyError] = {}

    def from_files(self) -> Sourced:
        """Shipped policies with the folder's over them; `PolicyError` where a file is wrong."""
        signature = _signature(self._folder)
        if signature != self._signature:
            found = {name: (policy, SHIPPED) for name, policy in shipped_policies().items()}
            if self._folder is not None:
                loaded = load_policies(self._folder)
                found |= {name: (policy, str(self._folder / f"{name}.toml")) for name, policy in loaded.items()}
            self._files, self._signature = found, signature
        return self._files

    async def from_all(self) -> Found:
        """Files with what is in force over them; `DatabaseUnavailable` where that can't be read."""
        files = self.from_files()
        policies, faults, differs = dict(files), {}, {}
        for (name, scope), row in sorted((await self._versions.active()).items()):
            policy, key = self._pushed(row), policy_key(name, scope)
            if isinstance(policy, PolicyError):
                faults[key] = str(policy)
                continue
            policies[key] = (policy, named(row))
            filed = files.get(name)
            if not scope and filed is not None and filed[1] != SHIPPED and filed[0].sha256() != policy.sha256():
                differs[name] = f"{filed[1]} says something else than {named(row)}, which is in force"
        return Found(policies, files, faults, differs)

    def _pushed(self, row: VersionRow) -> Policy | PolicyError:
        """A version that this release can't read any more is a fault of its name alone."""
        if row.id not in self._parsed:
            try:
                self._parsed[row.id] = parse_policy(row.body, named(row))
            except PolicyError as error:
                self._parsed[row.id] = error
        return self._parsed[row.id]


def named(row: VersionRow) -> str:
    """What messages call a version."""
    return f"database version {row.id}"


def _signature(folder: Path | None) -> Signature:
    """What tells a changed folder from an unchanged one without reading its files."""
    if folder is None:
        return ()
    stats = ((path.name, path.stat()) for path in sorted(folder.glob("*.toml")))
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
