"""Single sign-on against a provider that checks what it is sent, and that lies where a test tells it to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.integration.conftest import POLICY
from tests.integration.console import BASE, Visitor, text_of, visiting
from tests.integration.oidc_provider import CLIENT, SECRET, Provider, providing
from tests.serving import ADMIN_KEY, Served, serving

JANE = {"sub": "248", "email": "jane@example.com", "groups": ["ops"]}


@pytest.fixture(scope="module")
def one() -> Iterator[Provider]:
    with providing() as found:
        yield found


@pytest.fixture
def provider(one: Provider) -> Provider:
    """Honest at the beginning of each test."""
    one.person, one.lies, one.userinfo, one.issuer_said, one.forged = dict(JANE), {}, {}, "", ""
    return one


@pytest.fixture(scope="module")
def signed(one: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that knows the provider, and lets no key into the console."""
    env = {
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_CONSOLE_KEY_ROLE": "none",
        "FINGERPOST_OIDC_ISSUER": one.url,
        "FINGERPOST_OIDC_CLIENT_ID": CLIENT,
        "FINGERPOST_OIDC_CLIENT_SECRET": SECRET,
        "FINGERPOST_OIDC_ROLES": "ops=admin, developers=editor, everybody=viewer",
    }
    with serving(tmp_path_factory.mktemp("signed"), policies={"default": POLICY}, env=env) as served:
        yield served


def sign_on(visitor: Visitor, then: str = "") -> httpx.Response:
    """To the provider and back, as a browser goes."""
    sent = visitor.get(f"/oidc/begin?then={then}")
    assert sent.status_code == 303, text_of(sent.text)
    back = httpx.get(sent.headers["location"], timeout=20).headers["location"]
    return visitor.client.get(back)


def test_who_the_provider_knows_is_let_in_with_their_role(signed: Served, provider: Provider) -> None:
    with visiting(signed.url) as jane:
        back = sign_on(jane, f"{BASE}/keys")
        home = jane.get("/keys")

    assert back.status_code == 200 and f'content="0; url={BASE}/keys"' in back.text
    cookie = next(one for one in back.headers.get_list("set-cookie") if one.startswith("fingerpost_console="))
    assert "samesite=strict" in cookie.lower() and "HttpOnly" in cookie
    assert home.status_code == 200 and "jane@example.com" in text_of(home.text) and "admin" in text_of(home.text)


def test_acts_stand_in_the_audit_log_under_who_it_was(signed: Served, provider: Provider) -> None:
    with visiting(signed.url) as jane:
        sign_on(jane)
        made = jane.send("/organisations", {"name": "Made by Jane"})
    (act,) = httpx.get(f"{signed.url}/admin/audit?limit=1", headers=signed.admin_headers, timeout=20).json()["data"]

    assert made.status_code == 303
    assert (act["action"], act["actor"]) == ("organisation.create", "oidc:jane@example.com/248")


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["everybody"], "viewer"),
        (["everybody", "developers"], "editor"),
        ("ops", "admin"),
        (["x", "everybody"], "viewer"),
    ],
)
def test_the_highest_role_of_the_claim_counts(signed: Served, provider: Provider, groups: Any, role: str) -> None:
    provider.person["groups"] = groups
    with visiting(signed.url) as jane:
        sign_on(jane)

        assert f'<span class="badge">{role}</span>' in jane.get().text


def test_a_claim_that_only_the_userinfo_has_counts_too(signed: Served, provider: Provider) -> None:
    del provider.person["groups"]
    provider.userinfo = {"sub": "248", "groups": ["developers"]}
    with visiting(signed.url) as jane:
        sign_on(jane)

        assert '<span class="badge">editor</span>' in jane.get().text


@pytest.mark.parametrize(
    "lie",
    [
        {"lies": {"nonce": "another"}},
        {"lies": {"nonce": None}},
        {"lies": {"iss": "https://elsewhere.example"}},
        {"lies": {"aud": "somebody else"}},
        {"lies": {"aud": [CLIENT, "somebody else"], "azp": "somebody else"}},
        {"lies": {"exp": int(time.time()) - 3600}},
        {"lies": {"exp": None}},
        {"lies": {"sub": None}},
        {"forged": "signature"},
        {"forged": "unsigned"},
        {"issuer_said": "https://elsewhere.example"},
        {"person": {"sub": "248", "groups": ["strangers"]}},
        {"person": {"sub": "248"}},
        {"person": {"sub": "248"}, "userinfo": {"sub": "999", "groups": ["ops"]}},
    ],
    ids=str,
)
def test_nothing_that_does_not_hold_lets_anybody_in(signed: Served, provider: Provider, lie: dict[str, Any]) -> None:
    with visiting(signed.url) as somebody:
        sent = somebody.get("/oidc/begin")
        for name, value in lie.items():
            setattr(provider, name, value)
        back = somebody.client.get(httpx.get(sent.headers["location"], timeout=20).headers["location"])

        assert back.status_code == 403 and "fingerpost_console" not in somebody.client.cookies
        assert somebody.get().status_code == 303


def test_a_code_that_was_begun_elsewhere_or_is_used_twice_is_refused(signed: Served, provider: Provider) -> None:
    with visiting(signed.url) as attacker, visiting(signed.url) as victim:
        theirs = httpx.get(attacker.get("/oidc/begin").headers["location"], timeout=20).headers["location"]
        victim.get("/oidc/begin")
        elsewhere = victim.client.get(theirs)
        once, twice = attacker.client.get(theirs), attacker.client.get(theirs)

    assert (elsewhere.status_code, once.status_code, twice.status_code) == (403, 200, 403)


def test_another_browsers_verifier_does_not_open_a_stolen_code(signed: Served, provider: Provider) -> None:
    """The thief has the code and its state, but neither the victim's verifier nor their nonce."""
    with visiting(signed.url) as victim, visiting(signed.url) as thief:
        stolen = httpx.get(victim.get("/oidc/begin").headers["location"], timeout=20).headers["location"]
        state = parse_qs(urlsplit(stolen).query)["state"][0]
        thief.get("/oidc/begin")
        _, *rest = thief.client.cookies["fingerpost_sign_on"].strip('"').split("~")
        thief.client.cookies.set("fingerpost_sign_on", "~".join([state, *rest]), path=BASE)
        thief.client.cookies.delete("fingerpost_sign_on", domain="127.0.0.1")

        assert thief.client.get(stolen).status_code == 403


def test_a_provider_that_refuses_leads_back_to_the_form(signed: Served, provider: Provider) -> None:
    with visiting(signed.url) as somebody:
        sent = somebody.get("/oidc/begin").headers["location"]
        state = parse_qs(urlsplit(sent).query)["state"][0]
        back = somebody.get(f"/oidc/done?error=access_denied&state={state}")

    assert back.status_code == 403 and "refused the login" in text_of(back.text)


def test_where_keys_may_not_log_in_none_does(signed: Served) -> None:
    with visiting(signed.url) as somebody:
        page = somebody.get("/login")
        assert 'name="key"' not in page.text and "/oidc/begin" in page.text
        token = {"login_token": "x", "key": ADMIN_KEY}
        somebody.client.cookies.set("fingerpost_login", "x", path=BASE)

        assert somebody.client.post(f"{BASE}/login", data=token).status_code == 401


def test_a_provider_that_is_away_is_said_to_be(signed: Served, provider: Provider, tmp_path: Any) -> None:
    env = {
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_OIDC_ISSUER": "http://127.0.0.1:9",
        "FINGERPOST_OIDC_CLIENT_ID": "x",
    }
    with serving(tmp_path, policies={"default": POLICY}, env=env) as served, visiting(served.url) as somebody:
        asked = somebody.get("/oidc/begin")

    assert asked.status_code == 503 and "does not answer" in text_of(asked.text)
