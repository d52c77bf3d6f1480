"""The first tokens and the last ones (StreamingLLM, arXiv:2309.17453)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from local_runtime.kv.policies.base import SLACK, Held, check_budget


class SinkWindow:
    """Keeps the first `sinks` tokens, which draw attention whatever they say, and the last `budget - sinks`.

    Keys keep the positions they were computed at: contexts end where the model's training ended, so that distances
    stay in range without the paper's renumbering.
    """

    observed = 0

    def __init__(self, budget: int, sinks: int = 4) -> None:
        check_budget(budget, sinks + 1)
        self.after_prompt = False
        self._budget = budget
        self._sinks = sinks

    def bits(self, layer: int) -> tuple[int, int] | None:
        """As computed."""
        return None

    def keep(self, layers: Sequence[Held]) -> list[torch.Tensor] | None:
        """See KvPolicy.keep; the same for all layers and heads."""
        count = layers[0].count
        if count <= self._budget + SLACK:
            return None
        chosen = torch.cat([torch.arange(self._sinks), torch.arange(count - self._budget + self._sinks, count)])
        return [chosen.unsqueeze(0)] * len(layers)
