"""One catalogue laid over another: field by field, and faults are told with the file that made them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.catalogue import Catalogue
from policies.document import parse_document
from policies.errors import PolicyError
from policies.load import load_catalogue, merge_catalogues, parse_catalogue, shipped_catalogue_path

BASE = """\
[[model]]
id = "a"
context_tokens = 100
price_in_usd_per_mtok = 1
[[model]]
id = "b"
context_tokens = 200
[[endpoint]]
id = "e"
model = "a"
provider = "local"
"""


def merged(over: str) -> Catalogue:
    return merge_catalogues(parse_document(BASE, "base.toml"), parse_document(over, "over.toml"))


def refused(over: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        merged(over)
    return str(caught.value).splitlines()


def test_a_row_of_the_same_id_replaces_only_the_fields_it_sets() -> None:
    catalogue = merged('[[model]]\nid = "a"\nprice_in_usd_per_mtok = 2\n')
    card = catalogue.card("a")
    assert card is not None
    assert (card.context_tokens, card.price_in_usd_per_mtok) == (100, 2.0)
    assert [card.id for card in catalogue.model] == ["a", "b"]


def test_new_rows_are_added_and_may_point_to_rows_of_the_base() -> None:
    catalogue = merged('[[endpoint]]\nid = "f"\nmodel = "b"\nprovider = "local"\nweight = 3\n')
    assert [(row.id, row.model) for row in catalogue.endpoint] == [("e", "a"), ("f", "b")]


def test_an_endpoint_can_be_switched_off_by_one_line() -> None:
    assert [row.enabled for row in merged('[[endpoint]]\nid = "e"\nenabled = false\n').endpoint] == [False]


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (
            '[[model]]\nid = "a"\nprice_in_usd_per_mtok = -1',
            "over.toml:3: model[a].price_in_usd_per_mtok: must be >= 0",
        ),
        ('[[model]]\nid = "new"', "over.toml:1: model[new].context_tokens: is missing"),
        ("[[model]]\ncontext_tokens = 1", "over.toml:1: model[#1].id: is missing"),
        ('[[endpoint]]\nid = "e"\nmodel = "x"', "over.toml:3: endpoint[e].model: names model 'x'"),
        ('[[endpoint]]\nid = "e"\nbase = "x"', "over.toml:3: endpoint[e].base: is not a known key"),
        ('model = "text"', "over.toml:1: model: must be a list"),
        ('[[model]]\nid = "a"\n[[model]]\nid = "a"', "over.toml:4: model[a].id: 'a' appears twice"),
        ('colour = "red"', "over.toml:1: colour: is not a known key"),
    ],
)
def test_faults_are_told_with_the_file_and_line_that_set_the_field(over: str, said: str) -> None:
    assert any(said in line for line in refused(over)), refused(over)


def test_a_fault_of_the_base_keeps_its_own_file_and_line() -> None:
    base = parse_document(BASE.replace("context_tokens = 100", "context_tokens = 0"), "base.toml")
    over = parse_document('[[model]]\nid = "a"\nprior_quality = 0.5\n', "over.toml")
    with pytest.raises(PolicyError, match=r"^base\.toml:3: model\[a\]\.context_tokens: must be > 0, got 0"):
        merge_catalogues(base, over)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["prior_quality", "weight", "enabled"]), unique=True), st.integers(0, 9))
def test_merging_equals_writing_the_rows_out_by_hand(keys: list[str], number: int) -> None:
    values = {"prior_quality": number / 10, "weight": number + 1, "enabled": str(number > 4).lower()}
    model_keys = [f"prior_quality = {values[key]}" for key in keys if key == "prior_quality"]
    endpoint_keys = [f"{key} = {values[key]}" for key in keys if key != "prior_quality"]
    over = "\n".join(['[[model]]\nid = "b"', *model_keys, '[[endpoint]]\nid = "e"', *endpoint_keys])
    by_hand = BASE.replace("context_tokens = 200", "\n".join(["context_tokens = 200", *model_keys]))
    assert merged(over) == parse_catalogue(by_hand + "\n".join(endpoint_keys), "by_hand.toml")


def test_a_file_of_your_own_is_laid_over_the_shipped_catalogue(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[model]]\nid = "smollm2-135m-instruct"\nprior_quality = 0.3\n')
    card = load_catalogue(shipped_catalogue_path(), over=own).card("smollm2-135m-instruct")
    assert card is not None
    assert (card.prior_quality, card.context_tokens) == (0.3, 8192)
