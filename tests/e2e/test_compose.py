"""The commands of docker-compose.yml do what they are there for, run as processes.

No container engine is needed: what a container would run is read from the
compose file and the Dockerfile, and only addresses are changed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
import yaml

from app.config import child_environment
from tests import canaries
from tests.servers import free_port

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
ENTRYPOINT: list[str] = json.loads(
    re.findall(r"^ENTRYPOINT (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
)
VARIABLES = {
    "POSTGRES_PASSWORD": quote(canaries.POSTGRES, safe=""),
    "REDIS_PASSWORD": quote(canaries.REDIS, safe=""),
    "CHAINRULE_API_KEYS": canaries.API_KEYS,
}
KEY = {"Authorization": f"Bearer {canaries.KEY}"}
START_SECONDS = 120


def substituted(value: str) -> str:
    """Replace `${NAME:-default}` and `${NAME:?message}` as Compose does."""
    return re.sub(
        r"\$\{(\w+)(?::([-?])([^}]*))?\}",
        lambda found: VARIABLES.get(found[1], found[3] if found[2] == "-" else ""),
        value,
    )


class Containers:
    """The processes that the compose file's services would be."""

    def __init__(self, addresses: dict[str, str], folder: Path) -> None:
        self.addresses, self.folder, self.port = addresses, folder, free_port()
        self.running: list[subprocess.Popen[bytes]] = []

    def environment(self, service: str) -> dict[str, str]:
        """Return a service's environment, with our servers in place of the containers' names."""
        found = {name: substituted(text) for name, text in SERVICES[service]["environment"].items()}
        for name, address in self.addresses.items():
            found = {key: text.replace(name, address) for key, text in found.items()}
        found = {key: text.replace("/var/lib", str(self.folder)) for key, text in found.items()}
        ours = {
            "CHAINRULE_HOST": "127.0.0.1",
            "CHAINRULE_PORT": str(self.port),
            "CHAINRULE_HOME": str(self.folder),
            "TMPDIR": str(self.folder),
        }
        return {**child_environment(), **found, **ours}

    def start(self, service: str) -> subprocess.Popen[bytes]:
        """Run a service's command."""
        python, *arguments = [*ENTRYPOINT, *SERVICES[service]["command"]]
        assert python == "python"
        with (self.folder / f"{service}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self.environment(service),
                stderr=log,
            )
        self.running.append(process)
        return process

    def healthy(self, service: str) -> bool:
        """Run a service's health check."""
        python, *arguments = SERVICES[service]["healthcheck"]["test"][1:]
        assert python == "python"
        inside, outside = "/tmp", str(self.folder)  # noqa: S108 - the container's own
        arguments = [
            text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}").replace(inside, outside)
            for text in arguments
        ]
        environment = self.environment(service)
        check = [sys.executable, *arguments]
        return subprocess.run(check, env=environment, capture_output=True).returncode == 0

    def stop(self) -> None:
        """Ask every process to end, as a container runtime does."""
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(30)


@pytest.fixture
def containers(postgres_server: str, redis_url: str, tmp_path: Path) -> Iterator[Containers]:
    """Nothing running yet, but a database and a broker as the compose file asks for."""
    with psycopg.connect(postgres_server + "postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS chainrule")
        connection.execute("DROP ROLE IF EXISTS chainrule")
        connection.execute("CREATE ROLE chainrule LOGIN SUPERUSER")  # as the image makes it
        connection.execute("CREATE DATABASE chainrule OWNER chainrule")
    addresses = {
        "postgres:5432": re.search(r"127\.0\.0\.1:\d+", postgres_server)[0],
        "redis:6379": re.search(r"127\.0\.0\.1:\d+", redis_url)[0],
    }
    containers = Containers(addresses, tmp_path)
    yield containers
    containers.stop()
    canaries.search(tmp_path, containers.environment("api"))
    with psycopg.connect(postgres_server + "postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE chainrule WITH (FORCE)")
        connection.execute("DROP ROLE chainrule")


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_migrate_api_and_worker_train_a_network_and_are_healthy(containers):
    assert containers.start("migrate").wait(START_SECONDS) == 0
    assert not containers.healthy("api")
    assert not containers.healthy("worker")
    api, worker = containers.start("api"), containers.start("worker")
    wait_for(lambda: containers.healthy("api"))
    wait_for(lambda: containers.healthy("worker"))

    url = f"http://127.0.0.1:{containers.port}"
    with httpx.Client(base_url=url, headers=KEY, timeout=70) as client:
        assert client.get("/v1/jobs", headers={"Authorization": ""}).status_code == 401
        with (ROOT / "examples/data/iris.csv").open("rb") as file:
            dataset = client.post("/v1/datasets", files={"file": file}).json()
        job = client.post("/v1/jobs", json={"dataset": dataset["id"], "target": "species"}).json()
        job = client.get(f"/v1/jobs/{job['id']}", params={"wait": 60}).json()
        assert job["status"] == "succeeded"
        assert job["metrics"]["accuracy"] > 0.9

    containers.stop()
    assert (api.returncode, worker.returncode) == (0, 0)
