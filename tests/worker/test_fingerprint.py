"""The fingerprint tells workers apart whose bits differ."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from app.config import child_environment
from app.store import checkpoints
from app.store.tables import Checkpoint
from tests.app.store.rows import look
from tests.worker.work import Beside, queue
from worker import training as training_module
from worker.fingerprint import fingerprint

TOLD = "import json; from worker.fingerprint import fingerprint; print(json.dumps(fingerprint()))"


def told_by_another_process(**environment):
    printed = subprocess.check_output(
        [sys.executable, "-c", TOLD], env={**child_environment(), **environment}
    )
    return json.loads(printed)


def test_two_processes_of_one_kind_have_one_fingerprint():
    threads = str(fingerprint()["blas_threads"])
    assert told_by_another_process(OPENBLAS_NUM_THREADS=threads) == fingerprint()
    assert fingerprint()["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"OPENBLAS_NUM_THREADS": "2"}, "blas_threads"),
        ({"OPENBLAS_CORETYPE": "Haswell"}, "blas"),
        ({"NPY_DISABLE_CPU_FEATURES": "X86_V4"}, "simd"),
    ],
)
def test_what_changes_the_bits_changes_the_fingerprint(change, part):
    usual = told_by_another_process(OPENBLAS_NUM_THREADS="1")
    other = told_by_another_process(**{"OPENBLAS_NUM_THREADS": "1", **change})
    if usual == other:
        pytest.skip("this processor has but one way")
    assert {name for name in usual if usual[name] != other[name]} == {part}


def test_threads_are_those_that_are_in_use_now():
    with threadpool_limits(1, user_api="blas"):
        assert fingerprint()["blas_threads"] == 1


@pytest.fixture
def be(monkeypatch):
    """Have the runners be of some kind of worker."""
    return lambda kind: monkeypatch.setattr(training_module, "fingerprint", lambda: {"kind": kind})


def test_a_job_knows_what_its_numbers_come_from(database, iris, make_runner, be):
    be("a")
    job = queue(database, iris)
    make_runner(Beside(lambda: True, at=3)).run()
    make_runner().run()
    assert look(database, job).fingerprints == [{"kind": "a"}]


def test_a_job_that_goes_on_elsewhere_says_so_and_a_beginning_forgets(
    database, iris, make_runner, be
):
    job = queue(database, iris)
    for kind in ("a", "b", "b"):
        be(kind)
        make_runner(Beside(lambda: True, at=3)).run()
    assert look(database, job).fingerprints == [{"kind": "a"}, {"kind": "b"}]
    with database.reading() as session:
        assert checkpoints.load(session, job)[1] == [{"kind": "a"}, {"kind": "b"}]
    with database.writing() as session:
        session.delete(session.get_one(Checkpoint, job))
    be("c")
    make_runner().run()
    assert look(database, job).fingerprints == [{"kind": "c"}]
