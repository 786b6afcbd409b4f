"""Processes whose every dependency is wrong complain a lot, and never tell a secret."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest

from tests import canaries, servers
from tests.e2e.services import IRIS
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e


def test_whatever_is_wrong_no_process_tells_a_secret(start):
    """The search is the `start` fixture's own, once all have ended."""
    port = servers.free_port()
    redis = f"redis://:{quote(canaries.REDIS, safe='')}@127.0.0.1:{port}/0"
    s3 = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "chainrule",
        "AWS_SECRET_ACCESS_KEY": canaries.S3,
        "AWS_MAX_ATTEMPTS": "1",
    }
    wrong = {
        **s3,
        "CHAINRULE_API_KEYS": canaries.API_KEYS,
        "CHAINRULE_BROKER_URL": redis,
        "CHAINRULE_STORAGE_URL": "s3://chainrule/datasets",
        "CHAINRULE_LOG_LEVEL": "DEBUG",
    }
    postgres = f"postgresql://ada:{quote(canaries.POSTGRES, safe='')}@127.0.0.1:{port}/chain"
    hopeless = [
        start(name, **wrong, CHAINRULE_DATABASE_URL=postgres) for name in ("migrate", "doctor")
    ]
    assert [command.wait(60) for command in hopeless] == [1, 1]
    assert start("migrate").wait(60) == 0
    api, worker = start("api", **wrong), start("worker", **wrong)
    worker.wait_for_output("Cannot connect to redis")
    wait_until(lambda: is_live(api.url))
    with httpx.Client(base_url=api.url, timeout=60) as client:
        for key in (canaries.KEY, canaries.KEY + "x"):
            shown = {"Authorization": f"Bearer {key}"}
            client.get("/v1/jobs", headers=shown)
            client.get("/v1/jobs", params={"key": key}, headers=shown)
            client.get(f"/v1/jobs/{quote(key, safe='')}", headers=shown)
            sent = client.post(
                "/v1/datasets",
                content=IRIS.read_bytes(),
                headers={**shown, "Content-Type": "text/csv"},
            )
            assert sent.status_code in (401, 415, 500, 503)
            assert canaries.found_in(sent.content) == set()


def is_live(url):
    try:
        return httpx.get(f"{url}/healthz/live").is_success
    except httpx.TransportError:
        return False
