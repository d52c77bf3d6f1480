"""The console over HTTP: who gets in, what a role may do, what a foreign page can't, and what every page has."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.ui.menu import MENU
from tests.integration.conftest import POLICY as POLICY_TEXT
from tests.integration.console import BASE, Visitor, hidden, text_of, visiting
from tests.serving import ADMIN_KEY, APPLICATION_KEY, Served, serving

PATHS = [entry.path for section in MENU for entry in section.entries]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


@pytest.fixture
def admin(gateway: Served) -> Iterator[Visitor]:
    with visiting(gateway.url, ADMIN_KEY) as found:
        yield found


def issued(gateway: Served, **fields: Any) -> dict[str, Any]:
    """A key made by the JSON route."""
    made = httpx.post(f"{gateway.url}/admin/keys", headers=gateway.admin_headers, json=fields, timeout=20)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


def of_role(gateway: Served, role: str) -> str:
    """An admin key that may do less in the console."""
    key: str = issued(gateway, name=f"a {role}", role="admin", metadata={"console_role": role})["key"]
    return key


def sql(gateway: Served, statement: str, *values: object) -> list[Any]:
    """On the gateway's own database."""
    with sqlite3.connect(gateway.data_dir / "fingerpost.sqlite3", timeout=10) as connection:
        return connection.execute(statement, values).fetchall()


def last_acts(gateway: Served, count: int = 1) -> list[dict[str, Any]]:
    found = httpx.get(f"{gateway.url}/admin/audit?limit={count}", headers=gateway.admin_headers, timeout=20).json()
    rows: list[dict[str, Any]] = found["data"]
    return rows


def test_a_browser_that_asks_for_admin_finds_the_console(gateway: Served) -> None:
    seen = httpx.get(f"{gateway.url}/admin", headers={"accept": "text/html,*/*"})
    plain = httpx.get(f"{gateway.url}/admin")

    assert (seen.status_code, seen.headers["location"]) == (303, BASE)
    assert (plain.status_code, plain.headers["content-type"]) == (404, "application/json")


@pytest.mark.parametrize("path", PATHS)
def test_who_is_not_logged_in_sees_no_page_and_comes_back_to_it(gateway: Served, path: str) -> None:
    with visiting(gateway.url) as nobody:
        sent_on = nobody.get(path)
        login = nobody.client.get(sent_on.headers["location"])
        token, then = hidden(login.text, "login_token"), hidden(login.text, "then")
        inside = nobody.client.post(f"{BASE}/login", data={"login_token": token, "then": then, "key": ADMIN_KEY})

    assert sent_on.status_code == 303 and sent_on.headers["location"].startswith(f"{BASE}/login?then=")
    assert (inside.status_code, inside.headers["location"]) == (303, f"{BASE}{path}")


@pytest.mark.parametrize("path", PATHS)
def test_every_page_has_the_headers_and_nothing_from_elsewhere(admin: Visitor, path: str) -> None:
    shown = admin.get(path)

    assert shown.status_code == 200
    assert shown.headers["content-security-policy"] == POLICY
    assert shown.headers["cache-control"] == "no-store"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.headers["referrer-policy"] == "same-origin"
    assert not re.findall(r"""(?:src|href|action)=["'](?:https?:)?//""", shown.text)
    assert 'aria-current="page"' in shown.text


@pytest.mark.parametrize("path", ["/login", "/nothing-here", "/static/nothing.js", "/static/console.js"])
def test_what_needs_no_login_has_the_same_headers(gateway: Served, path: str) -> None:
    with visiting(gateway.url) as nobody:
        assert nobody.get(path).headers["content-security-policy"] == POLICY


