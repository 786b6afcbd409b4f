"""The Celery application as a process of its own sees it: one task, and a backlog to count."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import child_environment
from app.dispatch import TRAIN

PROGRAM = """
import json
from worker.celery_app import _backlog, _ring, app

app.loader.import_default_modules()
backlog = [_backlog()]
for job in ("job_1", "job_2"):
    _ring(job)
    backlog.append(_backlog())
ours = [name for name in app.tasks if not name.startswith("celery.")]
print(json.dumps({"tasks": ours, "backlog": backlog}))
"""


@pytest.fixture(params=["memory", "redis"])
def told(request, tmp_path):
    """What the application tells, with each broker."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        env=child_environment(home=str(tmp_path), broker_url=url),
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_message_asks_for_training_alone_and_is_counted_until_somebody_takes_it(told):
    assert told == {"tasks": [TRAIN], "backlog": [0, 1, 2]}
