"""Whatever is killed, frozen, full or out of step: no job is lost, doubled or wrong."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from itertools import dropwhile, groupby
from operator import itemgetter
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import func, select, text

from app.store.database import IDLE_SECONDS
from app.store.tables import Base, Dataset
from tests.e2e.services import DIGITS, IRIS, log_lines
from tests.e2e.sites import site as running_site
from tests.lines import line
from tests.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.e2e

LEASE_SECONDS, REAP_SECONDS = 3, 0.5
PATIENT = {"CHAINRULE_LEASE_SECONDS": str(PATIENCE_SECONDS)}
"""For a worker that is to be taken for lost by nobody, however busy the machine is."""

A_FEW_SECONDS = 5
SLACK_SECONDS = 20
"""What a machine with more to do than it can may add to a bound: who looks for the dead gives the
living a lease more whenever it was itself held up."""

TERMINAL = ("succeeded", "failed", "cancelled")
ENDLESS = {"target": "species", "training": {"epochs": 1_000_000}}
QUICK = {"target": "species", "training": {"epochs": 5}}
EPOCHS = 180
SOME_SECONDS = {
    "target": "digit",
    "network": {
        "layers": [
            {"type": "dense", "units": 64, "activation": "relu"},
            {"type": "dropout", "rate": 0.1},
        ]
    },
    "schedule": {"type": "cosine"},
    "training": {"epochs": EPOCHS, "batch_size": 16},
    "seed": 7,
}


@pytest.fixture(scope="module", params=["embedded", "production"])
def home_site(request, tmp_path_factory):
    home = tmp_path_factory.mktemp(request.param)
    with running_site(home, production=request.param == "production") as found:
        yield found


@pytest.fixture
def site(home_site):
    """The service, without workers and live jobs."""
    yield home_site
    home_site.clear()


production_only = pytest.mark.parametrize("home_site", ["production"], indirect=True)


@pytest.fixture(scope="module")
def irises(home_site):
    return home_site.caller.upload()


@pytest.fixture(scope="module")
def undisturbed(home_site):
    """The dataset of `SOME_SECONDS`, and the weights that it comes to when nothing happens."""
    caller = home_site.caller
    dataset = caller.upload(DIGITS)
    worker = home_site.start_worker()
    job = caller.submit(dataset, **SOME_SECONDS)
    assert caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
    worker.kill()
    return dataset, caller.weights(job)


def assert_undisturbed(site, job, weights):
    assert site.caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
    assert site.caller.epochs(job) == list(range(1, EPOCHS + 1))
    assert site.caller.weights(job) == weights


@contextmanager
def followed(site, job):
    """Look at a job again and again, for a ``with`` block; give what was seen."""
    over, seen = threading.Event(), []

    def look():
        with site.open() as database:
            while not over.wait(0.02):
                seen.append(site.looks(database, job))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def assert_truthful(seen, held_seconds=0):
    """Make sure that who runs is held by a lease, and that an attempt never goes back.

    A worker that was frozen in the midst of a transaction holds the job's row for so long.
    """
    late = [look["lease"] for look in seen if look["status"] == "running"]
    assert min(late) > -REAP_SECONDS - SLACK_SECONDS - held_seconds
    attempts = [look["attempt"] for look in seen]
    assert attempts == sorted(attempts)
    told = 0
    for _, looks in groupby(seen, key=itemgetter("attempt")):
        epochs = [look["epoch"] for look in looks]
        its_own = list(dropwhile(told.__eq__, epochs))  # it first tells of the attempt before
        assert its_own == sorted(its_own)
        told = epochs[-1]


# Workers.


def test_a_worker_that_wakes_after_its_lease_writes_nothing_more(site, irises):
    both = site.start_workers(2)
    job = site.caller.submit(irises, **ENDLESS)
    site.caller.wait_for_epoch(job, 2)
    trainer = site.trainer(job)
    first, second = sorted(both, key=lambda worker: trainer not in worker.family)
    with followed(site, job) as seen:
        site.freeze(*first.family)
        wait_until(lambda: site.row(job).attempt == 2)
        epoch = site.row(job).epoch
        wait_until(lambda: site.row(job).epoch > epoch + 50)
        first.tell_all(signal.SIGCONT)
        first.wait_for_output("another worker has the job")
        epoch = site.row(job).epoch
        wait_until(lambda: site.row(job).epoch > epoch + 50)
    assert_truthful(seen, IDLE_SECONDS if site.broker else 0)
    assert site.row(job).attempt == 2
    assert "another worker has the job" not in second.logged.read_text()
    epochs = site.caller.epochs(job)
    assert epochs == list(range(1, len(epochs) + 1))


@pytest.mark.rare
def test_a_process_that_is_frozen_beside_its_worker_is_replaced(site, irises):
    site.start_worker()
    job = site.caller.submit(irises, **ENDLESS)
    site.caller.wait_for_epoch(job, 2)
    trainer = site.trainer(job)
    site.freeze(trainer)
    wait_until(lambda: site.row(job).attempt == 2)
    epoch = site.row(job).epoch
    wait_until(lambda: site.row(job).epoch > epoch + 2)
    wait_until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.rare("production")
def test_a_job_that_kills_its_process_each_time_fails_and_holds_nobody_up(site, irises, thorough):
    """A process is known to be dead on its machine within a look, however long its lease."""
    attempts = 10 if thorough else 2
    worker = site.start_worker(
        CHAINRULE_MAX_ATTEMPTS=str(attempts), CHAINRULE_LEASE_SECONDS=str(2 * PATIENCE_SECONDS)
    )
    poison = site.caller.submit(irises, **ENDLESS)
    good = [site.caller.submit(irises, **QUICK) for _ in range(5)]
    for failures in range(1, attempts + 1):
        site.trainer(poison).kill()
        wait_until(lambda failures=failures: site.row(poison).failures == failures)
    found = site.caller.wait_for(poison, *TERMINAL)
    assert (found["status"], found["error"]["code"]) == ("failed", "worker_crashed")
    for job in good:
        assert site.caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
        assert site.row(job).failures == 0
    assert worker.process.poll() is None


@pytest.mark.rare("embedded")
def test_a_training_that_hangs_is_ended_and_holds_nobody_up(site, tmp_path):
    worker = site.start_worker(CHAINRULE_STALL_SECONDS="1", CHAINRULE_MAX_ATTEMPTS="1")
    other = tmp_path / "other.csv"  # equal uploads share a file
    other.write_bytes(IRIS.read_bytes() + b"5.1,3.5,1.4,0.2,setosa\n")
    hanging, good = site.caller.upload(other), site.caller.upload()
    with_pipe(site, hanging)
    stuck = site.caller.submit(hanging, **QUICK)
    others = [site.caller.submit(good, **QUICK) for _ in range(3)]
    found = site.caller.wait_for(stuck, *TERMINAL)
    assert (found["status"], found["error"]["code"]) == ("failed", "stalled")
    for job in others:
        assert site.caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
    assert worker.process.poll() is None


@pytest.mark.rare
@production_only
def test_a_process_that_takes_long_to_start_is_waited_for(site, irises, tmp_path):
    """As on a machine that has more to do than it can."""
    site.start_worker(PYTHONPATH=str(tmp_path))
    job = site.caller.submit(irises, **ENDLESS)
    site.caller.wait_for_epoch(job, 1)
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(5)")
    site.trainer(job).kill()
    wait_until(lambda: site.row(job).attempt == 2, 30)


def with_pipe(site, dataset):
    """Put a pipe that nobody writes in a dataset's place: to read it never ends."""
    with site.open() as database, database.reading() as session:
        file = site.home / "datasets" / session.get_one(Dataset, dataset).location
    file.unlink()
    os.mkfifo(file)


