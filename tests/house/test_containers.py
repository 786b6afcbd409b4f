"""The image and the compose file are as closed as they can be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import VERSION

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = ("api", "worker", "migrate")
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def instructions(name: str) -> list[str]:
    """Return what follows an instruction, each time it is there in the final stage."""
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    return re.findall(rf"^{name} (.*)$", final, re.MULTILINE)


@each_service
def test_a_service_runs_as_a_numbered_user_that_is_not_root(service):
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0


@each_service
def test_a_service_has_no_privilege_and_cannot_write_but_where_it_must(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    forbidden = {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"}
    assert not forbidden & set(service)
    assert all("size=" in place for place in service.get("tmpfs", []))


@each_service
def test_a_service_is_given_volumes_by_name_and_nothing_of_the_host(service):
    for volume in service.get("volumes", []):
        assert re.fullmatch(r"\w+:/var/lib/\w+", volume)


@each_service
def test_a_service_has_limits_and_a_health_check_if_it_stays(service):
    assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert "healthcheck" in service or service["restart"] == "no"


@each_service
def test_no_secret_stands_in_the_file(service):
    for name, value in service.get("environment", {}).items():
        if re.search("PASSWORD|SECRET|KEYS|AUTH|URL", name):
            assert "${" in value, name


def test_neither_database_nor_broker_is_open_to_the_outside():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["api"]["ports"])


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_what_is_not_ours_is_of_a_named_version(name):
    assert re.fullmatch(rf"{name}:\d[\w.-]*", SERVICES[name]["image"])


def test_the_image_has_one_numbered_user_everywhere():
    assert instructions("USER") == [SERVICES[name]["user"] for name in OURS][:1]
    assert len({SERVICES[name]["user"] for name in OURS}) == 1


def test_the_image_starts_our_program_itself_and_ends_on_sigterm():
    [entrypoint], [command] = instructions("ENTRYPOINT"), instructions("CMD")
    assert json.loads(entrypoint) == ["python", "-m", "app.cli"]
    assert json.loads(command) == ["api"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert all(SERVICES[name]["init"] is True for name in OURS)


def test_the_image_says_what_it_is():
    [labels] = instructions("LABEL")
    said = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', labels))
    assert said.pop("title") == "Chainrule"
    assert said.pop("description")
    assert said.pop("version") == VERSION
    assert said == {name: f"${name.upper()}" for name in ("revision", "created", "source")}
    [arguments] = instructions("ARG")
    built_with = SERVICES["api"]["build"]["args"]
    assert set(built_with) == {each.partition("=")[0] for each in arguments.split()}


def test_what_is_installed_is_locked_and_nothing_is_fetched_otherwise():
    installs = re.findall(r"pip install ([^\n&]*)", DOCKERFILE)
    assert installs
    assert all("--require-hashes" in each and "--no-deps" in each for each in installs)
    assert not re.search(r"\b(curl|wget|ADD|git clone)\b", DOCKERFILE)


def test_the_image_takes_only_what_it_names():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    copied = [line for line in instructions("COPY") if not line.startswith("--from")]
    assert {line.split()[0] for line in copied} == {"app", "engine", "migrations", "worker"}
