"""A runner takes a job to its end, or leaves it where another goes on; whatever comes, it lives."""

from __future__ import annotations

import math
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import psycopg
import pytest
from sqlalchemy import delete, make_url, update

from app.store import checkpoints, jobs
from app.store.blobs import Storage
from app.store.lifecycle import JobStatus
from app.store.tables import ArtifactChunk, TrainedModel, TrainingUsage
from engine import training
from engine.checkpoint import dump_model, load_model
from engine.data import disk
from engine.data.formats.stored import read_table
from engine.errors import DataError
from engine.preparation import prepare
from tests import servers
from tests.app.store.rows import OWNER, add_job, look, take
from tests.worker.work import (
    EPOCHS,
    IRIS,
    Beside,
    Killed,
    add_table,
    curve,
    expire,
    kill,
    queue,
    reap,
    resolved,
    rows,
    saved,
    weights,
)
from worker import training as training_module

EVERY_EPOCH = list(range(1, EPOCHS + 1))
HOUR = 3600.0
RARELY = {"heartbeat_seconds": HOUR, "lease_seconds": 2 * HOUR}

STATEFUL = {
    "network": {"layers": [{"type": "dense", "units": 8}, {"type": "dropout", "rate": 0.2}]},
    "schedule": {"type": "cosine"},
    "training": {"epochs": 4},
}
"""Of a spec: dropout, Adam's moments and a schedule are what a state can forget."""


def epochs(database, job):
    return [point["epoch"] for point in curve(database, job)]


@pytest.fixture
def every_update(monkeypatch):
    """Training reports after every update."""
    monkeypatch.setattr(training, "REPORT_SECONDS", 0.0)


@pytest.fixture
def saves_freely(monkeypatch):
    """Saving may take as much of the time as it likes."""
    monkeypatch.setattr(training_module, "WRITING_SHARE", math.inf)


# To the end.


def test_a_job_ends_with_a_model_and_a_point_for_every_epoch(database, iris, make_runner):
    job = queue(database, iris)
    make_runner().run()
    found = look(database, job)
    assert (found.status, found.attempt, found.failures) == (JobStatus.SUCCEEDED, 1, 0)
    assert (found.epoch, found.fraction, found.eta_seconds) == (EPOCHS, 1.0, None)
    assert found.created_at <= found.started_at <= found.finished_at
    assert (found.lease_owner, found.lease_expires, found.error_code) == (None, None, None)
    assert found.samples_per_second > 0
    assert epochs(database, job) == EVERY_EPOCH
    with database.reading() as session:
        model = session.get_one(TrainedModel, found.model_id)
    assert (model.owner, model.job_id, model.outputs) == (OWNER, job, ["species"])
    assert model.classes == ["setosa", "versicolor", "virginica"]
    assert model.inputs[0].pop("preprocessing")["column"] == "sepal_length"
    assert model.inputs[0] == {"name": "sepal_length", "type": "number", "required": False}
    assert model.bytes == len(weights(database, found))


def test_the_model_is_that_of_the_best_epoch_and_so_are_the_metrics(
    database, iris, storage, make_runner
):
    spec = {"optimizer": {"type": "adam", "learning_rate": 0.3}, "seed": 2}
    job = queue(database, iris, **spec)
    make_runner().run()
    points = curve(database, job)
    best = min(points, key=lambda point: point["validation_loss"])
    assert best["epoch"] < EPOCHS, "choose a seed whose last epoch is not the best"
    metrics = look(database, job).metrics
    assert metrics == {
        "train_loss": best["train_loss"],
        "validation_loss": best["validation_loss"],
        "best_epoch": best["epoch"],
        **best["metrics"],
    }
    model = load_model(weights(database, look(database, job)))
    with storage.local(iris.location) as file:
        data = prepare(read_table(file), resolved(iris, **spec)).data
    measured = data.measure(model.network.predict(data.validation.x), data.validation.y)
    assert measured == pytest.approx(best["metrics"])


