"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

IRIS = Path(__file__).parents[2] / "examples" / "iris.py"


def test_irises_are_learnt_by_the_example(embedded):
    command = [sys.executable, str(IRIS), embedded.commands[0].url]
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    rows, job, prediction = printed.splitlines()
    assert rows.startswith("150 rows of sepal_length")
    assert job.startswith("succeeded")
    assert "'label': 'setosa'" in prediction
