"""A runner over a real database and a real storage, and irises to train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.store.blobs import Storage
from app.store.database import Database
from app.store.tables import Dataset, Job
from tests import canaries
from tests.app.store.rows import add_dataset, add_job
from tests.worker.work import IRIS, add_table
from worker.runner import Runner

MakeRunner = Callable[..., Runner]


@pytest.fixture(autouse=True)
def no_canary_is_logged() -> Iterator[None]:
    """Fail the test that has a secret logged."""
    with canaries.listening():
        yield


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A folder for datasets."""
    return Storage(str(tmp_path / "datasets"))


@pytest.fixture
def iris(database: Database, storage: Storage, tmp_path: Path) -> Dataset:
    """The irises, uploaded by Ada."""
    return add_table(database, storage, IRIS, tmp_path)


@pytest.fixture
def dataset(database: Database) -> Dataset:
    """A dataset of Ada's, of which only the row is there."""
    return add_dataset(database)


@pytest.fixture
def job(database: Database, dataset: Dataset) -> Job:
    """A queued job of Ada's."""
    return add_job(database, dataset)


@pytest.fixture
def make_runner(database: Database, storage: Storage, tmp_path: Path) -> MakeRunner:
    """Make runners; each reports to the database whenever training does, unless told otherwise."""

    def make(stopping: Callable[[], bool] = lambda: False, **settings: Any) -> Runner:
        often = {
            "heartbeat_seconds": 1e-6,
            "checkpoint_seconds": 3600,
            "home": tmp_path,
            **settings,
        }
        return Runner(Settings(**often), database, storage, stopping)

    return make