def test_without_validation_the_best_epoch_is_that_of_the_training_loss(
    database, iris, make_runner
):
    job = queue(database, iris, validation={"fraction": 0.0})
    make_runner().run()
    best = min(curve(database, job), key=lambda point: point["train_loss"])
    assert look(database, job).metrics == {
        "train_loss": best["train_loss"],
        "best_epoch": best["epoch"],
    }


def test_a_regression_of_several_targets_is_trained_as_well(database, iris, make_runner):
    targets = ["petal_length", "petal_width"]
    job = queue(database, iris, target=targets)
    make_runner().run()
    found = look(database, job)
    assert found.status is JobStatus.SUCCEEDED
    assert load_model(weights(database, found)).outputs == tuple(targets)


def test_a_stop_rule_ends_a_job_before_its_last_epoch(database, iris, make_runner):
    job = queue(database, iris, training={"epochs": 500, "stop": {"target_loss": 0.7}})
    make_runner().run()
    found = look(database, job)
    assert found.status is JobStatus.SUCCEEDED
    assert found.epoch < 500
    assert curve(database, job)[-1]["train_loss"] <= 0.7 < curve(database, job)[-2]["train_loss"]


@pytest.fixture
def s3_storage(s3_server, monkeypatch):
    for name, value in servers.s3_bucket(s3_server, "runner").items():
        monkeypatch.setenv(name, value)
    return Storage("s3://runner/datasets")


def test_the_dataset_may_lie_in_s3(database, make_runner, s3_storage, tmp_path):
    dataset = add_table(database, s3_storage, IRIS, tmp_path)
    job = queue(database, dataset)
    runner = make_runner()
    runner.storage = s3_storage
    runner.run()
    assert look(database, job).status is JobStatus.SUCCEEDED


# Messages.


def test_a_doubled_message_does_nothing(database, iris, make_runner):
    queue(database, iris)
    make_runner().run()
    before = rows(database)
    make_runner().run()
    assert rows(database) == before


def test_a_message_for_a_job_that_another_worker_has_does_nothing(database, iris, make_runner):
    job = queue(database, iris)
    take(database, look(database, job))
    before = rows(database)
    make_runner().run()
    assert rows(database) == before


def test_a_message_for_a_job_that_is_gone_does_nothing(database, make_runner):
    before = rows(database)
    make_runner().run()
    assert rows(database) == before


def test_a_worker_that_is_to_end_claims_nothing(database, iris, make_runner):
    queue(database, iris)
    before = rows(database)
    make_runner(stopping=lambda: True).run()
    assert rows(database) == before


# Reports.


def test_the_first_epoch_is_seen_at_once_and_no_later_one_is_lost(database, iris, make_runner):
    job = queue(database, iris)
    seen = []
    runner = make_runner(Beside(lambda: seen.extend(epochs(database, job)), at=5), **RARELY)
    runner.run()
    assert seen == [1]
    assert epochs(database, job) == EVERY_EPOCH


def test_a_report_renews_the_lease_and_tells_how_far_training_is(database, iris, make_runner):
    job = queue(database, iris)
    seen = []
    make_runner(Beside(lambda: seen.append(look(database, job)), at=3)).run()
    [found] = seen
    assert (found.status, found.epoch, found.fraction) == (JobStatus.RUNNING, 3, 3 / EPOCHS)
    assert found.eta_seconds > 0
    assert found.lease_expires > found.queued_at + 29
    assert set(found.metrics) > {"train_loss", "validation_loss", "accuracy"}


@pytest.mark.usefixtures("every_update")
def test_a_reader_sees_a_curve_without_gap_or_duplicate_at_every_moment(
    database, iris, make_runner
):
    job = queue(database, iris)
    seen = []

    make_runner(Beside(lambda: seen.append(epochs(database, job)))).run()
    assert len(seen) > EPOCHS
    assert all(read == EVERY_EPOCH[: len(read)] for read in seen)
    assert seen == sorted(seen, key=len)


# Cancel and pause.


def test_a_cancel_is_heard_at_the_next_report(database, iris, make_runner):
    job = queue(database, iris)

    def cancel():
        with database.writing() as session:
            jobs.request_cancel(session, OWNER, job)

    make_runner(Beside(cancel, at=3)).run()
    found = look(database, job)
    assert (found.status, found.epoch, found.model_id) == (JobStatus.CANCELLED, 4, None)
    assert epochs(database, job) == [1, 2, 3, 4]
    assert saved(database, job)[0] == 4


