"""Names: a call by name meets one model, whoever switches it meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier

import pytest

from tests.app.api.callers import ABSENT, each_database, problem, refusal

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture
def dataset(ada):
    return ada.dataset()


@pytest.fixture
def old(ada, dataset):
    return ada.model(dataset, seed=1)


@pytest.fixture
def new(ada, dataset):
    return ada.model(dataset, seed=2)


def put(caller, name, model, **options):
    return caller.call("PUT", f"/v1/names/{name}", json={"model": model}, **options)


@each_database
def test_a_name_is_given_switched_rolled_back_and_deleted(ada, old, new):
    made = put(ada, "flowers", old)
    assert (made.status_code, made.json["model"], made.json["version"]) == (201, old, 1)
    assert made.headers["Location"] == "/v1/names/flowers"
    again = put(ada, "flowers", old)
    assert (again.status_code, again.json["version"]) == (200, 1)
    assert put(ada, "flowers", new).json["version"] == 2
    assert ada.get("/v1/names/flowers").json["model"] == new
    back = ada.post("/v1/names/flowers/rollback")
    assert (back.json["model"], back.json["version"]) == (old, 3)
    assert ada.post("/v1/names/flowers/rollback").json["model"] == new
    told = ada.get("/v1/names/flowers/history").json["data"]
    assert [(each["version"], each["model"], each["replaced"]) for each in told] == [
        (4, new, old),
        (3, old, new),
        (2, new, old),
        (1, old, None),
    ]
    assert [each["name"] for each in ada.get("/v1/names").json["data"]] == ["flowers"]
    assert ada.delete("/v1/names/flowers").status_code == 204
    for path in ("/v1/names/flowers", "/v1/names/flowers/history", "/v1/models/flowers"):
        problem(ada.get(path), 404)
    assert ada.get(f"/v1/models/{new}").status_code == 200


def test_every_call_that_takes_a_model_takes_its_name(ada, dataset, old):
    put(ada, "flowers", old)
    bodies = {
        "predict": {"instances": [FLOWER]},
        "evaluate": {"dataset": dataset},
        "trace": {"instance": FLOWER, "target": "setosa"},
        "saliency": {"instances": [FLOWER]},
    }
    walked = 0
    for rule in ada.app.url_map.iter_rules():
        is_one = rule.rule.startswith("/v1/models/<model_id>")
        if not is_one or "DELETE" in rule.methods:
            continue
        method = "POST" if "POST" in rule.methods else "GET"
        body = bodies.get(rule.rule.rsplit("/", 1)[-1])
        by_id, by_name = (
            ada.call(method, rule.rule.replace("<model_id>", reference), json=body)
            for reference in (old, "flowers")
        )
        assert by_name.status_code == 200, by_name.text
        assert by_name.data == by_id.data
        assert by_name.headers.get("ETag") == by_id.headers.get("ETag")
        walked += 1
    assert walked >= 6


@each_database
def test_a_model_that_has_a_name_is_not_deleted(ada, old, new):
    put(ada, "flowers", old)
    for reference in (old, "flowers"):
        assert "'flowers'" in problem(ada.delete(f"/v1/models/{reference}"), 409)["detail"]
    put(ada, "flowers", new)
    assert ada.delete(f"/v1/models/{old}").status_code == 204
    refused = problem(ada.post("/v1/names/flowers/rollback"), 409)
    assert "is deleted" in refused["detail"]
    assert ada.get("/v1/names/flowers").json["model"] == new


def test_what_cannot_be_switched_is_refused(ada, old):
    problem(put(ada, "flowers", f"mdl_{ABSENT}"), 404)
    problem(put(ada, "flowers", "absent"), 404)
    problem(ada.get("/v1/names/flowers"), 404)
    for name in ("mdl_flowers", "Flowers", "-flowers"):
        problem(put(ada, name, old), 422)
    put(ada, "flowers", old)
    assert "before" in problem(ada.post("/v1/names/flowers/rollback"), 409)["detail"]


@each_database
def test_a_name_that_has_changed_is_not_switched_if_match_says_so(ada, old, new):
    seen = {"If-Match": put(ada, "flowers", old).headers.get("ETag", '"none"')}
    problem(put(ada, "flowers", new, headers=seen), 412)
    seen = {"If-Match": ada.get("/v1/names/flowers").headers["ETag"]}
    assert put(ada, "flowers", new, headers=seen).status_code == 200
    problem(ada.post("/v1/names/flowers/rollback", headers=seen), 412)
    problem(ada.delete("/v1/names/flowers", headers=seen), 412)
    assert ada.get("/v1/names/flowers").json["model"] == new
    problem(put(ada, "others", new, headers=seen), 412)
    problem(ada.get("/v1/names/others"), 404)


@each_database
def test_another_owner_has_names_of_their_own(ada, charles, old):
    put(ada, "flowers", old)
    for path in ("/v1/names/flowers", "/v1/names/flowers/history", "/v1/models/flowers"):
        problem(charles.get(path), 404)
    problem(put(charles, "flowers", old), 404)
    problem(charles.post("/v1/names/flowers/rollback"), 404)
    problem(charles.delete("/v1/names/flowers"), 404)
    assert charles.get("/v1/names").json["data"] == []
    his = charles.model(charles.dataset())
    assert put(charles, "flowers", his).status_code == 201
    assert ada.get("/v1/names/flowers").json["model"] == old


@each_database
def test_a_request_by_name_is_answered_by_one_model_while_it_is_switched(ada, old, new):
    put(ada, "flowers", old)
    right = {model: ada.predict(model, [FLOWER]).json["predictions"] for model in (old, new)}
    assert right[old] != right[new]

    def predict(_):
        return ada.predict("flowers", [FLOWER]).json

    def switch(turn):
        return put(ada, "flowers", (old, new)[turn % 2]).status_code

    with ThreadPoolExecutor(4) as threads:
        switched = threads.map(switch, range(24))
        answers = list(threads.map(predict, range(60)))
        assert set(switched) == {200}
    assert all(answer["predictions"] == right[answer["model"]] for answer in answers)
    told = ada.get("/v1/names/flowers/history?limit=200").json["data"]
    assert all(later["replaced"] == earlier["model"] for later, earlier in pairwise(told))
    assert [each["version"] for each in told] == list(range(len(told), 0, -1))


@each_database
def test_of_those_who_give_one_new_name_at_once_each_is_heard(ada, old, new):
    for turn in range(8):
        together = Barrier(2)

        def give(model, name=f"name-{turn}", together=together):
            together.wait()
            return put(ada, name, model).status_code

        with ThreadPoolExecutor(2) as threads:
            assert set(threads.map(give, (old, new))) <= {200, 201}
        told = ada.get(f"/v1/names/name-{turn}/history").json["data"]
        assert {each["model"] for each in told} == {old, new}
        assert [each["version"] for each in told] == [2, 1]


@each_database
def test_a_name_and_the_end_of_its_model_exclude_each_other(ada, dataset):
    for seed in range(6):
        model = ada.model(dataset, seed=seed)
        with ThreadPoolExecutor(2) as threads:
            given = threads.submit(put, ada, f"name-{seed}", model)
            deleted = threads.submit(ada.delete, f"/v1/models/{model}")
        outcome = given.result().status_code, deleted.result().status_code
        assert outcome in {(201, 409), (404, 204)}


@each_database
def test_a_job_publishes_its_model_if_it_is_better(ada, dataset):
    def train(epochs, seed, **publish):
        job = ada.trained(
            dataset, training={"epochs": epochs}, seed=seed, publish={"name": "flowers", **publish}
        )
        assert job["publish"] == {"if_better": None, "name": "flowers", **publish}
        return job

    first = train(1, 1, if_better="validation_loss")
    assert first["publication"]["published"] is True
    better = train(40, 1, if_better="validation_loss")
    assert better["metrics"]["validation_loss"] < first["metrics"]["validation_loss"]
    assert better["publication"]["published"] is True
    worse = train(1, 2, if_better="accuracy")
    assert worse["publication"]["published"] is False
    assert "not better" in worse["publication"]["reason"]
    assert ada.get("/v1/names/flowers").json["model"] == better["model"]
    assert train(1, 3)["publication"]["published"] is True
    told = ada.get("/v1/names/flowers/history").json["data"]
    assert [each["job"] for each in told][1:] == [better["id"], first["id"]]


def test_a_job_is_not_taken_that_would_be_compared_by_what_is_not_measured(ada, dataset):
    def submit(metric, **spec):
        body = {"dataset": dataset, "target": "species", **spec}
        return ada.post(
            "/v1/jobs", json={**body, "publish": {"name": "flowers", "if_better": metric}}
        )

    assert "log_loss" in refusal(submit("rmse"), "/publish/if_better")
    unmeasured = submit("validation_loss", validation={"fraction": 0})
    assert "train_loss" in refusal(unmeasured, "/publish/if_better")
    assert submit("train_loss", validation={"fraction": 0}).status_code == 201


def test_a_job_that_fails_publishes_nothing(ada, dataset):
    job = ada.trained(
        dataset,
        publish={"name": "flowers"},
        optimizer={"type": "sgd", "learning_rate": 1e6},
        training={"epochs": 9},
    )
    assert job["status"] == "failed"
    assert job["publication"] is None
    problem(ada.get("/v1/names/flowers"), 404)
