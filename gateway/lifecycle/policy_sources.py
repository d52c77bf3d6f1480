"""Where policies come from: what ships, the operator's folder, and what was pushed; the later wins."""

from __future__ import annotations

from pathlib import Path

from gateway.lifecycle.policy_store import SHIPPED, Sourced
from gateway.lifecycle.policy_versions import PolicyVersions, VersionRow
from gateway.settings import Settings
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
        self._parsed: dict[int, Policy] = {}

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

    async def from_all(self) -> Sourced:
        """Files with pushed versions over them; `DatabaseUnavailable` where those can't be read."""
        found = dict(self.from_files())
        for name, row in (await self._versions.latest()).items():
            found[name] = (self._pushed(row), _named(row))
        return found

    def _pushed(self, row: VersionRow) -> Policy:
        policy = self._parsed.get(row.id)
        if policy is None:
            policy = self._parsed[row.id] = parse_policy(row.body, _named(row))
        return policy


def _named(row: VersionRow) -> str:
    return f"database version {row.id}"


def _signature(folder: Path | None) -> Signature:
    """What tells a changed folder from an unchanged one without reading its files."""
    if folder is None:
        return ()
    stats = ((path.name, path.stat()) for path in sorted(folder.glob("*.toml")))
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
