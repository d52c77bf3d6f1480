"""The console's pure parts: roles, pace of logins, forms, figures in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway.ui
from gateway.admission.burn_down import BurnDown
from gateway.errors import InvalidRequest
from gateway.ledger.forecasts import Bin, Calibration
from gateway.ui.charts import chart, series
from gateway.ui.doors import Form
from gateway.ui.forms import faults_of, lines_of, moment_of
from gateway.ui.login import inside
from gateway.ui.menu import MENU, Entry
from gateway.ui.oidc import is_safe
from gateway.ui.pages.budgets import burning
from gateway.ui.pages.models import reliability
from gateway.ui.periods import period_of
from gateway.ui.rendering import BASE, Rendering, ago, mean_of, ms, number, percent, usd
from gateway.ui.roles import Role, key_role, lower, roles_of
from gateway.ui.sessions import Session
from gateway.ui.throttle import MAX_ADDRESSES, MAX_FAILURES, WITHIN_S, Throttle


@pytest.mark.parametrize(
    ("most", "metadata", "role"),
    [
        (Role.ADMIN, {}, Role.ADMIN),
        (Role.ADMIN, {"console_role": "viewer"}, Role.VIEWER),
        (Role.VIEWER, {"console_role": "admin"}, Role.VIEWER),
        (None, {"console_role": "admin"}, None),
        (Role.ADMIN, {"console_role": "king"}, None),
        (Role.ADMIN, {"console_role": ["admin"]}, None),
    ],
)
def test_a_keys_role_is_the_lesser_of_what_is_set(most: Role | None, metadata: dict[str, Any], role: Role) -> None:
    assert key_role(most, metadata) is role


def test_each_role_may_what_those_before_may() -> None:
    assert [[one.may(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert lower(Role.EDITOR, Role.ADMIN) is lower(Role.ADMIN, Role.EDITOR) is Role.EDITOR


def test_roles_are_read_from_a_setting() -> None:
    assert roles_of(" ops=admin, cn=x=viewer ,") == {"ops": Role.ADMIN, "cn=x": Role.VIEWER}
    for wrong in ("ops", "=admin", "ops=king"):
        with pytest.raises(ValueError, match="value=role"):
            roles_of(wrong)


def test_ten_failures_make_an_address_wait_until_the_oldest_is_a_minute_old() -> None:
    clock = [0.0]
    throttle = Throttle(lambda: clock[0])
    for at in range(MAX_FAILURES):
        assert throttle.wait_s("a") == 0
        clock[0] = float(at)
        throttle.failed("a")

    assert throttle.wait_s("a") == WITHIN_S - clock[0] and throttle.wait_s("b") == 0
    clock[0] = WITHIN_S
    assert throttle.wait_s("a") == 0
    throttle.failed("a")
    assert throttle.wait_s("a") == 1.0  # the second failure was at 1 s
    throttle.succeeded("a")
    assert throttle.wait_s("a") == 0


def test_addresses_are_not_remembered_without_bound() -> None:
    throttle = Throttle(lambda: 0.0)
    for number_ in range(MAX_ADDRESSES + 5):
        throttle.failed(str(number_))

    assert len(throttle._failures) == MAX_ADDRESSES


@given(st.text())
def test_after_a_login_one_stays_within_the_console(then: str) -> None:
    for tried in (then, f"{BASE}{then}", f"/{then}", f"https:{then}"):
        path = inside(tried)
        assert path == "" or path[0] in "/?"
        assert not path.startswith("//") or f"{BASE}{path}".startswith(f"{BASE}/")


def test_after_a_login_one_comes_back_to_where_one_was() -> None:
    assert inside(f"{BASE}/keys?x=1") == "/keys?x=1" and inside(f"{BASE}?period=7d") == "?period=7d"
    assert inside(f"{BASE}/logout") == inside(f"{BASE}/login?then=x") == inside(f"{BASE}x") == ""


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://login.example.com", True),
        ("http://127.0.0.1:9", True),
        ("http://localhost/x", True),
        ("http://[::1]:9", True),
        ("http://login.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("ftp://localhost", False),
        ("https://", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_a_provider_elsewhere_must_be_reached_by_https(url: str, safe: bool) -> None:
    assert is_safe(url) is safe


def test_fields_of_a_form() -> None:
    form = Form({"a": ["1", " 2 "], "b": [""]})

    assert (form["a"], form.every("a"), form.given("a", "b", "c")) == ("2", ["1", " 2 "], {"a": "2"})
    assert lines_of(" a, b\n\nc ,") == ("a", "b", "c")


def test_a_moment_of_a_form_is_utc() -> None:
    assert moment_of("2030-01-02T03:04", "x") == datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    assert moment_of("", "x") is None
    with pytest.raises(InvalidRequest) as raised:
        moment_of("soon", "x")
    assert raised.value.param == "x"


def test_a_fault_is_told_without_the_fields_name() -> None:
    assert faults_of(InvalidRequest("'a.b': must be 1.", param="a.b")) == {"a": "Must be 1."}
    assert faults_of(InvalidRequest("No.")) == {"": "No."}


@pytest.mark.parametrize(
    ("nanousd", "said"),
    [
        (None, "\u2013"),
        (0, "$0"),
        (1_234_567_000_000, "$1,235"),
        (1_500_000_000, "$1.50"),
        (43_000_000, "$0.043"),
        (430_000_000, "$0.430"),
        (1_200_000, "$0.0012"),
        (12, "$1.2e-08"),
    ],
)
def test_money_in_words(nanousd: int | None, said: str) -> None:
    assert usd(nanousd) == said


def test_other_figures_in_words() -> None:
    assert [ms(one) for one in (None, 0.52, 12.4, 1234.0)] == ["\u2013", "0.5 ms", "12 ms", "1.2 s"]
    assert [percent(one) for one in (None, 0.0, 0.051, 0.5, 0.999, 1.0, 1.04)] == [
        *("\u2013", "0%", "5.1%", "50%", "99.9%", "100%", "104%")
    ]
    assert [number(one) for one in (None, 0, 1234567, 0.1234)] == ["\u2013", "0", "1,234,567", "0.123"]


def test_a_time_is_told_by_its_distance_with_the_time_itself_behind_it() -> None:
    assert ">2 h ago<" in ago(0.0, 7200.0) and 'datetime="1970-01-01T00:00:00+00:00"' in ago(0.0, 7200.0)
    assert ">in 3 d<" in ago(3 * 86_400.0, 0.0) and ">just now<" in ago(5.0, 5.2)


def test_nothing_in_a_page_is_taken_for_markup() -> None:
    context = {"title": "<script>", "message": '"><img src=x>', "status_code": 404, "session": None, "csrf": ""}
    known = {"menu": (), "path": BASE, "theme": "", "notice": ""}

    page = Rendering().render("problem.html", context | known)

    assert "<script>" not in page and "<img src=x>" not in page


def test_a_reliability_chart_has_the_models_that_were_rated_most_and_the_diagonal() -> None:
    def model(name: str, rated: int, *bins: tuple[float, float]) -> Calibration:
        rows = tuple(Bin(0, 1, rated, told, score, 0, 1) for told, score in bins)
        return Calibration(name, rated, rows, None)

    models = [model(f"m{rated}", rated, (rated / 10, 0.5)) for rated in range(1, 7)]

    made = reliability([*models, model("unrated", 0)])

    assert made is not None and [one["label"] for one in made["series"]] == ["m6", "m5", "m4", "m3", "As forecast"]
    assert made["at"] == [0.0, 0.3, 0.4, 0.5, 0.6, 1.0] == made["series"][-1]["values"]
    assert made["series"][0]["values"] == [None, None, None, None, 0.5, None]
    assert reliability([model("unrated", 0)]) is None


def test_a_budgets_chart_burns_down_to_nothing_and_not_below() -> None:
    course = BurnDown("b", 10_000_000_000, 0, 600, 300, None, (4_000_000_000, 12_000_000_000), None)

    made = burning(course)

    assert made is not None and made["at"] == [900, 1200] and made["series"][0]["values"] == [6.0, 0.0]
    assert burning(replace(course, points=None)) is None


def test_a_mean_over_bins_weighs_them_by_their_requests() -> None:
    assert mean_of([Bin(0, 1, 1, 0.2, 0, 0, 1), Bin(0, 1, 3, 0.6, 0, 0, 1)], "forecast") == pytest.approx(0.5)


def test_a_period_that_is_none_is_a_day() -> None:
    assert (period_of("7d"), period_of("8d")) == ("7d", "24h")


def test_a_charts_figures_are_told_as_they_are_drawn() -> None:
    made = chart([1, 2], series("Spent", [0.5, None], lambda value: "-" if value is None else f"{value} $"))

    assert made["series"][0]["said"] == ["0.5 $", "-"] and len(made["at"]) == len(made["series"][0]["values"])


def test_a_menu_entry_is_lit_below_itself_and_nowhere_else() -> None:
    home, keys = Entry("Overview", "", "gauge"), Entry("Keys", "/keys", "key")

    assert home.is_at(BASE) and not home.is_at(f"{BASE}/keys")
    assert keys.is_at(f"{BASE}/keys/x") and not keys.is_at(f"{BASE}/keystone")


def test_every_entry_of_the_menu_has_an_icon() -> None:
    icons = (Path(gateway.ui.__file__).parent / "templates" / "icons.html").read_text()

    assert all(f'"{entry.icon}":' in icons for section in MENU for entry in section.entries)


def test_who_signed_on_is_shown_by_their_name() -> None:
    def session(subject: str, name: str = "") -> Session:
        return Session("", subject, Role.VIEWER, None, "x", 0.0, 0.0, name)

    assert session("oidc:jane@example.com/248").shown == "jane@example.com"
    assert session("oidc:/248").shown == "oidc:/248" and session("abc", "laptop").shown == "laptop"