def test_static_files_are_kept_by_their_hash_alone(admin: Visitor) -> None:
    (url,) = set(re.findall(r'src="([^"]*console\.js[^"]*)"', admin.get().text))

    by_hash, by_name = admin.client.get(url), admin.get("/static/console.js")

    assert "immutable" in by_hash.headers["cache-control"] and by_hash.headers["content-type"].startswith("text/java")
    assert by_name.headers["cache-control"] == "no-cache" and by_name.content == by_hash.content
    assert admin.get("/static/../sessions.py").status_code == 404


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("fp-nobody-knows-this-key", "unknown, expired or revoked"),
        (APPLICATION_KEY, "needs an admin key"),
        ("", "unknown, expired or revoked"),
    ],
)
def test_a_key_that_is_no_admins_does_not_get_in(gateway: Served, key: str, says: str) -> None:
    with visiting(gateway.url) as nobody:
        refused = nobody.log_in(key)

        assert refused.status_code == 401 and says in text_of(refused.text)
        assert key == "" or key not in refused.text
        assert nobody.get().status_code == 303


@pytest.mark.parametrize(
    "then",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/v1/models", "/admin/consoles", "javascript:1"],
)
def test_after_the_login_nobody_is_led_elsewhere(gateway: Served, then: str) -> None:
    with visiting(gateway.url) as somebody:
        assert somebody.log_in(ADMIN_KEY, then).headers["location"] == BASE


def test_the_sessions_cookie_is_out_of_reach_and_kept_as_a_hash(gateway: Served) -> None:
    with visiting(gateway.url) as somebody:
        cookies = somebody.log_in(ADMIN_KEY).headers.get_list("set-cookie")
        token = somebody.client.cookies["fingerpost_console"]

    (cookie,) = [one for one in cookies if one.startswith("fingerpost_console=")]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and f"Path={BASE}" in cookie
    assert all(token not in map(str, row) for row in sql(gateway, "select * from console_session"))
    assert last_acts(gateway)[0]["action"] == "console.login"


def test_a_login_form_of_another_site_logs_nobody_in(gateway: Served) -> None:
    with visiting(gateway.url) as somebody:
        token = hidden(somebody.get("/login").text, "login_token")
        fields = {"login_token": token, "key": ADMIN_KEY}
        foreign = somebody.client.post(f"{BASE}/login", data=fields, headers={"Sec-Fetch-Site": "cross-site"})
        unmet = httpx.post(f"{gateway.url}{BASE}/login", data=fields)

    assert (foreign.status_code, unmet.status_code) == (403, 403)
    assert "fingerpost_console" not in foreign.cookies and "fingerpost_console" not in unmet.cookies


@pytest.mark.parametrize(
    ("csrf", "headers"),
    [
        ("", {}),
        ("wrong", {}),
        (None, {"Sec-Fetch-Site": "cross-site"}),
        (None, {"Sec-Fetch-Site": "same-site"}),
        (None, {"Sec-Fetch-Site": "none"}),
        (None, {"Origin": "https://evil.example"}),
        (None, {"Origin": "null"}),
    ],
)
def test_a_form_that_is_not_ours_changes_nothing(
    gateway: Served, admin: Visitor, csrf: str | None, headers: dict[str, str]
) -> None:
    real = hidden(admin.get().text, "csrf")
    fields = {"csrf": real if csrf is None else csrf, "name": "forged", "role": "application"}

    refused = admin.client.post(f"{BASE}/keys", data=fields, headers=headers)

    assert refused.status_code == 403
    assert "forged" not in httpx.get(f"{gateway.url}/admin/keys", headers=gateway.admin_headers).text


def test_another_sessions_token_is_not_good_enough(gateway: Served, admin: Visitor) -> None:
    with visiting(gateway.url, ADMIN_KEY) as other:
        foreign = hidden(other.get().text, "csrf")

    refused = admin.client.post(f"{BASE}/keys", data={"csrf": foreign, "name": "forged"})

    assert refused.status_code == 403


def test_a_form_of_ours_is_taken_with_the_headers_of_a_browser(gateway: Served, admin: Visitor) -> None:
    host = gateway.url.removeprefix("http://")

    by_fetch_metadata = admin.send("/keys", {"name": "a", "role": "application"}, Sec_Fetch_Site="same-origin")
    by_origin = admin.send("/keys", {"name": "b", "role": "application"}, Origin=f"http://{host}")

    assert (by_fetch_metadata.status_code, by_origin.status_code) == (200, 200)


