"""How long a routing decision takes: forecast and choose, in microseconds, for 1, 5 and 50 candidates.

Run: python benchmarks/decision.py
"""

from __future__ import annotations

import random
import timeit
from collections.abc import Callable
from functools import partial

from policies.catalogue import Endpoint, ModelCard
from policies.load import shipped_policies
from policies.schema import Policy
from routers.choose import choose
from routers.decision import Candidate, Features, Query
from routers.features import estimate_tokens, guess_language, has_code
from routers.find import router_class

PROMPT = (
    "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her friends"
    " every day with four. She sells the remainder at the market daily for $2 an egg. How much does she make every day?"
)
REPEATS = 7
COUNTS = (1, 5, 50)


def candidates(count: int) -> list[Candidate]:
    """`count` models with two endpoints for every fourth."""
    made = []
    for index in range(count):
        card = ModelCard(
            id=f"vendor-{index - (index % 4 == 3)}",
            context_tokens=128_000,
            price_in_usd_per_mtok=0.1 * (index + 1),
            price_out_usd_per_mtok=0.4 * (index + 1),
            prior_quality=0.5 + 0.4 * index / count,
        )
        endpoint = Endpoint(id=f"endpoint-{index}", model=card.id, provider="openai", base_url="https://example.com/v1")
        made.append(Candidate(endpoint, card, 500.0 + 10 * index))
    return made


def microseconds(work: Callable[[], object]) -> float:
    """The best of several runs, per call."""
    timer = timeit.Timer(work)
    number, _ = timer.autorange()
    return min(timer.repeat(REPEATS, number)) / number * 1e6


def measure(policy: Policy, query: Query, count: int) -> str:
    """One line of the table: what each step of a decision costs."""
    router = router_class(policy.router.kind).from_spec(policy.router)
    pool, rng = candidates(count), random.Random(0)
    told, reason = router.forecast(query, pool), router.reason(query)
    forecast = microseconds(lambda: router.forecast(query, pool))
    because = microseconds(lambda: router.reason(query))
    pick = microseconds(lambda: choose(policy, router.kind, query, pool, told, reason, rng))
    return (
        f"policy {policy.name:8} {count:3} candidates: forecast {forecast:6.1f} + reason {because:4.1f}"
        f" + choose {pick:6.1f} = {forecast + because + pick:6.1f} us"
    )


def main() -> None:
    """Print the cost of describing a prompt and of deciding under each shipped policy."""
    for function in (estimate_tokens, guess_language, has_code):
        print(f"{function.__name__:16} {microseconds(partial(function, PROMPT)):8.1f} us for {len(PROMPT)} characters")
    query = Query(PROMPT, Features(tokens=estimate_tokens(PROMPT), chars=len(PROMPT)), "math")
    for policy in shipped_policies().values():
        for count in COUNTS:
            print(measure(policy, query, count))


if __name__ == "__main__":
    main()
