"""Tenants: what belongs to another answers, on every route, as what is not there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select

import app.api as rooms
from app.store import tenants
from tests.app.api.callers import ABSENT, Caller, each_database, parts, problem

API = Path(rooms.__file__ or "").parent

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@dataclass(frozen=True)
class Things:
    """Ids of one owner's dataset, job and model."""

    dataset: str
    job: str
    model: str

    def path(self, rule: str) -> str:
        for kind in ("dataset", "job", "model"):
            rule = rule.replace(f"<{kind}_id>", getattr(self, kind))
        return rule.replace("<version>", "1")


NOTHING = Things(f"ds_{ABSENT}", f"job_{ABSENT}", f"mdl_{ABSENT}")


@pytest.fixture
def hers(ada: Caller) -> Things:
    dataset = ada.dataset()
    job = ada.trained(dataset)
    return Things(dataset, job["id"], job["model"])


def calls(app: Flask) -> list[tuple[str, str]]:
    """Return the method and the rule of every route to one thing of an owner's."""
    things = ("<dataset_id>", "<job_id>", "<model_id>")
    return sorted(
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        if any(thing in rule.rule for thing in things)
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
    )


def ask(caller: Caller, method: str, rule: str, things: Things, mine: str) -> tuple[int, str]:
    """Call a route; return the answer without what tells requests and ids apart."""
    bodies: dict[str, dict[str, Any]] = {
        "predict": {"instances": [FLOWER]},
        "evaluate": {"dataset": mine},
        "trace": {"instance": FLOWER, "target": "setosa"},
        "saliency": {"instances": [FLOWER]},
        "infer": {
            "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [1] * 4}]
        },
    }
    body = bodies.get(rule.rsplit("/", 1)[-1])
    path = things.path(rule)
    answer = caller.call(method, path, json=body)
    said = answer.get_data().decode("latin-1").replace(answer.headers["X-Request-Id"], "…")
    said = said.replace(path, "…")
    for thing in (things.dataset, things.job, things.model):
        said = said.replace(thing, "…")
    return answer.status_code, said


@each_database
def test_what_is_anothers_answers_on_every_route_as_what_is_absent(app, ada, charles, hers):
    mine = charles.dataset()
    routes = calls(app)
    assert len(routes) >= 17
    for method, rule in routes:
        absent = ask(charles, method, rule, NOTHING, mine)
        assert absent[0] == 404, (method, rule)
        assert ask(charles, method, rule, hers, mine) == absent, (method, rule)
    for method, rule in routes:
        if method == "GET":
            assert ask(ada, method, rule, hers, hers.dataset)[0] == 200, (method, rule)


@each_database
def test_what_is_anothers_takes_the_steps_of_what_is_absent(app, charles, hers):
    mine = charles.dataset()
    database = parts(app).database
    asked: list[str] = []
    for engine in {database.reader, database.writer}:
        event.listen(engine, "before_cursor_execute", lambda *what: asked.append(what[2]))

    def steps(method: str, rule: str, things: Things) -> list[str]:
        asked.clear()
        ask(charles, method, rule, things, mine)
        return list(asked)

    for method, rule in calls(app):
        absent = steps(method, rule, NOTHING)
        assert absent
        assert steps(method, rule, hers) == absent, (method, rule)


@each_database
def test_what_is_anothers_is_not_taken_from_a_body(charles, hers):
    mine = charles.dataset()
    model = charles.model(mine)
    for dataset in (hers.dataset, f"ds_{ABSENT}"):
        problem(charles.post("/v1/jobs", json={"dataset": dataset, "target": "species"}), 404)
        spec = {"dataset": mine, "target": "species", "validation": {"dataset": dataset}}
        problem(charles.post("/v1/jobs", json=spec), 404)
        problem(charles.post(f"/v1/models/{model}/evaluate", json={"dataset": dataset}), 404)


@pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)
def test_the_second_wall_stands_where_the_first_has_fallen(app, ada, charles, hers, monkeypatch):
    mine = charles.dataset()
    monkeypatch.setattr(tenants, "belonging_to", lambda _owner, table: select(table))
    for method, rule in calls(app):
        assert ask(charles, method, rule, hers, mine)[0] == 404, (method, rule)
    for things in ("datasets", "jobs", "models"):
        listed = [thing["id"] for thing in charles.get(f"/v1/{things}").json["data"]]
        assert listed == ([mine] if things == "datasets" else [])
    assert ada.get(f"/v1/models/{hers.model}").status_code == 200


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_without_the_second_wall_a_fallen_first_one_shows(charles, hers, monkeypatch):
    monkeypatch.setattr(tenants, "belonging_to", lambda _owner, table: select(table))
    assert charles.get(f"/v1/datasets/{hers.dataset}").status_code == 200


@pytest.mark.parametrize("file", sorted(API.glob("*.py")), ids=lambda file: file.name)
def test_every_session_of_a_request_is_for_its_owner(file):
    opened = re.findall(r"database\.(?:reading|writing)\((.*?)\)", file.read_text())
    for_whom = [argument for argument in opened if argument]
    assert opened == for_whom or file.name in ("keys.py", "login.py")
