"""Requests decided anew, and what is said of it: who could be asked, what is left out, what is never claimed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from gateway.dispatch.fleet import Fleet
from gateway.dispatch.health import Health
from gateway.lifecycle.dry_run.findings import findings
from gateway.lifecycle.dry_run.replay import Replay, Replayed
from gateway.lifecycle.policy_store import ActivePolicy, Artifacts, activate
from gateway.providers.base import Provider, Target
from policies.load import parse_catalogue, parse_policy
from routers.training.support import Needs

ROW = (
    '[[model]]\nid = "{id}"\ncontext_tokens = {context}\nprior_quality = {prior}\nprice_in_usd_per_mtok = {price}\n'
    'price_out_usd_per_mtok = {price}\n[[endpoint]]\nid = "at-{id}"\nmodel = "{id}"\nprovider = "openai"\n'
    'base_url = "http://127.0.0.1:9/v1"\n'
)
CATALOGUE = parse_catalogue(
    ROW.format(id="good", context=1000, prior=0.9, price=9)
    + ROW.format(id="cheap", context=1000, prior=0.5, price=1)
    + ROW.format(id="late", context=1000, prior=0.95, price=1)
    + ROW.format(id="good2", context=1000, prior=0.1, price=9),
    "test",
)
CARDS = {card.id: card for card in CATALOGUE.model}
FLEET = Fleet(
    CATALOGUE, {one.id: Target(one, CARDS[one.model], cast(Provider, object())) for one in CATALOGUE.endpoint}, {}
)
BASE = 'schema = 1\nname = "p"\nmodels = [{models}]\nexploration = {explore}\n[objective]\ncost = {cost}\n'
RULES = '[router]\nkind = "rules"\n'


def active(models: str = '"good", "cheap"', cost: float = 0.0, explore: float = 0.0, more: str = "") -> ActivePolicy:
    text = BASE.format(models=models, cost=cost, explore=explore) + RULES + more
    return activate(parse_policy(text, "p"), "test", FLEET, Artifacts((), lambda: ""))


def row(**changes: Any) -> Any:
    ranking = changes.pop("ranking", {"good": 0.5, "cheap": 0.5})
    model = changes.pop("model", next(iter(ranking)))
    order = [model, *(one for one in ranking if one != model)]
    decision = [{"endpoint": f"at-{one}", "model": one, "propensity": ranking[one]} for one in order]
    known = {
        "id": f"req_{np.random.default_rng().integers(1 << 60)}",
        "policy_sha256": "then",
        "category": "general",
        "model": model,
        "router_kind": "rules",
        "strategy": None,
        "propensity": ranking[model],
        "decision": decision,
        "features": {"tokens": 10, "language": "en", "modalities": ["text"]},
        "embedding": None,
        "embedder": None,
        "status": 200,
        "cache_status": "miss",
        "cost_nanousd": 1000,
        "prompt": None,
        "score": 1.0,
    }
    return SimpleNamespace(**known | changes)


def replayed(policy: ActivePolicy, *rows: Any) -> Replayed:
    into = Replayed()
    Replay(policy, Health(lambda: 0.0)).take(rows, into)
    return into


def found(policy: ActivePolicy, rows: list[Any], **more: Any) -> dict[str, Any]:
    needs = Needs(effective_rows=more.pop("effective_rows", 10))
    return findings(
        replayed(policy, *rows), policy.policy, delta=0.05, needs=needs, dearest_usd=1.0, watch=lambda *_: None
    )


def test_a_request_is_decided_by_the_drafts_objective() -> None:
    best, thrifty = (replayed(active(cost=cost), row()).cases[0] for cost in (0.0, 900.0))

    assert (best.drafted, thrifty.drafted) == ({"good": 1.0, "cheap": 0.0}, {"cheap": 1.0, "good": 0.0})
    assert best.logged == {"good": 0.5, "cheap": 0.5}


def test_who_was_filtered_then_stays_out_and_who_is_new_may_be_asked() -> None:
    draft = active('"good", "cheap", "late"')
    only_cheap = row(ranking={"cheap": 1.0})

    cases = replayed(draft, row(), only_cheap).cases

    assert set(cases[0].drafted) == {"good", "cheap", "late"}
    assert set(cases[1].drafted) == {"cheap", "late"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cache_status": "hit-exact"}, "answered from the cache"),
        ({"decision": None}, "never came to a decision"),
        ({"router_kind": "pinned"}, "named its model itself"),
        ({"strategy": "vote"}, "a strategy made several calls"),
        ({"status": 502}, "failed"),
        ({"propensity": None}, "another model stood in for the one that was drawn"),
        ({"ranking": {"good": 0.5, "cheap": 0.4}}, "logged without whole propensities"),
        ({"ranking": {"good2": 1.0}}, "the draft allows none of the models that could answer"),
    ],
)
def test_what_says_nothing_of_decisions_is_left_out_and_told(changes: dict[str, Any], reason: str) -> None:
    told = replayed(active(), row(), row(**changes))

    assert (told.rows, len(told.cases), told.left_out) == (2, 1, {reason: 1})


def test_endpoints_of_a_model_count_as_one() -> None:
    one = row()
    one.decision = [
        {"endpoint": "a", "model": "good", "propensity": 0.3},
        {"endpoint": "b", "model": "good", "propensity": 0.2},
        {"endpoint": "c", "model": "cheap", "propensity": 0.5},
    ]

    assert replayed(active(), one).cases[0].logged == {"good": 0.5, "cheap": 0.5}


def test_categories_are_told_anew_and_words_that_were_not_kept_are_noted() -> None:
    short_ones = '[[category]]\nname = "short"\nwhen = { max_tokens = 20 }\n'
    rule = short_ones + '[[category]]\nname = "sums"\nwhen = { contains = ["sum"] }\n'
    kept = row(prompt='[{"role":"user","content":"a sum"}]', features={"tokens": 50})

    short, long, words = replayed(active(more=rule), row(), row(features={"tokens": 50}), kept).cases

    assert [one.new_category for one in (short, long, words)] == ["short", "general", "sums"]
    assert [one.without_text for one in (short, long, words)] == [True, True, False]


def test_an_answer_that_was_called_good_counts_for_who_would_be_asked() -> None:
    rows = [row(model=model, score=float(model == "cheap")) for model in ("good", "cheap") * 100]

    told = found(active(cost=900.0), rows)

    quality = told["estimates"]["quality"]
    assert quality["logged_mean"] == 0.5
    assert quality["draft"]["snips"]["value"] == 1.0
    assert quality["difference"]["low"] > 0.3 and quality["difference"]["surely_above"] > 0
    assert told["changes"]["expected_share"] == pytest.approx(0.5)
    assert "higher" in told["verdict"]


def test_no_number_is_said_of_what_was_never_tried_and_the_rest_is_judged() -> None:
    tried = [row(model=model) for model in ("good", "cheap") * 50]
    untried = [row(ranking={"good": 1.0, "cheap": 0.0}) for _ in range(100)]

    told = found(active(cost=900.0), tried + untried)

    assert told["support"]["unsupported_traffic"] == 0.5
    assert told["support"]["never_tried"] == {"cheap": 0.5}
    assert told["estimates"]["quality"]["rows"] == 100
    assert "Nothing is claimed of 50.0% of traffic" in told["verdict"]
    assert "on the rest" in told["verdict"]


def test_too_few_decisions_are_refused_with_the_reason() -> None:
    told = found(active(), [row(model=model) for model in ("good", "cheap") * 5], effective_rows=50)

    assert "50 are needed" in told["estimates"]["quality"]["refused"]
    assert "No number for quality" in told["verdict"]


def test_requests_without_feedback_still_tell_of_cost() -> None:
    costs = {"good": 9_000_000, "cheap": 1_000_000}
    rows = [row(model=model, score=None, cost_nanousd=costs[model]) for model in ("good", "cheap") * 60]

    told = found(active(cost=900.0), rows)["estimates"]

    assert "0 requests with support have this figure" in told["quality"]["refused"]
    assert told["cost_usd"]["draft"]["dr"]["value"] == pytest.approx(0.001, rel=0.05)
    assert told["cost_usd"]["difference"]["high"] < 0


def test_an_empty_log_and_one_of_which_nothing_fits_are_told() -> None:
    nothing, unfit = found(active(), []), found(active(), [row(cache_status="hit-exact")])

    assert nothing["verdict"] == "Nothing can be said: no request of this policy is logged in that time."
    assert unfit["verdict"] == "Nothing can be said: 1 answered from the cache."


def test_examples_name_requests_whose_choice_changes() -> None:
    rows = [row(ranking={"good": 0.9, "cheap": 0.1}) for _ in range(30)]

    told = found(active(cost=900.0), rows)["changes"]

    assert told["pairs"] == [{"from": "good", "to": "cheap", "count": 30}]
    assert len(told["examples"]) == 20
    assert told["examples"][0] == {"request_id": rows[0].id, "from": "good", "to": "cheap"}
    assert told["by_category"] == {"general": {"decided": 30, "changed": 30}}
