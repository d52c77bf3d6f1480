"""Folders that can be read, in every format, and what is told of those that can't."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers.features import estimate_tokens
from routers.inputs import FACTS
from routers.training.errors import DataError
from routers.training.read import inspect_folder, read_folder
from tests.unit.routers.training.folders import (
    CARDS,
    OUTCOMES,
    QUERIES,
    Rows,
    as_csv,
    as_jsonl,
    embed,
    outcomes,
    queries,
    write,
)

CATALOGUE = """
[[model]]
id = "small"
context_tokens = 8000
price_in_usd_per_mtok = 0.1
price_out_usd_per_mtok = 0.2
[[model]]
id = "large"
context_tokens = 8000
price_in_usd_per_mtok = 1
price_out_usd_per_mtok = 2
"""


def test_a_folder_becomes_matrices_with_rows_and_columns_in_the_files_order(tmp_path: Path) -> None:
    data = read_folder(write(tmp_path / "sums"), embed, "one")

    assert (data.name, data.embedder, len(data), data.notes) == ("sums", "one", 12, ())
    assert [card.id for card in data.models] == ["small", "large"]
    assert (data.models[1].organisation, data.models[1].release) == ("acme", "2024-07")
    assert data.score[:3].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert data.output_tokens[2].tolist() == [22, 22] and data.cost_usd[5].tolist() == [0.001, 0.002]
    assert data.tasks[:2] == ("words", "sums") and data.propensity is None
    assert np.array_equal(data.inputs.embeddings, embed(data.texts))
    assert data.inputs.tokens[0] == estimate_tokens(data.texts[0])
    assert data.inputs.facts.shape == (12, len(FACTS)) and data.inputs.facts[0, 0] > 0


def _parquet(header: list[str], rows: Rows) -> bytes:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    sink = arrow.BufferOutputStream()
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(arrow.table(columns), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("suffix", "made"),
    [
        (".csv.gz", lambda header, rows: gzip.compress(as_csv(header, rows))),
        (".csv", lambda header, rows: b"\xef\xbb\xbf" + as_csv(header, rows).replace(b"\n", b"\r\n")),
        (".jsonl", as_jsonl),
        (".jsonl.gz", lambda header, rows: gzip.compress(as_jsonl(header, rows) + b"\n")),
        (".parquet", _parquet),
    ],
)
def test_every_format_says_the_same(tmp_path: Path, suffix: str, made: Callable[[list[str], Rows], bytes]) -> None:
    plain, other = read_folder(write(tmp_path / "a"), embed, "one"), write(tmp_path / "b")
    (other / "queries.csv").unlink()
    (other / "outcomes.csv").unlink()
    (other / f"queries{suffix}").write_bytes(made(QUERIES, queries()))
    (other / f"outcomes{suffix}").write_bytes(made(OUTCOMES, outcomes()))

    assert read_folder(other, embed, "one").sha256() == plain.sha256()


def test_models_may_be_rows_of_a_catalogue(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "models.json").unlink()
    (folder / "models.toml").write_text(CATALOGUE)

    data = read_folder(folder, embed, "one")

    assert [card.price_out_usd_per_mtok for card in data.models] == [0.2, 2]


def test_pairs_that_were_not_asked_are_gaps_and_unjudged_queries_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows = [row for row in outcomes(14) if (row[0], row[1]) != ("q3", "large")]
    rows[0][2] = rows[1][2] = ""
    folder = write(tmp_path, queries=queries(14), outcomes=rows)

    data, whole = read_folder(folder, embed, "one"), read_folder(folder, embed, "one", unjudged=True)

    assert np.isnan(data.score[2, 1]) and np.isnan(data.cost_usd[2, 1])
    assert (len(data), len(whole)) == (13, 14)
    assert whole.output_tokens[0, 0] == 20 and np.isnan(whole.score[0]).all()
    assert data.notes == ("2 of 27 outcomes have no score", "1 queries without any score are left out")


def test_unknown_costs_come_from_tokens_and_prices(tmp_path: Path) -> None:
    rows = outcomes()
    rows[0][5] = rows[1][5] = ""
    rows[1][4] = ""

    data = read_folder(write(tmp_path, outcomes=rows), embed, "one")

    assert data.cost_usd[0, 0] == pytest.approx((10 * 0.1 + 20 * 0.2) / 1e6)
    assert np.isnan(data.cost_usd[0, 1])
    assert data.notes == ("the cost of 1 outcomes is computed from tokens and prices",)


def test_prices_of_zero_or_none_are_allowed_and_noted(tmp_path: Path) -> None:
    cards = [{"id": "small"}, {"id": "large", "price_in": 0, "price_out": 0}, {"id": "idle", "price_in": 1}]

    notes = read_folder(write(tmp_path, cards=cards), embed, "one").notes

    assert notes == (
        "no price is known of small, idle: calls whose cost is not told either count as the dearest",
        "the price of large is 0",
        "idle have no score yet",
    )


def test_a_misspelt_column_is_noted(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "outcomes.csv").write_bytes(as_csv([*OUTCOMES[:-1], "latency"], outcomes()))

    assert read_folder(folder, embed, "one").notes == ("outcomes.csv: columns that are not used: latency",)


def test_a_prompt_of_a_megabyte_with_line_ends_is_one_cell(tmp_path: Path) -> None:
    rows = queries()
    rows[4][2] = 'say "yes",\n' * 100_000

    assert read_folder(write(tmp_path, queries=rows), embed, "one").texts[4] == rows[4][2]


def _cell(table: str, row: int, field: str, value: object) -> dict[str, Any]:
    rows, header = (queries(), QUERIES) if table == "queries" else (outcomes(), OUTCOMES)
    rows[row][header.index(field)] = value
    return {table: rows}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (_cell("outcomes", 5, "score", "nan"), "outcomes.csv, row 7, field 'score': is 'nan'"),
        (_cell("outcomes", 5, "score", "1.5"), "row 7, field 'score': is '1.5', which is not a number in 0..1"),
        (_cell("outcomes", 0, "score", "-0.1"), "row 2, field 'score'"),
        (_cell("outcomes", 1, "score", "good"), "row 3, field 'score': is 'good', which is no number"),
        (_cell("outcomes", 2, "score", "inf"), "row 4, field 'score'"),
        (_cell("outcomes", 3, "input_tokens", -1), "row 5, field 'input_tokens': is '-1'"),
        (_cell("outcomes", 3, "output_tokens", "1e999"), "row 5, field 'output_tokens'"),
        (_cell("outcomes", 4, "cost_usd", -0.5), "row 6, field 'cost_usd'"),
        (_cell("outcomes", 4, "latency_s", "NaN"), "row 6, field 'latency_s'"),
        (_cell("outcomes", 6, "model", "huge"), "row 8, field 'model': 'huge' is no model of the models file"),
        (_cell("outcomes", 6, "query_id", "q99"), "row 8, field 'query_id': 'q99' is no query"),
        (_cell("outcomes", 6, "model", ""), "row 8, field 'model': is empty"),
        (_cell("outcomes", 1, "model", "small"), "row 3, field 'query_id, model': 'q0' and 'small' stand in row 2"),
        (_cell("queries", 3, "query_id", "q1"), "queries.csv, row 5, field 'query_id': 'q1' stands in row 3 already"),
        (_cell("queries", 3, "text", " \n"), "queries.csv, row 5, field 'text': is empty"),
        ({"queries": queries(9), "outcomes": outcomes(9)}, "only 9 queries have a score, at least 10 are needed"),
        ({"outcomes": outcomes()[::2]}, "only 1 of the models has a score (small)"),
        ({"outcomes": []}, "only 0 of the models has a score"),
        ({"cards": []}, "models.json: names no model"),
        ({"cards": {"id": "small"}}, "models.json: is not a list"),
        ({"cards": [*CARDS, "x"]}, "models.json, row 3: is 'x', not an object"),
        ({"cards": [*CARDS, CARDS[0]]}, "models.json, row 3, field 'id': 'small' appears twice"),
        ({"cards": [*CARDS, {"org": "acme"}]}, "models.json, row 3, field 'id': Field required"),
        ({"cards": [CARDS[0], {"id": "large", "price_in": -1}]}, "models.json, row 2, field 'price_in'"),
        ({"cards": [CARDS[0], {"id": "large", "release": "soon"}]}, "models.json, row 2, field 'release'"),
    ],
)
def test_what_is_wrong_is_told_with_file_row_field_and_fix(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_folder(write(tmp_path, **parts), embed, "one")

    assert said in str(caught.value)
    assert "Fix: " in str(caught.value)


def _spoil(name: str, raw: bytes) -> Callable[[Path], None]:
    def replaced(folder: Path) -> None:
        (folder / name).write_bytes(raw)

    return replaced


def _packed(folder: Path) -> None:
    raw = gzip.compress((folder / "outcomes.csv").read_bytes())
    (folder / "outcomes.csv").unlink()
    (folder / "outcomes.csv.gz").write_bytes(raw[: len(raw) // 2])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_packed, "outcomes.csv.gz: is cut off or no gzip file"),
        (_spoil("queries.csv.gz", b"x"), "has both queries.csv and queries.csv.gz"),
        (_spoil("queries.csv", b"query_id,text\nq1,caf\xe9\n"), "queries.csv, row 2: is not UTF-8"),
        (_spoil("queries.csv", b""), "queries.csv: the columns query_id, text are missing (there are: none)"),
        (_spoil("queries.csv", b"query_id,prompt\nq1,x\n"), "the column text is missing (there are: query_id, prompt)"),
        (_spoil("queries.csv", b"query_id,text\nq1,a,b\n"), "row 2: has 3 fields where the header has 2"),
        (_spoil("queries.csv", b'query_id,text\nq1,"a'), "is no CSV"),
        (_spoil("queries.csv", b"query_id,text,text\n"), "row 1, field 'text': the column appears twice"),
        (_spoil("outcomes.csv", b"query_id,model\n"), "outcomes.csv: the column score is missing"),
        (_spoil("models.json", b"[{]"), "models.json: is no JSON"),
        (_spoil("models.toml", b""), "has both models.json and models.toml"),
        (lambda folder: (folder / "models.json").unlink(), "has no models.json or models.toml"),
        (lambda folder: (folder / "queries.csv").unlink(), "has no queries table"),
        (lambda folder: (folder / "queries.csv").rename(folder / "queries.jsonl"), "queries.jsonl, row 1: is no JSON"),
    ],
)
def test_files_that_are_no_such_files_are_told_by_name(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    folder = write(tmp_path)
    spoil(folder)

    with pytest.raises(DataError) as caught:
        read_folder(folder, embed, "one")

    assert said in str(caught.value)


def test_a_catalogue_s_own_message_reaches_the_user(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "models.json").unlink()
    (folder / "models.toml").write_text(CATALOGUE.replace("8000", "-1"))

    with pytest.raises(DataError, match=r"models\.toml:4.*context_tokens"):
        read_folder(folder, embed, "one")


def test_a_line_of_json_that_is_no_object_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "queries.csv").unlink()
    (folder / "queries.jsonl").write_text(json.dumps({"query_id": "q", "text": "t"}) + "\n\n[1]\n")

    with pytest.raises(DataError, match=r"queries\.jsonl, row 3: is \[1\], not an object"):
        read_folder(folder, embed, "one")


def test_a_cut_parquet_file_is_told(tmp_path: Path) -> None:
    folder, raw = write(tmp_path), _parquet(QUERIES, queries())
    (folder / "queries.csv").unlink()
    (folder / "queries.parquet").write_bytes(raw[:-40])

    with pytest.raises(DataError, match=r"queries\.parquet: is cut off or no Parquet file"):
        read_folder(folder, embed, "one")


def test_parquet_without_its_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path)
    (folder / "queries.csv").rename(folder / "queries.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(DataError, match="pip install pyarrow"):
        read_folder(folder, embed, "one")


def test_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        inspect_folder(tmp_path / "nothing")


def test_a_folder_can_be_looked_at_without_an_embedder(tmp_path: Path) -> None:
    found = inspect_folder(write(tmp_path))

    assert (len(found), found.embedder) == (12, "none")
    assert not found.inputs.embeddings.any()


def test_an_embedder_that_breaks_is_not_called_bad_data(tmp_path: Path) -> None:
    folder = write(tmp_path)

    with pytest.raises(ValueError, match="the embedder made") as caught:
        read_folder(folder, lambda texts: embed(texts)[:-1], "one")

    assert not isinstance(caught.value, DataError)
