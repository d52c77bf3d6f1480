"""Endpoints whose keys are stored: enabled, disabled and changed while the gateway runs."""

from __future__ import annotations

import pytest

from gateway.dispatch.fleet import Fleet, gather, resolve_secrets
from gateway.providers.base import Provider
from policies.catalogue import Catalogue, Endpoint, ModelCard
from tests.fakes import FakeProvider

CATALOGUE = Catalogue(
    model=(ModelCard(id="m", context_tokens=1000),),
    endpoint=(
        Endpoint(id="stored", model="m", provider="openai", base_url="https://a.example", key_ref="secret:A"),
        Endpoint(id="plain", model="m", provider="openai", base_url="https://b.example", key_ref="env:B"),
    ),
)
PROVIDERS: dict[str, Provider] = {"openai": FakeProvider()}
ENVIRONMENT = {"B": "sk-b"}


def fleet_of(secrets: dict[str, str]) -> Fleet:
    """The fleet where these keys are stored."""
    return gather(CATALOGUE, PROVIDERS, ENVIRONMENT.get, lambda *_: None, secrets.get)


def test_a_stored_key_is_resolved_and_never_shown() -> None:
    fleet = fleet_of({"A": "sk-a"})

    assert fleet.targets["stored"].api_key == "sk-a"
    assert "sk-a" not in repr(fleet)


def test_a_missing_one_disables_its_endpoint_and_says_how_to_mend() -> None:
    assert fleet_of({}).disabled == {"stored": "needs the secret A: fingerpost secrets set A"}
    assert list(fleet_of({}).targets) == ["plain"]


def test_a_key_stored_later_enables_its_endpoint_in_the_catalogues_order() -> None:
    fleet = fleet_of({})
    plain = fleet.targets["plain"]

    changed = resolve_secrets(fleet, PROVIDERS, ENVIRONMENT.get, {"A": "sk-a"}.get)

    assert changed and fleet.disabled == {}
    assert list(fleet.targets) == ["stored", "plain"] and fleet.targets["plain"] is plain


@pytest.mark.parametrize(("secrets", "changes"), [({"A": "sk-a"}, False), ({"A": "sk-new"}, True), ({}, True)])
def test_what_changed_is_told_and_what_did_not_stays_the_same_object(secrets: dict[str, str], changes: bool) -> None:
    fleet = fleet_of({"A": "sk-a"})
    before = fleet.targets["stored"]

    changed = resolve_secrets(fleet, PROVIDERS, ENVIRONMENT.get, secrets.get)

    assert changed == changes
    assert (fleet.targets.get("stored") is before) != changes
    assert ("stored" in fleet.disabled) == (not secrets)


def test_only_the_key_may_be_a_stored_one() -> None:
    with pytest.raises(ValueError, match="base_url must start"):
        Endpoint(id="e", model="m", provider="openai", base_url="secret:A")
    assert CATALOGUE.endpoint[0].env_names() == () and CATALOGUE.endpoint[0].secret_name == "A"


def test_a_key_where_an_address_belongs_is_not_shown_to_anybody() -> None:
    row = Endpoint(id="mixed-up", model="m", provider="openai", base_url="env:B", key_ref="env:C")
    catalogue = Catalogue(model=CATALOGUE.model, endpoint=(row,))

    fleet = gather(catalogue, PROVIDERS, {"B": "words-of-a-key", "C": "https://b.example"}.get, lambda *_: None)

    assert "not 'env:B'" in fleet.why_not("m")
    assert "words-of-a-key" not in fleet.why_not("m")
