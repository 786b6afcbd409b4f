"""The programs of docs/portability.md predict what the service does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import child_environment

PAGE = Path(__file__).parents[3] / "docs" / "portability.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
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


@pytest.mark.parametrize("program", PROGRAMS, ids=["onnxruntime", "numpy"])
def test_a_program_of_the_docs_predicts_what_the_service_does(program, flowers):
    folder, expected = flowers
    assert expected.startswith("virginica")
    command = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(
        command, cwd=folder, env=child_environment(), capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout.strip(), ended.returncode) == (expected, 0), ended.stderr
