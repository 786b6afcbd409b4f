"""The service keeps what its OpenAPI document promises: schemathesis tries, with a fixed seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.config import child_environment
from tests.canaries import GUARDED_KEYS
from tests.e2e.services import Caller

pytestmark = pytest.mark.e2e

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.parametrize("guarded", ["production"], indirect=True)
def test_every_call_does_what_the_document_says(guarded, tmp_path):
    url, key = guarded.commands[0].url, GUARDED_KEYS["mary"]
    with Caller(base_url=url, key=key, timeout=60) as caller:
        dataset = caller.upload()
        job = caller.submit(dataset, target="species", training={"epochs": 3})
        model = caller.wait_for(job, "succeeded", "failed")["model"]
    known = {"KEY": key, "DATASET": dataset, "JOB": job, "MODEL": model}
    options = ["--config-file", str(CONFIGURATION), "run", f"{url}/openapi.json"]
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *options],
        cwd=tmp_path,
        env={**child_environment(), **{f"SCHEMATHESIS_{name}": known[name] for name in known}},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
