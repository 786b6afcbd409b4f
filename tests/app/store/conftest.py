"""Rows to begin a test with."""

from __future__ import annotations

import pytest

from app.store.database import Database
from app.store.jobs import Claim
from app.store.tables import Dataset, Job
from tests.app.store.rows import add_dataset, add_job, take


@pytest.fixture
def dataset(database: Database) -> Dataset:
    """A dataset of Ada's."""
    return add_dataset(database)


@pytest.fixture
def job(database: Database, dataset: Dataset) -> Job:
    """A queued job of Ada's."""
    return add_job(database, dataset)


@pytest.fixture
def claim(database: Database, job: Job) -> Claim:
    """A worker's claim on that job."""
    return take(database, job)
