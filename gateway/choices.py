"""What narrows the choice of endpoints beside what each can do: the request's own dialect, the models that it names."""

from __future__ import annotations

from dataclasses import replace

from gateway.errors import GatewayError, NoEndpoint, UnsupportedCapability
from gateway.providers.base import Target
from gateway.wire.chat_request import ChatRequest
from routers.decision import Decision


def able(targets: tuple[Target, ...], request: ChatRequest) -> tuple[Target, ...]:
    """Those that can be told all of a request; some features exist in its own dialect only."""
    if request.native_only is None or request.original is None:
        return targets
    dialect = request.original.dialect
    able = tuple(one for one in targets if one.speaks(dialect))
    if not able:
        raise UnsupportedCapability(request.native_only)
    return able


def as_named(decision: Decision, named: tuple[str, ...]) -> Decision:
    """The ranking in the request's own order of models, since it named them."""
    places = {model: place for place, model in enumerate(named)}
    ranking = tuple(sorted(decision.ranking, key=lambda ranked: places[ranked.candidate.card.id]))
    return replace(
        decision,
        ranking=ranking,
        router_kind="pinned",
        extra_nanousd=0,
        reason=f"The request names {', '.join(map(repr, named))}.",
    )


def nobody(model: str, excluded: dict[str, str]) -> GatewayError:
    """Every endpoint is out: by the request's own demands (400) or because none is enabled (503)."""
    if not excluded:
        return NoEndpoint(
            "No endpoint is enabled for this policy. Set a vendor's key, or install the local model; "
            "`fingerpost models` says what is missing."
        )
    reasons = "; ".join(f"{endpoint}: {reason}" for endpoint, reason in list(excluded.items())[:8])
    return UnsupportedCapability(f"No endpoint of '{model}' can answer this request ({reasons}).", param="model")