def test_a_pause_is_heard_at_the_next_report_and_changes_nothing_in_the_end(
    database, iris, make_runner
):
    undisturbed, job = queue(database, iris), queue(database, iris)
    make_runner().run()

    def pause():
        with database.writing() as session:
            jobs.request_pause(session, OWNER, job)

    make_runner(Beside(pause, at=3)).run()
    assert (look(database, job).status, look(database, job).epoch) == (JobStatus.PAUSED, 4)
    make_runner().run()
    assert look(database, job).status is JobStatus.PAUSED
    with database.writing() as session:
        jobs.resume(session, OWNER, job)
    make_runner().run()
    assert_alike(database, undisturbed, job)


def test_a_pause_that_comes_with_the_last_report_comes_too_late(database, iris, make_runner):
    job = queue(database, iris)

    def pause():
        with database.writing() as session:
            jobs.request_pause(session, OWNER, job)

    make_runner(Beside(pause, at=EPOCHS - 1)).run()
    found = look(database, job)
    assert (found.status, found.pause_requested) == (JobStatus.SUCCEEDED, False)
    assert epochs(database, job) == EVERY_EPOCH


# Put back, and gone on with.


def assert_alike(database, undisturbed, job):
    """Make sure that two jobs came to the same weights and curve, bit for bit."""
    one, other = look(database, undisturbed), look(database, job)
    assert (one.status, other.status) == (JobStatus.SUCCEEDED, JobStatus.SUCCEEDED)
    assert weights(database, one) == weights(database, other)
    assert curve(database, undisturbed) == curve(database, job)
    assert one.metrics == other.metrics


@pytest.mark.usefixtures("every_update")
@pytest.mark.parametrize("batch_size", [32, "full"])
def test_a_job_that_is_put_back_after_every_update_ends_as_if_undisturbed(
    database, iris, make_runner, batch_size
):
    training_run = {"training": {"epochs": 4, "batch_size": batch_size}}
    undisturbed, job = (queue(database, iris, **{**STATEFUL, **training_run}) for _ in range(2))
    make_runner().run()
    for _ in range(100):
        make_runner(Beside(lambda: True, at=1)).run()
        if look(database, job).status is not JobStatus.QUEUED:
            break
    assert look(database, job).attempt >= 4
    assert look(database, job).failures == 0
    assert_alike(database, undisturbed, job)


def test_a_job_that_is_put_back_keeps_what_no_heartbeat_told_yet(database, iris, make_runner):
    job = queue(database, iris)
    make_runner(Beside(lambda: True, at=5), **RARELY).run()
    found = look(database, job)
    assert (found.status, found.lease_owner, found.rung_at) == (JobStatus.QUEUED, None, None)
    assert epochs(database, job) == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("every_update")
@pytest.mark.parametrize("checkpoint_seconds", [1e-6, HOUR])
@pytest.mark.parametrize("reports", [1, 7, 15])
def test_a_worker_that_dies_costs_time_and_nothing_else(
    database, iris, make_runner, checkpoint_seconds, reports
):
    undisturbed, job = queue(database, iris, **STATEFUL), queue(database, iris, **STATEFUL)
    make_runner().run()
    dying = make_runner(Beside(kill, at=reports), checkpoint_seconds=checkpoint_seconds)
    with pytest.raises(Killed):
        dying.run()
    expire(database)
    reap(database)
    make_runner().run()
    assert (look(database, job).attempt, look(database, job).failures) == (2, 1)
    assert_alike(database, undisturbed, job)


