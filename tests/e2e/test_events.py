"""A job is followed over a real connection: at once, and without gap or repeat."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from itertools import islice

import pytest

from tests.e2e.services import DIGITS, DISTURBED, EPOCHS
from tests.streams import epochs, events
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

PLACES = 8
"""For requests that are held open, of the sixteen threads that the service has by default."""


@pytest.fixture
def job(service):
    """A job of some seconds that is never saved: who loses its worker begins anew."""
    never = {"epochs": 10 * EPOCHS}
    return service.caller.submit(service.caller.upload(DIGITS), **DISTURBED, checkpoint=never)


@contextmanager
def following(caller, job, heard=()):
    """Follow a job, from the last that was heard on."""
    headers = {"Last-Event-ID": heard[-1].id} if heard else {}
    with caller.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200
        yield events(answer.iter_lines())


def is_whole(caller, job, heard):
    """Whether every point was told once and as the curve has it now, and the end at the end."""
    points = [{**event.data, "seconds": None} for event in heard if event.name == "point"]
    assert epochs(heard) == list(range(1, EPOCHS + 1))
    assert points == [{**point, "seconds": None} for point in caller.curve(job)]
    assert heard[-1].name == "status"
    assert heard[-1].data == caller.job(job)
    return heard[-1].data["status"] == "succeeded"


def test_a_job_is_told_as_it_happens_up_to_its_end(service, job):
    caller, heard = service.caller, []
    with following(caller, job) as told:
        for event in told:
            if not epochs(heard) and event.name == "point":
                assert caller.job(job)["status"] == "running"
            heard.append(event)
    assert is_whole(caller, job, heard)
    assert [event.name for event in heard].count("progress") > 2
    answer = caller.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": heard[-1].id})
    assert answer.status_code == 204


def test_a_client_that_breaks_off_again_and_again_misses_nothing(service, job):
    caller, heard = service.caller, []
    while not heard or heard[-1].data.get("status") != "succeeded":
        with following(caller, job, heard) as told:
            heard += islice(told, 40)
    assert is_whole(caller, job, heard)


@pytest.mark.rare("embedded")
def test_a_worker_that_is_killed_costs_a_client_neither_gap_nor_repeat(service, job):
    caller, heard = service.caller, []
    with following(caller, job) as told:
        for event in told:
            heard.append(event)
            if event.name == "point" and event.data["epoch"] == EPOCHS // 2:
                killed_at = len(heard)
                service.kill_worker()
    assert is_whole(caller, job, heard)
    again = [event.data["epoch"] for event in heard[killed_at:] if event.name == "progress"]
    assert min(again) < EPOCHS // 2


def test_a_client_that_hangs_up_makes_room_for_another(service):
    caller = service.caller
    job = caller.submit(caller.upload(), target="species", training={"epochs": 1_000_000})
    caller.post(f"/v1/jobs/{job}/pause").raise_for_status()
    caller.wait_for(job, "paused")

    def status():
        with caller.stream("GET", f"/v1/jobs/{job}/events") as answer:
            return answer.status_code

    with ExitStack() as streams:
        listeners = [streams.enter_context(following(caller, job)) for _ in range(PLACES)]
        assert all(next(told) for told in listeners)
        assert status() == 503
        assert caller.get("/healthz/live").status_code == 200
    wait_until(lambda: status() == 200)
    caller.post(f"/v1/jobs/{job}/cancel").raise_for_status()
