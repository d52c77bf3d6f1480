"""The API's description for people: it works where there is no network, and asks nobody else."""

from __future__ import annotations

import re

import httpx

from tests.serving import Served


def test_the_page_and_all_that_it_loads_come_from_the_gateway_itself_without_a_key(gateway: Served) -> None:
    with httpx.Client(base_url=gateway.url, timeout=20) as stranger:
        page = stranger.get("/docs")
        wanted = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", page.text)
        answers = {path: stranger.get(path) for pair in wanted for path in pair if path}

    assert page.status_code == 200 and not re.search(r"https?://|['\"]//", page.text)
    assert "/openapi.json" in answers and sum(path.startswith("/docs/files/") for path in answers) == 3
    assert {answer.status_code for answer in answers.values()} == {200}
    assert '"validatorUrl": null' in page.text


def test_there_is_no_second_page_and_nothing_else_in_the_folder_s_place(gateway: Served) -> None:
    with httpx.Client(base_url=gateway.url, timeout=20) as stranger:
        answers = [stranger.get(path) for path in ("/redoc", "/docs/files/", "/docs/files/../../app.py")]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