@pytest.mark.usefixtures("every_update")
@pytest.mark.parametrize("beside", [False, True], ids=["a part of the rows", "another dataset"])
def test_a_job_with_its_rows_on_disk_goes_on_elsewhere_as_if_undisturbed(
    database, storage, iris, make_runner, tmp_path, monkeypatch, beside
):
    monkeypatch.setattr(disk, "WINDOW_BYTES", 1000)
    other = add_table(database, storage, IRIS, tmp_path)
    validation = {"dataset": other.id} if beside else {"fraction": 0.2}
    spec = {"training": {"epochs": 4, "rows": "disk"}, "validation": validation}
    undisturbed, job = (queue(database, iris, **{**STATEFUL, **spec}) for _ in range(2))
    make_runner().run()
    make_runner(Beside(lambda: True, at=6)).run()
    assert (look(database, job).status, look(database, job).epoch) == (JobStatus.QUEUED, 1)
    with pytest.raises(Killed):
        make_runner(Beside(kill, at=6)).run()
    expire(database)
    reap(database)
    make_runner().run()
    assert_alike(database, undisturbed, job)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.usefixtures("saves_freely")
def test_a_running_job_is_saved_again_and_again(database, iris, make_runner):
    job = queue(database, iris)
    seen = []
    look_on = Beside(lambda: seen.append(saved(database, job)[0]))
    make_runner(look_on, checkpoint_seconds=1e-6).run()
    assert seen == EVERY_EPOCH[:-1]


# A claim that is lost.


def steal(database, job):
    """Have another worker take the job over."""
    expire(database)
    reap(database)
    take(database, look(database, job))


@pytest.mark.parametrize("asks_to_stop", [False, True])
@pytest.mark.parametrize("pace", [{}, RARELY], ids=["heard soon", "heard late"])
def test_a_runner_that_lost_its_job_writes_nothing_more(
    database, iris, make_runner, asks_to_stop, pace
):
    job = queue(database, iris)
    kept = {}

    def lose():
        steal(database, job)
        kept.update(rows(database))
        return asks_to_stop

    make_runner(Beside(lose, at=3), checkpoint_seconds=1e-6, **pace).run()
    assert kept
    assert rows(database) == kept


def test_a_job_that_is_deleted_while_its_model_is_written_leaves_nothing(
    database, iris, make_runner, caplog, monkeypatch
):
    job = queue(database, iris)

    def lose(model):
        expire(database)
        with database.writing() as session:
            jobs.request_cancel(session, OWNER, job)
            jobs.remove(session, OWNER, job)
        return dump_model(model)

    monkeypatch.setattr(training_module, "dump_model", lose)
    make_runner().run()
    kept = rows(database)
    assert not any(kept[table] for table in ("jobs", "models", "artifacts", "curve_points"))
    assert "leaving it" in caplog.text
    assert "job failed" not in caplog.text


def test_a_job_that_fails_after_it_was_lost_is_not_failed(database, make_runner, diverging):
    kept = {}

    def lose():
        steal(database, diverging)
        kept.update(rows(database))

    make_runner(Beside(lose, at=1), **RARELY).run()
    assert kept
    assert rows(database) == kept


# What goes wrong.


@pytest.fixture
def diverging(database, storage, tmp_path):
    """A job whose loss grows without bound, but not at once."""
    lines = ["x,y"] + [f"{x},{3 * x + 1}" for x in range(40)]
    file = tmp_path / "line.csv"
    file.write_text("\n".join([*lines, ""]))
    dataset = add_table(database, storage, file, tmp_path)
    return queue(
        database,
        dataset,
        target="y",
        task="regression",
        network={"layers": []},
        optimizer={"type": "sgd", "learning_rate": 2.0, "momentum": 0.0},
        training={"epochs": 100, "batch_size": 8},
    )


def assert_failed(database, job, code, *words):
    found = look(database, job)
    assert (found.status, found.error_code) == (JobStatus.FAILED, code)
    for word in words:
        assert word in found.error_detail
    assert found.finished_at is not None
    assert (found.lease_owner, found.model_id) == (None, None)


@pytest.fixture
def runner(make_runner):
    return make_runner()


@pytest.fixture
def runs_on(database, storage, runner, tmp_path):
    """Make sure that the runner still does what it is for."""

    def check():
        job = queue(database, add_table(database, storage, IRIS, tmp_path))
        runner.run()
        assert look(database, job).status is JobStatus.SUCCEEDED

    return check


