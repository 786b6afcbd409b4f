"""ONNX Runtime agrees with us on all rows of the data sets that are shipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.app.export.agreement import CASES, FORMATS, PRECISIONS, trained
from tests.app.export.exporting import TOLERANCE, deviation
from tests.engine.beginnings import DATA

PAGE = Path(__file__).parents[3] / "docs" / "portability.md"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_predictions_of_shipped_data_agree(case, precision):
    assert deviation(*trained(case, precision)) < (TOLERANCE if precision == "float32" else 1e-12)


def test_every_data_set_that_is_shipped_is_predicted():
    assert {file.name for file in DATA.iterdir()} - {"SOURCES.md"} == set(FORMATS)
    assert {name for name, _ in CASES.values()} == set(FORMATS)


def test_the_table_in_the_docs_has_every_case():
    rows = re.findall(r"^\| `([\w.]+)` \| [\d,]+ \| ([^|]*) \| \d", PAGE.read_text(), re.MULTILINE)
    assert rows == [(name, case) for case, (name, _) in CASES.items()]
