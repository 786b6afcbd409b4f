"""A request that is sent twice with one Idempotency-Key is done once and answered the same."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tests.app.api.callers import (
    ABSENT,
    IRIS,
    KEYS,
    QUICK,
    Caller,
    csv,
    each_database,
    parts,
    problem,
    refusal,
)

SETOSA = [[5.1, 3.5, 1.4, 0.2]]
TSV = "text/tab-separated-values"


def key(value):
    return {"headers": {"Idempotency-Key": value}}


def submit(caller, dataset, value="k", **changes):
    body = {"dataset": dataset, "target": "species", **QUICK, **changes}
    return caller.post("/v1/jobs", json=body, **key(value))


def jobs(caller):
    return [job["id"] for job in caller.get("/v1/jobs?limit=200").json["data"]]


def datasets(caller):
    return [dataset["id"] for dataset in caller.get("/v1/datasets?limit=200").json["data"]]


def same(first, second):
    """Whether the second answer is the first again, and says so."""
    assert first.headers.get("Idempotent-Replayed") is None
    assert second.headers["Idempotent-Replayed"] == "true"
    kept = [
        (answer.status_code, answer.data, answer.mimetype, answer.headers.get("Location"))
        for answer in (first, second)
    ]
    return kept[0] == kept[1]


def put_in_flight(app):
    """Make every key look as if its first request were not answered yet."""
    with parts(app).database.writing() as session:
        session.execute(text("UPDATE idempotency_keys SET status = NULL"))


@each_database
def test_a_job_that_is_submitted_twice_is_one_job(ada):
    dataset = ada.dataset()
    first, second = submit(ada, dataset), submit(ada, dataset)
    assert first.status_code == 201
    assert same(first, second)
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
    assert jobs(ada) == [first.json["id"]]


def test_the_first_answer_is_given_whatever_has_become_of_the_job(ada):
    dataset = ada.dataset()
    first = submit(ada, dataset)
    ada.post(f"/v1/jobs/{first.json['id']}/cancel")
    ada.delete(f"/v1/jobs/{first.json['id']}")
    ada.delete(f"/v1/datasets/{dataset}")
    assert same(first, submit(ada, dataset))
    assert jobs(ada) == []


@each_database
def test_a_key_holds_across_processes(make_app):
    one, other = (Caller(make_app(), KEYS["ada"]) for _ in range(2))
    dataset = one.dataset()
    first = submit(one, dataset)
    parts(one.app).database.dispose()
    assert same(first, submit(other, dataset))


@each_database
def test_a_key_with_another_request_is_refused(ada):
    dataset = ada.dataset()
    first = submit(ada, dataset)
    for other in (
        submit(ada, dataset, seed=1),
        ada.post(f"/v1/jobs/{first.json['id']}/cancel", **key("k")),
        ada.send(**key("k")),
        ada.post("/v1/jobs?x=1", json={"dataset": dataset, "target": "species"}, **key("k")),
    ):
        refused = problem(other, 422)
        assert refused["title"] == "The idempotency key was used for another request."
        assert refused["detail"].endswith("it came with another request before; use a new one")
    assert jobs(ada) == [first.json["id"]]
    assert ada.get(f"/v1/jobs/{first.json['id']}").json["status"] == "queued"


@each_database
def test_a_key_whose_first_request_is_under_way_is_refused_for_now(ada):
    dataset = ada.dataset()
    first = submit(ada, dataset)
    put_in_flight(ada.app)
    refused = problem(submit(ada, dataset), 409)
    assert refused["detail"].endswith("the first request is under way; try again soon")
    assert jobs(ada) == [first.json["id"]]


def test_every_owner_has_keys_of_their_own(ada, charles):
    hers, his = submit(ada, ada.dataset()), submit(charles, charles.dataset())
    assert (hers.status_code, his.status_code) == (201, 201)
    assert hers.json["id"] != his.json["id"]


def test_without_a_key_every_request_is_done(ada):
    dataset = ada.dataset()
    assert ada.job(dataset) != ada.job(dataset)


@each_database
def test_a_request_that_was_refused_leaves_its_key_free(ada):
    dataset = ada.dataset()
    refusal(submit(ada, dataset, target="specie"), "/target")
    refusal(submit(ada, dataset, seed=-1), "/seed")
    problem(submit(ada, f"ds_{ABSENT}"), 404)
    assert submit(ada, dataset).status_code == 201


@each_database
def test_of_16_threads_with_20_keys_come_20_jobs(ada):
    dataset, keys = ada.dataset(), [f"key {number}" for number in range(20)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: submit(ada, dataset, keys[n % 20]), range(16 * 20)))
    assert {answer.status_code for answer in answers} == {201}
    for number in range(20):
        of_one_key = answers[number::20]
        assert len({answer.data for answer in of_one_key}) == 1
        replayed = [answer.headers.get("Idempotent-Replayed") for answer in of_one_key]
        assert replayed.count(None) == 1
    assert len(jobs(ada)) == 20


@each_database
def test_of_many_threads_that_upload_with_one_key_one_dataset_comes(ada):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ada.send(**key("k")), range(16)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    [dataset] = datasets(ada)
    done = [answer for answer in answers if answer.status_code == 201]
    assert {answer.json["id"] for answer in done} == {dataset}
    assert same(ada.send(**key("other")), ada.send(**key("other")))


@each_database
def test_an_upload_that_is_sent_twice_is_one_dataset(ada):
    first, second = ada.send(**key("k")), ada.send(**key("k"))
    assert first.status_code == 201
    assert same(first, second)
    assert datasets(ada) == [first.json["id"]]


def send_form(caller, data=IRIS, filename="iris.csv", **fields):
    form = {"file": (io.BytesIO(data), filename), **fields}
    return caller.post("/v1/datasets", data=form, content_type="multipart/form-data", **key("k"))


def test_a_form_is_the_same_whatever_its_boundary(ada):
    first = send_form(ada, name="Irises")
    assert same(first, send_form(ada, name="Irises"))


def test_an_upload_is_another_when_anything_about_it_is(ada):
    first = send_form(ada, name="Irises")
    for other in (
        send_form(ada, name="Roses"),
        send_form(ada, filename="roses.csv"),
        send_form(ada, data=IRIS + b"5.1,3.5,1.4,0.2,setosa\n", name="Irises"),
        send_form(ada, name="Irises", format="tsv"),
        ada.send(**key("k")),
    ):
        assert "another request" in problem(other, 422)["detail"]
    ada.send(csv("a\tb", "1\t2"), TSV, **key("t"))
    problem(ada.send(csv("a\tb", "1\t2"), "text/csv", **key("t")), 422)
    problem(ada.send(csv("a\tb", "1\t2"), TSV, query="?name=x", **key("t")), 422)
    assert len(datasets(ada)) == 2
    assert first.json["id"] in datasets(ada)


@each_database
def test_an_upload_whose_first_sending_is_under_way_is_refused_for_now(ada):
    first = ada.send(**key("k"))
    put_in_flight(ada.app)
    problem(ada.send(**key("k")), 409)
    assert datasets(ada) == [first.json["id"]]


@each_database
def test_an_upload_that_was_refused_leaves_its_key_free(ada):
    problem(ada.send(csv("a,b", "1"), **key("k")), 422)
    assert ada.send(**key("k")).status_code == 201


@each_database
def test_the_other_posts_take_a_key_as_well(ada):
    dataset = ada.dataset()
    model, job = ada.model(dataset), ada.job(dataset)
    calls = {
        f"/v1/jobs/{job}/cancel": None,
        f"/v1/models/{model}/predict": {"instances": SETOSA},
        f"/v1/models/{model}/evaluate": {"dataset": dataset},
    }
    for path, body in calls.items():
        first, second = (ada.post(path, json=body or {}, **key(path)) for _ in range(2))
        assert first.status_code == 200, path
        assert same(first, second)
    ada.delete(f"/v1/models/{model}")
    path = f"/v1/models/{model}/predict"
    assert ada.post(path, json={"instances": SETOSA}, **key(path)).status_code == 200
    problem(ada.post(path, json={"instances": SETOSA}, **key("new")), 404)


def test_a_prediction_that_was_refused_leaves_its_key_free(ada):
    path = f"/v1/models/{ada.model(ada.dataset())}/predict"
    refusal(ada.post(path, json={"instances": [[1]]}, **key("k")), "/instances/0")
    assert ada.post(path, json={"instances": SETOSA}, **key("k")).status_code == 200


@pytest.mark.parametrize("value", ["", "x" * 256, "ü", "a\tb", "\x7f", "a,b"])
def test_a_key_that_is_none_is_refused(ada, value):
    wanted = "1 to 255 printable ASCII characters without a comma"
    reason = f"Idempotency-Key: expected {wanted}, once"
    dataset = ada.dataset()
    for answer in (submit(ada, dataset, value), ada.send(**key(value))):
        assert problem(answer, 400)["detail"] == reason
    assert jobs(ada) == []
    assert len(datasets(ada)) == 1


@pytest.mark.parametrize("value", ["x", "x" * 255, "a b", '"quoted"', "8e03978e-40d5-43dd"])
def test_any_printable_key_is_taken(ada, value):
    dataset = ada.dataset()
    assert same(submit(ada, dataset, value), submit(ada, dataset, value))


def test_an_answer_is_kept_for_the_hours_that_the_operator_sets(make_app):
    caller = Caller(make_app(idempotency_hours=0.001), KEYS["ada"])
    dataset = caller.dataset()
    first = submit(caller, dataset)
    with parts(caller.app).database.writing() as session:
        session.execute(text("UPDATE idempotency_keys SET created_at = created_at - 4"))
    assert submit(caller, dataset).json["id"] != first.json["id"]