def test_a_viewer_sees_but_changes_nothing(gateway: Served) -> None:
    row = issued(gateway, name="untouched")
    with visiting(gateway.url, of_role(gateway, "viewer")) as viewer:
        seen = [viewer.get(path).status_code for path in (*PATHS, f"/keys/{row['id']}")]
        tried = [
            viewer.send("/keys", {"name": "x", "role": "application"}).status_code,
            viewer.send(f"/keys/{row['id']}", {"name": "other"}).status_code,
            viewer.send(f"/keys/{row['id']}/revoke").status_code,
            viewer.send(f"/keys/{row['id']}/rotate", {"overlap_s": "0"}).status_code,
        ]

    assert set(seen) == {200} and set(tried) == {403}
    now = httpx.get(f"{gateway.url}/admin/keys/{row['id']}", headers=gateway.admin_headers).json()
    assert (now["name"], now["revoked_at"], now["rotated_to"]) == ("untouched", None, None)


def test_an_editor_can_not_reach_for_admin_keys(gateway: Served) -> None:
    other = issued(gateway, name="another admin", role="admin")
    with visiting(gateway.url, of_role(gateway, "editor")) as editor:
        made = editor.send("/keys", {"name": "mine", "role": "application"})
        tried = [
            editor.send("/keys", {"name": "x", "role": "admin"}).status_code,
            editor.send(f"/keys/{other['id']}/rotate", {"overlap_s": "0"}).status_code,
            editor.send(f"/keys/{other['id']}", {"name": "x"}).status_code,
            editor.send(f"/keys/{other['id']}/revoke").status_code,
        ]

    assert made.status_code == 200 and set(tried) == {403}


def test_a_session_ends_with_its_key(gateway: Served) -> None:
    row = issued(gateway, name="short", role="admin")
    with visiting(gateway.url, row["key"]) as somebody:
        before = somebody.get().status_code
        httpx.delete(f"{gateway.url}/admin/keys/{row['id']}", headers=gateway.admin_headers, timeout=20)
        after = somebody.get()

    assert (before, after.status_code) == (200, 303)


@pytest.mark.parametrize(("column", "age_s"), [("seen_at", 3700), ("created_at", 43_300)])
def test_a_session_ends_when_it_was_idle_or_lasted_too_long(gateway: Served, column: str, age_s: int) -> None:
    row = issued(gateway, name="idle", role="admin")
    with visiting(gateway.url, row["key"]) as somebody:
        sql(gateway, f"update console_session set {column} = {column} - ? where key_id = ?", age_s, row["id"])

        assert somebody.get().status_code == 303


def test_a_page_that_refreshes_itself_does_not_keep_a_session_alive(gateway: Served) -> None:
    row = issued(gateway, name="watching", role="admin")
    with visiting(gateway.url, row["key"]) as somebody:
        sql(gateway, "update console_session set seen_at = seen_at - 600 where key_id = ?", row["id"])
        before = sql(gateway, "select seen_at from console_session where key_id = ?", row["id"])
        somebody.get("", HX_Request="true", X_Unasked="1")
        unasked = sql(gateway, "select seen_at from console_session where key_id = ?", row["id"])
        somebody.get()
        asked = sql(gateway, "select seen_at from console_session where key_id = ?", row["id"])

    assert before == unasked and asked[0][0] > before[0][0] + 500


def test_a_role_that_is_lowered_counts_at_once(gateway: Served) -> None:
    row = issued(gateway, name="lowered", role="admin")
    with visiting(gateway.url, row["key"]) as somebody:
        lower = {"metadata": {"console_role": "viewer"}}
        httpx.patch(f"{gateway.url}/admin/keys/{row['id']}", headers=gateway.admin_headers, json=lower, timeout=20)

        assert somebody.send("/organisations", {"name": "too late"}).status_code == 403


def test_too_many_wrong_keys_make_one_wait(tmp_path: Path) -> None:
    env = {"FINGERPOST_PRELOAD": "false"}
    with serving(tmp_path, policies={"default": POLICY_TEXT}, env=env) as served, visiting(served.url) as somebody:
        tried = [somebody.log_in("wrong").status_code for _ in range(12)]
        right = somebody.log_in(ADMIN_KEY)

    assert tried == [401] * 10 + [429] * 2 and right.status_code == 429


