"""`POST /v1/embeddings`: the request as it came in, and the reply for vectors made in this process."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Raw, Struct

from gateway.errors import InvalidRequest
from gateway.wire.json_body import decode_fields, decode_typed

MAX_INPUTS = 2048


class EmbeddingsEnvelope(Struct):
    """The fields the gateway validates; token ids are allowed in `input` for upstreams that take them."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    input: str | list[Any]
    encoding_format: str | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """A validated embeddings request with its raw top-level fields."""

    envelope: EmbeddingsEnvelope
    fields: dict[str, Raw]

    @property
    def texts(self) -> list[str] | None:
        """The inputs as texts; None where the client sent token ids."""
        given = self.envelope.input
        if isinstance(given, str):
            return [given]
        return given if all(isinstance(one, str) for one in given) else None

    @property
    def chars(self) -> int:
        """Length of the inputs, token ids counted as four characters each."""
        given = self.envelope.input
        return len(given) if isinstance(given, str) else sum(_chars(one) for one in given)

    def wire_body(self, wire_model: str) -> bytes:
        """The body for an OpenAI-compatible upstream."""
        return msgspec.json.encode({**self.fields, "model": Raw(msgspec.json.encode(wire_model))})


def _chars(one: object) -> int:
    if isinstance(one, str):
        return len(one)
    return 4 * (len(one) if isinstance(one, list) else 1)


_ENVELOPE = msgspec.json.Decoder(EmbeddingsEnvelope)


def parse_embeddings(body: bytes) -> EmbeddingsRequest:
    """Validate a body; `InvalidRequest` names the field."""
    envelope = decode_typed(_ENVELOPE, body)
    if envelope.encoding_format not in (None, "float", "base64"):
        raise InvalidRequest("'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    given = envelope.input
    if not given:
        raise InvalidRequest("'input' must not be empty.", param="input")
    if isinstance(given, list):
        _check_inputs(given)
    return EmbeddingsRequest(envelope=envelope, fields=decode_fields(body))


def _check_inputs(given: list[Any]) -> None:
    if len(given) > MAX_INPUTS and not all(isinstance(one, int) for one in given):
        raise InvalidRequest(f"'input' has {len(given)} entries; at most {MAX_INPUTS} are allowed.", param="input")
    for position, one in enumerate(given):
        tokens = isinstance(one, list) and one and all(type(item) is int for item in one)
        if not (type(one) is int or tokens or (isinstance(one, str) and one)):
            raise InvalidRequest(f"'input[{position}]' must be a non-empty text.", param=f"input[{position}]")


def embeddings_reply(vectors: npt.NDArray[np.float32], model: str, tokens: int, encoding: str | None) -> bytes:
    """OpenAI's list form; `vectors` has shape [inputs, dimensions]."""
    rows: Sequence[Any] = (
        [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
        if encoding == "base64"
        else vectors.tolist()
    )
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
