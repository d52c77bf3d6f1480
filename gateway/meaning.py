"""What a request's `model` means for its caller: a policy over its endpoints, or models named outright."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.admission.rules import Caller
from gateway.dispatch.fleet import Fleet
from gateway.errors import ModelNotAllowed, ModelNotFound
from gateway.lifecycle.policy_store import ActivePolicy, PolicyStore
from gateway.providers.base import Target
from policies.catalogue import Task

AUTO = "auto"
DEFAULT_POLICY = "default"
# A policy on trial in place of what is in force, or just this.
Placing = Callable[[ActivePolicy], ActivePolicy]


@dataclass(frozen=True, slots=True)
class Route:
    """Under which policy, over which endpoints; `pinned` lists the models that the request names, in its order."""

    active: ActivePolicy
    targets: tuple[Target, ...]
    pinned: tuple[str, ...] = ()


class Meanings:
    """Reads names; every refusal says what would have been understood."""

    def __init__(self, policies: PolicyStore, fleet: Fleet) -> None:
        self._policies = policies
        self._fleet = fleet

    def of(self, model: str, others: Sequence[str] | None, caller: Caller, placing: Placing | None = None) -> Route:
        """`others` is a request's `models` list: further choices of a pinned model, or the bounds of a routed one.
        `placing` has its say where the policy chooses.

        Raises `ModelNotFound` or `ModelNotAllowed`.
        """
        name, _, policy_name = model.partition(":")
        routed = name == AUTO
        active = self._active(policy_name if routed and policy_name else caller.policy or DEFAULT_POLICY, caller)
        if not routed:
            named = tuple(dict.fromkeys((model, *(others or ()))))
            targets = tuple(target for one in named for target in self._pinned(one, active, caller))
            return Route(active, targets, pinned=named)
        if placing is not None:
            active = placing(active)
        targets = active.targets
        if caller.allowed_models is not None:
            targets = tuple(one for one in targets if one.card.id in caller.allowed_models)
        if others is not None:
            for one in others:
                self._pinned(one, active, caller)
            targets = tuple(one for one in targets if one.card.id in others)
        return Route(active, targets)

    def _active(self, wanted: str, caller: Caller) -> ActivePolicy:
        active = self._policies.current(wanted, caller)
        if active is None:
            known = ", ".join(f"auto:{one}" for one in self._policies.names())
            raise ModelNotFound(f"There is no policy '{wanted[:80]}'; known: {known}.", param="model")
        if caller.policy and wanted != caller.policy:
            raise ModelNotAllowed(f"This key may only use the policy '{caller.policy}'.", param="model")
        return active

    def _pinned(self, model: str, active: ActivePolicy, caller: Caller) -> tuple[Target, ...]:
        card = self._fleet.catalogue.card(model)
        if card is None or card.task is not Task.CHAT:
            raise ModelNotFound(
                f"The model '{model[:120]}' does not exist here. GET /v1/models lists what does.", param="model"
            )
        if not active.policy.allows(model) or (
            caller.allowed_models is not None and model not in caller.allowed_models
        ):
            raise ModelNotAllowed(f"The policy '{active.policy.name}' does not allow '{model}'.", param="model")
        targets = self._fleet.of_model(model)
        if not targets:
            raise ModelNotFound(self._fleet.why_not(model), param="model")
        return targets
