"""Batch predictions: a row for each of the dataset's, whatever happens to their worker."""

from __future__ import annotations

import io
from itertools import count

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from app.config import Settings
from app.store import predictions
from app.store.lifecycle import JobStatus
from app.store.tables import Job
from engine import scoring
from tests.app.api.callers import ABSENT, IRIS, csv, each_database, parts, problem, refusal
from tests.app.api.callers import run as run_to_the_end
from worker.runner import Runner

PIECE = 16
"""Rows that are predicted at a time here, of the 150 that there are."""


@pytest.fixture(autouse=True)
def pieces(monkeypatch):
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", PIECE)


@pytest.fixture
def dataset(ada):
    return ada.dataset()


@pytest.fixture
def model(ada, dataset):
    return ada.model(dataset)


def submit(caller, model, dataset, **more):
    answer = caller.post("/v1/predictions", json={"model": model, "dataset": dataset, **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/predictions/{answer.json['id']}"
    return answer.json["id"]


def show(caller, batch):
    return caller.get(f"/v1/predictions/{batch}").json


def fetch(caller, batch):
    with caller.get(f"/v1/predictions/{batch}/result") as answer:
        assert answer.status_code == 200, answer.text
        return answer.data


def run_for(app, pieces):
    """Be a worker that stores a part after every piece, and is asked to end after some."""
    services, asked = parts(app), count()  # the first question comes before the claim
    settings = {"heartbeat_seconds": 1e-6, "checkpoint_seconds": 0.1, "lease_seconds": 60}
    runner = Runner(
        Settings.model_validate({**dict(services.settings), **settings}),
        services.database,
        services.storage,
        stopping=lambda: next(asked) >= pieces,
    )
    runner.run()


def files(app):
    return [file.name for file in parts(app).storage.files() if file.name.startswith("bat_")]


def expected(caller, model):
    rows = [line.split(",")[:4] for line in IRIS.decode().splitlines()[1:]]
    instances = [[float(value) for value in row] for row in rows]
    return [row["label"] for row in caller.predict(model, instances).json["predictions"]]


@each_database
@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("csv", lambda data: pa.csv.read_csv(io.BytesIO(data))),
        ("parquet", lambda data: pq.read_table(io.BytesIO(data))),
        ("arrow", lambda data: pa.ipc.open_file(data).read_all()),
    ],
)
def test_every_row_is_predicted(app, ada, dataset, model, form, read):
    batch = submit(ada, model, dataset, format=form, name="all", metadata={"a": 1})
    queued = show(ada, batch)
    assert (queued["status"], queued["progress"]["total"]) == ("queued", 150)
    run_to_the_end(app, batch)
    done = show(ada, batch)
    assert (done["status"], done["progress"]["rows"], done["progress"]["fraction"]) == (
        "succeeded",
        150,
        1.0,
    )
    data = fetch(ada, batch)
    assert done["result"] == {
        "bytes": len(data),
        "rows": 150,
        "format": form,
        "path": f"/v1/predictions/{batch}/result",
    }
    table = read(data)
    assert table["label"].to_pylist() == expected(ada, model)
    assert table.num_columns == 4
    assert len(files(app)) == 1


@each_database
def test_another_worker_goes_on_behind_the_rows_that_are_kept(app, ada, dataset, model):
    whole = submit(ada, model, dataset)
    run_to_the_end(app, whole)
    batch, told = submit(ada, model, dataset), []
    while (status := show(ada, batch))["status"] == "queued":
        told.append(status["progress"]["rows"])
        run_for(app, 3)
    assert told == [0, 48, 96, 144]
    assert show(ada, batch)["attempt"] == 4
    assert fetch(ada, batch) == fetch(ada, whole)
    assert len(files(app)) == 2


@each_database
def test_a_batch_prediction_is_paused_resumed_and_cancelled(app, ada, dataset, model):
    batch = submit(ada, model, dataset)
    run_for(app, 2)
    assert ada.post(f"/v1/predictions/{batch}/pause").json["status"] == "paused"
    run_for(app, 9)
    assert show(ada, batch)["status"] == "paused"
    assert ada.post(f"/v1/predictions/{batch}/resume").json["status"] == "queued"
    run_for(app, 2)
    assert show(ada, batch)["progress"]["rows"] == 64
    assert files(app)
    assert ada.post(f"/v1/predictions/{batch}/cancel").json["status"] == "cancelled"
    assert files(app) == []
    problem(ada.get(f"/v1/predictions/{batch}/result"), 409)
    problem(ada.post(f"/v1/predictions/{batch}/resume"), 409)


