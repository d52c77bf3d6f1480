"""`fingerpost offpolicy`: what a policy would have been worth on the traffic that an export has logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from gateway.cli.outcomes import bars, reader
from gateway.cli.output import fail, print_json, print_table, settings_or_fail
from gateway.settings import Settings
from policies.load import load_policy
from policies.schema import Policy, RouterSpec
from routers.artifact import read_artifact
from routers.find import load_router
from routers.training.dataset import Dataset, Doubles
from routers.training.logs import Logs, logs_of, places_of
from routers.training.offpolicy import compare, dearest_call, evaluate
from routers.training.support import Needs
from routers.training.target import probabilities

COLUMNS = ("of", "estimate", "low", "high", "surely above", "surely below", "ips", "snips", "direct")
_NO_POLICY = Policy(schema=1, name="offpolicy")


def offpolicy(
    data: Annotated[Path, typer.Option(help="A folder that `fingerpost data export` wrote.")],
    policy: Annotated[Path | None, typer.Option(help="The policy file to judge.")] = None,
    artifact: Annotated[str | None, typer.Option(help="Its router's artifact, in place of the policy's.")] = None,
    against: Annotated[Path | None, typer.Option(help="Another policy file: is the first one worth more?")] = None,
    delta: Annotated[float, typer.Option(help="Intervals hold with 1 - delta.", min=1e-6, max=0.5)] = 0.05,
    needed_rows: Annotated[float, typer.Option(help="Effective decisions that a number needs.", min=2)] = 50.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate quality, cost and worth of a policy from logged propensities and feedback.

    Prints no number where the logs bear too little on the policy: it must have been explored.
    """
    if policy is None and artifact is None:
        fail("name what is to be judged: --policy FILE, --artifact DIR, or both")
    settings = settings_or_fail()
    try:
        with bars() as told:
            dataset = reader(settings, told).read(data)
        first = _policy(policy, artifact)
        judged = _Judged(dataset, _probabilities(settings, first, dataset), first)
        other = None if against is None else _probabilities(settings, _policy(against, None), dataset)
        needs = Needs(effective_rows=needed_rows)
        found = {name: evaluate(logs, judged.target, delta=delta, needs=needs) for name, logs in judged.logs().items()}
        worth = None
        if other is not None:
            old = other[places_of(dataset)]
            worth = {
                name: compare(logs, judged.target, old, delta=delta, needs=needs)
                for name, logs in judged.logs().items()
            }
    except ValueError as error:
        fail(str(error))
    if as_json:
        print_json({"policy": _plain(found), "against": _plain(worth) if worth else None})
        return
    support = found["quality"].support
    print(
        f"{support.rows} judged decisions ({support.judged_share:.0%} of all) weigh as much as"
        f" {support.effective_rows:.0f} of this policy"
    )
    print_table(COLUMNS, [_row(name, asdict(one)) for name, one in found.items()])
    if worth:
        print()
        columns = ("difference of", "estimate", "low", "high", "surely above")
        rows = [(name, *map(_shown, asdict(one.difference).values()), _shown(one.low)) for name, one in worth.items()]
        print_table(columns, rows)
        verdict = "is proved to be worth more" if worth["worth"].better else "is not proved to be worth more"
        print(f"The policy {verdict} than the other, at {1 - delta:.0%}.")


class _Judged:
    """An export's decisions with a policy's probabilities for them."""

    def __init__(self, dataset: Dataset, chances: Doubles, policy: Policy) -> None:
        self._dataset = dataset
        self._objective = policy.objective
        self._cap_usd = policy.budget.max_cost_usd_per_request
        self.target = chances[places_of(dataset)]

    def logs(self) -> dict[str, Logs]:
        """By what is estimated: quality, cost in USD, and the objective's worth (of which latency is left out).

        Costs beyond what the policy lets a call cost count as that, so that bounds know how bad a call can be.
        """
        dataset, objective = self._dataset, self._objective
        found = {"quality": logs_of(dataset)}
        cost = np.where(np.isfinite(dataset.score), dataset.cost_usd, np.nan)
        dearest = dearest_call(dataset, self._cap_usd) if np.isfinite(cost).any() else 0.0
        cost = np.minimum(cost, dearest)
        if dearest > 0:
            found["cost in USD"] = logs_of(dataset, cost, (0.0, dearest))
        weight = objective.cost / objective.cost_scale_usd if dearest > 0 else 0.0
        worth = np.asarray(objective.quality * dataset.score, dtype=np.float64) - (weight * cost if weight else 0.0)
        found["worth"] = logs_of(dataset, worth, (-weight * dearest - 1e-9, objective.quality + 1e-9))
        return found


def _policy(file: Path | None, artifact: str | None) -> Policy:
    policy = _NO_POLICY if file is None else load_policy(file)
    if artifact is None:
        return policy
    folder = str(artifact if "/" in artifact else f"./{artifact}")
    spec = RouterSpec(kind=read_artifact(Path(folder)).kind, artifact=folder)
    return policy.model_copy(update={"router": spec})


def _probabilities(settings: Settings, policy: Policy, dataset: Dataset) -> Doubles:
    router = load_router(policy.router, (settings.artifact_folder,), dataset.embedder or None)
    return probabilities(policy, router, dataset)


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in found.items()}


def _row(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    dr, sure = one["dr"], one["betting"]
    numbers = (dr["value"], dr["low"], dr["high"], sure["low"], sure["high"])
    return (name, *map(_shown, numbers), *(_shown(one[other]["value"]) for other in ("ips", "snips", "direct")))


def _shown(value: float) -> str:
    return f"{value:.4g}"
