"""Rounds become rows: means, intervals, and the cost at equal quality."""

from __future__ import annotations

import json

import pytest

from routers.training.choices import TRADE_OFFS
from routers.training.evaluate import judge_splits
from routers.training.judge import fit_all, judge_round, learned_kinds
from routers.training.references import BEST_SINGLE, ORACLE
from routers.training.summary import Row, metrics_of, summarise
from tests.unit.routers.training.judged import DATA, OTHER

ROUNDS = judge_splits(DATA, ["mean", "ridge"], [0, 1])
ROWS = {row.router: row for row in summarise(ROUNDS, resamples=200)}


def test_every_router_gets_a_row_with_every_metric() -> None:
    wanted = {
        "aiq_log",
        "aiq_linear",
        "perf_gain",
        "cost_save",
        "pareto_dist",
        "saving_99",
        "score_kept_99",
        "score_PF",
    }
    wanted |= {f"{what}_{name}" for name in TRADE_OFFS for what in ("reward", "share_of_oracle", "score", "cost")}

    assert {"mean", "ridge", BEST_SINGLE, ORACLE} <= set(ROWS)
    assert all(wanted <= set(row.metrics) for row in ROWS.values())
    assert {"brier", "ece", "conformal_coverage", "decision_ms"} <= set(ROWS["ridge"].metrics)


def test_the_best_single_differs_from_itself_by_nothing() -> None:
    own = ROWS[BEST_SINGLE].against_best_single

    assert all(one.mean == one.low == one.high == 0 for name, one in own.items() if not name.startswith("saving"))


def test_the_oracle_s_share_of_itself_is_one_and_nobody_s_is_more() -> None:
    for name in TRADE_OFFS:
        shares = [row.metrics[f"share_of_oracle_{name}"] for row in ROWS.values()]
        assert max(shares) == pytest.approx(ROWS[ORACLE].metrics[f"share_of_oracle_{name}"]) == pytest.approx(1)


def test_the_mean_router_takes_the_best_single_where_cost_does_not_count() -> None:
    assert ROWS["mean"].metrics["score_PF"] == pytest.approx(ROWS[BEST_SINGLE].metrics["score_PF"], abs=0.02)


def test_what_is_saved_at_equal_quality_keeps_that_quality_over_all_rounds() -> None:
    metrics = ROWS["ridge"].metrics
    if "saving_99_common" in metrics:
        assert metrics["score_kept_99_common"] >= 0.98


def test_differences_between_two_routers_mirror_each_other() -> None:
    ours, theirs = ROWS["ridge"].against["mean"]["aiq_log"], ROWS["mean"].against["ridge"]["aiq_log"]

    assert (ours.mean, ours.low) == pytest.approx((-theirs.mean, -theirs.high))


def test_a_row_is_plain_json_without_nan() -> None:
    text = json.dumps([row.as_json() for row in ROWS.values()], allow_nan=False)

    assert json.loads(text)[0]["router"] == BEST_SINGLE


def test_the_same_rounds_give_the_same_rows() -> None:
    def figures(row: Row) -> dict[str, float]:
        return {name: value for name, value in row.metrics.items() if not name.endswith(("_ms", "fit_s"))}

    again = {row.router: row for row in summarise(judge_splits(DATA, ["mean", "ridge"], [0, 1]), resamples=200)}

    assert figures(again["ridge"]) == figures(ROWS["ridge"])
    assert again["ridge"].against_best_single == ROWS["ridge"].against_best_single


def test_a_kind_that_refuses_the_data_is_named_with_its_reason_and_the_others_go_on() -> None:
    bare = DATA.rows(DATA.groups.argsort()[:0])
    fitted, refused = fit_all(["mean"], bare, None, 0, lambda what, share: None)

    assert fitted == {} and "queries" in refused["mean"]


def test_metrics_of_one_round_are_those_of_its_row() -> None:
    fitted, _ = fit_all(["mean"], DATA, None, 0, lambda what, share: None)
    one = judge_round("one", DATA, OTHER, fitted)

    (row,) = [row for row in summarise([one], resamples=50) if row.router == "mean"]
    assert metrics_of(one, "mean")["aiq_log"] == pytest.approx(row.metrics["aiq_log"])


def test_only_kinds_that_learn_are_judged() -> None:
    assert {"mean", "knn", "ridge"} <= set(learned_kinds())
    assert not {"fixed", "rules", "random_choice"} & set(learned_kinds())
    with pytest.raises(ValueError, match="learns nothing"):
        learned_kinds(["rules"])
    with pytest.raises(ValueError, match="no router kind"):
        learned_kinds(["ridgee"])
