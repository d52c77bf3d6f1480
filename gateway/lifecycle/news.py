"""What this process does when an admin has changed something: forget keys, read rules again, take up new secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.admission.keys import Keyring
from gateway.admission.rulebook import Rulebook
from gateway.admission.secrets import SecretStore
from gateway.cache.cache import Cache
from gateway.dispatch.fleet import Fleet, resolve_secrets
from gateway.ledger.acts import EVERYTHING, POLICY, Change
from gateway.lifecycle.policy_store import PolicyStore
from gateway.lifecycle.trials.book import TrialBook
from gateway.providers.base import Provider


class News:
    """Hands changes to whoever keeps in memory what they concern."""

    def __init__(
        self,
        keyring: Keyring,
        rulebook: Rulebook,
        secrets: SecretStore,
        fleet: Fleet,
        providers: Mapping[str, Provider],
        policies: PolicyStore,
        cache: Cache,
        environment: Callable[[str], str | None],
        trials: TrialBook,
    ) -> None:
        self._keyring = keyring
        self._rulebook = rulebook
        self._secrets = secrets
        self._fleet = fleet
        self._providers = providers
        self._policies = policies
        self._cache = cache
        self._environment = environment
        self._trials = trials

    async def take_up(self, changes: Sequence[Change]) -> None:
        """Raises `OSError` where the database is needed and away; then everything has to be said again."""
        self._keyring.take_up(changes)
        if any(one.what in (POLICY, EVERYTHING) for one in changes):
            self._policies.hurry()
        self._trials.take_up(changes)
        await self._rulebook.take_up(changes)
        if await self._secrets.take_up(changes):
            self._use_secrets()
        await self._cache.take_up(changes)

    def _use_secrets(self) -> None:
        if resolve_secrets(self._fleet, self._providers, self._environment, self._secrets.value):
            self._policies.rebind()
            self._trials.rebind()
