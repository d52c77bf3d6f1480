"""The seal of an exported model: the exact vectors of a few texts kept in the file, so that each load proves on the
processor at hand that the file still gives them. Must know nothing of how a model is made."""

from __future__ import annotations

from base64 import b64decode, b64encode

import numpy as np

from local_runtime.embedders.minilm.probes import PROVEN
from local_runtime.embedders.minilm.quantise import Floats
from local_runtime.embedders.minilm.session import MiniLMSession
from local_runtime.embedders.minilm.tokens import MiniLMTokens

# Mean cosine to the exact vectors. The full range reaches .9987, the half range .9972; the full range on a processor
# whose 16-bit sums saturate .9945 (computed in numpy with such sums), and must be told apart from both.
AGREEMENT = 0.996


def sealed(model_id: str, exact: Floats) -> dict[str, str]:
    """Metadata for the file: its id, and the exact vectors of PROVEN, [texts, hidden]."""
    return {"id": model_id, "seal": b64encode(exact.astype("<f4").tobytes()).decode("ascii")}


def agreement(session: MiniLMSession, tokens: MiniLMTokens) -> float:
    """Mean cosine between the sealed vectors and what the model gives here; 0 for a model without a whole seal."""
    if not {"id", "seal"} <= session.metadata.keys():
        return 0.0
    vectors = session.run([tokens.ids(text) for text in PROVEN])
    exact = np.frombuffer(b64decode(session.metadata["seal"]), "<f4")
    return float((vectors * exact.reshape(vectors.shape)).sum(axis=1).mean()) if exact.size == vectors.size else 0.0
