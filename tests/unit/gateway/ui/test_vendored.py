"""What browsers get from us is ours, or vendored as its manifest says; it leads nowhere else."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import gateway.ui

FOLDER = Path(gateway.ui.__file__).parent
VENDOR = FOLDER / "static" / "vendor"
ROWS = json.loads((VENDOR / "vendored.json").read_text())
LICENCES = {"htmx.org": "htmx.LICENSE", "uplot": "uplot.LICENSE"}
# A comment that names the project's page, and the name that SVG has for itself.
NO_ADDRESS = ("https://github.com/leeoniya/uPlot", "http://www.w3.org/2000/svg")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_a_vendored_file_is_the_one_of_the_manifest(row: dict[str, str]) -> None:
    assert hashlib.sha256((VENDOR / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    assert (VENDOR / LICENCES[row["package"]]).is_file() and row["version"] and row["licence"]


def test_no_file_is_vendored_without_a_row() -> None:
    there = {path.name for path in VENDOR.iterdir()} - {"vendored.json", *LICENCES.values()}

    assert there == {row["file"] for row in ROWS}


def test_no_page_and_no_asset_names_another_host() -> None:
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in (".html", ".css", ".js", ".svg"):
            text = path.read_text()
            for known in NO_ADDRESS:
                text = text.replace(known, "")
            assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}", text), path.name


def test_no_template_has_what_the_policy_of_content_forbids() -> None:
    for path in sorted((FOLDER / "templates").rglob("*.html")):
        text = path.read_text()
        assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|<style|hx-on|hx-vals=.js", text), path.name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), path.name
        assert "|safe" not in text, path.name
