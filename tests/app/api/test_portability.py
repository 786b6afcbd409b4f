"""The programs of docs/portability.md predict what the service does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import child_environment
from tests.engine.beginnings import DATA

PAGE = Path(__file__).parents[3] / "docs" / "portability.md"
ROWS_IN_RUNTIME, FORECAST_IN_RUNTIME, ROWS_IN_NUMPY = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
)
FORECAST = {
    "sequence": {"order": "month", "window": 12, "horizon": 3},
    "network": {"layers": [{"type": "gru", "units": 16}]},
    "training": {"epochs": 20},
}
FLOWER = {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}


@pytest.fixture(scope="module")
def flowers(library, iris, tmp_path_factory):
    """A folder with the files of the page's model, and what the service predicts."""
    folder = tmp_path_factory.mktemp("flowers")
    network = {"layers": [{"type": "dense", "units": 16, "activation": "tanh"}]}
    model = library.model(iris, network=network, training={"epochs": 30, "batch_size": 8})
    for form in ("onnx", "safetensors"):
        file = library.get(f"/v1/models/{model}/weights?format={form}").data
        (folder / f"flowers.{form}").write_bytes(file)
    [found] = library.predict(model, [FLOWER]).json["predictions"]
    return folder, f"{found['label']} {max(found['probabilities'].values()):.3f}"


def told(program, folder):
    """What a program of the page says in a folder."""
    command = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(
        command, cwd=folder, env=child_environment(), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("program", [ROWS_IN_RUNTIME, ROWS_IN_NUMPY], ids=["onnxruntime", "numpy"])
def test_a_program_of_the_docs_predicts_what_the_service_does(program, flowers):
    folder, expected = flowers
    assert expected.startswith("virginica")
    assert told(program, folder) == expected


def test_the_forecast_of_the_docs_is_that_of_the_service(library, tmp_path):
    months = (DATA / "airline_passengers.csv").read_bytes()
    model = library.model(library.dataset(months), "passengers", **FORECAST)
    file = library.get(f"/v1/models/{model}/weights?format=onnx").data
    (tmp_path / "passengers.onnx").write_bytes(file)
    last = [line.split(",")[1] for line in months.decode().split()[-12:]]
    assert f"= [{', '.join(last)}]" in FORECAST_IN_RUNTIME
    rows = [{"passengers": int(month)} for month in last]
    [found] = library.predict(model, [{"sequence": rows}]).json["predictions"]
    expected = " ".join(f"{value:.0f}" for value in found["value"])
    assert told(FORECAST_IN_RUNTIME, tmp_path) == expected