@pytest.mark.parametrize("pace", [{}, RARELY], ids=["heard soon", "heard late"])
def test_a_loss_that_grows_without_bound_fails_the_job_and_keeps_the_curve_up_to_there(
    database, make_runner, diverging, pace
):
    make_runner(**pace).run()
    assert_failed(database, diverging, "diverged", "ten times smaller", "outliers", "epoch")
    kept = epochs(database, diverging)
    assert len(kept) > 2
    assert kept == list(range(1, len(kept) + 1))
    assert f"in epoch {len(kept) + 1}" in look(database, diverging).error_detail


def test_data_that_cannot_be_trained_on_fails_the_job_and_is_named(database, iris, runner, runs_on):
    spec = resolved(iris).model_dump(mode="json")
    spec |= {"target": "species", "task": "regression", "loss": {"type": "squared_error"}}
    job = add_job(database, iris, spec={"dataset": iris.id, **spec}).id
    runner.run()
    assert_failed(database, job, "invalid_data", "species")
    runs_on()


def test_a_network_that_does_not_fit_into_memory_fails_the_job_alone(
    database, iris, runner, runs_on
):
    spec = resolved(iris).model_dump(mode="json")
    spec |= {"network": {"layers": [{"type": "dense", "units": 2**48}]}}
    job = add_job(database, iris, spec={"dataset": iris.id, **spec}).id
    runner.run()
    assert_failed(database, job, "out_of_memory", "smaller network")
    runs_on()


def test_rows_that_do_not_fit_onto_the_disk_fail_the_job_alone(
    database, iris, runner, runs_on, monkeypatch
):
    job = queue(database, iris, training={"rows": "disk"})
    with monkeypatch.context() as full:
        full.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        runner.run()
    told = "take 3,000 bytes of disk, 1,000 are free; submit it again once"
    assert_failed(database, job, "out_of_disk", told)
    runs_on()


def test_the_memory_of_a_training_is_given_back_before_its_failure_is_written(
    database, iris, runner, monkeypatch
):
    held, gone = [], []

    def run_out(*_arguments):
        vectors = np.ones(1000)
        held.append(weakref.ref(vectors))
        raise MemoryError

    def fail(*arguments):
        gone.append(held[0]() is None)
        write(*arguments)

    write = jobs.fail
    monkeypatch.setattr(training_module, "fit", run_out)
    monkeypatch.setattr(jobs, "fail", fail)
    job = queue(database, iris)
    runner.run()
    assert_failed(database, job, "out_of_memory")
    assert gone == [True]


def test_an_error_that_nobody_thought_of_fails_the_job_and_is_in_the_log_alone(
    database, iris, runner, runs_on, caplog
):
    spec = {"dataset": iris.id, "of": "another release"}
    job = add_job(database, iris, spec=spec).id
    runner.run()
    assert_failed(database, job, "internal", "log")
    assert "release" not in look(database, job).error_detail
    assert "ValidationError" in caplog.text
    runs_on()


def test_what_is_said_of_a_failure_holds_no_secret(
    monkeypatch, database, iris, make_runner, runs_on
):
    def fail(*_):
        raise DataError("cannot open redis://:hunter2@redis with key-of-ada")

    with monkeypatch.context() as patched:
        patched.setattr(training_module, "read_table", fail)
        job = queue(database, iris)
        make_runner(api_keys={"ada": "key-of-ada"}).run()
    assert_failed(database, job, "invalid_data", "redis://:***@redis with ***")
    assert "hunter2" not in look(database, job).error_detail
    runs_on()


def test_a_dataset_whose_file_is_gone_fails_the_job(database, iris, storage, runner, runs_on):
    job = queue(database, iris)
    storage.delete(iris.location)
    runner.run()
    assert_failed(database, job, "dataset_lost", "upload it again")
    runs_on()


def save(database, job, data):
    """Save a state that a worker left."""
    claim = take(database, look(database, job))
    with database.writing() as session:
        checkpoints.save(session, claim, data, 1, 1, [])
        jobs.requeue(session, claim)