def test_what_is_deleted_takes_its_result_along(app, ada, dataset, model):
    batch = submit(ada, model, dataset)
    problem(ada.delete(f"/v1/predictions/{batch}"), 409)
    run_to_the_end(app, batch)
    assert ada.delete(f"/v1/predictions/{batch}").status_code == 204
    assert files(app) == []
    problem(ada.get(f"/v1/predictions/{batch}"), 404)


def test_what_a_live_one_needs_is_not_deleted(app, ada, dataset, model):
    batch = submit(ada, model, dataset)
    for path in (f"/v1/models/{model}", f"/v1/datasets/{dataset}"):
        assert batch in problem(ada.delete(path), 409)["detail"]
    run_to_the_end(app, batch)
    for path in (f"/v1/models/{model}", f"/v1/datasets/{dataset}"):
        assert ada.delete(path).status_code == 204
    assert show(ada, batch)["model"] == model
    assert fetch(ada, batch)


def test_rows_that_cannot_be_predicted_from_end_it(app, ada, model):
    other = ada.dataset(csv("sepal_length,sepal_width,petal_length,size", "1,2,3,4", "1,2,3,4"))
    batch = submit(ada, model, other)
    run_to_the_end(app, batch)
    ended = show(ada, batch)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "invalid_data")
    assert "petal_width" in ended["error"]["detail"]
    assert files(app) == []


def test_a_name_is_looked_up_once(app, ada, dataset, model):
    ada.call("PUT", "/v1/names/flowers", json={"model": model})
    batch = submit(ada, "flowers", dataset)
    ada.call("PUT", "/v1/names/flowers", json={"model": ada.model(dataset, seed=5)})
    run_to_the_end(app, batch)
    assert show(ada, batch)["model"] == model


def test_batch_predictions_are_no_trainings(ada, dataset, model):
    batch = submit(ada, model, dataset)
    problem(ada.get(f"/v1/jobs/{batch}"), 404)
    problem(ada.post(f"/v1/jobs/{batch}/cancel"), 404)
    jobs = ada.get("/v1/jobs").json["data"]
    assert len(jobs) == 1
    problem(ada.get(f"/v1/predictions/{jobs[0]['id']}"), 404)
    assert [one["id"] for one in ada.get("/v1/predictions").json["data"]] == [batch]
    assert ada.get("/v1/predictions?status=failed").json["data"] == []


def test_what_cannot_be_asked_is_refused(ada, charles, dataset, model):
    body = {"model": model, "dataset": dataset}
    for change in ({"model": f"mdl_{ABSENT}"}, {"dataset": f"ds_{ABSENT}"}):
        problem(ada.post("/v1/predictions", json=body | change), 404)
    problem(charles.post("/v1/predictions", json=body), 404)
    refusal(ada.post("/v1/predictions", json=body | {"format": "xlsx"}), "/format")
    assert "two classes" in refusal(
        ada.post("/v1/predictions", json=body | {"threshold": 0.5}), "/model"
    )


def test_the_result_comes_in_parts_to_who_asks_so(app, ada, dataset, model):
    batch = submit(ada, model, dataset)
    run_to_the_end(app, batch)
    path, data = f"/v1/predictions/{batch}/result", fetch(ada, batch)
    with ada.get(path, headers={"Range": "bytes=5-14"}) as part:
        assert (part.status_code, part.data) == (206, data[5:15])
        seen = {"If-None-Match": part.headers["ETag"]}
    with ada.get(path, headers=seen) as unchanged:
        assert unchanged.status_code == 304


def test_files_of_live_ones_are_not_swept(app, ada, dataset, model):
    batch = submit(ada, model, dataset)
    run_for(app, 2)
    names, database = files(app), parts(app).database
    assert names
    stray = f"{batch}_part_{ABSENT}.arrow"
    with database.reading() as session:
        assert predictions.referred(session, [*names, stray, "table_x"]) == set(names)
    with database.writing() as session:
        session.get_one(Job, batch).status = JobStatus.FAILED
    with database.reading() as session:
        assert predictions.referred(session, names) == set()
