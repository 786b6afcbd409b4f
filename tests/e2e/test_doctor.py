"""The doctor is content with a service that runs, and knows what to do about one that does not."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
import pytest

from app.config import child_environment
from tests import servers
from tests.e2e.services import ROOT

pytestmark = pytest.mark.e2e

LIMIT_SECONDS = 12
"""A frozen dependency is given up after five seconds; a process starts within a few."""


def run(environment, *arguments, **changes):
    """Run the doctor; return its status and what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli", "doctor", *arguments],
        cwd=ROOT,
        env={**child_environment(), **environment, **changes},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout


def examine(environment, **changes):
    """Run the doctor; return its status and what it found by name."""
    status, printed = run(environment, "--json", **changes)
    return status, {finding["name"]: finding for finding in json.loads(printed)}


def wrong(found):
    return {name for name, finding in found.items() if finding["state"] == "wrong"}


@pytest.fixture
def alone(tmp_path):
    """The environment of a service that never ran, whose workers nobody else's are taken for."""
    (tmp_path / "tmp").mkdir()
    return {
        "CHAINRULE_HOME": str(tmp_path / "home"),
        "CHAINRULE_PORT": str(servers.free_port()),
        "TMPDIR": str(tmp_path / "tmp"),
    }


def test_a_service_that_runs_is_well(service):
    status, found = examine(service.environment)
    ill = {name: finding for name, finding in found.items() if finding["state"] != "ok"}
    assert (status, ill) == (0, {})
    assert "Chainrule answers" in found["port"]["fact"]
    assert {"database", "migrations", "clock", "jobs", "workers", "storage"} <= set(found)


def test_the_table_says_the_same_and_shows_no_secret(service):
    status, printed = run(service.environment, CHAINRULE_API_KEYS='{"ada": "analytical"}')
    assert status == 0
    for name in ("settings", "python", "database", "broker", "storage", "workers"):
        assert f"\n{name} " in printed
    assert "(1 owners)" in printed
    assert "analytical" not in printed


def test_a_redis_that_is_frozen_is_told_in_time(production):
    server = psutil.Process(production.broker.info()["process_id"])
    server.suspend()
    begin = time.monotonic()
    try:
        status, found = examine(production.environment)
    finally:
        server.resume()
    assert time.monotonic() - begin < LIMIT_SECONDS
    assert status == 1
    assert wrong(found) == {"broker"}
    assert "start Redis, or see why it hangs" in found["broker"]["advice"]


def test_a_redis_that_is_gone_is_told(production):
    gone = f"redis://:hunter2@127.0.0.1:{servers.free_port()}/0"
    status, found = examine(production.environment, CHAINRULE_BROKER_URL=gone)
    assert (status, wrong(found)) == (1, {"broker"})
    assert "CHAINRULE_BROKER_URL" in found["broker"]["advice"]
    assert "hunter2" not in json.dumps(found)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_database_that_is_not_migrated_is_told_until_it_is(request, alone, kind):
    url = request.getfixturevalue(f"empty_{kind}_url")
    alone["CHAINRULE_DATABASE_URL"] = url
    status, found = examine(alone)
    assert status == 1
    assert wrong(found) <= {"database", "migrations"}
    assert wrong(found)
    assert {found[name]["advice"] for name in wrong(found)} == {"run `chainrule migrate`"}
    migrate = [sys.executable, "-m", "app.cli", "migrate"]
    subprocess.run(migrate, cwd=ROOT, env={**child_environment(), **alone}, check=True)
    status, found = examine(alone)
    assert (status, wrong(found)) == (0, set())
    assert found["workers"]["state"] == "warning"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no folder that root cannot write")
def test_a_storage_that_cannot_be_written_is_told(embedded):
    status, found = examine(embedded.environment, CHAINRULE_STORAGE_URL="/proc")
    assert status == 1
    assert "storage" in wrong(found)
    assert "written by this user" in found["storage"]["advice"]


def test_a_service_that_never_ran_is_left_without_a_trace(alone, tmp_path):
    status, _ = examine(alone)
    assert status == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []
