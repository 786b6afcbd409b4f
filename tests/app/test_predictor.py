"""The predictor keeps models that are in use, within its bytes, and only for their owner."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import text

import app.predictor as predictor_module
from app.predictor import Predictor
from app.store import trained_models
from app.store.errors import CorruptArtifactError, NotFoundError
from engine.checkpoint import dump_model
from engine.data.table import Column, Table
from engine.model import Model
from engine.preparation import prepare
from engine.spec import CrossEntropy, DenseLayer, NetworkSpec, ResolvedSpec, ValidationPart
from engine.training import start
from tests.app.store.rows import OWNER, add_dataset, add_job
from tests.waiting import wait_until


def trained():
    """Make a small model; the network is as it was before the first update."""
    spec = ResolvedSpec(
        target="y",
        features=["x"],
        task="classification",
        network=NetworkSpec(layers=[DenseLayer(units=4)]),
        loss=CrossEntropy(),
        validation=ValidationPart(fraction=0),
    )
    x = Column("x", "number", np.arange(6.0))
    y = Column("y", "category", np.array([0, 1] * 3, dtype=np.int32), ("no", "yes"))
    prepared = prepare(Table((x, y)), spec)
    state = start(spec, prepared.architecture)
    return Model(spec, prepared.features, prepared.target, state.network)


DATA = dump_model(trained())


@pytest.fixture
def add_model(database):
    """Add models of Ada's; return their ids."""
    job = add_job(database, add_dataset(database))

    def add():
        with database.writing() as session:
            return trained_models.add(
                session,
                owner=OWNER,
                job_id=job.id,
                task="classification",
                inputs=[],
                outputs=["y"],
                classes=["no", "yes"],
                metrics={},
                parameters=18,
                data=DATA,
            )

    return add


@pytest.fixture
def damage(database):
    """Make whatever is stored unreadable, so that what still answers was kept."""

    def act():
        with database.writing() as session:
            session.execute(text("UPDATE artifacts SET sha256 = 'changed'"))

    return act


def test_a_model_comes_back_as_it_was_stored(database, add_model):
    model = Predictor(database, 2**20).model(OWNER, add_model()).model
    rows = Table((Column("x", "number", np.array([0.0, 2.5])),))
    assert np.array_equal(model.predict(rows), trained().predict(rows))
    assert model.classes == ("no", "yes")


def test_a_model_that_was_asked_for_is_not_read_again(database, add_model, damage):
    predictor, model_id = Predictor(database, 2**20), add_model()
    first = predictor.model(OWNER, model_id).model
    damage()
    assert predictor.model(OWNER, model_id).model is first


def test_damaged_bytes_are_no_model(database, add_model, damage):
    model_id = add_model()
    damage()
    with pytest.raises(CorruptArtifactError):
        Predictor(database, 2**20).model(OWNER, model_id)


def test_a_model_that_is_kept_is_still_only_its_owners(database, add_model):
    predictor, model_id = Predictor(database, 2**20), add_model()
    predictor.model(OWNER, model_id)
    with pytest.raises(NotFoundError):
        predictor.model("charles", model_id)


def test_a_model_that_was_deleted_is_gone_also_where_it_is_kept(database, add_model):
    predictor, model_id = Predictor(database, 2**20), add_model()
    predictor.model(OWNER, model_id)
    with database.writing() as session:
        trained_models.remove(session, OWNER, model_id)
    with pytest.raises(NotFoundError):
        predictor.model(OWNER, model_id)


def test_of_more_than_fit_the_one_that_was_not_used_for_longest_goes(database, add_model, damage):
    predictor = Predictor(database, 2 * len(DATA))
    a, b, c = (add_model() for _ in range(3))
    for model_id in (a, b, a, c):
        predictor.model(OWNER, model_id)
    damage()
    assert predictor.model(OWNER, a)
    assert predictor.model(OWNER, c)
    with pytest.raises(CorruptArtifactError):
        predictor.model(OWNER, b)


@pytest.mark.parametrize("limit", [0, len(DATA) - 1])
def test_a_model_larger_than_the_cache_is_served_and_not_kept(database, add_model, damage, limit):
    predictor, model_id = Predictor(database, limit), add_model()
    assert predictor.model(OWNER, model_id).model.classes == ("no", "yes")
    damage()
    with pytest.raises(CorruptArtifactError):
        predictor.model(OWNER, model_id)


def test_many_threads_may_ask_at_once(database, add_model):
    predictor = Predictor(database, 2 * len(DATA))
    ids = [add_model() for _ in range(4)]
    rows = Table((Column("x", "number", np.array([1.0, 4.0])),))
    expected = trained().predict(rows)

    def ask(number):
        return np.array_equal(predictor.model(OWNER, ids[number % 4]).model.predict(rows), expected)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))


@pytest.fixture
def slowly(monkeypatch):
    """Have loading wait until it is let go; return how often it began, and how to let it go."""
    begun, gone, load = [], threading.Event(), predictor_module.load_model

    def wait(data):
        begun.append(threading.get_ident())
        assert gone.wait(30)
        return load(data)

    monkeypatch.setattr(predictor_module, "load_model", wait)
    return begun, gone


def waiting_for(predictor, count):
    """Wait until so many threads want a model."""
    wait_until(lambda: len(predictor.asking) == count)


class Watched(Predictor):
    """A predictor that tells who waits for a model."""

    def __init__(self, *args):
        super().__init__(*args)
        self.asking = []

    def _join(self, model_id):
        joined = super()._join(model_id)
        self.asking.append(model_id)
        return joined


def test_threads_that_ask_at_once_have_a_model_loaded_once(database, add_model, slowly):
    predictor, model_id = Watched(database, 2**20), add_model()
    begun, gone = slowly
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(predictor.model, OWNER, model_id) for _ in range(6)]
        waiting_for(predictor, 6)
        gone.set()
        found = {id(each.result().model) for each in asked}
    assert len(found) == len(begun) == 1


def test_a_model_that_loads_slowly_keeps_nobody_from_another(database, add_model, slowly):
    predictor, kept, slow = Watched(database, 2**20), add_model(), add_model()
    begun, gone = slowly
    gone.set()
    predictor.model(OWNER, kept)
    gone.clear()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(predictor.model, OWNER, slow)
        waiting_for(predictor, 2)
        assert predictor.model(OWNER, kept).id == kept
        assert not loading.done()
        gone.set()
    assert len(begun) == 2


def test_who_waits_for_a_load_that_fails_fails_too_and_the_next_may_succeed(
    database, add_model, slowly, monkeypatch
):
    predictor, model_id = Watched(database, 2**20), add_model()
    begun, gone = slowly
    with monkeypatch.context() as patched:
        patched.setattr(gone, "wait", lambda _: not wait_until(lambda: len(predictor.asking) == 4))
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(predictor.model, OWNER, model_id) for _ in range(4)]
        assert all(isinstance(each.exception(), AssertionError) for each in asked)
    assert len(begun) == 1
    gone.set()
    assert predictor.model(OWNER, model_id).id == model_id


def test_a_model_cannot_be_changed_by_one_who_uses_it(database, add_model):
    model = Predictor(database, 2**20).model(OWNER, add_model()).model
    with pytest.raises(ValueError, match="read-only"):
        model.network.parameters[:] = 0