def damage(database):
    """Change bytes that are stored, past all rules."""
    with database.writing() as session:
        session.execute(update(ArtifactChunk).values(data=b"damaged"))


@pytest.mark.parametrize("afterwards", [lambda _: None, damage], ids=["odd", "damaged"])
def test_a_saved_state_that_cannot_be_read_fails_the_job(
    database, iris, runner, runs_on, afterwards
):
    job = queue(database, iris)
    save(database, job, b"not a state")
    afterwards(database)
    runner.run()
    assert_failed(database, job, "checkpoint_damaged", "submit the job again")
    runs_on()


def test_a_saved_state_of_another_network_fails_the_job(database, iris, make_runner, runs_on):
    donor = queue(database, iris, network={"layers": [{"type": "dense", "units": 3}]})
    job = queue(database, iris)
    make_runner(Beside(lambda: True, at=3)).run()
    save(database, job, saved(database, donor)[1])
    make_runner().run()
    make_runner().run()
    assert_failed(database, job, "checkpoint_damaged")
    runs_on()


@pytest.fixture
def turn_away(postgres_server, database_url):
    """Have the server refuse every connection to the test's database, or welcome them again."""
    name = make_url(database_url).database

    def switch(away):
        with psycopg.connect(f"{postgres_server}postgres", autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {not away}")
            if away:
                ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                admin.execute(ended, [name])

    yield switch
    switch(False)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_training_waits_for_its_database_and_goes_on_as_if_nothing_was(
    database, iris, make_runner, turn_away
):
    undisturbed, job = queue(database, iris), queue(database, iris)
    make_runner().run()
    back = threading.Timer(2.0, turn_away, [False])

    def away():
        turn_away(True)
        back.start()

    make_runner(Beside(away, at=3)).run()
    assert (look(database, job).attempt, look(database, job).failures) == (1, 0)
    assert_alike(database, undisturbed, job)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_training_whose_database_stays_away_is_left_when_the_worker_is_to_end(
    database, iris, make_runner, turn_away
):
    undisturbed, job = queue(database, iris), queue(database, iris)
    make_runner().run()

    ends = threading.Event()

    def end():
        turn_away(True)
        ends.set()
        return True

    at_third = Beside(end, at=3)
    make_runner(lambda: ends.is_set() or at_third()).run()
    turn_away(False)
    assert (look(database, job).status, look(database, job).epoch) == (JobStatus.RUNNING, 3)
    expire(database)
    reap(database)
    make_runner().run()
    assert_alike(database, undisturbed, job)


# Owners' quotas.


def test_where_a_job_may_have_to_wait_whoever_has_ended_one_takes_another(
    database, iris, make_runner
):
    queued = [queue(database, iris) for _ in range(2)]
    make_runner(owner_running_jobs=1).run()
    assert {look(database, job).status for job in queued} == {JobStatus.SUCCEEDED}


def test_a_runner_that_is_asked_to_end_takes_no_other(database, iris, make_runner):
    queued = [queue(database, iris) for _ in range(2)]
    make_runner(Beside(lambda: True, at=EPOCHS), owner_running_jobs=1).run()
    first, second = (look(database, job).status for job in queued)
    assert (first, second) == (JobStatus.SUCCEEDED, JobStatus.QUEUED)


def forget(database):
    """Let all that was trained be long ago."""
    with database.writing() as session:
        session.execute(delete(TrainingUsage))


def test_a_job_whose_owners_time_is_used_up_waits_and_changes_nothing_in_the_end(
    database, iris, make_runner
):
    undisturbed = queue(database, iris, **STATEFUL)
    make_runner().run()
    job = queue(database, iris, **STATEFUL)
    make_runner(owner_training_seconds=1e-9).run()
    assert look(database, job).attempt == 0
    forget(database)
    make_runner(owner_training_seconds=1e-9).run()
    found = look(database, job)
    assert (found.status, found.attempt, found.epoch) == (JobStatus.QUEUED, 1, 1)
    forget(database)
    make_runner().run()
    found = look(database, job)
    assert found.status is JobStatus.SUCCEEDED
    assert weights(database, found) == weights(database, look(database, undisturbed))
