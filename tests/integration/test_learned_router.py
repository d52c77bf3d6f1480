"""A trained router behind a running gateway: it decides, and says of itself what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np

from benchmarks.gateway.upstream import UpstreamServer
from local_runtime.embedders.find import load_embedder
from policies.catalogue import ModelCard
from routers.inputs import Inputs
from routers.kinds.knn import NeighbourRouter
from routers.training.dataset import Dataset
from tests.contract.planted import outcomes
from tests.integration.conftest import catalogue
from tests.serving import serving

POLICY = 'schema = 1\nname = "default"\nmodels = ["instant", "paced"]\n[router]\nkind = "knn"\nartifact = "mine"\n'


def specialists(folder: Path) -> Dataset:
    """'instant' is right on questions of the sea, 'paced' on questions of numbers."""
    embedder, data = load_embedder("hashing", folder), outcomes().rows(np.arange(40)).columns([0, 1])
    texts = [f"the sea and its fish, ship {n}" if n % 2 else f"add the numbers {n} and seven" for n in range(40)]
    sea = np.arange(40) % 2
    return replace(
        data,
        texts=tuple(texts),
        inputs=Inputs(embedder.embed(texts), data.inputs.tokens, data.inputs.facts),
        embedder=embedder.id,
        models=tuple(ModelCard(id=name, context_tokens=1000) for name in ("instant", "paced")),
        score=np.stack([sea, 1 - sea], axis=1).astype(np.float32),
    )


def test_each_question_goes_to_its_specialist(upstream: UpstreamServer, tmp_path: Path) -> None:
    router = NeighbourRouter.fit(specialists(tmp_path), settings={"k": 5, "sharpness": 1.0})
    router.artifact.save(tmp_path / "data" / "artifacts" / "mine")
    env = {"UPSTREAM_SECRET": "sk", "FINGERPOST_EMBEDDER": "hashing"}

    found = {}
    with serving(tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=env) as served:
        for text in ("the sea and its fish, ship 51", "add the numbers 52 and seven"):
            body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
            found[text] = httpx.post(f"{served.url}/v1/route", json=body, headers=served.headers, timeout=20).json()

    assert [told["candidates"][0]["model"] for told in found.values()] == ["instant", "paced"]
    assert {told["artifact_sha256"] for told in found.values()} == {router.artifact.sha256}
    assert all("40 judged queries" in told["reason"] for told in found.values())
