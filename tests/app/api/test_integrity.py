"""What is answered is whole and true: a model's numbers, a dataset's rows, a commit that held."""

from __future__ import annotations

import resource
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.store.tables import ArtifactChunk, Job, TrainedModel
from tests.app.api.callers import Caller, csv, each_database, parts, problem
from tests.app.store.rows import race

FLOWER = {"instances": [[5.1, 3.5, 1.4, 0.2]]}


# Weights.


def flip(ada, model, place=-1):
    """Change one bit of a model's stored bytes."""
    with parts(ada.app).database.writing() as session:
        artifact = session.get_one(TrainedModel, model).artifact_id
        chunk = select(ArtifactChunk.data).where(ArtifactChunk.artifact_id == artifact)
        data = bytearray(session.scalars(chunk).one())
        data[place] ^= 1
        changed = update(ArtifactChunk).where(ArtifactChunk.artifact_id == artifact)
        session.execute(changed.values(data=bytes(data)))


@each_database
@pytest.mark.parametrize("place", [0, 9, -1])
def test_weights_with_a_bit_that_changed_are_never_served(ada, caplog, place):
    dataset = ada.dataset()
    model = ada.model(dataset)
    flip(ada, model, place)
    answers = {
        "predict": ada.predict(model, FLOWER["instances"]),
        "evaluate": ada.post(f"/v1/models/{model}/evaluate", json={"dataset": dataset}),
        "weights": ada.get(f"/v1/models/{model}/weights"),
        "npz": ada.get(f"/v1/models/{model}/weights?format=npz"),
        "onnx": ada.get(f"/v1/models/{model}/weights?format=onnx"),
        "part": ada.get(f"/v1/models/{model}/weights", headers={"Range": "bytes=0-7"}),
    }
    for answer in answers.values():
        body = problem(answer, 500)
        assert body["title"] == "Stored bytes are damaged."
        assert "train it again" in body["detail"]
    assert caplog.text.count("stored bytes are damaged") == len(answers)


def test_predictions_are_one_models_while_others_come_and_go(ada, make_app, thorough):
    elsewhere = Caller(make_app(predictor_cache_bytes=0), ada.key)
    dataset = ada.dataset()
    over = threading.Event()
    kept = {
        model: ada.predict(model, FLOWER["instances"]).json for model in models(ada, dataset, 3)
    }
    assert len({str(answer["predictions"]) for answer in kept.values()}) == len(kept)

    def ask(number):
        answers, caller = [], (ada, elsewhere)[number % 2]
        while not over.is_set():
            for model, expected in kept.items():
                answers.append(caller.predict(model, FLOWER["instances"]).json == expected)
        return answers

    def come_and_go(_number):
        try:
            for model in models(ada, dataset, 30 if thorough else 5):
                first = ada.predict(model, FLOWER["instances"]).json
                assert elsewhere.predict(model, FLOWER["instances"]).json == first
                assert ada.delete(f"/v1/models/{model}").status_code == 204
                for caller in (ada, elsewhere):
                    problem(caller.predict(model, FLOWER["instances"]), 404)
        finally:
            over.set()

    *asked, went = race(4, lambda number: come_and_go(number) if number == 3 else ask(number))
    assert went is None
    for answers in asked:
        assert len(answers) > 3
        assert all(answers)


def models(ada, dataset, count):
    """Train models that differ; yield their ids."""
    for seed in range(count):
        yield ada.model(dataset, seed=seed)


# Datasets.


@each_database
@pytest.mark.parametrize("use", ["submit", "predict", "evaluate", "rows"])
def test_a_dataset_that_is_deleted_meanwhile_is_used_whole_or_not_at_all(ada, thorough, use):
    model = ada.model(ada.dataset())
    for _ in range(50 if thorough else 5):
        dataset = ada.dataset()
        uses = {
            "submit": lambda dataset=dataset: ada.post(
                "/v1/jobs", json={"dataset": dataset, "target": "species"}
            ),
            "predict": lambda: ada.predict(model, FLOWER["instances"]),
            "evaluate": lambda dataset=dataset: ada.post(
                f"/v1/models/{model}/evaluate", json={"dataset": dataset}
            ),
            "rows": lambda dataset=dataset: ada.get(f"/v1/datasets/{dataset}/rows"),
        }
        acts = [uses[use], lambda dataset=dataset: ada.delete(f"/v1/datasets/{dataset}")]
        used, deleted = race(2, lambda number, acts=acts: acts[number]())
        if use == "submit":
            assert (used.status_code, deleted.status_code) in {(201, 409), (404, 204)}
            if used.status_code == 201:
                ada.post(f"/v1/jobs/{used.json['id']}/cancel")
        else:
            assert deleted.status_code == 204
            assert used.status_code in {200, 404}


@each_database
def test_a_dataset_stays_as_long_as_a_job_runs_on_it(ada):
    dataset = ada.dataset()
    job = ada.job(dataset)
    with parts(ada.app).database.writing() as session:
        held = {"status": "running", "lease_owner": "elsewhere:1", "lease_expires": 2e10}
        session.execute(update(Job).where(Job.id == job).values(held))
    assert "cancel it" in problem(ada.delete(f"/v1/datasets/{dataset}"), 409)["detail"]
    assert ada.get(f"/v1/datasets/{dataset}/rows").status_code == 200


# A disk that is full.


@contextmanager
def full_disk(database_url):
    """Have every file of this process that would grow beyond SQLite's log fail to."""
    log = Path(database_url.removeprefix("sqlite:///") + "-wal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_commit_that_fails_is_never_told_as_success(ada, sqlite_url):
    dataset = ada.dataset()
    ended, job = ada.trained(dataset)["id"], ada.job(dataset)
    order = {"dataset": dataset, "target": "species"}
    key = {"Idempotency-Key": "once"}
    before = ada.get("/v1/jobs").json
    with full_disk(sqlite_url):
        for answer in (
            ada.post("/v1/jobs", json=order),
            ada.post("/v1/jobs", json=order, headers=key),
            ada.post(f"/v1/jobs/{job}/cancel"),
            ada.delete(f"/v1/jobs/{ended}"),
            ada.send(csv("x,y", "1,2", "3,4")),
        ):
            problem(answer, 503)
            assert answer.headers["Retry-After"]
        assert ada.get("/v1/jobs").json == before
    assert ada.get("/v1/jobs").json == before
    answer = ada.post("/v1/jobs", json=order, headers=key)
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer.headers
    assert ada.post(f"/v1/jobs/{job}/cancel").json["status"] == "cancelled"
