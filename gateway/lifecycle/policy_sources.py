"""Where policies come from: what ships, the operator's folder, and what was pushed; the later wins."""

from __future__ import annotations

from gateway.lifecycle.policy_store import Sourced
from gateway.lifecycle.policy_versions import PolicyVersions
from gateway.settings import Settings
from policies.load import load_policies, parse_policy, shipped_policies


def from_files(settings: Settings) -> Sourced:
    """Shipped policies with the folder's over them; `PolicyError` where a file is wrong."""
    found = {name: (policy, "shipped") for name, policy in shipped_policies().items()}
    if settings.policies is not None:
        folder = settings.policies
        found |= {name: (policy, str(folder / f"{name}.toml")) for name, policy in load_policies(folder).items()}
    return found


async def from_all(settings: Settings, versions: PolicyVersions) -> Sourced:
    """Files with pushed versions over them; `DatabaseUnavailable` where those can't be read."""
    found = dict(from_files(settings))
    for name, row in (await versions.latest()).items():
        source = f"database version {row.id}"
        found[name] = (parse_policy(row.body, source), source)
    return found
