"""Whole trainings agree with PyTorch, which is another implementation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.engine.references.cases import CASES
from tests.engine.references.trainings import compared

TABLE = Path(__file__).parents[2] / "docs" / "agreement.md"


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_twenty_steps_end_where_pytorch_ends(case, dtype, tolerance):
    for ours, theirs in compared(case, dtype):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_the_table_in_the_docs_has_every_training():
    rows = re.findall(r"^\| (\w[^|]*) \| \d", TABLE.read_text(), re.MULTILINE)
    assert rows == [case.name for case in CASES]
