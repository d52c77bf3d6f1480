"""`POST /v1/feedback` before a running gateway: who may judge, what is kept, and what is refused."""

from __future__ import annotations

import sqlite3
from typing import Any

import httpx
import pytest

from tests.serving import Served

ASK = {"model": "instant", "messages": [{"role": "user", "content": "Hello"}]}


def asked(client: httpx.Client, **fields: Any) -> str:
    """The id of a request that was answered."""
    answer = client.post("/v1/chat/completions", json={**ASK, **fields}).raise_for_status()
    return answer.headers["x-request-id"]


def rows(gateway: Served, request_id: str) -> list[tuple[Any, ...]]:
    """What the database holds of a request's feedback."""
    wanted = "SELECT source, score, comment FROM feedback WHERE request_id = ? ORDER BY source"
    with sqlite3.connect(gateway.data_dir / "fingerpost.sqlite3") as database:
        return database.execute(wanted, (request_id,)).fetchall()


def client_of(gateway: Served, team_id: str | None = None) -> httpx.Client:
    """Another application, of a team or of none."""
    body = {"name": "other", "team_id": team_id}
    made = httpx.post(f"{gateway.url}/admin/keys", json=body, headers=gateway.admin_headers).raise_for_status().json()
    return httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {made['key']}"}, timeout=20)


def team(gateway: Served, name: str) -> str:
    """The id of a new team."""
    with httpx.Client(base_url=gateway.url, headers=gateway.admin_headers) as admin:
        above = admin.post("/admin/organisations", json={"name": name}).raise_for_status().json()
        body = {"name": name, "organisation_id": above["id"]}
        return str(admin.post("/admin/teams", json=body).raise_for_status().json()["id"])


def test_an_answer_can_be_judged_at_once_and_the_last_word_of_a_source_counts(
    client: httpx.Client, gateway: Served
) -> None:
    request_id = asked(client)

    first = client.post("/v1/feedback", json={"request_id": request_id, "rating": "good"})
    again = client.post("/v1/feedback", json={"request_id": request_id, "score": 0.25})
    other = client.post("/v1/feedback", json={"request_id": request_id, "score": 1, "source": "tests"})

    assert [one.status_code for one in (first, again, other)] == [200, 200, 200]
    said = first.json()
    assert (said["object"], said["request_id"], said["source"], said["score"]) == ("feedback", request_id, "user", 1.0)
    assert rows(gateway, request_id) == [("tests", 1.0, None), ("user", 0.25, None)]


def test_one_more_source_than_a_request_may_have_is_refused_by_name(client: httpx.Client, gateway: Served) -> None:
    request_id = asked(client)

    answers = [
        client.post("/v1/feedback", json={"request_id": request_id, "score": 1, "source": f"judge {number}"})
        for number in range(9)
    ]

    assert [one.status_code for one in answers] == [200] * 8 + [400]
    error = answers[-1].json()["error"]
    assert error["param"] == "source" and error["message"].startswith("8 other sources have judged this request")
    assert len(rows(gateway, request_id)) == 8


def test_words_are_kept_only_where_the_policy_keeps_prompts(client: httpx.Client, gateway: Served) -> None:
    silent, kept = asked(client), asked(client, model="auto:kept")

    told = [
        client.post("/v1/feedback", json={"request_id": one, "rating": "bad", "comment": "too long"}).json()
        for one in (silent, kept)
    ]

    assert [one["comment_kept"] for one in told] == [False, True]
    assert rows(gateway, silent) == [("user", 0.0, None)] and rows(gateway, kept) == [("user", 0.0, "too long")]


def test_the_same_team_and_admins_may_judge_and_strangers_are_told_nothing(gateway: Served) -> None:
    web = team(gateway, "web-feedback")
    asker, colleague, stranger = client_of(gateway, web), client_of(gateway, web), client_of(gateway)
    body = {"request_id": asked(asker), "score": 0.5}

    answers = [one.post("/v1/feedback", json=body) for one in (colleague, stranger)]
    admin = httpx.post(f"{gateway.url}/v1/feedback", json=body, headers=gateway.admin_headers)
    unknown = asker.post("/v1/feedback", json={**body, "request_id": "req_of_nobody"})

    assert [one.status_code for one in (*answers, admin, unknown)] == [200, 404, 200, 404]
    errors = [one.json()["error"] for one in (answers[1], unknown)]
    assert [one["code"] for one in errors] == ["not_found", "not_found"] and errors[0]["param"] == "request_id"
    assert errors[0]["message"].replace(str(body["request_id"]), "") == errors[1]["message"].replace(
        "req_of_nobody", ""
    )
    for one in (asker, colleague, stranger):
        one.close()


def test_a_rotated_key_still_judges_what_it_asked(gateway: Served) -> None:
    body = {"name": "rotating"}
    made = httpx.post(f"{gateway.url}/admin/keys", json=body, headers=gateway.admin_headers).json()
    old = {"Authorization": f"Bearer {made['key']}"}
    request_id = httpx.post(f"{gateway.url}/v1/chat/completions", json=ASK, headers=old).headers["x-request-id"]
    rotated = httpx.post(f"{gateway.url}/admin/keys/{made['id']}/rotate", json={}, headers=gateway.admin_headers).json()

    new = {"Authorization": f"Bearer {rotated['key']}"}
    answer = httpx.post(f"{gateway.url}/v1/feedback", json={"request_id": request_id, "score": 1}, headers=new)

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "request_id"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": 5, "score": 1}, "request_id"),
        ({"request_id": "a\0b", "score": 1}, "request_id"),
        ({"request_id": "r"}, "score"),
        ({"request_id": "r", "score": 1, "rating": "good"}, "score"),
        ({"request_id": "r", "score": 1.01}, "score"),
        ({"request_id": "r", "score": -1}, "score"),
        ({"request_id": "r", "score": "1"}, "score"),
        ({"request_id": "r", "score": True}, "score"),
        ({"request_id": "r", "rating": "great"}, "rating"),
        ({"request_id": "r", "score": 1, "source": ""}, "source"),
        ({"request_id": "r", "score": 1, "comment": "x" * 4001}, "comment"),
        ({"request_id": "r", "score": 1, "stars": 5}, "stars"),
    ],
)
def test_what_is_wrong_with_a_body_is_told_by_field(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/feedback", json=body)

    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("invalid_request", param)


def test_nobody_without_a_key_judges_and_a_body_that_is_no_json_is_refused(
    client: httpx.Client, gateway: Served
) -> None:
    assert httpx.post(f"{gateway.url}/v1/feedback", json={}).status_code == 401
    assert client.post("/v1/feedback", content=b"{").status_code == 400
    assert client.get("/v1/feedback").status_code == 405


def test_the_description_of_the_api_tells_of_it(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/v1/feedback"]["post"]

    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert {"request_id", "score", "rating", "source", "comment"} == set(schema["properties"])
