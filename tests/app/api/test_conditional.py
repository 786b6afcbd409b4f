"""A resource has a tag: one who has it is told so, and one who waits hears when it changes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.store import jobs
from tests.app.api.callers import (
    ABSENT,
    KEYS,
    Caller,
    ask_to_end,
    each_database,
    parts,
    problem,
    run,
)


@pytest.fixture
def job(ada):
    return f"/v1/jobs/{ada.job(ada.dataset())}"


@pytest.mark.parametrize("kind", ["dataset", "job", "model"])
def test_one_who_has_the_resource_is_not_sent_it_again(library, iris, iris_model, kind):
    job = library.get(f"/v1/models/{iris_model}").json["job"]
    ids = {"dataset": iris, "job": job, "model": iris_model}
    path = f"/v1/{kind}s/{ids[kind]}"
    answer = library.get(path)
    tag = answer.headers["ETag"]
    assert tag.startswith('"')
    assert library.get(path).headers["ETag"] == tag
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        same = library.get(path, headers={"If-None-Match": sent})
        assert (same.status_code, same.data) == (304, b"")
        assert same.headers["ETag"] == tag
        assert same.headers["X-Request-Id"]
    for sent in ('"other"', "", '"', "W/", tag[:-2] + '"'):
        other = library.get(path, headers={"If-None-Match": sent})
        assert (other.status_code, other.json) == (200, answer.json)


def test_tags_of_different_resources_differ(library, iris, iris_model):
    job = library.get(f"/v1/models/{iris_model}").json["job"]
    paths = [f"/v1/datasets/{iris}", f"/v1/jobs/{job}", f"/v1/models/{iris_model}"]
    weights = [
        f"/v1/models/{iris_model}/weights?format={form}" for form in ("safetensors", "npz", "onnx")
    ]
    tags = {library.get(path).headers["ETag"] for path in [*paths, *weights]}
    assert len(tags) == 6


def test_weights_that_one_has_are_not_sent_again(library, iris_model):
    path = f"/v1/models/{iris_model}/weights"
    tag = library.get(path).headers["ETag"]
    assert library.get(path, headers={"If-None-Match": tag}).status_code == 304


@each_database
def test_a_job_has_another_tag_after_everything_that_can_be_seen(ada, job):
    seen = [ada.get(job)]
    run(ada.app, job.rsplit("/", 1)[1])
    seen.append(ada.get(job))
    ada.delete(f"/v1/models/{seen[-1].json['model']}")
    seen.append(ada.get(job))
    assert len({answer.headers["ETag"] for answer in seen}) == 3
    assert len({answer.data for answer in seen}) == 3
    for answer in seen[:2]:
        sent = {"If-None-Match": answer.headers["ETag"]}
        assert ada.get(job, headers=sent).data == seen[2].data


def test_a_model_has_another_tag_when_its_job_is_gone(ada):
    made = ada.trained(ada.dataset())
    path = f"/v1/models/{made['model']}"
    before = ada.get(path).headers["ETag"]
    ada.delete(f"/v1/jobs/{made['id']}")
    after = ada.get(path, headers={"If-None-Match": before})
    assert after.status_code == 200
    assert after.json["job"] is None


def later(seconds, act):
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def timed(ask):
    begin = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - begin


@each_database
def test_one_who_waits_hears_of_the_end(ada, job):
    timer = later(0.3, lambda: run(ada.app, job.rsplit("/", 1)[1]))
    answer, seconds = timed(lambda: ada.get(f"{job}?wait=20"))
    timer.join()
    assert answer.json["status"] == "succeeded"
    assert seconds < 10


def test_one_who_waits_without_a_tag_is_not_told_of_what_comes_before_the_end(ada, job):
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ada.get, f"{job}?wait=20")
        time.sleep(0.3)  # it looks every tenth of a second
        with parts(ada.app).database.writing() as session:
            jobs.claim(session, job.rsplit("/", 1)[1], "worker:1", 0)
        time.sleep(0.3)
        ada.post(f"{job}/cancel")
        assert answer.result().json["status"] == "cancelled"


@each_database
def test_one_who_waits_with_a_tag_hears_of_the_next_change(ada, job):
    def claim():
        with parts(ada.app).database.writing() as session:
            jobs.claim(session, job.rsplit("/", 1)[1], "worker:1", 30)

    sent = {"If-None-Match": ada.get(job).headers["ETag"]}
    timer = later(0.3, claim)
    answer, seconds = timed(lambda: ada.get(f"{job}?wait=20", headers=sent))
    timer.join()
    assert answer.status_code == 200
    assert answer.json["status"] == "running"
    assert seconds < 10


def test_one_who_waits_in_vain_is_told_so_when_the_time_is_up(ada, job):
    tag = ada.get(job).headers["ETag"]
    answer, seconds = timed(lambda: ada.get(f"{job}?wait=0.3", headers={"If-None-Match": tag}))
    assert answer.status_code == 304
    assert 0.3 <= seconds < 10
    answer, seconds = timed(lambda: ada.get(f"{job}?wait=0.3"))
    assert answer.json["status"] == "queued"
    assert 0.3 <= seconds < 10


def test_one_who_has_an_old_tag_does_not_wait(ada, job):
    answer, seconds = timed(lambda: ada.get(f"{job}?wait=20", headers={"If-None-Match": '"old"'}))
    assert (answer.status_code, seconds < 5) == (200, True)


def test_nobody_waits_for_a_job_that_has_ended(ada, job):
    ada.post(f"{job}/cancel")
    tag = ada.get(job).headers["ETag"]
    for headers in ({}, {"If-None-Match": tag}):
        answer, seconds = timed(lambda headers=headers: ada.get(f"{job}?wait=20", headers=headers))
        assert answer.status_code == (304 if headers else 200)
        assert seconds < 5


def test_no_wait_is_no_wait(ada, job):
    _, seconds = timed(lambda: ada.get(f"{job}?wait=0"))
    assert seconds < 5


@pytest.mark.parametrize("wait", ["-1", "61", "1e9", "1e400", "NaN", "abc", ""])
def test_how_long_one_may_wait_is_bounded(library, iris_model, wait):
    job = library.get(f"/v1/models/{iris_model}").json["job"]
    answer, seconds = timed(lambda: library.get(f"/v1/jobs/{job}?wait={wait}"))
    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == "/wait"
    assert seconds < 5


def test_the_operator_can_bound_the_wait_further(make_app):
    caller = Caller(make_app(wait_limit_seconds=0.2), KEYS["ada"])
    job = caller.job(caller.dataset())
    answer, seconds = timed(lambda: caller.get(f"/v1/jobs/{job}?wait=60"))
    assert answer.json["status"] == "queued"
    assert 0.2 <= seconds < 10


def test_a_server_that_has_no_thread_to_spare_holds_nobody(make_app):
    caller = Caller(make_app(api_threads=1), KEYS["ada"])
    job = caller.job(caller.dataset())
    with parts(caller.app).waiting:  # as one who waits would
        answer, seconds = timed(lambda: caller.get(f"/v1/jobs/{job}?wait=20"))
    assert (answer.status_code, seconds < 5) == (200, True)
    for _ in range(2):
        _, seconds = timed(lambda: caller.get(f"/v1/jobs/{job}?wait=0.1"))
        assert seconds >= 0.1


def test_one_who_waits_for_what_is_not_there_gives_the_place_back(make_app):
    caller = Caller(make_app(api_threads=1), KEYS["ada"])
    problem(caller.get(f"/v1/jobs/job_{ABSENT}?wait=20"), 404)
    assert parts(caller.app).waiting.acquire(blocking=False)


def test_nobody_waits_in_a_process_that_is_to_end(ada, job):
    ask_to_end(ada.app)
    answer, seconds = timed(lambda: ada.get(f"{job}?wait=20"))
    assert (answer.json["status"], seconds < 10) == ("queued", True)


@pytest.fixture
def ended(ada):
    """The paths of a dataset, a job that has ended, and its model."""
    dataset = ada.dataset()
    job = ada.trained(dataset)
    return [f"/v1/models/{job['model']}", f"/v1/jobs/{job['id']}", f"/v1/datasets/{dataset}"]


@each_database
@pytest.mark.parametrize("sent", ['"old"', "old", 'W/"{tag}"', '"x", "y"', ""])
def test_what_is_not_as_the_caller_has_seen_it_is_not_deleted(ada, ended, sent):
    for path in ended:
        tag = ada.get(path).headers["ETag"].strip('"')
        answer = ada.delete(path, headers={"If-Match": sent.replace("{tag}", tag)})
        assert tag in problem(answer, 412)["detail"]
        assert ada.get(path).headers["ETag"].strip('"') == tag


@each_database
@pytest.mark.parametrize("sent", ['"{tag}"', "*", '"x", "{tag}"'])
def test_what_is_as_the_caller_has_seen_it_is_deleted(ada, ended, sent):
    for path in ended:
        tag = ada.get(path).headers["ETag"].strip('"')
        answer = ada.delete(path, headers={"If-Match": sent.replace("{tag}", tag)})
        assert answer.status_code == 204, answer.text
        problem(ada.delete(path, headers={"If-Match": "*"}), 404)


@pytest.mark.parametrize("move", ["cancel", "pause"])
def test_a_job_that_has_changed_is_not_moved(ada, job, move):
    sent = {"If-Match": ada.get(job).headers["ETag"]}
    with parts(ada.app).database.writing() as session:
        jobs.claim(session, job.rsplit("/", 1)[1], "worker:1", 0)
    problem(ada.post(f"{job}/{move}", headers=sent), 412)
    assert ada.get(job).json["status"] == "running"
    now = {"If-Match": ada.get(job).headers["ETag"]}
    assert ada.post(f"{job}/{move}", headers=now).json["status"] != "running"


def test_a_key_that_has_changed_is_not_revoked(ada):
    key = ada.post("/v1/keys", json={"owner": "mary", "scopes": ["read"]}).json["id"]
    problem(ada.delete(f"/v1/keys/{key}", headers={"If-Match": '"old"'}), 412)
    sent = {"If-Match": ada.get(f"/v1/keys/{key}").headers["ETag"]}
    assert ada.delete(f"/v1/keys/{key}", headers=sent).status_code == 204
