"""Somebody at the console: logs in, keeps cookies, and sends forms as a browser does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser

import httpx

BASE = "/admin/console"


class Visitor:
    """A browser without scripts. Redirects are followed only where a test says so."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, path: str = "", **headers: str) -> httpx.Response:
        """A page, by its path below the console's."""
        return self.client.get(
            f"{BASE}{path}", headers={name.replace("_", "-"): text for name, text in headers.items()}
        )

    def log_in(self, key: str, then: str = "") -> httpx.Response:
        """By the form."""
        token = hidden(self.get("/login").text, "login_token")
        return self.client.post(f"{BASE}/login", data={"login_token": token, "key": key, "then": then})

    def send(self, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> httpx.Response:
        """A form with the session's own token."""
        csrf = hidden(self.get("").text, "csrf")
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.client.post(f"{BASE}{path}", data={"csrf": csrf, **(fields or {})}, headers=named)


def hidden(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, f"no field {name} in:\n{page[:2000]}"
    return found[1]


@contextmanager
def visiting(url: str, key: str | None = None) -> Iterator[Visitor]:
    """A visitor, logged in where a key is given."""
    with httpx.Client(base_url=url, timeout=20) as client:
        visitor = Visitor(client)
        if key is not None:
            assert visitor.log_in(key).status_code == 303
        yield visitor


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def text_of(page: str) -> str:
    """What a page says, without its markup, with single spaces."""
    parser = _Texts()
    parser.feed(page)
    return " ".join(" ".join(parser.found).split())
