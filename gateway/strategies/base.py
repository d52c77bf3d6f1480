"""The seam of strategies: asks go out, one of the calls is the answer. Knows no admission, no ledger, no socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from gateway.errors import GatewayError
from gateway.strategies.signals import Signals
from gateway.wire.chat_reply import ChatReply
from gateway.wire.chat_request import ChatRequest
from policies.catalogue import ModelCard
from policies.schema import RouterSpec, StrategySpec
from routers.base import Router
from routers.decision import Forecast, Query, Ranked

# What a [router] table names, loaded; `ValueError` where it can't be, or does not fit this gateway.
LoadRouter = Callable[[RouterSpec], Router]


@dataclass(frozen=True, slots=True)
class Seat:
    """One model that may be asked, with its endpoints in the decision's order; never empty."""

    order: tuple[Ranked, ...]

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return self.order[0].candidate.card

    @property
    def forecast(self) -> Forecast:
        """What the router expects of it."""
        return self.order[0].forecast


@dataclass(frozen=True, slots=True)
class Ask:
    """One call that is to be made. `request` is in the hub's form; it streams where the request says so."""

    role: str
    seat: Seat
    request: ChatRequest
    query: Query


@dataclass(slots=True)
class Call:
    """What became of an ask: `reply` of a whole answer, `error` where there is none, both None while it streams.

    `seq` counts a request's calls from 0. `cost_nanousd` is 0 where no price is known.
    """

    seq: int
    ask: Ask
    reply: ChatReply | None = None
    text: str = ""
    signals: Signals | None = None
    error: GatewayError | None = None
    cost_nanousd: int = 0
    output_tokens: int = 0

    @property
    def has_answered(self) -> bool:
        """Whether a whole answer is in hand, or a stream has begun."""
        return self.error is None

    @property
    def model(self) -> str:
        """Who was asked."""
        return self.ask.seat.card.id


@dataclass(frozen=True, slots=True)
class Told:
    """The call whose answer the client gets, and a sentence on why this one."""

    call: Call
    reason: str


class NobodyAnswered(Exception):
    """All calls of a strategy have failed; `error` is what a client would be told."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(str(error))
        self.error = error

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Self:
        """Of calls that have failed, at least one."""
        return cls(next(one.error for one in calls if one.error is not None))


class Panel(Protocol):
    """One request with those who may be asked. Every call is admitted, metered and logged; none is made beyond the
    policy's bounds."""

    @property
    def request(self) -> ChatRequest:
        """In the hub's form, as the client wants its answer: streamed or whole."""

    @property
    def query(self) -> Query:
        """What was routed."""

    @property
    def seats(self) -> Sequence[Seat]:
        """All models that may answer, in the decision's order."""

    @property
    def cost_weight_per_usd(self) -> float:
        """How much of a score (0..1) one US dollar is worth to the policy."""

    @property
    def budget_left_nanousd(self) -> int | None:
        """What the policy still allows this request to cost; None where it sets no bound."""

    @property
    def calls_left(self) -> int:
        """Calls that may still be made; 0 once budgets or limits have refused one, or the time is over."""

    @property
    def refusal(self) -> str:
        """A sentence on the call that budgets or limits refused; "" where there is none."""

    async def ask(self, ask: Ask) -> Call:
        """Make one call; failures of upstreams, refusals of budgets and limits are the call's `error`."""

    def finished(self, asks: Sequence[Ask]) -> AsyncGenerator[Call, None]:
        """Make calls beside each other, at most `calls_left`, and give them as they end; closing it cancels the rest.

        A stream counts as ended with its first words.
        """

    async def vectors(self, texts: Sequence[str]) -> list[npt.NDArray[np.float32]] | None:
        """Unit vectors by the gateway's embedder, each of shape [dimensions]; None where there is none."""


@runtime_checkable
class ChoosesExperts(Protocol):
    """What a strategy has beside `Strategy` where each request has experts of its own."""

    def experts(self, seats: Sequence[Seat], calls: int) -> list[Seat]:
        """Who is asked first, beside each other, where so many calls may be made in all."""


class Strategy(Protocol):
    """One way to make an answer of several calls; made once a policy, asked for each request, keeps no state."""

    kind: ClassVar[str]

    @classmethod
    def from_spec(cls, spec: StrategySpec, load: LoadRouter) -> Self:
        """Build from a `[strategy]` table; `load` reads what was trained. `ValueError` names a wrong key."""

    def unfit(self, request: ChatRequest, seats: Sequence[Seat]) -> str | None:
        """Why one plain call is made for this request instead, as half a sentence; None where the strategy fits."""

    async def answer(self, panel: Panel) -> Told:
        """Make the calls. Raises `NobodyAnswered`; a stream is told of only where `panel.request` wants one."""
