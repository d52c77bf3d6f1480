"""Embeds the example prompts of policies that have any, before or after they are in force."""

from __future__ import annotations

import logging

from gateway.lifecycle.policy_store import ActivePolicy, PolicyStore
from local_runtime.embedders.errors import EmbedderError
from local_runtime.embedders.worker import EmbeddingWorker

log = logging.getLogger(__name__)


class Preparing:
    """`ready` once the embedder has said of every policy's examples what they mean."""

    def __init__(self, policies: PolicyStore, embedder: EmbeddingWorker | None) -> None:
        self._policies = policies
        self._embedder = embedder
        self.ready = False

    async def __call__(self) -> None:
        """Embed what is not embedded yet; a fault is logged, and those categories are then told by predicates alone."""
        for active in self._policies.all():
            if not await self.one(active):
                return
        self.ready = self._embedder is not None

    async def one(self, active: ActivePolicy) -> bool:
        """Of one policy, in force or not; whether the embedder could."""
        if active.categoriser.ready or self._embedder is None:
            return True
        try:
            await active.categoriser.prepare(self._embedder.embed)
        except EmbedderError as error:
            log.error("the examples of policy %s are not used: %s", active.policy.name, error)
            return False
        return True
