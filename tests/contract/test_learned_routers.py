"""What every kind that learns keeps, whichever it is; a new file in `routers/kinds/` is tested the moment it exists."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from policies.catalogue import ModelCard
from routers.artifact import ARRAYS, Artifact, ArtifactError, read_artifact
from routers.decision import Features, Query
from routers.inputs import Inputs
from routers.learned import LearnedRouter
from routers.predictions import Predictions
from routers.training.dataset import Dataset
from routers.training.simulator import logged
from tests.contract.planted import (
    QUICK,
    candidate,
    fit,
    fitted,
    learned_class,
    learned_kinds,
    outcomes,
    query,
    stranger,
)

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torch_geometric", "sklearn", "scipy", "transformers", "onnxruntime", "routers.training")
NOISE = 2e-3

pytestmark = pytest.mark.parametrize("kind", learned_kinds())


def told(router: LearnedRouter, data: Dataset) -> Predictions:
    return router.predict(data.inputs, data.models)


def same(one: Predictions, other: Predictions, noise: float = 1e-6) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Predictions)]
    return all(np.allclose(ours, theirs, rtol=10 * noise, atol=noise, equal_nan=True) for ours, theirs in pairs)


def sound(found: Predictions, queries: int, models: int) -> None:
    for name in ("quality", "low", "high", "tokens", "tokens_high", "latency_ms"):
        assert getattr(found, name).shape == (queries, models), name
    assert found.usual.shape == found.usual_tokens.shape == (models,) and found.trust.shape == (queries,)
    assert (found.low >= 0).all() and (found.high <= 1).all()
    assert (found.low <= found.quality).all() and (found.quality <= found.high).all()
    assert (found.tokens > 0).all() and (found.tokens_high >= found.tokens * (1 - 1e-5)).all()
    assert ((found.trust >= 0) & (found.trust <= 1)).all() and ((found.usual >= 0) & (found.usual <= 1)).all()
    assert np.isfinite(found.tokens_high).all() and (found.usual_tokens > 0).all()


def test_the_same_seed_gives_the_same_artifact(kind: str) -> None:
    assert fit(kind, outcomes()).artifact.sha256 == fitted(kind).artifact.sha256


def test_an_artifact_says_what_it_is(kind: str) -> None:
    artifact, data = fitted(kind).artifact, outcomes()

    assert artifact.kind == kind
    assert artifact.embedder == (data.embedder if fitted(kind).needs_embedding else "")
    assert artifact.dimensions == (data.inputs.embeddings.shape[1] if artifact.embedder else 0)
    assert artifact.data["queries"] == len(data)


def test_what_was_saved_forecasts_the_same(kind: str, tmp_path: Path) -> None:
    fitted(kind).artifact.save(tmp_path / "made")

    loaded = learned_class(kind).from_artifact(read_artifact(tmp_path / "made"))

    assert loaded.artifact.sha256 == fitted(kind).artifact.sha256
    assert same(told(loaded, outcomes()), told(fitted(kind), outcomes()), 0.0)


def test_predictions_are_sound(kind: str) -> None:
    sound(told(fitted(kind), outcomes()), 160, 5)


def test_a_forecast_is_the_row_of_the_predictions(kind: str) -> None:
    data, router = outcomes(), fitted(kind)
    pool = [candidate(card) for card in data.models]

    found = told(router, replace(data, inputs=data.inputs.rows(slice(3, 4))))

    forecasts = router.forecast(query(data, 3), pool)
    assert np.allclose([one.quality for one in forecasts], found.quality[0], atol=NOISE)
    assert np.allclose([one.output_tokens for one in forecasts], found.tokens[0], atol=1, rtol=0.05)
    assert np.allclose([one.usual_quality or 0 for one in forecasts], found.usual, atol=NOISE)


def test_models_may_be_asked_of_in_any_order_and_number(kind: str) -> None:
    data, router = outcomes(), fitted(kind)
    whole = told(router, data)

    some = router.predict(data.inputs, [data.models[3], data.models[0]])

    assert np.allclose(some.quality, whole.quality[:, [3, 0]], atol=NOISE)


@pytest.mark.parametrize("card", [stranger(), stranger(family="family-1", params_b=70.0, price_in_usd_per_mtok=3.0)])
def test_a_model_that_was_never_seen_is_forecast_by_its_card(kind: str, card: ModelCard) -> None:
    data = outcomes()

    found = fitted(kind).predict(data.inputs, (*data.models, card))

    sound(found, len(data), 6)


def test_a_few_outcomes_of_a_new_model_are_taken_in_and_the_router_stays_as_it_was(kind: str) -> None:
    data, router = outcomes(), fitted(kind)
    before = told(router, data)
    labelled = replace(data.rows(np.arange(16)).columns([0]), models=(stranger(),))

    taught = router.with_outcomes(labelled)

    sound(taught.predict(data.inputs, (*data.models, stranger())), len(data), 6)
    assert type(taught) is type(router) and same(told(router, data), before, 0.0)
    assert learned_class(kind).from_artifact(taught.artifact).artifact.sha256 == taught.artifact.sha256


def test_another_kind_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="kind 'another'"):
        learned_class(kind).from_artifact(replace(fitted(kind).artifact, kind="another"))


def test_other_features_are_refused(kind: str) -> None:
    with pytest.raises(ArtifactError, match="features version"):
        learned_class(kind).from_artifact(replace(fitted(kind).artifact, features_version=0))


def test_missing_arrays_are_refused(kind: str) -> None:
    with pytest.raises(ArtifactError, match="train it anew"):
        learned_class(kind).from_artifact(replace(fitted(kind).artifact, arrays={}))


def test_a_changed_byte_is_refused(kind: str, tmp_path: Path) -> None:
    fitted(kind).artifact.save(tmp_path / "made")
    file = tmp_path / "made" / ARRAYS
    packed = bytearray(file.read_bytes())
    packed[len(packed) // 2] ^= 1
    file.write_bytes(packed)

    with pytest.raises(ArtifactError, match="sha256"):
        read_artifact(tmp_path / "made")


SERVE = """
import json, sys
from pathlib import Path
from policies.catalogue import Endpoint, ModelCard
from routers.artifact import read_artifact
from routers.decision import Candidate, Features, Query
from routers.find import router_class
import numpy as np
artifact = read_artifact(Path(sys.argv[1]))
card = ModelCard(id="model-0", context_tokens=1000)
pool = [Candidate(Endpoint(id="e", model="model-0", provider="local"), card, 1.0)]
query = Query("hello", Features(tokens=3, chars=5), embedding=np.ones(artifact.dimensions, np.float32))
router_class(artifact.kind).from_artifact(artifact).forecast(query, pool)
print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))
"""


def test_serving_loads_nothing_that_only_training_needs(kind: str, tmp_path: Path) -> None:
    fitted(kind).artifact.save(tmp_path / "made")

    command = [sys.executable, "-c", SERVE, str(tmp_path / "made"), json.dumps(HEAVY)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)

    assert json.loads(done.stdout) == []


def test_tasks_teach_nothing(kind: str) -> None:
    data = outcomes()
    mixed = replace(data, tasks=tuple(np.random.default_rng(0).permutation(data.tasks).tolist()))

    assert same(told(fit(kind, mixed), data), told(fitted(kind), data), 0.0)


def test_the_order_of_queries_and_models_teaches_nothing(kind: str) -> None:
    data = outcomes()
    turned = data.rows(np.random.default_rng(0).permutation(len(data))).columns([4, 2, 0, 1, 3])

    assert same(told(fit(kind, turned), data), told(fitted(kind), data), NOISE)


def test_without_an_embedding_every_model_is_as_usual(kind: str) -> None:
    data, router = outcomes(), fitted(kind)
    bare = Query(data.texts[0], Features(tokens=20, chars=80))

    forecasts = router.forecast(bare, [candidate(card) for card in data.models])

    usual = told(router, data).usual
    assert np.allclose([one.quality for one in forecasts], usual, atol=NOISE)
    if router.needs_embedding:
        assert {one.trust for one in forecasts} == {0.0}


def test_one_model_asked_of_each_query_is_enough(kind: str) -> None:
    data = outcomes()
    sparse = logged(data, np.full(5, 0.2), seed=3)

    sound(told(fit(kind, sparse), data), len(data), 5)


def _ten() -> Dataset:
    return outcomes().rows(np.arange(10))


def _lone() -> Dataset:
    return outcomes().columns([2])


def _constant() -> Dataset:
    return replace(outcomes(), score=np.ones_like(outcomes().score))


def _silent() -> Dataset:
    """One model was never asked, and nobody counted tokens or seconds."""
    data, nothing = outcomes(), np.full_like(outcomes().score, np.nan)
    score = data.score.copy()
    score[:, 1] = np.nan
    return replace(data, score=score, output_tokens=nothing, latency_s=nothing, cost_usd=nothing.astype(np.float64))


def _attempt(kind: str, data: Dataset) -> LearnedRouter | str:
    """The router, or why there is none."""
    try:
        return fit(kind, data)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("poor", [_ten, _lone, _constant, _silent])
def test_poor_data_is_learned_from_or_refused_with_the_fix(kind: str, poor: Callable[[], Dataset]) -> None:
    data = poor()

    found = _attempt(kind, data)

    if isinstance(found, str):
        assert any(word in found for word in ("bring", "needs", "at least"))
    else:
        sound(told(found, data), len(data), len(data.models))


@pytest.mark.parametrize("score", [np.nan, 2.0])
def test_data_that_teaches_nothing_is_refused(kind: str, score: float) -> None:
    data = replace(outcomes(), score=np.full_like(outcomes().score, score))

    with pytest.raises(ValueError, match="score"):
        fit(kind, data)


def test_an_unknown_setting_is_refused_by_name(kind: str) -> None:
    with pytest.raises(ValueError, match="no_such_setting"):
        learned_class(kind).fit(_ten(), settings={**QUICK.get(kind, {}), "no_such_setting": 1})


def test_no_queries_give_no_forecasts(kind: str) -> None:
    data, empty = outcomes(), outcomes().inputs.rows(slice(0, 0))

    assert isinstance(empty, Inputs)
    assert fitted(kind).predict(empty, data.models).quality.shape == (0, 5)


def test_an_artifact_travels_as_plain_values(kind: str) -> None:
    artifact = fitted(kind).artifact

    assert isinstance(artifact, Artifact)
    assert all(array.dtype != object for array in artifact.arrays.values())
    json.dumps({"facts": dict(artifact.facts), "data": dict(artifact.data), "metrics": dict(artifact.metrics)})