@pytest.mark.rare
def test_a_worker_that_is_asked_twice_to_end_puts_its_job_back(site, undisturbed):
    dataset, weights = undisturbed
    worker = site.start_worker()
    job = site.caller.submit(dataset, **SOME_SECONDS)
    site.caller.wait_for_epoch(job, 2)
    begun = time.monotonic()
    worker.tell(signal.SIGTERM)
    time.sleep(0.1)  # like somebody who is not patient
    worker.tell(signal.SIGTERM)
    worker.wait()
    assert time.monotonic() - begun < 10
    found = site.row(job)
    assert (found.status, found.attempt, found.failures) == ("queued", 1, 0)
    site.start_worker()
    assert_undisturbed(site, job, weights)


@pytest.mark.rare("embedded")
def test_a_cancel_needs_neither_worker_nor_broker(site, irises):
    worker = site.start_worker()
    running, waiting = (site.caller.submit(irises, **ENDLESS) for _ in range(2))
    site.caller.wait_for_epoch(running, 2)
    site.freeze(*worker.family)
    if site.broker is not None:
        site.broker.freeze()
    try:
        answer = site.caller.post(f"/v1/jobs/{waiting}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        site.caller.post(f"/v1/jobs/{running}/cancel").raise_for_status()
        wait_until(
            lambda: (
                site.caller.post(f"/v1/jobs/{running}/cancel").json().get("status") == "cancelled"
            ),
            LEASE_SECONDS + SLACK_SECONDS,
        )
        epochs = site.caller.epochs(running)
    finally:
        if site.broker is not None:
            site.broker.thaw()
        worker.tell_all(signal.SIGCONT)
    worker.wait_for_output("another worker has the job")
    assert site.caller.job(running)["status"] == "cancelled"
    assert site.caller.epochs(running) == epochs


@pytest.mark.rare
def test_a_long_job_holds_no_short_one_behind_its_worker(site, irises):
    site.start_workers(2, **PATIENT)
    long = site.caller.submit(irises, **ENDLESS)
    site.caller.wait_for_epoch(long, 2)
    for job in [site.caller.submit(irises, **QUICK) for _ in range(8)]:
        assert site.caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
    assert site.caller.job(long)["status"] == "running"
    assert site.row(long).attempt == 1


# Clocks.

SKEWED = """
import time

seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() + {seconds}
time.time_ns = lambda: nanoseconds() + {seconds} * 10**9
"""
"""What gives a process of Python another idea of the time; waiting is by another clock."""


def skewed(folder, hours):
    """Return what starts a worker whose clock is so far from the right time."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SKEWED.format(seconds=3600 * hours))
    return {"PYTHONPATH": str(folder)}


@pytest.mark.rare
def test_a_worker_whose_clock_is_wrong_takes_from_nobody_and_loses_to_nobody(
    site, irises, tmp_path
):
    slow, fast = skewed(tmp_path / "slow", -2), skewed(tmp_path / "fast", 2)
    wrong = site.start_worker(**slow)
    job = site.caller.submit(irises, **ENDLESS)
    site.caller.wait_for_epoch(job, 1)
    told = datetime.fromisoformat(next(log_lines(wrong.logged))["time"])
    skew = told - site.row(job).created_at
    assert skew.total_seconds() == pytest.approx(-2 * 3600, abs=600)
    site.start_worker(**fast)
    time.sleep(LEASE_SECONDS + 2 * REAP_SECONDS)  # nothing is to happen, so nothing can be awaited
    assert site.row(job).attempt == 1
    epoch = site.row(job).epoch
    wait_until(lambda: site.row(job).epoch > epoch)
    wrong.kill()
    wait_until(lambda: site.row(job).attempt == 2)
    assert site.row(job).failures == 1


# Broker.


@contextmanager
def broker_away(broker, harm):
    """Do harm to Redis, for a ``with`` block."""
    with redis.Redis.from_url(broker.url) as client, HARMS[harm](broker, client):
        yield


@contextmanager
def killed(broker, _client):
    broker.kill()
    try:
        yield
    finally:
        broker.start()
        broker.wait_until_it_answers()


@contextmanager
def frozen(broker, _client):
    broker.freeze()
    try:
        yield
    finally:
        broker.thaw()


@contextmanager
def full(_broker, client):
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def unsaved(_broker, client):
    """Have Redis fail to save itself, after which it answers MISCONF to whoever writes or pings."""
    in_the_way = Path(client.config_get("dir")["dir"]) / "dump.rdb"
    in_the_way.mkdir()
    client.config_set("save", "3600 1")
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    with pytest.raises(redis.ResponseError, match="MISCONF"):
        client.ping()
    try:
        yield
    finally:
        in_the_way.rmdir()
        client.save()
        client.config_set("save", "")


HARMS = {"killed": killed, "frozen": frozen, "full": full, "unsaved": unsaved}


@production_only
@pytest.mark.parametrize("harm", HARMS)
def test_a_job_is_accepted_without_a_broker_and_begins_once_there_is_one(site, irises, harm):
    worker = site.start_worker(**PATIENT)
    running = site.caller.submit(irises, **ENDLESS)
    site.caller.wait_for_epoch(running, 2)
    with broker_away(site.broker, harm):
        begun = time.monotonic()
        job = site.caller.submit(irises, **QUICK)
        assert time.monotonic() - begun < A_FEW_SECONDS
        ready = site.caller.get("/healthz/ready")
        assert (ready.status_code == 200) == (harm == "full")
        assert site.caller.get("/healthz/live").status_code == 200
        epoch = site.row(running).epoch
        wait_until(lambda: site.row(running).epoch > epoch + 2)
        assert site.row(job).status == "queued"
        if harm == "unsaved":
            worker.wait_for_output("Cannot connect to redis")
    site.caller.post(f"/v1/jobs/{running}/cancel").raise_for_status()
    assert site.caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
    assert site.row(running).attempt == 1


@production_only
def test_a_broker_whose_line_is_cut_costs_neither_a_job_nor_a_training(site, irises):
    with (
        line(site.broker.url) as (cable, url),
        site.another_api(CHAINRULE_BROKER_URL=url) as caller,
    ):
        worker = site.start_worker(CHAINRULE_BROKER_URL=url, **PATIENT)
        running = caller.submit(irises, **ENDLESS)
        caller.wait_for_epoch(running, 2)
        cable.cut()
        begun = time.monotonic()
        job = caller.submit(irises, **QUICK)
        assert time.monotonic() - begun < A_FEW_SECONDS
        assert caller.get("/healthz/ready").status_code == 503
        epoch = site.row(running).epoch
        wait_until(lambda: site.row(running).epoch > epoch + 2)
        assert site.row(job).status == "queued"
        cable.mend()
        caller.post(f"/v1/jobs/{running}/cancel").raise_for_status()
        assert caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
        assert caller.get("/healthz/ready").status_code == 200
        assert site.row(running).attempt == 1
        worker.kill()


@production_only
def test_a_message_that_dies_with_the_worker_that_fetched_it_is_no_lost_job(site, irises):
    """A message that Redis handed out and nobody wrote down: kombu cannot get it back."""
    worker = site.start_worker()
    with redis.Redis.from_url(site.broker.url) as broker:
        wait_until(lambda: any(c["cmd"] == "brpop" for c in broker.client_list()))
        worker.process.send_signal(signal.SIGSTOP)
        job = site.caller.submit(irises, **QUICK)
        wait_until(lambda: broker.llen("chainrule") == 0)
        worker.kill()
        assert (broker.llen("chainrule"), broker.hlen("unacked")) == (0, 0)
    assert site.row(job).status == "queued"
    site.start_worker()
    assert site.caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
    assert site.row(job).attempt == 1


# Database.


@production_only
@pytest.mark.parametrize("harm", ["frozen", "killed"])
def test_a_training_rests_while_the_database_is_away_and_goes_on_after(site, undisturbed, harm):
    dataset, weights = undisturbed
    lease_seconds = 2 * LEASE_SECONDS  # also what the worker has to renew it afterwards
    worker = site.start_worker(CHAINRULE_LEASE_SECONDS=str(lease_seconds))
    job = site.caller.submit(dataset, **SOME_SECONDS)
    site.caller.wait_for_epoch(job, 2)
    trainer = site.trainer(job)
    (site.database.freeze if harm == "frozen" else site.database.kill)()
    try:
        wait_until(lambda: rests(trainer), LEASE_SECONDS + SLACK_SECONDS)
        assert rests(trainer, lease_seconds)  # so that its lease is over when the database is back
        assert "succeeded" not in worker.logged.read_text()
    finally:
        if harm == "frozen":
            site.database.thaw()
        else:
            site.database.start()
            site.database.wait_until_it_answers()
    assert_undisturbed(site, job, weights)
    assert site.row(job).failures == 0


def rests(process, seconds=0.5):
    """Whether a process computes nothing for a while."""
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)  # for what it would compute
    return sum(process.cpu_times()[:2]) - before < 0.1


def take_back_what_is_silent(site):
    """Do at once what PostgreSQL does by itself after half a minute, should it be needed."""
    end = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
        "state = 'idle in transaction' AND state_change < clock_timestamp() - interval '0.4 s'"
    )
    with site.open() as database, database.reading() as session:
        session.execute(end)


@pytest.mark.rare
@production_only
def test_a_worker_that_is_cut_off_from_the_database_rests_and_another_goes_on(site, undisturbed):
    dataset, weights = undisturbed
    with line(site.database.url) as (cable, url):
        first = site.start_worker(CHAINRULE_DATABASE_URL=f"{url}postgres")
        job = site.caller.submit(dataset, **SOME_SECONDS)
        site.caller.wait_for_epoch(job, 2)
        trainer = site.trainer(job)
        cable.cut()
        wait_until(lambda: rests(trainer), LEASE_SECONDS)
        take_back_what_is_silent(site)
        second = site.start_worker()
        wait_until(lambda: site.row(job).attempt == 2)
        assert rests(trainer)
        cable.mend()
        first.wait_for_output("another worker has the job")
        assert_undisturbed(site, job, weights)
        assert (site.row(job).attempt, site.row(job).failures) == (2, 1)
        assert "another worker has the job" not in second.logged.read_text()
        first.kill()


# All at once.


@pytest.mark.rare("embedded")
def test_when_everything_is_killed_at_once_nothing_is_lost(site, undisturbed, thorough):
    """Again and again, each time while one job runs and another waits that was just accepted."""
    dataset, weights = undisturbed
    jobs = [site.caller.submit(dataset, **SOME_SECONDS)]
    site.start_worker(CHAINRULE_MAX_ATTEMPTS="100")
    for _ in range(20 if thorough else 1):
        wait_until(lambda: any(is_trained(site, job) for job in jobs))
        jobs.append(site.caller.submit(dataset, **SOME_SECONDS))
        site.kill_everything()
        site.start_everything(CHAINRULE_MAX_ATTEMPTS="100")
    for job in jobs:
        assert_undisturbed(site, job, weights)
    assert sum(site.row(job).failures for job in jobs) > 0


def is_trained(site, job):
    """Whether a job has a worker that is alive."""
    owner = site.row(job).lease_owner
    return owner is not None and psutil.pid_exists(int(owner.rsplit(":", 1)[-1]))


@pytest.mark.rare("embedded")
def test_nothing_is_left_behind(site, irises):
    """After a first round, in which caches fill, another leaves no more than the first."""
    worker = site.start_worker()
    stored = kept(site)
    used(site, worker, irises)
    first = used(site, worker, irises)
    last = used(site, worker, irises)
    for name in first:
        assert last[name] <= first[name], (first, last)
    assert kept(site) == stored
    shared = in_shared_memory(worker)
    worker.end()
    assert shared
    assert not any(file.exists() for file in shared)


def used(site, worker, irises):
    """Do all kinds of things and delete what comes of them; return what is in use after that."""
    caller, dataset = site.caller, site.caller.upload()
    jobs = [caller.submit(each, **QUICK) for each in (dataset, irises, irises)]
    models = [caller.wait_for(job, "succeeded")["model"] for job in jobs]
    killed = caller.submit(irises, **ENDLESS)
    saved = wait_until(lambda: site.checkpoint(killed))
    wait_until(lambda: site.checkpoint(killed) != saved)
    site.trainer(killed).kill()
    wait_until(lambda: site.row(killed).attempt == 2)
    caller.post(f"/v1/jobs/{killed}/cancel").raise_for_status()
    caller.wait_for(killed, "cancelled")
    headers = {"Content-Type": "text/csv", "Idempotency-Key": killed}
    refused = caller.post("/v1/datasets", content=b"\0", headers=headers)
    assert refused.status_code == 422, refused.text
    made = {"jobs": [*jobs, killed], "models": models, "datasets": [dataset]}
    for kind, names in made.items():
        for name in names:
            caller.delete(f"/v1/{kind}/{name}").raise_for_status()
    trainers = [process for process in worker.family if process.num_threads() > 1]
    return {
        "processes": len(worker.family),
        "descriptors": sum(process.num_fds() for process in trainers),
        "of the API": sum(process.num_fds() for process in api_family(site)),
        "connections": connections(site),
    }


def kept(site):
    """Count the rows, but for those of what was trained, which stay; name the files of datasets."""
    with site.open() as database, database.reading() as session:
        tables = [each for each in Base.metadata.sorted_tables if each.name != "training_usage"]
        rows = {
            each.name: session.scalar(select(func.count()).select_from(each)) for each in tables
        }
    files = {name: sorted((site.home / name).iterdir()) for name in ("datasets", "uploads")}
    return {**rows, **files}


def in_shared_memory(worker):
    """Return the files that a worker's processes have in shared memory."""
    maps = [Path(f"/proc/{process.pid}/maps").read_text() for process in worker.family]
    words = {word for each in maps for word in each.split()}
    return {Path(word) for word in words if word.startswith("/dev/shm/")}  # noqa: S108 - only to look


def api_family(site):
    parent = psutil.Process(site.api.process.pid)
    return [parent, *parent.children(recursive=True)]


def connections(site):
    """Count the connections of workers and API to the database."""
    if site.database is None:
        return 0
    with site.open() as database, database.reading() as session:
        ours = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chainrule'")
        return session.scalar(ours) - 1  # this one
