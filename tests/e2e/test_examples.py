"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"


def lines_of(example, service, timeout, *arguments):
    """Run an example against a service; return what it prints."""
    command = [sys.executable, str(EXAMPLES / example), service.commands[0].url, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()


def test_irises_are_learnt_by_the_example(embedded):
    rows, job, prediction = lines_of("iris.py", embedded, timeout=120)
    assert rows.startswith("150 rows of sepal_length")
    assert job.startswith("succeeded")
    assert "'label': 'setosa'" in prediction


def test_characters_are_read_by_the_example(embedded):
    lines = lines_of("characters.py", embedded, timeout=300)
    epochs = [int(line.split()[1]) for line in lines if line.startswith("  epoch ")]
    assert epochs == [*range(1, 81), *range(1, 16)]
    results = [line.split(" of ") for line in lines if line.endswith("are right.")]
    assert [rest for _, rest in results] == [
        "359 held-out digits are right.",
        "1000 held-out digits are right.",
    ]
    digits, mnist = (float(share.rstrip("%")) for share, _ in results)
    assert digits >= 98
    assert mnist >= 97


def test_series_are_forecast_by_the_example_better_than_without_a_network(embedded, tmp_path):
    chart = tmp_path / "chart.svg"
    lines = lines_of("forecasts.py", embedded, 120, str(chart))
    errors = [float(line[17:].split()[0]) for line in lines if line.startswith("  ")]
    for last, seasonal, recursive, direct in (errors[:4], errors[4:]):
        assert direct < recursive < min(last, seasonal)
    assert b"<svg" in chart.read_bytes()
