"""`POST /v1/feedback`: what an application's users, tests or judges think of an answer, however late."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from gateway.admission.rules import Caller
from gateway.api.admin.bodies import Body, described_body, read_json
from gateway.api.raw import authenticate
from gateway.errors import InvalidRequest, NotFound
from gateway.ledger.feedback import MOST_SOURCES, Asked, Feedback, FeedbackStore
from gateway.state import Gateway

PATH: Final = "/v1/feedback"
RATINGS: Final = {"good": 1.0, "bad": 0.0}
# The ledger writes a record some tenths of a second after its answer; ids of another shape are not waited for.
WAITS_S: Final = (0.1, 0.2, 0.4, 0.8)
_OUR_ID: Final = re.compile(r"req_[0-9a-f]{24}")
_NO_NUL: Final = r"^[^\x00]*$"

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]


class FeedbackBody(Body):
    """`request_id` is the answer's header x-request-id; give either `score` or `rating`.

    Each `source` ("user", "tests", "judge") has one word on a request, and its last counts; at most 8 of them.
    """

    request_id: str = Field(min_length=1, max_length=200, pattern=_NO_NUL)
    score: Score | None = None
    rating: Literal["good", "bad"] | None = None
    source: str = Field(default="user", min_length=1, max_length=100, pattern=_NO_NUL)
    comment: str | None = Field(default=None, max_length=4000)


router = APIRouter()


@router.post(PATH, openapi_extra=described_body(FeedbackBody))
async def give_feedback(request: Request) -> dict[str, Any]:
    """Say how good an answer was; later ones of the same source take its place."""
    gateway: Gateway = request.app.state.gateway
    caller = await authenticate(request.scope, gateway.keyring)
    said = await read_json(request, gateway, FeedbackBody)
    score = _score(said)
    asked = await _asked(gateway.feedback, said.request_id)
    if asked is None or not _may_judge(caller, asked):
        raise NotFound(
            f"There is no request '{said.request_id[:80]}' of this key or its team in the ledger; just after an answer"
            " it may not be there yet.",
            param="request_id",
        )
    comment = said.comment if said.comment and _keeps_words(gateway, asked) else None
    given = Feedback(said.request_id, said.source, score, caller.key_id, comment)
    at = await gateway.feedback.put(given)
    if at is None:
        raise InvalidRequest(
            f"{MOST_SOURCES} other sources have judged this request, which is the most: judge again as one of them.",
            param="source",
        )
    return {
        "object": "feedback",
        "request_id": said.request_id,
        "source": said.source,
        "score": score,
        "at": at,
        "comment_kept": comment is not None,
    }


def _score(said: FeedbackBody) -> float:
    if (said.score is None) == (said.rating is None):
        raise InvalidRequest("Give either 'score' (0 to 1) or 'rating' ('good' or 'bad').", param="score")
    return said.score if said.score is not None else RATINGS[str(said.rating)]


async def _asked(store: FeedbackStore, request_id: str) -> Asked | None:
    found = await store.asked(request_id)
    for wait_s in WAITS_S if _OUR_ID.fullmatch(request_id) else ():
        if found is not None:
            break
        await asyncio.sleep(wait_s)
        found = await store.asked(request_id)
    return found


def _may_judge(caller: Caller, asked: Asked) -> bool:
    """Whoever asked, with the same line of keys or the same team; admins judge any request."""
    same_key = asked.root_key_id == (caller.root_id or caller.key_id)
    same_team = caller.team_id is not None and asked.team_id == caller.team_id
    return caller.role == "admin" or same_key or same_team


def _keeps_words(gateway: Gateway, asked: Asked) -> bool:
    """Comments are people's words: kept only where the policy keeps prompts."""
    active = gateway.policies.current(asked.policy) if asked.policy else None
    return active is not None and active.policy.log.prompts