def test_behind_https_cookies_are_for_https_alone_and_the_proxys_name_is_ours(tmp_path: Path) -> None:
    env = {"FINGERPOST_PRELOAD": "false", "FINGERPOST_PUBLIC_URL": "https://llm.example.com"}
    with serving(tmp_path, policies={"default": POLICY_TEXT}, env=env) as served, httpx.Client() as client:
        page = client.get(f"{served.url}{BASE}/login")
        token = hidden(page.text, "login_token")
        cookie = {"cookie": f"fingerpost_login={token}"}
        fields = {"login_token": token, "key": ADMIN_KEY}
        own, foreign = (
            client.post(f"{served.url}{BASE}/login", data=fields, headers={"origin": origin, **cookie})
            for origin in ("https://llm.example.com", "https://llm.example.org")
        )

    assert all("Secure" in one for one in own.headers.get_list("set-cookie")) and own.status_code == 303
    assert foreign.status_code == 403


def test_a_console_that_is_off_is_not_there(tmp_path: Path) -> None:
    env = {"FINGERPOST_PRELOAD": "false", "FINGERPOST_CONSOLE": "false"}
    with serving(tmp_path, policies={"default": POLICY_TEXT}, env=env) as served:
        assert httpx.get(f"{served.url}{BASE}/login", headers={"accept": "text/html"}).status_code == 404


def test_logging_out_ends_the_session_and_not_only_its_cookie(gateway: Served) -> None:
    with visiting(gateway.url, ADMIN_KEY) as somebody:
        token = somebody.client.cookies["fingerpost_console"]
        left = somebody.send("/logout")
        somebody.client.cookies.set("fingerpost_console", token, path=BASE)
        again = somebody.get()

    assert (left.headers["location"], again.status_code) == (f"{BASE}/login", 303)


def test_a_part_of_a_page_leads_to_the_login_where_the_session_is_lost(gateway: Served) -> None:
    with visiting(gateway.url) as nobody:
        lost = nobody.get("", HX_Request="true", HX_Current_URL=f"{gateway.url}{BASE}?period=7d")

    assert lost.headers["hx-redirect"] == f"{BASE}/login?then=%2Fadmin%2Fconsole%3Fperiod%3D7d"


def test_what_is_not_there_is_a_page_too(admin: Visitor) -> None:
    page, part = admin.get("/keys/nobody"), admin.get("/keys/nobody", HX_Request="true")

    assert page.status_code == 404 and "There is no key 'nobody'." in text_of(page.text) and "<nav" in page.text
    assert part.status_code == 404 and "<html" not in part.text


def test_a_key_made_here_works_and_its_secret_is_shown_once(gateway: Served, admin: Visitor) -> None:
    made = admin.send("/keys", {"name": "made here", "role": "application", "tags": "nightly, eval"})
    secret = re.search(r'id="secret">([^<]+)<', made.text)
    assert secret is not None
    asked = httpx.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {secret[1]}"}, timeout=20)
    (act,) = last_acts(gateway)

    assert asked.status_code == 200 and made.headers["cache-control"] == "no-store"
    assert secret[1] not in admin.get("/keys").text and secret[1] not in admin.get(f"/keys/{act['subject']}").text
    (owner,) = sql(gateway, "select id from api_key where name = 'admin key from settings'")[0]
    assert (act["action"], act["actor"]) == ("key.issue", owner)


def test_what_is_wrong_with_a_form_is_said_at_the_field_and_nothing_typed_is_lost(admin: Visitor) -> None:
    refused = admin.send("/keys", {"name": "kept <b>text</b>", "role": "application", "expires_at": "2001-01-01T00:00"})

    assert refused.status_code == 400
    field = refused.text[refused.text.index('id="h-expires_at"') :][:400]
    assert "must lie in the future" in field and 'aria-invalid="true"' in refused.text
    assert 'value="kept &lt;b&gt;text&lt;/b&gt;"' in refused.text
